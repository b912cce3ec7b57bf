// Uses each operation of the emulator with Microsoft's JavaScript clients, with TLS verification.
//
// The environment has NODE_EXTRA_CA_CERTS, HTTPS_PROXY and the settings of one token source.

import assert from "node:assert/strict";
import { ClientSecretCredential, ManagedIdentityCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";

const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_AUTHORITY_HOST } = process.env;
const credential = AZURE_CLIENT_SECRET
  ? new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, {
      authorityHost: AZURE_AUTHORITY_HOST,
      disableInstanceDiscovery: true,
    })
  : new ManagedIdentityCredential();
const client = new SecretClient("https://demo.vault.azure.net", credential);

async function all(list) {
  const items = [];
  for await (const item of list) items.push(item);
  return items;
}
const names = async (list) => (await all(list)).map((properties) => properties.name);
const refused = (call, statusCode, code) => assert.rejects(call, { statusCode, code });

const first = await client.setSecret("db-password", "one", { contentType: "text/plain", tags: { team: "a" } });
const second = await client.setSecret("db-password", "two", { expiresOn: new Date(2e12) });
assert.equal(first.properties.vaultUrl, "https://demo.vault.azure.net");

const latest = await client.getSecret("db-password");
assert.deepEqual([latest.value, latest.properties.version], ["two", second.properties.version]);
assert.equal(latest.properties.expiresOn.getTime(), 2e12);
const earlier = await client.getSecret("DB-Password", { version: first.properties.version });
assert.deepEqual([earlier.name, earlier.value, earlier.properties.tags], ["db-password", "one", { team: "a" }]);

const versions = await all(client.listPropertiesOfSecretVersions("db-password"));
assert.deepEqual(versions.map(({ version }) => version), [first.properties.version, second.properties.version]);

// Three secrets on pages of two.
await client.setSecret("Another", "1");
await client.setSecret("third", "1");
assert.deepEqual(await names(client.listPropertiesOfSecrets()), ["Another", "db-password", "third"]);
const pages = await all(client.listPropertiesOfSecrets().byPage({ maxPageSize: 2 }));
assert.deepEqual(pages.map((page) => page.length), [2, 1]);

const version = second.properties.version;
const changed = await client.updateSecretProperties("db-password", version, { tags: { team: "b" } });
assert.deepEqual(changed.tags, { team: "b" });
await client.updateSecretProperties("db-password", version, { enabled: false });
await refused(client.getSecret("db-password"), 403, "Forbidden");
await client.updateSecretProperties("db-password", version, { enabled: true });

const backup = await client.backupSecret("db-password");
await refused(client.restoreSecretBackup(backup), 409, "Conflict");
await refused(client.restoreSecretBackup(new Uint8Array(4728)), 400, "BadParameter");

const deletion = await client.beginDeleteSecret("db-password");
assert.ok((await deletion.pollUntilDone()).scheduledPurgeDate > Date.now());
await refused(client.getSecret("db-password"), 404, "SecretNotFound");
await refused(client.setSecret("db-password", "three"), 409, "Conflict");
assert.deepEqual(await names(client.listDeletedSecrets()), ["db-password"]);
await (await client.beginRecoverDeletedSecret("db-password")).pollUntilDone();
assert.equal((await client.getSecret("db-password")).value, "two");

await (await client.beginDeleteSecret("db-password")).pollUntilDone();
await client.purgeDeletedSecret("db-password");
await refused(client.getDeletedSecret("db-password"), 404, "SecretNotFound");
assert.equal((await client.restoreSecretBackup(backup)).version, version);
assert.equal((await client.getSecret("db-password", { version: first.properties.version })).value, "one");

await refused(client.backupSecret("absent"), 404, "SecretNotFound");
await refused(client.getSecret("bad_name"), 400, "BadParameter");
