//! The bindings to the host, the gateway and the application.

use crate::store::{Backend, Secret, Store, StoreError, Wanted};

wit_bindgen::generate!({
    path: ["../../wit/gateway", "../../wit/wasi-config", "../../wit/config-store"],
    world: "keyvault:config-store/config-store",
    generate_all,
});

use exports::wasi::config::store::{Error, Guest};
use keyvault::gateway::secrets;
use keyvault::gateway::types::{Error as GatewayError, Request};
use wasi::config::store as host;

struct Component;

thread_local! {
    static STORE: Store<Imports> = Store::new(Imports);
}

impl Guest for Component {
    fn get(key: String) -> Result<Option<String>, Error> {
        STORE.with(|store| store.get(&key)).map_err(Error::from)
    }

    fn get_all() -> Result<Vec<(String, String)>, Error> {
        STORE.with(Store::get_all).map_err(Error::from)
    }
}

/// The imported configuration of the host, and the imported gateway.
struct Imports;

impl Backend for Imports {
    type Unreadable = host::Error;

    fn value(&self, key: &str) -> Result<Option<String>, host::Error> {
        host::get(key)
    }

    fn all_values(&self) -> Result<Vec<(String, String)>, host::Error> {
        host::get_all()
    }

    fn vault(&self) -> Result<String, String> {
        secrets::vault().map_err(|error| reason(&error))
    }

    fn secret(&self, name: &str, version: Option<&str>) -> Result<Secret, String> {
        let secret = secrets::read(name, version, false).map_err(|error| reason(&error))?;
        Ok(Secret { value: secret.value, fetched_at: secret.fetched_at })
    }

    fn secrets(&self, wanted: &[Wanted]) -> Vec<Result<Secret, String>> {
        let request = |(name, version): &Wanted| Request { name: name.clone(), version: version.clone() };
        let requests: Vec<_> = wanted.iter().map(request).collect();
        let read = secrets::get_many(&requests).into_iter();
        let read = read.map(|secret| secret.map_err(|error| reason(&error)));
        read.map(|secret| secret.map(|secret| Secret { value: secret.value, fetched_at: secret.fetched_at }))
            .collect()
    }
}

/// The reason in the error text, for the operator.
fn reason(error: &GatewayError) -> String {
    let reason = match error {
        GatewayError::InvalidName => "this is not the name of a secret",
        GatewayError::InvalidVersion => "this is not the version of a secret",
        GatewayError::Forbidden => "GATEWAY_CALLERS does not give this secret to the caller composed",
        GatewayError::NotFound => "there is no such secret",
        GatewayError::Disabled => "the secret is disabled",
        GatewayError::AccessDenied => "Key Vault does not let the gateway read the secret",
        GatewayError::Configuration(setting) => {
            return format!("the gateway's setting {setting} is missing or wrong");
        }
        GatewayError::Identity => "the token source gave the gateway no token",
        GatewayError::Vault => "Key Vault gave the gateway an answer that cannot be used",
        GatewayError::Throttled(seconds) => {
            return format!("Azure received too many requests; try again in {seconds} s");
        }
        GatewayError::Unavailable(seconds) => return format!("Azure is not available; again in {seconds} s"),
        GatewayError::Timeout => "there was no answer in time",
        GatewayError::Internal => "the gateway has an internal error",
    };
    reason.to_owned()
}

impl From<StoreError<host::Error>> for Error {
    fn from(error: StoreError<host::Error>) -> Self {
        match error {
            StoreError::Unreadable(host::Error::Io(text)) => Self::Io(text),
            StoreError::Unreadable(host::Error::Upstream(text)) | StoreError::Unresolved(text) => {
                Self::Upstream(text)
            }
        }
    }
}

#[allow(unsafe_code, reason = "wit-bindgen generates the exports in this crate")]
mod exported {
    use super::Component;

    super::export!(Component with_types_in super);
}
