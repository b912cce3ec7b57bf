//! `dev`: keeps a component and the emulator running, with the secrets of a file.

use crate::stack::{self, PATH, SECRET, Stack};
use dev_host::Host;
use keyvault_emulator::{Emulator, read_secrets};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The options of `dev`.
#[derive(clap::Args)]
pub(crate) struct Dev {
    /// The component, a .wasm file
    #[arg(long, value_name = "FILE")]
    component: PathBuf,

    /// A JSON object of secret names and values; dev reloads it when it changes
    #[arg(long, value_name = "FILE", overrides_with = "secrets")]
    secrets: PathBuf,

    /// The host that runs the component
    #[arg(long, default_value = Host::DEFAULT)]
    host: Host,

    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
}

impl Dev {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut secrets = read_secrets(&self.secrets)?;
        let emulator = Emulator::new();
        update(&emulator, &BTreeMap::new(), &secrets)?;

        // The developer may set the gateway's own settings. The vault's address comes from the emulator.
        let mut settings: BTreeMap<OsString, OsString> = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("GATEWAY_")))
            .collect();
        // A key from the environment is not printed.
        let generated = match settings.get(OsStr::new("GATEWAY_KEY")) {
            Some(key) if !key.is_empty() => None,
            Some(_) | None => Some(dev_host::random_key()?),
        };
        settings.extend(generated.iter().map(|key| ("GATEWAY_KEY".into(), key.into())));
        let has_callers =
            ["GATEWAY_CALLERS", "GATEWAY_OIDC"].iter().any(|name| settings.contains_key(OsStr::new(name)));
        let launch = stack::launch(self.component)?.host(self.host).address(self.addr);
        let launch = launch.environment(settings).echo();
        let mut base = String::new();
        let mut stack = Stack::start_with(emulator, |address| {
            address.clone_into(&mut base);
            // Without callers of the developer's own, the emulator is a cluster with one caller.
            if has_callers { launch } else { launch.environment(cluster(address)) }
        })?;

        let name =
            if secrets.contains_key(SECRET) { SECRET } else { secrets.keys().next().map_or("", |name| name) };
        println!("\nReady. Read a secret of {}:\n", self.secrets.display());
        // Requests on loopback bypass a proxy of the machine.
        println!("    curl {} --noproxy '*' \\", stack.server.url(PATH));
        let key = generated.as_deref().unwrap_or("$GATEWAY_KEY");
        println!("        -H \"x-functions-key: {key}\" -H 'content-type: application/json' \\");
        println!("        -d '{{\"Secret\": \"{name}\"}}'\n");
        if !has_callers {
            println!("Or without a key, as a pod with the token of its service account:\n");
            println!("    TOKEN=$(curl -s {base}/emulator/platform-tokens --noproxy '*' \\");
            println!("        -d '{}' | cut -d '\"' -f 4)", token_request(&base));
            println!("    curl {} --noproxy '*' \\", stack.server.url(PATH));
            println!("        -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\");
            println!("        -d '{{\"Secret\": \"{name}\"}}'\n");
        }
        if generated.is_none() {
            println!("The key is that of GATEWAY_KEY, which the shell that runs curl must export.\n");
        }
        println!("Press ctrl-c to stop. Changes of the file take effect within a second. A request with the");
        println!("header `cache-control: no-cache` bypasses the cache of the component.\n");

        let Stack { server, emulator, runtime, stop, .. } = &mut stack;
        runtime.block_on(async {
            let mut last_error = String::new();
            while tokio::time::timeout(INTERVAL, &mut *stop).await.is_err() {
                if let Some(status) = server.exit_status().map_err(|error| error.to_string())? {
                    return Err(format!("the component exited ({status})"));
                }
                let error = match read_secrets(&self.secrets) {
                    Ok(now) if now == secrets => String::new(),
                    Ok(now) => {
                        println!("reloaded {}", self.secrets.display());
                        let updated = update(emulator, &secrets, &now);
                        secrets = now;
                        updated.err().unwrap_or_default()
                    }
                    Err(error) => error,
                };
                if error != last_error && !error.is_empty() {
                    eprintln!("{error}");
                }
                last_error = error;
            }
            Ok(())
        })
    }
}

/// The settings for callers with tokens of the emulated cluster: one service account, which may read every secret.
fn cluster(base: &str) -> [(&'static str, String); 2] {
    let issuer = format!("{base}/{CLUSTER}");
    let callers =
        format!(r#"[{{"name": "pod", "iss": "{issuer}", "sub": ["{ACCOUNT}"], "secrets": ["*"]}}]"#);
    let issuers = format!(r#"[{{"issuer": "{issuer}", "audience": "{AUDIENCE}"}}]"#);
    [("GATEWAY_CALLERS", callers), ("GATEWAY_OIDC", issuers)]
}

/// The request to the emulator for a token of that service account.
fn token_request(base: &str) -> String {
    format!(r#"{{"issuer": "{base}/{CLUSTER}", "audience": "{AUDIENCE}", "subject": "{ACCOUNT}"}}"#)
}

const CLUSTER: &str = "oidc/laptop";
const AUDIENCE: &str = "keyvault-gateway";
const ACCOUNT: &str = "system:serviceaccount:default:app";

/// How often `dev` checks the file for changes and the component's process for its exit.
const INTERVAL: Duration = Duration::from_secs(1);

type Secrets = BTreeMap<String, String>;

/// Applies the changes from `before` to `now` to the vault. The error names each refused change.
fn update(emulator: &Emulator, before: &Secrets, now: &Secrets) -> Result<(), String> {
    let deleted = before.keys().filter(|name| !now.contains_key(*name));
    let deleted = deleted.map(|name| (name, emulator.delete_secret(name)));
    let changed = now.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let changed = changed.map(|(name, value)| (name, emulator.set_secret(name, value).map(drop)));
    let refused =
        deleted.chain(changed).filter_map(|(name, done)| done.err().map(|error| format!("{name}: {error}")));
    let refused: Vec<_> = refused.collect();
    if refused.is_empty() { Ok(()) } else { Err(refused.join("\n")) }
}
