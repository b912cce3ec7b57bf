//! Where it meets its host, the gateway and the application.

use std::sync::OnceLock;

use crate::reference::{NotAReference, Reference};

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

impl Guest for Component {
    fn get(key: String) -> Result<Option<String>, Error> {
        let value = of_the_host::get(&key)?;
        value.map(|it| resolved(&key, it)).transpose()
    }

    fn get_all() -> Result<Vec<(String, String)>, Error> {
        let values = of_the_host::get_all()?.into_iter();
        values.map(|(key, it)| resolved(&key, it).map(|it| (key, it))).collect()
    }
}

/// The value itself, or the secret that it refers to.
fn resolved(key: &str, value: String) -> Result<String, Error> {
    let failed = |reason: &str| Error::Upstream(format!("{key}: {reason}"));
    let reference = match Reference::parse(&value) {
        Ok(None) => return Ok(value),
        Ok(Some(reference)) => reference,
        Err(NotAReference) => return Err(failed("this is no reference to a secret of Key Vault")),
    };
    let vault = vault().map_err(|it| failed(&reason(&it)))?;
    if !reference.is_in(vault) {
        return Err(failed("the gateway reads from another vault"));
    }
    secrets::get(reference.name, reference.version).map_err(|it| failed(&reason(&it)))
}

/// The gateway's vault, which stays what it is once its settings are right.
fn vault() -> Result<&'static str, NoSecret> {
    static VAULT: OnceLock<String> = OnceLock::new();
    if let Some(vault) = VAULT.get() {
        return Ok(vault);
    }
    let vault = secrets::vault()?;
    Ok(VAULT.get_or_init(|| vault))
}

/// What an operator reads. It has neither the reference nor the name of the secret, which are in the configuration.
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

impl From<of_the_host::Error> for Error {
    fn from(error: of_the_host::Error) -> Self {
        match error {
            of_the_host::Error::Upstream(text) => Self::Upstream(text),
            of_the_host::Error::Io(text) => Self::Io(text),
        }
    }
}

#[allow(unsafe_code, reason = "what the application calls is written by wit-bindgen, in this crate")]
mod exported {
    use super::Component;

    super::export!(Component with_types_in super);
}
