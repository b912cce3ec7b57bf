//! A leak search over everything that leaves a gateway: responses, output and calls.
//!
//! It learns private text from the settings, from the requests, and from Azure's responses: each token, each
//! value, and every other word of an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use http::request::Parts;
use http::{HeaderMap, Uri};
use keyvault_emulator::{Emulator, Source, facts};
use serde_json::Value;
use testkit::leaks::{LEAST, Private, SHORTEST, Search};

use crate::gateway::{KEY, Response, SECRETS, value_of};
use crate::wasmtime_host::OutgoingCall;

/// The leak search of one gateway.
pub(crate) struct LeakSearch {
    search: Search,
    /// Issues assertions, also after the start.
    emulator: Emulator,
    /// The assertions that the search knows.
    assertions: BTreeSet<String>,
    /// The values of each secret in Azure's responses, by lower-case name.
    values: BTreeMap<String, BTreeSet<String>>,
    /// The authority of the vault and those of the token sources.
    vault: Option<String>,
    token_sources: Vec<String>,
    /// The authorities of the OIDC issuers of callers' tokens.
    issuers: Vec<String>,
    /// The calls that are not complete.
    open: Vec<OutgoingCall>,
    printed: [usize; 2],
    /// The number of searched calls, and of searched bytes of responses and output.
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

/// The destination of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Vault,
    TokenSource,
    /// The documents of an issuer of callers' tokens, which are public: a call for them reveals only the
    /// issuer, or the tenant.
    Jwks,
}

/// The authorities of `GATEWAY_OIDC`.
fn issuers(settings: &[(&str, String)]) -> Vec<String> {
    let list = settings.iter().find(|setting| setting.0 == "GATEWAY_OIDC");
    let list = list.and_then(|setting| serde_json::from_str::<serde_json::Value>(&setting.1).ok());
    let entries = list.as_ref().and_then(serde_json::Value::as_array).into_iter().flatten();
    let addresses = entries.filter_map(|entry| entry["issuer"].as_str()?.parse::<Uri>().ok());
    addresses.filter_map(|address| address.authority().map(ToString::to_string)).collect()
}

impl LeakSearch {
    pub(crate) fn new(emulator: &Emulator, settings: &[(&str, String)]) -> Self {
        let mut search = public_search().clone();
        SECRETS.iter().for_each(|name| search.add(Private::Value, value_of(name)));
        search.add(Private::CallerKey, KEY);
        for text in [facts::TENANT, facts::APP_ID, facts::OBJECT_ID] {
            search.add(Private::Identity, text);
        }
        for host in WELL_KNOWN_HOSTS {
            search.add(Private::Identity, format!("https://{host}/{}/oauth2/v2.0/token", facts::TENANT));
        }
        for text in [facts::CLIENT_ADDRESS, facts::VAULT] {
            search.add(Private::Azure, text);
        }
        let all_sources = Source::ALL.iter().flat_map(|source| emulator.settings(source.1, ""));
        let credentials = all_sources.filter(|setting| CREDENTIALS.contains(&setting.0));
        for (name, value) in settings.iter().cloned().chain(credentials) {
            let kind = match name {
                _ if CREDENTIALS.contains(&name) => Private::IdentitySecret,
                _ if IDS.contains(&name) => Private::Identity,
                "GATEWAY_KEY" => Private::CallerKey,
                // The names of callers, of secrets and of the token source may be in log lines.
                "GATEWAY_CALLERS" | "IDENTITY_SOURCE" => continue,
                _ => Private::Setting,
            };
            if value.len() >= if kind == Private::Setting { LEAST } else { SHORTEST } {
                search.add(kind, &value);
            }
        }
        let host = |names: &[&str]| {
            let values = settings.iter().filter(|setting| names.contains(&setting.0));
            values
                .filter_map(|setting| setting.1.parse::<Uri>().ok()?.authority().map(ToString::to_string))
                .collect::<Vec<_>>()
        };
        let vault = host(&["KeyVaultUri", "KEY_VAULT_URI"]).into_iter().next();
        let mut token_sources: Vec<String> = host(&ADDRESSES);
        token_sources.extend(WELL_KNOWN_HOSTS.map(str::to_owned));
        let values = BTreeMap::new();
        Self {
            search,
            emulator: emulator.clone(),
            assertions: BTreeSet::new(),
            values,
            vault,
            token_sources,
            issuers: issuers(settings),
            open: Vec::new(),
            printed: [0; 2],
            calls: 0,
            bytes: 0,
        }
    }

    /// Adds private text to the search.
    pub(crate) fn add_private(&mut self, what: Private, text: &str) {
        self.search.add(what, text);
    }

