//! `demo`: reads one secret through the component and the emulator, and prints every step.

use crate::stack::{self, PATH, SECRET, Stack};
use keyvault_emulator::{Call, Credential, Emulator};
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::Response;

/// The options of `demo`.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// The component, a .wasm file
    #[arg(long, value_name = "FILE")]
    component: PathBuf,
}

impl Demo {
    pub(crate) fn run(self) -> Result<(), String> {
        let key = dev_host::random_key()?;
        // A random value proves that it comes from the vault.
        let value = format!("only the vault knew this: {}", dev_host::random_key()?);
        let emulator = Emulator::new();
        emulator.set_secret(SECRET, &value).map_err(|error| error.to_string())?;
        let launch = stack::launch(self.component)?.environment([("GATEWAY_KEY", key.as_str())]);
        let mut stack = Stack::start(emulator, launch)?;

        let url = stack.server.url(PATH);
        let body = format!(r#"{{"Secret": "{SECRET}"}}"#);
        println!("\nThe request, as callers of the function sent it\n");
        println!(
            "    POST {url}\n    content-type: application/json\n    x-functions-key: {key}\n\n    {body}"
        );
        let Stack { runtime, stop, .. } = &mut stack;
        let response = runtime.block_on(async {
            let posted = tokio::task::spawn_blocking(move || post(&url, &key, &body));
            tokio::select! {
                posted = posted => posted.map_err(|error| error.to_string())?,
                _ = stop => Err("the demo was stopped".to_owned()),
            }
        })?;

        println!("\nThe answer\n");
        println!("    {:?} {}", response.version(), response.status());
        for name in SHOWN_HEADERS {
            if let Some(text) = header(&response, name) {
                println!("    {name}: {text}");
            }
        }
        println!("\n    {}", response.body());

        println!("\nWhat the component asked in between\n");
        let journal = stack.emulator.journal();
        for call in &journal {
            println!("    {}", describe(call));
        }

        check(&response, &value, &journal).map_err(|error| {
            let log = stack.server.log().join("\n    ");
            format!("{error}\n\nThe component printed\n\n    {log}")
        })?;
        drop(stack);
        println!("\nThat is right: a token, the secret with it, and the value that was in the vault.");
        println!("Everything is stopped again. `cargo xtask dev` keeps it running for your own requests.");
        Ok(())
    }
}

/// The timeout of the request, for a component that never responds.
const LIMIT: Duration = Duration::from_secs(30);

const SHOWN_HEADERS: [&str; 6] =
    ["content-type", "cache-status", "age", "etag", "cache-control", "x-content-type-options"];

fn post(url: &str, key: &str, body: &str) -> Result<Response<String>, String> {
    let failed = |error: ureq::Error| format!("the component does not respond: {error}");
    let request = dev_host::agent(LIMIT).post(url).content_type("application/json");
    let (parts, mut body) = request.header("x-functions-key", key).send(body).map_err(failed)?.into_parts();
    let body = body.read_to_string().map_err(failed)?;
    Ok(Response::from_parts(parts, body))
}

fn header<'a>(response: &'a Response<String>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Describes one call to the emulator.
fn describe(call: &Call) -> String {
    let query: Vec<_> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let status = call.status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
    let credential = match call.credential {
        Credential::Right => "with the right credential",
        Credential::Wrong => "with a wrong credential",
        Credential::Absent => "without a credential",
    };
    format!("{} {}?{}  {credential}: {status}", call.method, call.path, query.join("&"))
}

/// Checks that the response and the calls are exactly those of one cold read.
fn check(response: &Response<String>, value: &str, journal: &[Call]) -> Result<(), String> {
    let actual = (response.status().as_u16(), header(response, "content-type"), response.body().as_str());
    let body = format!(r#"{{"Secret":"{SECRET}","Value":"{value}"}}"#);
    if actual != (200, Some("application/json; charset=utf-8"), &body) {
        return Err(format!("the response must be 200 with the body {body}"));
    }
    let calls = journal.iter().map(|call| (call.secret.as_deref(), call.credential, call.status));
    if calls.collect::<Vec<_>>()
        != [(None, Credential::Right, Some(200)), (Some(SECRET), Credential::Right, Some(200))]
    {
        return Err("expected one call for the token and one for the secret".to_owned());
    }
    Ok(())
}
