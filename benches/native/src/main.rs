//! The native alternative to the gateway: a service with Microsoft's clients for managed identities and Key
//! Vault as documented, or with a value cache in front (`--cache`).
//!
//! It exists for the benchmark, and answers valid requests as the gateway does.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use azure_core::http::{ClientOptions, Transport};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use moka::future::Cache;
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cached = std::env::args().any(|argument| argument == "--cache");
    let service = Service {
        client: client()?,
        key: std::env::var("GATEWAY_KEY")?,
        // The capacity and the TTL of the gateway's cache.
        cache: cached
            .then(|| Cache::builder().max_capacity(1000).time_to_live(Duration::from_secs(300)).build()),
    };
    let routes = Router::new().route("/api/GetKeyVaultSecret", post(answer)).with_state(Arc::new(service));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    // In the form of `wasmtime serve`.
    println!("Serving HTTP on http://{}/", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

struct Service {
    client: SecretClient,
    key: String,
    cache: Option<Cache<String, String>>,
}

/// Returns the client of the vault, which keeps its token and its connections.
fn client() -> Result<SecretClient, Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "there is a provider already")?;
    // The emulator has a certificate of its own and is reached through its proxy.
    let ca = reqwest::Certificate::from_pem(&std::fs::read(std::env::var("CA_FILE")?)?)?;
    let transport = reqwest::Client::builder().tls_certs_only([ca]).build()?;
    let client_options =
        ClientOptions { transport: Some(Transport::new(Arc::new(transport))), ..Default::default() };
    let options =
        ManagedIdentityCredentialOptions { client_options: client_options.clone(), ..Default::default() };
    let credential = ManagedIdentityCredential::new(Some(options))?;
    let options = SecretClientOptions { client_options, ..Default::default() };
    Ok(SecretClient::new(&std::env::var("KEY_VAULT_URI")?, credential, Some(options))?)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    secret: String,
    value: String,
}

async fn answer(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    Json(Asked { secret }): Json<Asked>,
) -> Result<Json<Answer>, StatusCode> {
    if headers.get("x-functions-key").is_none_or(|key| key != service.key.as_str()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let read = async {
        let answer = service.client.get_secret(&secret, None).await.map_err(bad_gateway)?;
        answer.into_model().ok().and_then(|secret| secret.value).ok_or(StatusCode::BAD_GATEWAY)
    };
    let value = match &service.cache {
        None => read.await,
        // Concurrent requests for one secret share one read.
        Some(cache) => cache.try_get_with_by_ref(&secret, read).await.map_err(|error| *error),
    }?;
    Ok(Json(Answer { secret, value }))
}

/// Prints the first error for the operator of the benchmark.
fn bad_gateway(error: azure_core::Error) -> StatusCode {
    static FIRST: std::sync::Once = std::sync::Once::new();
    FIRST.call_once(|| eprintln!("the native service cannot read: {error}"));
    StatusCode::BAD_GATEWAY
}
