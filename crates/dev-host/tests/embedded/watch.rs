//! Watches everything that leaves a gateway: its answers, what it prints, and its calls.
//!
//! What is private is learnt from the settings, from the requests, and from what Azure really said: each token, each
//! value, and every word of an answer that is not a secret or a token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use http::request::Parts;
use http::{HeaderMap, Uri};
use keyvault_emulator::{Emulator, Source, facts};
use serde_json::Value;
use testkit::leaks::{LEAST, Private, SHORTEST, Search};

use crate::gateway::{Answer, KEY, SECRETS, value_of};
use crate::wasmtime_host::Sent;

/// The watch on one gateway.
pub(crate) struct Watch {
    search: Search,
    /// What Azure has given as the values of each secret, by its name in lower case.
    values: BTreeMap<String, BTreeSet<String>>,
    /// Where the settings lead: the vault, and the hosts of token sources.
    vault: Option<String>,
    token_sources: Vec<String>,
    /// Calls that are not over.
    open: Vec<Sent>,
    printed: [usize; 2],
    calls: usize,
    bytes: usize,
}

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Vault,
    TokenSource,
    /// Entra's own keys, which are public: a call for them tells nothing but the tenant.
    Keys,
}

impl Watch {
    pub(crate) fn new(emulator: &Emulator, settings: &[(&str, String)]) -> Self {
        let mut search = public().clone();
        SECRETS.iter().for_each(|it| search.add(Private::Value, value_of(it)));
        search.add(Private::CallerKey, KEY);
        for text in [facts::TENANT, facts::APP_ID, facts::OBJECT_ID] {
            search.add(Private::Identity, text);
        }
        for host in AZURES_OWN {
            search.add(Private::Identity, format!("https://{host}/{}/oauth2/v2.0/token", facts::TENANT));
        }
        for text in [facts::CLIENT_ADDRESS, facts::VAULT] {
            search.add(Private::Azure, text);
        }
        let everywhere = Source::ALL.iter().flat_map(|it| emulator.settings(it.1, ""));
        let all = settings.iter().cloned().chain(everywhere.filter(|it| CREDENTIALS.contains(&it.0)));
        for (name, value) in all {
            let kind = match name {
                _ if CREDENTIALS.contains(&name) => Private::IdentitySecret,
                _ if IDS.contains(&name) => Private::Identity,
                "GATEWAY_KEY" => Private::CallerKey,
                // It names callers and secrets, which a log line has, too.
                "GATEWAY_CALLERS" => continue,
                _ => Private::Setting,
            };
            if value.len() >= if kind == Private::Setting { LEAST } else { SHORTEST } {
                search.add(kind, &value);
            }
        }
        let host = |names: &[&str]| {
            let values = settings.iter().filter(|it| names.contains(&it.0));
            values
                .filter_map(|it| it.1.parse::<Uri>().ok()?.authority().map(ToString::to_string))
                .collect::<Vec<_>>()
        };
        let vault = host(&["KeyVaultUri", "KEY_VAULT_URI"]).into_iter().next();
        let mut token_sources: Vec<String> = host(&ENDPOINTS);
        token_sources.extend(AZURES_OWN.map(str::to_owned));
        let values = BTreeMap::new();
        Self { search, values, vault, token_sources, open: Vec::new(), printed: [0; 2], calls: 0, bytes: 0 }
    }

    /// Makes `text` private.
    pub(crate) fn hide(&mut self, what: Private, text: &str) {
        self.search.add(what, text);
    }

    /// Makes `value` one of the secret `name`.
    pub(crate) fn hold(&mut self, name: &str, value: &str) {
        self.values.entry(name.to_ascii_lowercase()).or_default().insert(value.to_owned());
    }

    /// Calls that have been searched, and bytes of answers and output.
    pub(crate) fn searched(&self) -> (usize, usize) {
        (self.calls, self.bytes)
    }

    /// A request comes: what it shows of a credential is private.
    pub(crate) fn request(&mut self, fields: &HeaderMap, uri: &Uri) {
        let codes =
            uri.query().into_iter().flat_map(|it| it.split('&')).filter_map(|it| it.strip_prefix("code="));
        let codes = codes.map(|it| (Private::CallerKey, it.as_bytes()));
        let named = [("x-functions-key", Private::CallerKey), ("authorization", Private::CallerToken)];
        let named = named
            .into_iter()
            .flat_map(|(name, what)| fields.get_all(name).iter().map(move |it| (what, it.as_bytes())));
        // What is shorter is in a test that says what it is, or in an answer by chance.
        for (what, text) in codes.chain(named).filter(|it| it.1.len() >= LEAST) {
            self.search.add(what, text);
        }
    }

