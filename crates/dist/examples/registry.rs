//! `cargo run -p dist --example registry -- 127.0.0.1:5000`: the registry of the tests, to try a release with by hand.

#[path = "../tests/pulled/registry.rs"]
mod registry;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(Ok(address)) = std::env::args().nth(1).map(|it| it.parse()) else {
        eprintln!("usage: registry ADDRESS:PORT");
        return ExitCode::from(2);
    };
    match registry::start(address).await {
        Ok(address) => {
            println!("a registry without TLS is at {address}, and forgets everything when it ends");
            std::future::pending().await
        }
        Err(problem) => {
            eprintln!("error: cannot listen on {address}: {problem}");
            ExitCode::FAILURE
        }
    }
}