    /// Adds a value of the secret `name`.
    pub(crate) fn add_value(&mut self, name: &str, value: &str) {
        self.values.entry(name.to_ascii_lowercase()).or_default().insert(value.to_owned());
    }

    /// Learns the credentials of a request.
    pub(crate) fn learn_request(&mut self, fields: &HeaderMap, uri: &Uri) {
        let codes = uri.query().unwrap_or_default().split('&').filter_map(|code| code.strip_prefix("code="));
        let codes = codes.map(|key| (Private::CallerKey, key.as_bytes()));
        let named = [("x-functions-key", Private::CallerKey), ("authorization", Private::CallerToken)];
        let named = named
            .into_iter()
            .flat_map(|(name, what)| fields.get_all(name).iter().map(move |value| (what, value.as_bytes())));
        // A shorter text may be in a response by coincidence.
        for (what, text) in codes.chain(named).filter(|text| text.1.len() >= LEAST) {
            self.search.add(what, text);
        }
    }

    /// Learns the assertions so far.
    fn learn_assertions(&mut self) {
        for assertion in self.emulator.assertions() {
            if !self.assertions.contains(&assertion) {
                self.search.add(Private::IdentitySecret, &assertion);
                self.assertions.insert(assertion);
            }
        }
    }

    /// Learns from the calls so far and searches the new ones. Everything that leaves is searched after them.
    pub(crate) fn search_calls(&mut self, sent: &mut Vec<OutgoingCall>) {
        self.learn_assertions();
        let new = self.open.len();
        self.open.append(sent);
        for (index, call) in std::mem::take(&mut self.open).into_iter().enumerate() {
            let destination = self.destination(&call.head);
            self.learn_response(destination, &call);
            let is_complete = call.is_complete();
            if index >= new || is_complete {
                self.search_call(destination, &call);
            }
            self.calls += usize::from(is_complete);
            if !is_complete {
                self.open.push(call);
            }
        }
    }

    /// Searches a response to a request with this body. A 200 may contain the requested value once.
    pub(crate) fn search_response(&mut self, request_body: Option<&[u8]>, response: &Response) {
        let names =
            request_body.filter(|_| response.status == 200).map(requested_secrets).unwrap_or_default();
        let without = |body: Vec<u8>, name: &String| self.without_value_of(name, &body);
        let body = names.iter().fold(response.body.to_vec(), without);
        let head = format!("{} {}", response.status, fields(&response.headers));
        self.search.expect_nothing(&head, &[], "the head of a response");
        self.search.expect_nothing(body, &[], "the body of a response");
        expect_no_azure_fragments(&head);
        expect_no_azure_fragments(&String::from_utf8_lossy(&response.body));
        self.bytes += head.len() + response.body.len();
    }

    /// Searches the new part of standard output and standard error.
    pub(crate) fn search_output(&mut self, stdout: &[u8], stderr: &[u8]) {
        for (printed, searched) in [stdout, stderr].into_iter().zip(&mut self.printed) {
            let new = &printed[*searched..];
            let text: String = String::from_utf8_lossy(new).lines().map(without_error_code).collect();
            self.search.expect_nothing(&text, &[], "the output");
            expect_no_azure_fragments(&text);
            self.bytes += new.len();
            *searched = printed.len();
        }
    }

    /// Searches all output again.
    pub(crate) fn search_all_output(&mut self, stdout: &[u8], stderr: &[u8]) {
        self.printed = [0; 2];
        self.search_output(stdout, stderr);
    }

    /// Returns the body of a response without the value of the secret `name`.
    fn without_value_of(&self, name: &str, body: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(body);
        let values = self.values.get(name).into_iter().flatten();
        let mut members = values.map(|value| format!("\"Value\":{}", Value::from(value.as_str())));
        members
            .find(|member| text.contains(member))
            .map_or(body.to_vec(), |member| text.replacen(&member, "", 1).into_bytes())
    }

    fn destination(&self, head: &Parts) -> Destination {
        let authority = head.uri.authority().map(ToString::to_string);
        let path = head.uri.path();
        let is_jwks = path.ends_with("/discovery/v2.0/keys");
        let is_issuer = |host: &String| self.issuers.contains(host) && path.starts_with("/oidc/");
        let known = |host: &String| self.token_sources.contains(host);
        match authority {
            Some(host) if is_issuer(&host) || known(&host) && is_jwks => Destination::Jwks,
            Some(host) if known(&host) => Destination::TokenSource,
            authority if authority.is_some() && authority == self.vault => Destination::Vault,
            _ => panic!("a call to a host that no setting names: {}", head.uri),
        }
    }

