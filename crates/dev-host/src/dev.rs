//! `dev`: everything kept running, with the secrets of a file.

use crate::rig::{self, PATH, Rig, SECRET};
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

    /// A JSON object with the names and values of secrets, read again when it changes
    #[arg(long, value_name = "FILE", overrides_with = "secrets")]
    secrets: PathBuf,

    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
}

impl Dev {
    pub(crate) fn run(self) -> Result<(), String> {
        let mut secrets = read_secrets(&self.secrets)?;
        let emulator = Emulator::new();
        update(&emulator, &BTreeMap::new(), &secrets)?;

        // The gateway's own settings are for the developer to try; where the vault is, is not.
        let mut settings: BTreeMap<OsString, OsString> = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|it| it.starts_with("GATEWAY_")))
            .collect();
        // A key that the developer has is not shown; a shell may know it.
        let drawn = match settings.get(OsStr::new("GATEWAY_KEY")) {
            Some(key) if !key.is_empty() => None,
            Some(_) | None => Some(dev_host::random_text()?),
        };
        settings.extend(drawn.iter().map(|it| ("GATEWAY_KEY".into(), it.into())));
        let launch = rig::launch(self.component)?.address(self.addr).environment(settings).echo();
        let mut rig = Rig::start(emulator, launch)?;

        let name =
            if secrets.contains_key(SECRET) { SECRET } else { secrets.keys().next().map_or("", |it| it) };
        println!("\nReady. Ask for a secret of {}:\n", self.secrets.display());
        // A proxy of this machine has no business between two of its own programs.
        println!("    curl {} --noproxy '*' \\", rig.server.url(PATH));
        let key = drawn.as_deref().unwrap_or("$GATEWAY_KEY");
        println!("        -H \"x-functions-key: {key}\" -H 'content-type: application/json' \\");
        println!("        -d '{{\"Secret\": \"{name}\"}}'\n");
        if drawn.is_none() {
            println!(
                "The key is yours. A shell that does not know it needs `export GATEWAY_KEY=...` first.\n"
            );
        }
        println!(
            "Ctrl-c stops it. Changes of the file are seen at once; a value that the component has in its"
        );
        println!("cache is asked for again when the request has the header `cache-control: no-cache`.\n");

        let Rig { server, emulator, runtime, stop, .. } = &mut rig;
        runtime.block_on(async {
            let mut told = String::new();
            while tokio::time::timeout(INTERVAL, &mut *stop).await.is_err() {
                if let Some(status) = server.ended().map_err(|problem| problem.to_string())? {
                    return Err(format!("the component ended ({status})"));
                }
                let problem = match read_secrets(&self.secrets) {
                    Ok(now) if now == secrets => String::new(),
                    Ok(now) => {
                        println!("read {} again", self.secrets.display());
                        let updated = update(emulator, &secrets, &now);
                        secrets = now;
                        updated.err().unwrap_or_default()
                    }
                    Err(problem) => problem,
                };
                if problem != told && !problem.is_empty() {
                    eprintln!("{problem}");
                }
                told = problem;
            }
            Ok(())
        })
    }
}

/// How long a change of the file, or the end of the component, may go unnoticed.
const INTERVAL: Duration = Duration::from_secs(1);

type Secrets = BTreeMap<String, String>;

/// Brings the vault from `before` to `now`. The error names what it does not take.
fn update(emulator: &Emulator, before: &Secrets, now: &Secrets) -> Result<(), String> {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let gone = gone.map(|name| (name, emulator.delete_secret(name)));
    let changed = now.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let changed = changed.map(|(name, value)| (name, emulator.set_secret(name, value).map(drop)));
    let refused =
        gone.chain(changed).filter_map(|(name, done)| done.err().map(|problem| format!("{name}: {problem}")));
    let refused: Vec<_> = refused.collect();
    if refused.is_empty() { Ok(()) } else { Err(refused.join("\n")) }
}
