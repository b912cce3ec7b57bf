// Reads one secret from the gateway and prints it. For .NET 8 and later.
//
// Usage: dotnet run -- NAME
// Environment: GATEWAY_URL, and GATEWAY_KEY (an API key) or GATEWAY_TOKEN (an access token).

using System.Net;
using System.Text;
using System.Text.Json;

const int Tries = 4;
var longestWait = TimeSpan.FromSeconds(60);

var name = args[0];
var url = Environment.GetEnvironmentVariable("GATEWAY_URL")?.TrimEnd('/');
var key = Environment.GetEnvironmentVariable("GATEWAY_KEY")?.Trim();
var token = Environment.GetEnvironmentVariable("GATEWAY_TOKEN")?.Trim();

// A redirect would send the credential to another address.
using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
{
    // The timeout of one try: longer than GATEWAY_DEADLINE_SECONDS, which is 10 by default.
    Timeout = TimeSpan.FromSeconds(15),
};

try
{
    var value = await ReadSecret();
    using var output = Console.OpenStandardOutput();
    output.Write(Encoding.UTF8.GetBytes(value + "\n"));
    return 0;
}
catch (Refusal refusal)
{
    Console.Error.WriteLine($"cannot read {name}: {refusal.Message}");
}
catch (Exception error)
{
    // The text of such an error can contain the credential.
    var kind = error is HttpRequestException failure ? failure.HttpRequestError.ToString() : error.GetType().Name;
    Console.Error.WriteLine($"cannot read {name}: {kind}");
}
return 1;

async Task<string?> ReadSecret()
{
    for (var attempt = 1; ; attempt++)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, $"{url}/api/GetKeyVaultSecret");
        var body = JsonSerializer.Serialize(new { Secret = name });
        request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        if (string.IsNullOrEmpty(key)) request.Headers.Add("Authorization", $"Bearer {token}");
        else request.Headers.Add("x-functions-key", key);

        using var response = await client.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        if (response.StatusCode == HttpStatusCode.OK)
            return JsonDocument.Parse(text).RootElement.GetProperty("Value").GetString();

        var wait = response.Headers.RetryAfter?.Delta ?? TimeSpan.FromSeconds(1 << (attempt - 1));
        var retry = response.StatusCode is HttpStatusCode.TooManyRequests or HttpStatusCode.ServiceUnavailable;
        if (!retry || attempt == Tries || wait > longestWait)
            throw new Refusal($"{(int)response.StatusCode} {ErrorCode(text)}");
        // The jitter spreads the clients that were refused together.
        await Task.Delay(wait + TimeSpan.FromSeconds(Random.Shared.NextDouble()));
    }
}

static string? ErrorCode(string text)
{
    try { return JsonDocument.Parse(text).RootElement.GetProperty("error").GetProperty("code").GetString(); }
    catch (Exception) { return "from another server"; }
}

class Refusal(string message) : Exception(message);
