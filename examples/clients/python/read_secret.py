"""Reads one secret from the gateway and prints it.

Usage: python3 read_secret.py NAME
Environment: GATEWAY_URL, and GATEWAY_KEY (an API key) or GATEWAY_TOKEN (an access token).
"""

import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request

TRIES = 4
# The longest wait for the next bytes, in seconds: longer than GATEWAY_DEADLINE_SECONDS, which is 10 by default.
TIMEOUT = 15
LONGEST_WAIT = 60


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: they would send the credential to another address."""

    def redirect_request(self, *arguments):
        return None


def read_secret(url, credential, name):
    request = urllib.request.Request(
        url.rstrip("/") + "/api/GetKeyVaultSecret",
        data=json.dumps({"Secret": name}).encode(),
        headers={"Content-Type": "application/json", **credential},
    )
    opener = urllib.request.build_opener(NoRedirects)
    for attempt in range(1, TRIES + 1):
        try:
            with opener.open(request, timeout=TIMEOUT) as response:
                return json.load(response)["Value"]
        except urllib.error.HTTPError as error:
            retry_after = error.headers.get("Retry-After", "")
            wait = int(retry_after) if retry_after.isdecimal() else 2 ** (attempt - 1)
            if error.code not in (429, 503) or attempt == TRIES or wait > LONGEST_WAIT:
                raise
        # The jitter spreads the clients that were refused together.
        time.sleep(wait + random.random())


def error_code(error):
    try:
        return json.load(error)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return "from another server"


def main():
    url, name = os.environ["GATEWAY_URL"], sys.argv[1]
    key, token = (os.environ.get(variable, "").strip() for variable in ("GATEWAY_KEY", "GATEWAY_TOKEN"))
    credential = {"x-functions-key": key} if key else {"Authorization": f"Bearer {token}"}
    try:
        value = read_secret(url, credential, name)
    except urllib.error.HTTPError as error:
        sys.exit(f"cannot read {name}: {error.code} {error_code(error)}")
    except OSError as error:
        sys.exit(f"cannot read {name}: {error}")
    except (http.client.HTTPException, ValueError, KeyError) as error:
        # The text of such an error can contain the credential.
        sys.exit(f"cannot read {name}: {type(error).__name__}")
    sys.stdout.buffer.write(value.encode() + b"\n")


main()
