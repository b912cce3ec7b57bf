//! Where it meets its host, the gateway and the application.

use crate::store::{Behind, Failed, Secret, Store};

wit_bindgen::generate!({
    path: ["../../wit/gateway", "../../wit/wasi-config", "../../wit/config-store"],
    world: "keyvault:config-store/config-store",
    generate_all,
});

use exports::wasi::config::store::{Error, Guest};
use keyvault::gateway::secrets;
use keyvault::gateway::types::Error as NoSecret;
use wasi::config::store as of_the_host;

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

/// The configuration of the host, and the gateway.
struct Imports;

impl Behind for Imports {
    type Unreadable = of_the_host::Error;

    fn configured(&self, key: &str) -> Result<Option<String>, of_the_host::Error> {
        of_the_host::get(key)
    }

    fn all_configured(&self) -> Result<Vec<(String, String)>, of_the_host::Error> {
        of_the_host::get_all()
    }

    fn vault(&self) -> Result<String, String> {
        secrets::vault().map_err(|it| reason(&it))
    }

    fn secret(&self, name: &str, version: Option<&str>) -> Result<Secret, String> {
        let secret = secrets::read(name, version, false).map_err(|it| reason(&it))?;
        Ok(Secret { value: secret.value, asked: secret.asked })
    }
}

/// What an operator reads.
fn reason(error: &NoSecret) -> String {
    let reason = match error {
        NoSecret::InvalidName => "this is not the name of a secret",
        NoSecret::InvalidVersion => "this is not the version of a secret",
        NoSecret::Forbidden => "GATEWAY_CALLERS does not give this secret to the caller composed",
        NoSecret::NotFound => "there is no such secret",
        NoSecret::Disabled => "the secret is disabled",
        NoSecret::AccessDenied => "Key Vault does not let the gateway read the secret",
        NoSecret::Configuration(setting) => {
            return format!("the gateway's setting {setting} is missing or wrong");
        }
        NoSecret::Identity => "the token source gave the gateway no token",
        NoSecret::Vault => "Key Vault gave the gateway an answer that cannot be used",
        NoSecret::Throttled(seconds) => {
            return format!("Azure has had too many requests; again in {seconds} s");
        }
        NoSecret::Unavailable(seconds) => return format!("Azure is not available; again in {seconds} s"),
        NoSecret::Timeout => "there was no answer in time",
        NoSecret::Internal => "something happened in the gateway that should not",
    };
    reason.to_owned()
}

impl From<Failed<of_the_host::Error>> for Error {
    fn from(failed: Failed<of_the_host::Error>) -> Self {
        match failed {
            Failed::Unreadable(of_the_host::Error::Io(text)) => Self::Io(text),
            Failed::Unreadable(of_the_host::Error::Upstream(text)) | Failed::Unresolved(text) => {
                Self::Upstream(text)
            }
        }
    }
}

#[allow(unsafe_code, reason = "what the application calls is written by wit-bindgen, in this crate")]
mod exported {
    use super::Component;

    super::export!(Component with_types_in super);
}