    /// Learns what came of the calls so far, and searches the new ones.
    pub(crate) fn calls(&mut self, sent: &mut Vec<Sent>) {
        let new = self.open.len();
        self.open.append(sent);
        for (index, call) in std::mem::take(&mut self.open).into_iter().enumerate() {
            let to = self.whom(&call.head);
            self.learn(to, &call);
            let over = call.is_over();
            if index >= new || over {
                self.call(to, &call);
            }
            self.calls += usize::from(over);
            if !over {
                self.open.push(call);
            }
        }
    }

    /// An answer to a caller, who may have `asked` for a secret with this body. If it is 200 it may have the value of that
    /// secret, in its place and once.
    pub(crate) fn answer(&mut self, asked: Option<&[u8]>, answer: &Answer) {
        let body = match asked.and_then(name_in).filter(|_| answer.status == 200) {
            Some(name) => self.without_value_of(&name, &answer.body),
            None => answer.body.to_vec(),
        };
        let head = format!("{} {}", answer.status, fields(&answer.headers));
        self.search.expect_nothing(&head, &[], "an answer's head");
        self.search.expect_nothing(body, &[], "an answer's body");
        expect_none_of_azures_words(&head);
        expect_none_of_azures_words(&String::from_utf8_lossy(&answer.body));
        self.bytes += head.len() + answer.body.len();
    }

    /// What has been printed so far: standard output and standard error.
    pub(crate) fn output(&mut self, stdout: &[u8], stderr: &[u8]) {
        for (printed, searched) in [stdout, stderr].into_iter().zip(&mut self.printed) {
            let new = &printed[*searched..];
            let text: String = String::from_utf8_lossy(new).lines().map(without_code).collect();
            self.search.expect_nothing(&text, &[], "the output");
            expect_none_of_azures_words(&text);
            self.bytes += new.len();
            *searched = printed.len();
        }
    }

    /// The same from its beginning.
    pub(crate) fn all_output(&mut self, stdout: &[u8], stderr: &[u8]) {
        self.printed = [0; 2];
        self.output(stdout, stderr);
    }

    /// The body of an answer but for the value of the secret `name`.
    fn without_value_of(&self, name: &str, body: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(body);
        let values = self.values.get(name).into_iter().flatten();
        let mut members = values.map(|it| format!("\"Value\":{}", Value::from(it.as_str())));
        members
            .find(|it| text.contains(it))
            .map_or(body.to_vec(), |it| text.replacen(&it, "", 1).into_bytes())
    }

    fn whom(&self, head: &Parts) -> To {
        let authority = head.uri.authority().map(ToString::to_string);
        let known = |it: &String| self.token_sources.contains(it);
        match authority {
            _ if head.uri.path().ends_with("/discovery/v2.0/keys")
                && authority.as_ref().is_some_and(known) =>
            {
                To::Keys
            }
            _ if authority.is_some() && authority == self.vault => To::Vault,
            Some(it) if known(&it) => To::TokenSource,
            _ => panic!("a call to a host that no setting names: {}", head.uri),
        }
    }

    /// Learns what Azure answered.
    fn learn(&mut self, to: To, call: &Sent) {
        if let Some(bearer) = call.head.headers.get("authorization") {
            self.search.add(Private::Token, bearer.as_bytes());
        }
        let Some((head, body)) = call.answer.get() else { return };
        let body = body.seen();
        let text = String::from_utf8_lossy(&body);
        for (name, what) in [("access_token", Private::Token), ("value", Private::Value)] {
            for quoted in texts_of(&text, name).filter(|it| it.len() >= SHORTEST) {
                self.search.add(what, quoted);
            }
        }
        // Whatever was asked for, the vault says whose value it is.
        for id in texts_of(&text, "id").filter(|_| to == To::Vault) {
            let name = id.split_once("/secrets/").map_or("", |it| it.1).split('/').next().unwrap_or_default();
            texts_of(&text, "value").for_each(|it| self.hold(name, &it));
        }
        if head.status != 200 {
            // JSON looks alike everywhere, and the name and the version are the caller's.
            let asked =
                call.head.uri.path().split('/').skip(2).filter(|it| to == To::Vault && !it.is_empty());
            let text = asked.fold(text.into_owned(), |text, it| text.replace(it, "\""));
            for words in text.split('"').filter(|it| it.len() >= LEAST) {
                self.search.add(Private::Azure, words);
            }
        }
        for value in head.headers.iter().filter(|it| it.1.len() >= LEAST).map(|it| it.1) {
            self.search.add(Private::Azure, value.as_bytes());
        }
    }

