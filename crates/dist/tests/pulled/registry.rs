//! A registry on loopback that keeps everything in memory: of the OCI Distribution Specification what pushing, pulling and
//! listing takes. It takes nothing that is not what its digest says.

use bytes::Bytes;
use dist::layout::{Descriptor, Manifest};
use http::header::{CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// Starts a registry at `address` and tells where it listens. It ends with the runtime.
pub(crate) async fn start(address: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let kept = Arc::new(Mutex::new(Kept::default()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request| answer(Arc::clone(&kept), request));
            // A client that hangs up ends its connection and nothing else.
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    Ok(address)
}

/// What has been pushed. Blobs of all repositories are one.
#[derive(Default)]
struct Kept {
    blobs: BTreeMap<String, Bytes>,
    /// By repository, and by tag or digest.
    manifests: BTreeMap<(String, String), Bytes>,
    /// What is on its way, by the number that its address has.
    uploads: BTreeMap<usize, Vec<u8>>,
    started: usize,
}

type Answer = Response<Full<Bytes>>;

async fn answer(kept: Arc<Mutex<Kept>>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
    };
    let body = body.to_bytes();
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = head.uri.query().and_then(|it| it.strip_prefix("digest=")).map(|it| it.replace("%3A", ":"));
    Ok(match Place::parse(head.uri.path()) {
        Some(Place::Root) => reply(StatusCode::OK, [], "{}"),
        Some(Place::Uploads(name)) if head.method == Method::POST => kept.begin(name),
        Some(Place::Upload(name, number)) if head.method == Method::PATCH => kept.append(name, number, &body),
        Some(Place::Upload(name, number)) if head.method == Method::PUT => {
            kept.finish(name, number, &body, digest)
        }
        Some(Place::Blob(digest)) if is_read(&head.method) => kept.blob(digest),
        Some(Place::Manifest(name, reference)) if head.method == Method::PUT => {
            kept.name(name, reference, body)
        }
        Some(Place::Manifest(name, reference)) if is_read(&head.method) => kept.manifest(name, reference),
        Some(Place::Tags(name)) if is_read(&head.method) => kept.tags(name),
        _ => refusal(StatusCode::NOT_FOUND, "UNSUPPORTED"),
    })
}

/// The server leaves the body out of an answer to HEAD.
fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// What a path stands for.
enum Place<'a> {
    Root,
    Uploads(&'a str),
    Upload(&'a str, usize),
    Blob(&'a str),
    Manifest(&'a str, &'a str),
    Tags(&'a str),
}

impl<'a> Place<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        if rest.is_empty() {
            return Some(Self::Root);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name));
        }
        if let Some((name, upload)) = rest.split_once("/blobs/uploads/") {
            return if upload.is_empty() {
                Some(Self::Uploads(name))
            } else {
                Some(Self::Upload(name, upload.parse().ok()?))
            };
        }
        if let Some((_, digest)) = rest.split_once("/blobs/") {
            return Some(Self::Blob(digest));
        }
        rest.split_once("/manifests/").map(|(name, reference)| Self::Manifest(name, reference))
    }
}

impl Kept {
    fn begin(&mut self, name: &str) -> Answer {
        self.started += 1;
        self.uploads.insert(self.started, Vec::new());
        under_way(name, self.started, 0)
    }

    fn append(&mut self, name: &str, number: usize, body: &[u8]) -> Answer {
        let Some(upload) = self.uploads.get_mut(&number) else { return unknown("BLOB_UPLOAD_UNKNOWN") };
        upload.extend_from_slice(body);
        under_way(name, number, upload.len())
    }

    fn finish(&mut self, name: &str, number: usize, body: &[u8], digest: Option<String>) -> Answer {
        let Some(mut upload) = self.uploads.remove(&number) else { return unknown("BLOB_UPLOAD_UNKNOWN") };
        upload.extend_from_slice(body);
        let found = Descriptor::of("", &upload).digest;
        if digest.as_ref() != Some(&found) {
            return refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        }
        let place = format!("/v2/{name}/blobs/{found}");
        self.blobs.insert(found.clone(), upload.into());
        reply(StatusCode::CREATED, [(LOCATION, place), (DIGEST, found)], "")
    }

    fn blob(&self, digest: &str) -> Answer {
        let Some(bytes) = self.blobs.get(digest) else { return unknown("BLOB_UNKNOWN") };
        let fields = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (DIGEST, digest.to_owned())];
        reply(StatusCode::OK, fields, bytes.clone())
    }

    /// Keeps a manifest whose blobs are there, under its digest and under the tag it was pushed to.
    fn name(&mut self, name: &str, reference: &str, body: Bytes) -> Answer {
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&body) else {
            return refusal(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
        };
        let mut parts = manifest.layers.iter().chain([&manifest.config]);
        if !parts.all(|it| self.blobs.get(&it.digest).is_some_and(|bytes| bytes.len() == it.size)) {
            return unknown("MANIFEST_BLOB_UNKNOWN");
        }
        let digest = Descriptor::of("", &body).digest;
        if reference.contains(':') && reference != digest {
            return refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        }
        for reference in [reference, &digest] {
            self.manifests.insert((name.to_owned(), reference.to_owned()), body.clone());
        }
        let place = format!("/v2/{name}/manifests/{digest}");
        reply(StatusCode::CREATED, [(LOCATION, place), (DIGEST, digest)], "")
    }

    fn manifest(&self, name: &str, reference: &str) -> Answer {
        let Some(bytes) = self.manifests.get(&(name.to_owned(), reference.to_owned())) else {
            return unknown("MANIFEST_UNKNOWN");
        };
        let digest = Descriptor::of("", bytes).digest;
        reply(
            StatusCode::OK,
            [(CONTENT_TYPE, dist::layout::MANIFEST.to_owned()), (DIGEST, digest)],
            bytes.clone(),
        )
    }

    fn tags(&self, name: &str) -> Answer {
        let references = self.manifests.keys().filter(|(it, _)| it == name).map(|(_, it)| it);
        let tags: Vec<_> = references.filter(|it| !it.contains(':')).collect();
        if tags.is_empty() {
            return unknown("NAME_UNKNOWN");
        }
        let list = serde_json::json!({ "name": name, "tags": tags }).to_string();
        reply(StatusCode::OK, [(CONTENT_TYPE, "application/json".to_owned())], list)
    }
}

/// Where the rest of an upload goes, of which `size` bytes are here.
fn under_way(name: &str, number: usize, size: usize) -> Answer {
    let place = format!("/v2/{name}/blobs/uploads/{number}");
    // As the specification has it, the last byte counts, and there is no way to say that there is none.
    let range = format!("0-{}", size.saturating_sub(1));
    reply(StatusCode::ACCEPTED, [(LOCATION, place), (RANGE, range)], "")
}

fn unknown(code: &str) -> Answer {
    refusal(StatusCode::NOT_FOUND, code)
}

fn refusal(status: StatusCode, code: &str) -> Answer {
    let errors = serde_json::json!({ "errors": [{ "code": code, "message": code, "detail": "" }] });
    reply(status, [(CONTENT_TYPE, "application/json".to_owned())], errors.to_string())
}

fn reply(
    status: StatusCode,
    fields: impl IntoIterator<Item = (HeaderName, String)>,
    body: impl Into<Bytes>,
) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(name, value);
    }
    response.body(Full::new(body.into())).unwrap_or_else(|_| Response::new(Full::default()))
}

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A hundred times a component.
const LARGEST_BODY: usize = 64 * 1024 * 1024;
