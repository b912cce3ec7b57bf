//! What the threads and their connections have in common.

use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::instance::{Job, Program};
use crate::log::Log;
use crate::options::Limits;
use crate::settings::Settings;

pub struct Shared {
    pub program: Program,
    pub limits: Limits,
    pub log: Log,
    pub tls: ClientConfig,
    pub proxy: Option<Arc<Matcher>>,
    /// The settings; a change replaces every instance.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The certificate that clients see.
    pub server: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Becomes true when no connection should take another request.
    pub is_stopping: watch::Receiver<bool>,
    /// The requests that may be in progress.
    pub requests: Arc<Semaphore>,
    /// The room for replies that clients have not taken.
    pub room: Arc<Semaphore>,
}

/// The queue to the instance of a thread that takes new requests, if there is one at the moment.
pub type Queue = watch::Receiver<Option<mpsc::UnboundedSender<Job>>>;
