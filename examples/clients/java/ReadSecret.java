// Reads one secret from the gateway and prints it. For Java 17 and later.
//
// Usage: java ReadSecret.java NAME
// Environment: GATEWAY_URL, and GATEWAY_KEY (an API key) or GATEWAY_TOKEN (an access token).

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

class ReadSecret {
    static final int TRIES = 4;
    static final int LONGEST_WAIT = 60;
    // The timeout of one try: longer than GATEWAY_DEADLINE_SECONDS, which is 10 by default.
    static final Duration TIMEOUT = Duration.ofSeconds(15);

    static String readSecret(String url, String field, String credential, String name)
            throws IOException, InterruptedException {
        // Such a name needs no escape in JSON.
        if (!name.matches("[0-9A-Za-z-]{1,127}")) throw new IOException("this is not the name of a secret");
        var request = HttpRequest.newBuilder(URI.create(url.replaceAll("/+$", "") + "/api/GetKeyVaultSecret"))
                .header("Content-Type", "application/json").header(field, credential)
                .POST(HttpRequest.BodyPublishers.ofString("{\"Secret\": \"" + name + "\"}")).build();
        // This client follows no redirect, which would send the credential to another address.
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(TIMEOUT).build();
        for (int attempt = 1;; attempt++) {
            var response = send(client, request);
            int status = response.statusCode();
            if (status == 200) return text(response.body(), "Value");
            var code = response.body().startsWith("{\"error\":{") ? text(response.body(), "code") : "from another server";
            var retryAfter = response.headers().firstValue("Retry-After").orElse("");
            int wait = retryAfter.matches("\\d{1,5}") ? Integer.parseInt(retryAfter) : 1 << (attempt - 1);
            if (status != 429 && status != 503 || attempt == TRIES || wait > LONGEST_WAIT)
                throw new IOException(status + " " + code);
            // The jitter spreads the clients that were refused together.
            Thread.sleep((long) ((wait + Math.random()) * 1000));
        }
    }

    /** Sends the request. The timeout of an HttpRequest ends with the header fields; this one is for the body as well. */
    static HttpResponse<String> send(HttpClient client, HttpRequest request) throws IOException, InterruptedException {
        try {
            return client.sendAsync(request, BodyHandlers.ofString()).get(TIMEOUT.toSeconds(), TimeUnit.SECONDS);
        } catch (TimeoutException error) {
            throw new IOException("no answer in time");
        } catch (ExecutionException error) {
            if (error.getCause() instanceof IOException cause) throw cause;
            throw new IllegalStateException(error.getCause());
        }
    }

    /** Returns a text of the gateway's JSON, which has no white space. Use your JSON library if you have one. */
    static String text(String json, String member) throws IOException {
        int start = json.indexOf("\"" + member + "\":\"");
        if (start < 0) throw new IOException("an answer from another server");
        var text = new StringBuilder();
        for (int at = start + member.length() + 4; json.charAt(at) != '"'; at++) {
            if (json.charAt(at) != '\\') { text.append(json.charAt(at)); continue; }
            char escape = json.charAt(++at);
            int simple = "bfnrt".indexOf(escape);
            if (escape == 'u') text.append((char) Integer.parseInt(json, at + 1, (at += 4) + 1, 16));
            else text.append(simple < 0 ? escape : "\b\f\n\r\t".charAt(simple));
        }
        return text.toString();
    }

    public static void main(String[] arguments) throws InterruptedException {
        var key = System.getenv().getOrDefault("GATEWAY_KEY", "").strip();
        var token = System.getenv().getOrDefault("GATEWAY_TOKEN", "").strip();
        try {
            var value = key.isEmpty()
                    ? readSecret(System.getenv("GATEWAY_URL"), "Authorization", "Bearer " + token, arguments[0])
                    : readSecret(System.getenv("GATEWAY_URL"), "x-functions-key", key, arguments[0]);
            System.out.writeBytes((value + "\n").getBytes(UTF_8));
        } catch (IOException error) {
            fail(arguments[0], error.toString());
        } catch (RuntimeException error) {
            // The text of such an error can contain the credential.
            fail(arguments[0], error.getClass().getSimpleName());
        }
    }

    static void fail(String name, String reason) {
        System.err.println("cannot read " + name + ": " + reason);
        System.exit(1);
    }
}
