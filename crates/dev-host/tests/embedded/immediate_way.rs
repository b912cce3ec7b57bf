//! The immediate way of a request: the export `keyvault:gateway/immediate` of the component `service`.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Accessor, AccessorTask, Instance, bindgen};
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, WasiBody};

use crate::gateway::full;
use crate::wasmtime_host::{Guest, Host, Observed};

bindgen!({ path: "../../wit/gateway", world: "async-gateway", exports: { default: async | store } });

use exports::keyvault::gateway::immediate;

impl Host {
    /// Asks the instance for an immediate reply, with the fields that it sees by `wasi:http`, too.
    pub(crate) async fn answer_now(&self, head: &Parts, body: &Bytes) -> Option<http::Response<WasiBody>> {
        let fields = head.headers.iter().filter(|(name, _)| !DEFAULT_FORBIDDEN_HEADERS.contains(name));
        let request = immediate::Request {
            method: head.method.as_str().to_owned(),
            path_with_query: head.uri.path_and_query().map_or("", |target| target.as_str()).to_owned(),
            authority: head.uri.authority().map(|authority| authority.as_str().to_owned()),
            fields: fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
            body: body.to_vec(),
        };
        let (sender, reply) = oneshot::channel();
        let way = self.immediate.lock().unwrap().clone().expect("there is an instance");
        way.send((request, sender)).expect("the instance runs");
        let reply = reply.await.expect("the instance does not trap")?;
        let response = http::Response::builder().status(reply.status);
        let add = |response: http::response::Builder, (name, value)| {
            response.header::<String, Vec<u8>>(name, value)
        };
        Some(reply.fields.into_iter().fold(response, add).body(full(reply.body)).unwrap())
    }
}

/// A whole request, and the place for its immediate reply.
pub(crate) type Question = (immediate::Request, oneshot::Sender<Option<immediate::Reply>>);

/// Calls the function `answer` of an instance.
pub(crate) struct Immediate {
    exports: AsyncGateway,
    questions: mpsc::UnboundedReceiver<Question>,
    observed: Arc<Observed>,
}

impl Immediate {
    /// Starts to call the function, and returns the way to it.
    pub(crate) fn spawn(
        store: &mut Store<Guest>,
        instance: &Instance,
        observed: &Arc<Observed>,
    ) -> wasmtime::Result<mpsc::UnboundedSender<Question>> {
        let (sender, questions) = mpsc::unbounded_channel();
        let exports = AsyncGateway::new(&mut *store, instance)?;
        store.spawn(Self { exports, questions, observed: Arc::clone(observed) })?;
        Ok(sender)
    }
}

impl AccessorTask<Guest> for Immediate {
    async fn run(mut self, accessor: &Accessor<Guest>) -> wasmtime::Result<()> {
        while let Some((request, reply)) = self.questions.recv().await {
            accessor.with(|mut access| self.observed.start_request(access.as_context_mut()));
            let answer = self.exports.keyvault_gateway_immediate().call_answer(accessor, request).await?;
            let _ = reply.send(answer);
        }
        Ok(())
    }
}
