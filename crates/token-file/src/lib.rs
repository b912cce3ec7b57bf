//! The reader of token files: a component that is composed with the gateway where the gateway signs in with the
//! token of a file. It can read what its host gives it, and has no network, no clock and no environment; the
//! gateway has the network, and no files.
//!
//! A Kubernetes volume is a set of links that the kubelet replaces at a renewal (Kubernetes,
//! `pkg/volume/util/atomic_writer.go`): a name leads through `..data` to a directory that is deleted
//! afterwards. So the file is opened anew each time, and once more if it has just vanished.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(all(target_family = "wasm", feature = "component"))]
mod component;

use alloc::string::String;
use alloc::vec::Vec;

/// Why there is no token, as in `wit/gateway/gateway.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    InvalidName,
    NoDirectory,
    NotFound,
    NotPermitted,
    Empty,
    TooLarge,
    NotAToken,
    Failed,
}

/// The file system as far as the reader needs it.
pub trait Files {
    /// The names of the directories that the host gives, in their order.
    fn directories(&self) -> Vec<String>;

    /// Opens the file with this path below the directory of this number, and reads at most `limit` bytes.
    fn read(&self, directory: usize, path: &str, limit: u64) -> Result<Vec<u8>, Problem>;
}

/// Reads the token in the file with the absolute path `name`, or says why there is none.
pub fn read(files: &impl Files, name: &str) -> Result<String, Problem> {
    let segments = name.strip_prefix('/').ok_or(Problem::InvalidName)?;
    if name.len() > MAX_NAME || !segments.split('/').all(is_plain) {
        return Err(Problem::InvalidName);
    }
    let directories = files.directories();
    let below = |directory: &String| {
        let path = name.strip_prefix(directory.trim_end_matches('/'))?.strip_prefix('/')?;
        Some((directory.len(), path.len()))
    };
    // The innermost directory, if one is in another.
    let innermost = directories.iter().enumerate().filter_map(|(number, name)| Some((below(name)?, number)));
    let ((_, length), number) = innermost.max().ok_or(Problem::NoDirectory)?;
    let path = name.get(name.len() - length..).ok_or(Problem::InvalidName)?;
    let key = path.strip_suffix(".key");
    if key.is_some_and(|stem| !is_stem_of_key(stem)) {
        return Err(Problem::InvalidName);
    }
    let content = match files.read(number, path, MAX_CONTENT + 1) {
        Err(Problem::NotFound) => files.read(number, path, MAX_CONTENT + 1)?,
        content => content?,
    };
    let limit = if key.is_some() { MAX_KEY } else { MAX_CONTENT };
    if content.len() as u64 > limit {
        return Err(Problem::TooLarge);
    }
    let token = content.trim_ascii();
    if token.is_empty() {
        return Err(Problem::Empty);
    }
    let is_allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric() || b"_-.".contains(byte) || key.is_some() && b"+/=".contains(byte)
    };
    let text = core::str::from_utf8(token).ok().filter(|_| token.iter().all(is_allowed));
    text.map(String::from).ok_or(Problem::NotAToken)
}

/// Whether a segment of a path is a name: not empty, `.` or `..`, which would lead elsewhere.
fn is_plain(segment: &str) -> bool {
    !segment.trim_start_matches('.').is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
}

/// Whether the agent of Azure Arc names a key so. A key is in the directory itself: the agent's answer names
/// it, and must not choose a file elsewhere (Microsoft, "Authenticate against Azure resources with Azure
/// Arc-enabled servers").
fn is_stem_of_key(stem: &str) -> bool {
    !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// The longest path, in bytes.
const MAX_NAME: usize = 1024;

/// The largest token, in bytes. That of a Kubernetes service account has about one KiB.
const MAX_CONTENT: u64 = 16 * 1024;

/// The largest key of Azure Arc, in bytes, as in Microsoft's clients.
const MAX_KEY: u64 = 4096;

#[cfg(test)]
mod tests;
