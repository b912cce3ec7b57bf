//! Calls to Azure: which are allowed, and how they get there.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keyvault_gateway::azure::{Endpoint, is_local};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::log::Log;

/// The network of one thread: its pool of connections, and the addresses that it may call.
#[derive(Clone)]
pub struct Network {
    client: Client<HttpsConnector<Route>, WasiBody>,
    egress: Arc<Egress>,
    log: Log,
}

/// The addresses that the settings name: all that a component may call.
pub struct Egress {
    pub destinations: Vec<Endpoint>,
    pub refused: AtomicU64,
}

impl Network {
    /// Makes the network of a thread, whose runtime runs its connections.
    pub fn new(tls: ClientConfig, proxy: Option<Arc<Matcher>>, egress: Arc<Egress>, log: Log) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let secure = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = secure.enable_http1().enable_http2().wrap_connector(Route { tcp, proxy });
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_LIMIT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Self { client, egress, log }
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Network {
    /// Without the `Arc` that the default makes for each header field.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    /// The client sets it.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        if !self.egress.destinations.iter().any(|known| known.is_origin_of(request.uri())) {
            let count = self.egress.refused.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            let authority = request.uri().authority().map_or("", |authority| authority.host());
            self.log
                .error(&format!("refused a call to {authority:?}, which no setting names ({count} so far)"));
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let limit = options.and_then(|options| options.first_byte_timeout).unwrap_or(CALL_LIMIT);
        let response = self.client.request(request);
        Box::new(async move {
            let response = timeout(limit, response).await.map_err(|_| Error::ConnectionTimeout)?;
            let response = response.map_err(|_| Error::ConnectionTerminated)?;
            let io: Io = Box::new(async { Ok(()) });
            Ok((response.map(|body: Incoming| body.map_err(Error::Hyper).boxed_unsync()), io))
        })
    }
}

/// Whether a header field belongs to a connection, so that a component neither sees nor sets it.
pub fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

/// Reads `HTTPS_PROXY` and `NO_PROXY`, in capitals or not.
/// It fails if the proxy's address is not one that can be used.
pub fn proxy(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Arc<Matcher>>, String> {
    let first =
        |names: [&str; 2]| names.into_iter().find_map(|name| variable(name).filter(|text| !text.is_empty()));
    let Some(address) = first(["HTTPS_PROXY", "https_proxy"]) else { return Ok(None) };
    let probe = Uri::from_static("https://example.invalid");
    let all = Matcher::builder().https(address.clone()).build();
    if all.intercept(&probe).is_none_or(|proxy| proxy.uri().scheme_str() != Some("http")) {
        return Err("HTTPS_PROXY must be the address of an HTTP proxy, http://host:port".to_owned());
    }
    let exceptions = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    Ok(Some(Arc::new(Matcher::builder().https(address).no(exceptions).build())))
}

/// Connects straight, or through the proxy.
#[derive(Clone)]
struct Route {
    tcp: HttpConnector,
    proxy: Option<Arc<Matcher>>,
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let proxy = self.proxy.as_ref().filter(|_| !is_local(uri.host().unwrap_or_default()));
        match proxy.and_then(|matcher| matcher.intercept(&uri)) {
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
                if let Some(credential) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credential.clone());
                }
                let connected = tunnel.call(uri);
                Box::pin(async move { connected.await.map_err(Into::into) })
            }
            None => {
                let connected = self.tcp.call(uri);
                Box::pin(async move { connected.await.map_err(Into::into) })
            }
        }
    }
}

/// The unused connections that are kept to one address: more than reads of cached values need, and less than
/// a burst of reads of many secrets leaves.
const MAX_IDLE: usize = 32;

/// The time for which an unused connection is kept: less than the four minutes after which Azure's load
/// balancers drop it by default.
const POOL_IDLE_LIMIT: Duration = Duration::from_secs(90);

/// The time until a response, for a call without a limit. The component sets one for each.
const CALL_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_proxy_is_used_for_https_to_other_machines() {
    let set = |names: &[(&str, &str)]| {
        proxy(|name| names.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
    };
    let matcher = set(&[("HTTPS_PROXY", "http://user:pass@proxy:3128"), ("no_proxy", "internal.example")]);
    let matcher = matcher.unwrap().unwrap();
    for (uri, is_used) in [
        ("https://my-vault.vault.azure.net/", true),
        ("https://login.internal.example/", false),
        ("http://example.com/", false),
    ] {
        assert_eq!(matcher.intercept(&uri.parse().unwrap()).is_some(), is_used, "{uri}");
    }
    // These are for plain calls, and for all protocols.
    assert!(set(&[("HTTP_PROXY", "http://p:1"), ("ALL_PROXY", "http://p:1")]).unwrap().is_none());
    for wrong in ["ftp://p:1", "https://p:1", "http://", "\u{fffd}"] {
        assert!(set(&[("https_proxy", wrong)]).is_err(), "{wrong}");
    }
}