    /// Learns from a call and its response.
    fn learn_response(&mut self, from: Destination, call: &OutgoingCall) {
        let is_vault = from == Destination::Vault;
        if let Some(bearer) = call.head.headers.get("authorization") {
            let what = if is_vault { Private::Token } else { Private::IdentitySecret };
            self.search.add(what, bearer.as_bytes());
        }
        let Some((head, body)) = call.response.get() else { return };
        let body = body.bytes();
        let text = String::from_utf8_lossy(&body);
        // What an issuer of assertions returns goes to Entra ID, even a mark.
        let is_issuer = call.head.uri.query().is_some_and(|query| query.contains(EXCHANGE));
        let kinds = if is_issuer { [Private::IdentitySecret; 2] } else { [Private::Token, Private::Value] };
        for (name, what) in ["access_token", "value"].into_iter().zip(kinds) {
            for text in json_strings(&text, name).filter(|text| text.len() >= SHORTEST) {
                self.search.add(what, text);
            }
        }
        // The vault's response names the secret of its value.
        for id in json_strings(&text, "id").filter(|_| is_vault) {
            let name = id.split_once("/secrets/").map_or("", |parts| parts.1).split('/').next().unwrap();
            json_strings(&text, "value").for_each(|value| self.add_value(name, &value));
        }
        if head.status != 200 {
            // JSON syntax is public, and the name and the version are the caller's.
            let path = call.head.uri.path().split('/').skip(2).filter(|part| is_vault && !part.is_empty());
            let text = path.fold(text.into_owned(), |text, part| text.replace(part, "\""));
            for words in text.split('"').filter(|words| words.len() >= LEAST) {
                self.search.add(Private::Azure, words);
            }
        }
        // A media type is public, and our own answers have one as well.
        for (name, value) in head.headers.iter().filter(|field| field.1.len() >= LEAST) {
            if name != "content-type" {
                self.search.add(Private::Azure, value.as_bytes());
            }
        }
    }

    /// Searches the head and the body of a call.
    fn search_call(&self, to: Destination, call: &OutgoingCall) {
        let Parts { method, uri, headers, .. } = &call.head;
        let (allowed, names): (&[Private], &[&str]) = match to {
            Destination::Vault => (&[Private::Token, Private::Setting], &["authorization"]),
            Destination::TokenSource => {
                (&[Private::IdentitySecret, Private::Identity, Private::Setting], &TOKEN_SOURCE_FIELDS)
            }
            Destination::Jwks => (&[Private::Identity, Private::Setting], &[]),
        };
        for name in headers.keys().map(http::HeaderName::as_str) {
            assert!(COMMON_FIELDS.contains(&name) || names.contains(&name), "{name} in a call to {to:?}");
        }
        let tokens = headers.get_all("authorization").iter().count();
        assert!(to != Destination::Vault || tokens == 1, "{to:?} {uri}");
        let head = format!("{method} {uri}\n{}", fields(headers));
        self.search.expect_nothing(head, allowed, format_args!("a call to {to:?}"));
        let body = call.body.bytes();
        assert!(to == Destination::TokenSource || body.is_empty(), "a body in a call to {to:?}");
        // The names of a form's fields are public. An assertion goes to Entra ID as its issuer made it, in
        // base64, with addresses that Azure's answers name.
        let form = String::from_utf8_lossy(&body).into_owned();
        let fields = form.split('&').map(|field| field.split_once('=').unwrap_or(("", field)));
        let values = fields.filter(|(name, _)| *name != "client_assertion").map(|(_, value)| value);
        let body = values.collect::<Vec<_>>().join("&");
        self.search.expect_nothing(body, allowed, format_args!("the body of a call to {to:?}"));
    }
}

/// Returns a log line without the error code of Azure at the end of its cause, which is allowed there.
fn without_error_code(line: &str) -> String {
    let without_code = line.split_once("\"cause\":\"").and_then(|(start, rest)| {
        let (cause, rest) = rest.split_once('"')?;
        let (cause, code) = cause.strip_suffix(')')?.rsplit_once(", code ")?;
        let is_code = (1..=64).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_code.then(|| format!("{start}\"cause\":\"{cause})\"{rest}\n"))
    });
    without_code.unwrap_or_else(|| format!("{line}\n"))
}