    /// Searches a call.
    fn call(&self, to: To, call: &Sent) {
        let Parts { method, uri, headers, .. } = &call.head;
        let (allowed, names): (&[Private], &[&str]) = match to {
            To::Vault => (&[Private::Token, Private::Setting], &["authorization"]),
            To::TokenSource => (
                &[Private::IdentitySecret, Private::Identity, Private::Setting],
                &[
                    "content-type",
                    "content-length",
                    "transfer-encoding",
                    "metadata",
                    "secret",
                    "x-identity-header",
                ],
            ),
            To::Keys => (&[Private::Identity, Private::Setting], &[]),
        };
        for name in headers.keys().map(http::HeaderName::as_str) {
            assert!(EVERYWHERE.contains(&name) || names.contains(&name), "{name} in a call to {to:?}");
        }
        assert!(to != To::Vault || headers.get_all("authorization").iter().count() == 1, "{to:?} {uri}");
        let head = format!("{method} {uri}\n{}", fields(headers));
        self.search.expect_nothing(head, allowed, format_args!("a call to {to:?}"));
        let body = call.body.seen();
        assert!(to == To::TokenSource || body.is_empty(), "a body in a call to {to:?}");
        self.search.expect_nothing(body, allowed, format_args!("the body of a call to {to:?}"));
    }
}

/// A line but for the code of Azure's that its cause may end with, which is all that a line may have of what Azure said.
fn without_code(line: &str) -> String {
    let shown = line.split_once("\"cause\":\"").and_then(|(start, rest)| {
        let (cause, rest) = rest.split_once('"')?;
        let (cause, code) = cause.strip_suffix(')')?.rsplit_once(", code ")?;
        let is_code =
            (1..=64).contains(&code.len()) && code.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        is_code.then(|| format!("{start}\"cause\":\"{cause})\"{rest}\n"))
    });
    shown.unwrap_or_else(|| format!("{line}\n"))
}

/// The secret that the body of a request asks for, in lower case.
fn name_in(body: &[u8]) -> Option<String> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let fields: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
    let name = fields.iter().find(|it| it.0.eq_ignore_ascii_case("secret"))?.1;
    Some(name.as_str()?.to_ascii_lowercase())
}

