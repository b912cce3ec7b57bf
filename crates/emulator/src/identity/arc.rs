//! The agent of an Azure Arc-enabled server: challenges that name a file with a key, and tokens for the keys.
//!
//! Source: Microsoft Learn, "Authenticate against Azure resources with Azure Arc-enabled servers".

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{Issuer, managed};
use crate::journal::Credential;
use crate::request::Request;
use crate::settings::Source;
use crate::{Emulator, facts, random, response};

impl Emulator {
    /// Serves the keys of an Azure Arc-enabled server in `directory`: each challenge makes a new file there, and
    /// names it as a file of [`facts::ARC_KEYS`], which clients insist on.
    pub fn serve_arc_keys_in(&self, directory: &Path) {
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        self.lock().arc_keys.directory = Some(absolute);
    }
}

/// The directory of the keys, and the keys that no request has used. The type has no `Debug`.
#[derive(Default)]
pub(crate) struct ArcKeys {
    directory: Option<PathBuf>,
    unused: Vec<String>,
}

/// Compares the key in a request with the unused keys.
pub(super) fn credential(request: &Request, emulator: &Emulator) -> Credential {
    match request.header("authorization") {
        None => Credential::Absent,
        Some(_) if position(request, &emulator.lock().arc_keys).is_some() => Credential::Right,
        Some(_) => Credential::Wrong,
    }
}

fn position(request: &Request, keys: &ArcKeys) -> Option<usize> {
    let key = request.header("authorization")?.strip_prefix("Basic ")?;
    keys.unused.iter().position(|known| known == key)
}

pub(super) fn answer(request: &Request, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    let has_header = Credential::compare(request.header("metadata"), "true") == Credential::Right;
    if request.method == Method::GET && has_header {
        let mut state = issuer.emulator.lock();
        let Some(position) = position(request, &state.arc_keys) else {
            drop(state);
            return challenge(issuer.emulator);
        };
        // The agent makes a new file for each challenge, so that a key is valid once.
        state.arc_keys.unused.remove(position);
    }
    managed::answer(request, Source::AzureArc, issuer, now)
}

/// Makes a key, and returns a 401 with the path of its file.
fn challenge(emulator: &Emulator) -> Response<Bytes> {
    let Some(directory) = emulator.lock().arc_keys.directory.clone() else {
        return failure("the emulator has no directory for the keys of Azure Arc: serve_arc_keys_in");
    };
    let (name, key) = (format!("{}.key", random::guid()), random::text::<64>());
    if let Err(error) = write_key(&directory.join(&name), &key) {
        return failure(&format!("{}: {error}", directory.display()));
    }
    let Ok(realm) = HeaderValue::try_from(format!("Basic realm={}/{name}", facts::ARC_KEYS)) else {
        return failure("the path of a key is not valid in a header");
    };
    emulator.lock().arc_keys.unused.push(key);
    response::with_header(response::empty(StatusCode::UNAUTHORIZED), header::WWW_AUTHENTICATE, realm)
}

fn failure(text: &str) -> Response<Bytes> {
    response::with_body(StatusCode::INTERNAL_SERVER_ERROR, response::TEXT, text.to_owned())
}

/// Writes a new file that its owner and its group can read: the group `himds` on Linux.
fn write_key(path: &Path, key: &str) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
    file.write_all(key.as_bytes())
}
