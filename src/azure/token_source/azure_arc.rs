//! The agent of Azure Arc on a server outside Azure. It names a file that only some users of the server can
//! read, and gives a token to a client that knows the file's content.
//!
//! Source: Microsoft, "Authenticate against Azure resources with Azure Arc-enabled servers".

use crate::azure::vault::Audience;
use crate::azure::{Answer, Call, Endpoint};
use crate::error::{Error, Service};
use crate::model::Redacted;

/// The agent at its address.
#[derive(Debug)]
pub struct AzureArc {
    pub(super) endpoint: Endpoint,
}

impl AzureArc {
    /// The request for a token. Without a `key` the agent answers it with the name of a new file.
    pub(super) fn call(&self, audience: &Audience, key: &str) -> Call {
        let query = [("api-version", "2020-06-01"), ("resource", audience.as_str())];
        let call = Call::get(Service::TokenSource, self.endpoint.with_query(&query))
            .header("metadata", Redacted::new("true".to_owned()));
        if key.is_empty() {
            return call;
        }
        call.header("authorization", Redacted::new(format!("Basic {key}")))
    }

    /// Parses the name of the file in an answer with status 401. It has to be in the agent's own directory:
    /// a wrong answer must not choose another file.
    pub(super) fn parse_file_name(answer: &Answer) -> Result<String, Error> {
        let field = answer.challenge.as_deref().unwrap_or_default();
        let (scheme, parameter) = field.split_once(' ').unwrap_or_default();
        let path = parameter.trim().strip_prefix("realm=").unwrap_or_default();
        let path = path.strip_prefix('"').and_then(|path| path.strip_suffix('"')).unwrap_or(path);
        let name = path.strip_prefix(DIRECTORY).and_then(|name| name.strip_prefix('/'));
        let is_name = |name: &str| {
            name.strip_suffix(".key").is_some_and(|stem| {
                (1..=MAX_NAME).contains(&stem.len())
                    && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            })
        };
        if scheme.eq_ignore_ascii_case("basic") && name.is_some_and(is_name) {
            Ok(path.to_owned())
        } else {
            Err(Error::TokenSourceUnusable)
        }
    }
}

/// Whether `text` may be a key: visible characters, as they go into a header, and no more of them than
/// Microsoft's clients read (azure-identity for Python, `azure_arc.py`).
pub(super) fn is_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The directory of the agent on Linux (azure-identity for Python, `azure_arc.py`).
pub(super) const DIRECTORY: &str = "/var/opt/azcmagent/tokens";

const MAX_NAME: usize = 128;

const MAX_KEY: usize = 4096;
