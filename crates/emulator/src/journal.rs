//! The journal of requests and responses, without secrets.

use std::collections::VecDeque;

use serde::Serialize;

use crate::request::{Kind, Request, find};

/// One request and the status of its response, without tokens, keys and values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The number of the request since the start of the emulator, from 0.
    pub number: u64,
    pub kind: Kind,
    pub method: String,
    pub scheme: String,
    /// Host and port as the client sent them; the path likewise.
    pub authority: String,
    pub path: String,
    /// The query parameters. The value of a parameter that the protocols do not define is replaced by `…`.
    pub query: Vec<(String, String)>,
    /// The header names in lower case, repeated as often as sent.
    pub headers: Vec<String>,
    pub credential: Credential,
    /// The resource, scope or audience of a token request.
    pub audience: Option<String>,
    /// The secret name in a vault request.
    pub secret: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub body_length: usize,
    /// The effect of the fault that matched the request.
    pub fault: Option<&'static str>,
    /// The status of the response; `None` without a response, or before it.
    pub status: Option<u16>,
}

/// Whether a request has the required credential.
///
/// A vault requires a bearer token, App Service `X-IDENTITY-HEADER` or `secret`, Entra `client_secret` or
/// `client_assertion`, GitHub the token of the job, Azure Arc a key. IMDS, Cloud Shell and Google Cloud
/// require the header `Metadata` or `Metadata-Flavor` instead. Entra's public documents require no
/// credential; a bearer token sent there is recorded as wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    Absent,
    Right,
    /// Sent, but not accepted by the endpoint.
    Wrong,
}

impl Credential {
    pub(crate) fn compare(sent: Option<&str>, expected: &str) -> Self {
        match sent {
            None => Self::Absent,
            Some(sent) if sent == expected => Self::Right,
            Some(_) => Self::Wrong,
        }
    }
}

#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) calls: VecDeque<Call>,
    next: u64,
}

impl Journal {
    /// Records a request and returns its number.
    pub(crate) fn record_request(
        &mut self,
        request: &Request,
        credential: Credential,
        fault: Option<&'static str>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            number,
            kind: request.kind,
            method: request.method.to_string(),
            scheme: request.scheme.to_owned(),
            authority: request.authority.clone(),
            path: request.path.clone(),
            query: request.query.iter().map(redacted).collect(),
            headers: request.headers.iter().map(|(name, _)| name.to_string()).collect(),
            credential,
            audience: audience(request),
            secret: request.secret().map(str::to_owned),
            traceparent: request.header("traceparent").map(str::to_owned),
            tracestate: request.header("tracestate").map(str::to_owned),
            body_length: request.body.len(),
            fault,
            status: None,
        });
        number
    }

    /// Records the status of the response to request `number`, if the journal still contains it.
    pub(crate) fn record_status(&mut self, number: u64, status: u16) {
        if let Some(call) = self.calls.iter_mut().rev().find(|call| call.number == number) {
            call.status = Some(status);
        }
    }
}

fn redacted((name, value): &(String, String)) -> (String, String) {
    let is_known = PARAMETERS.split(' ').any(|known| known == name);
    (name.clone(), if is_known { value.clone() } else { "…".to_owned() })
}

fn audience(request: &Request) -> Option<String> {
    let form = request.form().unwrap_or_default();
    let audience = ["resource", "audience"].iter().find_map(|name| request.parameter(name));
    let audience = audience.or(find(&form, "resource")).or(find(&form, "scope"));
    matches!(request.kind, Kind::Token(_)).then_some(audience?.to_owned())
}

/// The maximum of recorded requests, more than a test counts.
const MAX_CALLS: usize = 10_000;

const PARAMETERS: &str = "api-version audience resource client_id clientid principal_id object_id mi_res_id \
                          msi_res_id maxresults $skiptoken outContentType";