/// Each text that JSON gives the property `name`, also the start of one that does not end.
fn texts_of<'a>(json: &'a str, name: &str) -> impl Iterator<Item = String> + 'a {
    let name = format!("\"{name}\"");
    let starts: Vec<usize> = json.match_indices(&name).map(|it| it.0 + it.1.len()).collect();
    starts.into_iter().filter_map(move |at| {
        let text = json[at..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        let escaped = |at: usize| text[..at].bytes().rev().take_while(|it| *it == b'\\').count() % 2 == 1;
        let end = text.match_indices('"').map(|it| it.0).find(|it| !escaped(*it)).unwrap_or(text.len());
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

fn expect_none_of_azures_words(text: &str) {
    for word in AZURE {
        assert!(!text.contains(word), "{word:?} in {text}");
    }
}

/// What Azure's answers and the requests to it have in them and is too short to be searched for in every form: a token's
/// beginning, error numbers, pages.
const AZURE: [&str; 10] =
    ["eyJ0eXAi", "Bearer e", "AADSTS", "AKV1", "IDX1", "fwlink", "orrelation", "<html", "login.", "169.254."];

/// What is public: the description of the contract, and every sentence that we have for an
/// error or a count.
const OURS: [&str; 4] = [
    include_str!("../../../../src/openapi.json"),
    include_str!("../../../../src/http/response.rs"),
    include_str!("../../../../src/error.rs"),
    include_str!("../../../../src/telemetry/metrics.rs"),
];

/// What Azure says, and we say to it.
const PUBLIC: [&str; 10] = [
    "FunctionsKey realm=\"keyvault-gateway\", Bearer realm=\"keyvault-gateway\"",
    "accept: application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "https://vault.azure.net/.default",
    "https://vault.azure.cn/.default",
    "https://vault.usgovcloudapi.net/.default",
    "/oauth2/v2.0/token",
    "client_credentials",
    "authorization",
];

/// Settings that are credentials at a token source.
const CREDENTIALS: [&str; 3] = ["IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET"];

/// Settings that say who we are.
const IDS: [&str; 4] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "IDENTITY_OBJECT_ID", "IDENTITY_RESOURCE_ID"];

/// Settings that lead to a token source.
const ENDPOINTS: [&str; 4] =
    ["IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"];

/// Where token sources are without a setting.
const AZURES_OWN: [&str; 4] =
    ["169.254.169.254", "login.microsoftonline.com", "login.microsoftonline.us", "login.chinacloudapi.cn"];

/// Header fields that every call may have. `traceparent` has two ids of the caller, and nothing else of it.
const EVERYWHERE: [&str; 4] = ["host", "accept", "user-agent", "traceparent"];

/// A search that knows what is public, and nothing else yet.
fn public() -> &'static Search {
    static PUBLIC_SEARCH: OnceLock<Search> = OnceLock::new();
    PUBLIC_SEARCH.get_or_init(|| {
        let mut search = Search::new();
        let names = SECRETS.into_iter().filter(|it| it.len() >= SHORTEST);
        OURS.into_iter().chain(PUBLIC).chain(names).for_each(|it| search.add(Private::Public, it));
        search
    })
}

/// Everything that is private, planted where anything leaves: it is seen there, and only where it may not be.
#[test]
fn what_is_private_is_seen_wherever_it_leaves_and_only_where_it_may_not() {
    use std::panic::catch_unwind;
    const PLANTED: &str = "planted-6b6c-what-must-not-leave";
    // The channels: a field, an error and a secret of an answer, both outputs, the address of each call, and a body.
    let [vault, tokens, keys, body, channels] = [5, 6, 7, 8, 9];
    let watch = || {
        let emulator = Emulator::new();
        Watch::new(&emulator, &crate::gateway::settings(&emulator, Source::AppService2019))
    };
    let plant = |what, channel| {
        let mut watch = watch();
        watch.hide(what, PLANTED);
        let line = format!("{{\"cause\":\"{PLANTED}\"}}\n");
        let asked = Some(&br#"{"Secret":"x"}"#[..]);
        match channel {
            0 => watch.answer(asked, &answered(200, PLANTED, "")),
            1 => watch.answer(asked, &answered(502, "", &line)),
            2 => watch.answer(asked, &answered(200, "", &line)),
            3 => watch.output(line.as_bytes(), b""),
            4 => watch.output(b"", line.as_bytes()),
            5 => watch.calls(&mut vec![called(
                &format!("https://demo.vault.azure.net/{PLANTED}"),
                "Bearer x",
                "",
            )]),
            6 => watch.calls(&mut vec![called(&format!("http://127.0.0.1:41741/{PLANTED}"), "", "")]),
            7 => watch.calls(&mut vec![called(&format!("{ENTRA}/{PLANTED}/discovery/v2.0/keys"), "", "")]),
            _ => watch.calls(&mut vec![called("http://127.0.0.1:41741/", "", PLANTED)]),
        }
    };
    for (what, allowed) in [
        (Private::Value, vec![]),
        (Private::Token, vec![vault]),
        (Private::IdentitySecret, vec![tokens, body]),
        (Private::Identity, vec![tokens, keys, body]),
        (Private::CallerKey, vec![]),
        (Private::CallerToken, vec![]),
        (Private::Request, vec![]),
        (Private::Azure, vec![]),
        (Private::Setting, vec![vault, tokens, keys, body]),
        (Private::Public, (0..channels).collect()),
    ] {
        for channel in 0..channels {
            let seen = catch_unwind(|| plant(what, channel)).is_err();
            assert_eq!(seen, !allowed.contains(&channel), "{what:?} {channel}");
        }
    }
    for (uri, bearer, fits) in [
        ("https://demo.vault.azure.net/secrets/x", "Bearer x-token", true),
        ("https://demo.vault.azure.net/secrets/x", "", false),
        ("https://other.vault.azure.net/secrets/x", "Bearer x-token", false),
        ("https://attacker.example/t/discovery/v2.0/keys", "", false),
        ("http://127.0.0.1:41741/msi/token", "", true),
        ("http://127.0.0.1:41741/msi/token", "Bearer x-token", false),
    ] {
        let passes = catch_unwind(|| watch().calls(&mut vec![called(uri, bearer, "")])).is_ok();
        assert_eq!(passes, fits, "{uri} {bearer}");
    }
}

fn answered(status: u16, field: &str, body: &str) -> Answer {
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-more"), field.parse().unwrap())]);
    Answer { status, headers, body: body.to_owned().into(), took: std::time::Duration::ZERO }
}

fn called(uri: &str, bearer: &str, body: &str) -> Sent {
    let mut head = http::Request::get(uri).body(()).unwrap().into_parts().0;
    if !bearer.is_empty() {
        head.headers.insert("authorization", bearer.parse().unwrap());
    }
    let record = crate::wasmtime_host::Record::default();
    record.see(http_body::Frame::data(body.to_owned().into()));
    Sent { head, body: record, answer: std::sync::Arc::default() }
}

const ENTRA: &str = "https://login.microsoftonline.com";
