//! Puts a release together, for `cargo xtask dist`, which builds what goes into it and starts this in the root of the
//! repository.
//!
//! `dist write TARGET SECONDS NAME… [FILE.cwasm…]` takes the components `TARGET/components/NAME.wasm` and their bills
//! `TARGET/sbom/NAME.cdx.json` and makes `TARGET/dist`. `SECONDS` since 1970 is when the source was made. Files that
//! Wasmtime compiled ahead go into it as they are called.
//!
//! `dist check FOLDER` reads such a folder back and refuses it if a byte of it is not what its lists say.

use dist::{check, release};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Result<Vec<String>, _> = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let words: Vec<&str> = match &words {
        Ok(words) => words.iter().map(String::as_str).collect(),
        Err(word) => {
            eprintln!("error: {} is not UTF-8", word.display());
            return ExitCode::FAILURE;
        }
    };
    let done = match words.as_slice() {
        ["write", target, seconds, names @ ..] if !names.is_empty() => {
            release::write(Path::new(target), seconds, names)
        }
        ["check", folder] => check::everything(Path::new(folder)),
        _ => {
            eprintln!("usage: dist write TARGET SECONDS NAME… [FILE.cwasm…]\n       dist check FOLDER");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
