//! An application that answers `GET /KEY` with the value of that configuration key and `GET /` with all of
//! them. It does not know Key Vault.
//!
//! It cannot reach any other machine: it imports of `wasi:http` only what it needs to answer. Composed with
//! the gateway and its config store, it prints a secret that it could not read by itself. (It is an example:
//! a real application never prints its secrets.)

#[cfg(all(target_family = "wasm", feature = "proxy"))]
mod proxy;

#[cfg(all(target_family = "wasm", feature = "service"))]
mod service;

#[cfg(target_family = "wasm")]
mod configuration {
    wit_bindgen::generate!({
        inline: "package example:configured; world configured { import wasi:config/store@0.2.0-rc.1; }",
        path: "../../wit/wasi-config",
        world: "example:configured/configured",
        generate_all,
    });

    use self::wasi::config::store::{self, Error};

    /// Returns the status and the text of the response to a request for this path.
    pub(crate) fn answer(path: &str) -> (u16, String) {
        let value = match path.trim_start_matches('/') {
            "" => store::get_all().map(|values| Some(lines(values))),
            key => store::get(key),
        };
        match value {
            Ok(Some(value)) => (200, value),
            Ok(None) => (404, "There is no such key.".to_owned()),
            Err(Error::Upstream(reason) | Error::Io(reason)) => (500, reason),
        }
    }

    fn lines(mut values: Vec<(String, String)>) -> String {
        values.sort();
        values.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }
}
