//! Where the vault is stands in the settings, and nobody else can read or change it, or ask it with a token.

use keyvault_gateway::azure::Endpoint;
use keyvault_gateway::azure::identity::Token;
use keyvault_gateway::azure::vault::Vault;
use keyvault_gateway::secret::SecretName;

fn read(vault: &Vault) -> &Endpoint {
    &vault.origin
}

fn lead(vault: &mut Vault, elsewhere: Endpoint) {
    vault.origin = elsewhere;
}

fn make() -> Option<Vault> {
    Vault::parse("KeyVaultUri", "https://attacker.example", Some("https://vault.azure.net"), None).ok()
}

fn ask(vault: &Vault, name: &SecretName, token: &Token) {
    let _ = vault.get(name, None, token);
}

fn main() {
    let _ = (read, lead, make, ask);
}
