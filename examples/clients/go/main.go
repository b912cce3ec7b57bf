// Reads one secret from the gateway and prints it.
//
// Usage: go run . NAME; environment: GATEWAY_URL, and GATEWAY_KEY (an API key) or GATEWAY_TOKEN (an access token).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tries       = 4
	longestWait = 60
)

var client = &http.Client{
	// The timeout of one try: longer than GATEWAY_DEADLINE_SECONDS, which is 10 by default.
	Timeout: 15 * time.Second,
	// A redirect would send the credential to another address.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func readSecret(url, field, credential, name string) (string, error) {
	body, _ := json.Marshal(map[string]string{"Secret": name})
	for attempt := 1; ; attempt++ {
		request, err := http.NewRequest("POST", strings.TrimRight(url, "/")+"/api/GetKeyVaultSecret", bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set(field, credential)
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		var answer struct {
			Value *string
			Error struct{ Code string }
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		status := response.StatusCode
		if status == http.StatusOK && answer.Value != nil {
			return *answer.Value, err
		}
		wait, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil || wait < 0 {
			wait = 1 << (attempt - 1)
		}
		retry := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
		if !retry || attempt == tries || wait > longestWait {
			if answer.Error.Code == "" {
				answer.Error.Code = "from another server"
			}
			return "", fmt.Errorf("%d %s", status, answer.Error.Code)
		}
		// The jitter spreads the clients that were refused together.
		time.Sleep(time.Duration((float64(wait) + rand.Float64()) * float64(time.Second)))
	}
}

func main() {
	field, credential := "x-functions-key", strings.TrimSpace(os.Getenv("GATEWAY_KEY"))
	if credential == "" {
		field, credential = "Authorization", "Bearer "+strings.TrimSpace(os.Getenv("GATEWAY_TOKEN"))
	}
	value, err := readSecret(os.Getenv("GATEWAY_URL"), field, credential, os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot read %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Println(value)
}