/// Returns the secrets that a request names, in lower case.
fn requested_secrets(body: &[u8]) -> Vec<String> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let member = |body: &Value, name: &str| {
        let mut fields = body.as_object().into_iter().flatten();
        fields.find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.clone())
    };
    let list = member(&body, "secrets").and_then(|list| list.as_array().cloned()).unwrap_or_default();
    let item = |item: Value| if item.is_object() { member(&item, "secret") } else { Some(item) };
    let names = list.into_iter().filter_map(item).chain(member(&body, "secret"));
    names.filter_map(|name| Some(name.as_str()?.to_ascii_lowercase())).collect()
}

/// Returns each string value of the property `name`, including one that is cut off.
fn json_strings<'a>(json: &'a str, name: &str) -> impl Iterator<Item = String> + 'a {
    let name = format!("\"{name}\"");
    let starts: Vec<usize> = json.match_indices(&name).map(|found| found.0 + found.1.len()).collect();
    starts.into_iter().filter_map(move |at| {
        let text = json[at..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        let escaped = |at: usize| text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        let mut quotes = text.match_indices('"').map(|found| found.0);
        let end = quotes.find(|quote| !escaped(*quote)).unwrap_or(text.len());
        let whole = serde_json::from_str(&format!("\"{}\"", &text[..end])).ok();
        Some(whole.unwrap_or_else(|| text[..end].to_owned()))
    })
}

fn fields(headers: &HeaderMap) -> String {
    let line = |(name, value): (_, &http::HeaderValue)| {
        format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
    };
    headers.iter().map(line).collect()
}

fn expect_no_azure_fragments(text: &str) {
    for word in AZURE_FRAGMENTS {
        assert!(!text.contains(word), "{word:?} in {text}");
    }
}

/// Fragments of Azure's responses and requests that are too short for a search in every form.
const AZURE_FRAGMENTS: [&str; 10] =
    ["eyJ0eXAi", "Bearer e", "AADSTS", "AKV1", "IDX1", "fwlink", "orrelation", "<html", "login.", "169.254."];

/// Public text: the API description, and all error messages and metric names.
const PUBLIC_FILES: [&str; 4] = [
    include_str!("../../../../src/openapi.json"),
    include_str!("../../../../src/http/response.rs"),
    include_str!("../../../../src/error.rs"),
    include_str!("../../../../src/telemetry/metrics.rs"),
];

/// Public text of requests to Azure and of its responses.
const PUBLIC_TEXT: [&str; 13] = [
    "FunctionsKey realm=\"keyvault-gateway\", Bearer realm=\"keyvault-gateway\"",
    "accept: application/json",
    "metadata-flavor: Google",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "https://vault.azure.net/.default",
    "https://vault.azure.cn/.default",
    "https://vault.usgovcloudapi.net/.default",
    "/oauth2/v2.0/token",
    "client_credentials",
    "authorization",
    // The beginnings of the headers of JWTs: {"typ":"JWT","alg":"RS256"} and {"alg":"RS256",
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9",
    "eyJhbGciOiJSUzI1NiIs",
];

/// A part of the audience of assertions.
const EXCHANGE: &str = "AzureADTokenExchange";

/// The settings with a credential of a token source.
const CREDENTIALS: [&str; 4] =
    ["IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"];

/// The settings that identify the gateway.
const IDS: [&str; 6] = [
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "IDENTITY_OBJECT_ID",
    "IDENTITY_RESOURCE_ID",
    "FEDERATION_TENANT_ID",
    "FEDERATION_CLIENT_ID",
];

/// The settings with the address of a token source.
const ADDRESSES: [&str; 6] = [
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_AUTHORITY_HOST",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "GCE_METADATA_HOST",
];

/// The addresses of token sources without a setting.
const WELL_KNOWN_HOSTS: [&str; 4] =
    ["169.254.169.254", "login.microsoftonline.com", "login.microsoftonline.us", "login.chinacloudapi.cn"];

/// The header fields that every call may have. Of the caller `traceparent` has two ids and nothing else.
const COMMON_FIELDS: [&str; 4] = ["host", "accept", "user-agent", "traceparent"];

/// The header fields of calls to token sources.
const TOKEN_SOURCE_FIELDS: [&str; 8] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "metadata",
    "secret",
    "x-identity-header",
    "metadata-flavor",
    "authorization",
];

/// Returns a search that knows only public text.
fn public_search() -> &'static Search {
    static PUBLIC_SEARCH: OnceLock<Search> = OnceLock::new();
    PUBLIC_SEARCH.get_or_init(|| {
        let mut search = Search::new();
        let names = SECRETS.into_iter().filter(|name| name.len() >= SHORTEST);
        let texts = PUBLIC_FILES.into_iter().chain(PUBLIC_TEXT).chain(names);
        texts.for_each(|text| search.add(Private::Public, text));
        search
    })
}
