//! What was asked and what was answered, without anything that is secret.

use std::collections::VecDeque;

use serde::Serialize;

use crate::request::{Ask, Kind, find};

/// One request. It holds neither a token nor a key nor a value, only whether they were right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Counts all requests since the emulator began, from 0.
    pub number: u64,
    pub kind: Kind,
    pub method: String,
    pub scheme: String,
    /// Host and port, and the path, as the client wrote them.
    pub authority: String,
    pub path: String,
    /// The query's pairs. Only the values of parameters that the protocols have are kept; others are `…`.
    pub query: Vec<(String, String)>,
    /// The names of all headers, in lower case, each as often as it was sent.
    pub headers: Vec<String>,
    pub credential: Credential,
    /// The resource or scope for which a token was asked.
    pub audience: Option<String>,
    /// The secret that was asked for.
    pub secret: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub body_length: usize,
    /// What the fault did, if one was met.
    pub fault: Option<&'static str>,
    /// The answer's status; none if there was no answer, or is none yet.
    pub status: Option<u16>,
}

/// What a request shows of the credential that is wanted.
///
/// For a vault this is the bearer token, for App Service `X-IDENTITY-HEADER` or `secret`, for Entra
/// `client_secret`. IMDS and Cloud Shell have none: there it is the header `Metadata`.
/// Entra's public addresses want none, and a bearer token there is a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    Absent,
    Right,
    /// There, but not one that is accepted.
    Wrong,
}

impl Credential {
    pub(crate) fn of(shown: Option<&str>, wanted: &str) -> Self {
        match shown {
            None => Self::Absent,
            Some(shown) if shown == wanted => Self::Right,
            Some(_) => Self::Wrong,
        }
    }
}

#[derive(Default)]
pub(crate) struct Journal {
    calls: VecDeque<Call>,
    next: u64,
}

impl Journal {
    /// Notes a request that has arrived and returns its number.
    pub(crate) fn arrived(&mut self, ask: &Ask, credential: Credential, fault: Option<&'static str>) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.calls.len() == MOST {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            number,
            kind: ask.kind,
            method: ask.method.to_string(),
            scheme: ask.scheme.to_owned(),
            authority: ask.authority.clone(),
            path: ask.path.clone(),
            query: ask.query.iter().map(shown).collect(),
            headers: ask.headers.iter().map(|(name, _)| name.to_string()).collect(),
            credential,
            audience: audience(ask),
            secret: ask.secret().map(str::to_owned),
            traceparent: ask.header("traceparent").map(str::to_owned),
            tracestate: ask.header("tracestate").map(str::to_owned),
            body_length: ask.body.len(),
            fault,
            status: None,
        });
        number
    }

    /// Notes the answer to the request of this number, if the journal still has it.
    pub(crate) fn answered(&mut self, number: u64, status: u16) {
        if let Some(call) = self.calls.iter_mut().rev().find(|it| it.number == number) {
            call.status = Some(status);
        }
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.calls.clear();
    }
}

fn shown((name, value): &(String, String)) -> (String, String) {
    let known = PARAMETERS.split(' ').any(|known| known == name);
    (name.clone(), if known { value.clone() } else { "…".to_owned() })
}

fn audience(ask: &Ask) -> Option<String> {
    let form = ask.form().unwrap_or_default();
    let asked = ask.parameter("resource").or(find(&form, "resource")).or(find(&form, "scope"));
    matches!(ask.kind, Kind::Token(_)).then_some(asked?.to_owned())
}

/// The most requests remembered: enough for any test that counts them.
const MOST: usize = 10_000;

const PARAMETERS: &str = "api-version resource client_id clientid principal_id object_id mi_res_id msi_res_id \
                          maxresults $skiptoken outContentType";
