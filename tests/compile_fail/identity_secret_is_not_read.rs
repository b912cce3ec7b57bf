//! What we authenticate with at a token source cannot be read, and a source cannot be led to another address.

use keyvault_gateway::azure::Endpoint;
use keyvault_gateway::azure::identity::TokenSource;

fn read(source: &TokenSource) -> Option<&str> {
    match source {
        TokenSource::AppService2019(it) => Some(it.header.expose()),
        TokenSource::AppService2017(it) => Some(it.secret.expose()),
        TokenSource::ClientSecret(it) => Some(it.client_secret.expose()),
        TokenSource::CloudShell(_) | TokenSource::Imds(_) => None,
    }
}

fn lead(source: &mut TokenSource, elsewhere: Endpoint) {
    match source {
        TokenSource::AppService2019(it) => it.endpoint = elsewhere,
        TokenSource::AppService2017(it) => it.endpoint = elsewhere,
        TokenSource::ClientSecret(it) => it.authority = elsewhere,
        TokenSource::CloudShell(it) => it.endpoint = elsewhere,
        TokenSource::Imds(it) => it.origin = elsewhere,
    }
}

fn ask(source: &TokenSource, vault: &keyvault_gateway::azure::vault::Vault) {
    let _ = source.get(vault.audience());
}

fn main() {
    let _ = (read, lead, ask);
}
