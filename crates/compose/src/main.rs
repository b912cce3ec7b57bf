//! `compose OUTPUT APPLICATION COMPONENT...` makes one component of an application and of those that it imports from.
//!
//! Each gets what it imports of the gateway and of `wasi:config` from those that stand after it, as far as they export it. The rest
//! stays an import of the whole. What the whole exports is what the application exports. Each component is there once, so that all who
//! import from it share what it remembers, or not at all, if nobody imports from it.

mod graph;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [output, application, components @ ..] = words.as_slice() else {
        eprintln!("usage: compose OUTPUT APPLICATION COMPONENT...");
        return ExitCode::from(2);
    };
    let written = graph::compose(application, components).and_then(|it| {
        fs::write(output, it).map_err(|problem| format!("cannot write {}: {problem}", output.display()))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
