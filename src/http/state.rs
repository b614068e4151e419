//! What the request handlers share.
//!
//! **Invariant:** cheap to clone, and nothing in it waits for the hub.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::gate::Gate;
use super::ice_server::IceServers;
use super::metrics::{HttpMetrics, Source};
use super::origin::AllowedOrigin;
use super::policy::PolicyCell;
use super::resource::ResourceTable;
use super::webhook::{Asker, Hook};
use crate::handle::HubHandle;
use crate::record::{Catalogue, Disk, Growing};

/// Streams of events at a time.
const EVENT_STREAMS_MAX: u32 = 1_000;

/// Streams of events at a time from one IPv4 address or one IPv6 /64, loopback excepted.
const EVENT_STREAMS_PER_ADDRESS_MAX: usize = 50;

/// Starts the recorder, unless it runs already; else tells clients in one line why it does not start.
pub type StartRecorder = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the doors need to know of the configuration.
#[derive(Clone)]
pub struct HttpConfig {
    /// Whether the doors speak TLS.
    pub tls: bool,
    /// Web origins besides the server's own.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Where the recordings lie.
    pub record_dir: PathBuf,
    /// Which of them are not finished.
    pub growing: Growing,
    /// The STUN and TURN servers that clients are told.
    pub ice_servers: IceServers,
    /// Who may do what.
    pub policy: PolicyCell,
    /// The webhook, which is asked besides.
    pub webhook: Option<Hook>,
    /// Starts the recorder when a request needs it; `None` where it always runs.
    pub recorder: Option<StartRecorder>,
}

/// Shared by all request handlers. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    config: HttpConfig,
    asker: Option<Asker>,
    handle: HubHandle,
    resources: ResourceTable,
    /// Quotas of their own: neither downloads nor lists can hold each other up, or the recorder.
    disk: Disk,
    downloads_disk: Disk,
    catalogue: Catalogue,
    event_gate: Gate,
    metrics: HttpMetrics,
    sources: Vec<Source>,
    stopping: watch::Receiver<bool>,
}

/// The address a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Remote(pub SocketAddr);

impl AppState {
    /// `sources` are asked at each scrape of the metrics; `stopping` turns true when the server stops.
    #[must_use]
    pub fn new(config: HttpConfig, handle: HubHandle, sources: Vec<Source>, stopping: watch::Receiver<bool>) -> Self {
        let resources = ResourceTable::default();
        let catalogue = Catalogue::new(config.record_dir.clone());
        let counters = config.webhook.as_ref().map(|hook| hook.metrics().clone()).unwrap_or_default();
        Self(Arc::new(Shared {
            asker: config.webhook.clone().map(Asker::new),
            config,
            handle,
            resources,
            disk: Disk::default(),
            downloads_disk: Disk::default(),
            catalogue,
            event_gate: Gate::new(EVENT_STREAMS_MAX, EVENT_STREAMS_PER_ADDRESS_MAX),
            metrics: HttpMetrics::new(&counters),
            sources,
            stopping,
        }))
    }

    /// The way to the hub.
    #[must_use]
    pub fn handle(&self) -> &HubHandle {
        &self.0.handle
    }

    /// The counters of the doors.
    #[must_use]
    pub fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }

    /// Turns true when the server stops.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stopping.clone()
    }

    /// The scheme of the server's own origin.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.0.config.tls { "https" } else { "http" }
    }

    /// Web origins besides the server's own.
    #[must_use]
    pub fn allowed_origins(&self) -> &[AllowedOrigin] {
        &self.0.config.allowed_origins
    }

    /// Where the recordings lie.
    #[must_use]
    pub fn record_dir(&self) -> &Path {
        &self.0.config.record_dir
    }

    /// Which recordings are not finished.
    #[must_use]
    pub fn growing(&self) -> &Growing {
        &self.0.config.growing
    }

    /// The STUN and TURN servers that clients are told.
    #[must_use]
    pub fn ice_servers(&self) -> &IceServers {
        &self.0.config.ice_servers
    }

    /// Who may do what.
    #[must_use]
    pub fn policy(&self) -> &PolicyCell {
        &self.0.config.policy
    }

    /// The webhook, which is asked besides.
    #[must_use]
    pub fn asker(&self) -> Option<&Asker> {
        self.0.asker.as_ref()
    }

    /// The way to the recordings' disk, for lists and removals.
    pub(super) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// The way to the recordings' disk, for downloads.
    pub(super) fn downloads_disk(&self) -> &Disk {
        &self.0.downloads_disk
    }

    /// The list of recordings.
    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    /// Sees that the recorder runs. Whatever it can record is known to the hub before this returns.
    ///
    /// # Errors
    ///
    /// One line for clients where it cannot start.
    pub(super) async fn start_recorder(&self) -> Result<(), String> {
        match &self.0.config.recorder {
            Some(start) => start().await,
            None => Ok(()),
        }
    }

    /// Lets in who listens to events.
    pub(super) fn event_gate(&self) -> &Gate {
        &self.0.event_gate
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.0.sources
    }

    pub(super) fn resources(&self) -> &ResourceTable {
        &self.0.resources
    }
}
