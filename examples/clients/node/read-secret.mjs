// Reads one secret from the gateway and prints it.
//
// Usage: node read-secret.mjs NAME
// Environment: GATEWAY_URL, and GATEWAY_KEY (an API key) or GATEWAY_TOKEN (an access token).

import { setTimeout as sleep } from "node:timers/promises";

const TRIES = 4;
// The timeout of one try in milliseconds: longer than GATEWAY_DEADLINE_SECONDS, which is 10 by default.
const TIMEOUT = 15_000;
const LONGEST_WAIT = 60;

class Refusal extends Error {}

async function readSecret(url, credential, name) {
  const address = `${url.replace(/\/+$/, "")}/api/GetKeyVaultSecret`;
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(address, {
      method: "POST",
      headers: { "content-type": "application/json", ...credential },
      body: JSON.stringify({ Secret: name }),
      // A redirect would send the credential to another address.
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (response.status === 200) return parseValue(await response.text());
    const code = await errorCode(response);
    const retryAfter = response.headers.get("retry-after") ?? "";
    const wait = /^\d+$/.test(retryAfter) ? Number(retryAfter) : 2 ** (attempt - 1);
    if (![429, 503].includes(response.status) || attempt === TRIES || wait > LONGEST_WAIT) {
      throw new Refusal(`${response.status} ${code}`);
    }
    // The jitter spreads the clients that were refused together.
    await sleep((wait + Math.random()) * 1000);
  }
}

function parseValue(text) {
  const { Value: value } = JSON.parse(text);
  if (typeof value !== "string") throw new TypeError("no Value");
  return value;
}

async function errorCode(response) {
  try {
    return (await response.json()).error.code;
  } catch {
    return "from another server";
  }
}

const name = process.argv[2];
const { GATEWAY_URL, GATEWAY_KEY = "", GATEWAY_TOKEN = "" } = process.env;
const credential = GATEWAY_KEY.trim()
  ? { "x-functions-key": GATEWAY_KEY.trim() }
  : { authorization: `Bearer ${GATEWAY_TOKEN.trim()}` };
try {
  process.stdout.write(`${await readSecret(GATEWAY_URL, credential, name)}\n`);
} catch (error) {
  // The text of other errors can contain the credential.
  const reason = error instanceof Refusal ? error.message : (error.cause?.code ?? error.name);
  console.error(`cannot read ${name}: ${reason}`);
  process.exitCode = 1;
}
