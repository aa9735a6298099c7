//! Starting and stopping: which task feeds which, and in what order they end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use netml_proto::{BATCH_BYTES_MAX, v1::collector_server::CollectorServer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::ingest::books::Books;
use crate::ingest::registry::Registry;
use crate::ingest::service::{Service, stopped};
use crate::ingest::{committer, connections, registry};
use crate::live::Live;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::web::guard::Token;
use crate::web::{self, AppState};

/// Room in a gRPC message for what surrounds a batch's payload.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1_024;

/// A connection that answers no ping for this long is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long open requests may take to end when the collector stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Dashboard and API; port 0 for any.
    pub web: SocketAddr,
    /// Sensors; port 0 for any.
    pub grpc: SocketAddr,
    /// Data directory.
    pub data: PathBuf,
    /// What allows changes.
    pub token: Token,
}

/// Why the collector did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address other hosts can reach.
    #[error(
        "{0} can be reached from other hosts, which needs accounts and HTTPS; bind to 127.0.0.1 and use a tunnel"
    )]
    NotLoopback(IpAddr),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; {}choose another with {option}",
        if source.kind() == std::io::ErrorKind::AddrInUse { "stop who does, or " } else { "" }
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Option that chooses it.
        option: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A running collector.
pub struct Running {
    /// Where the dashboard is.
    pub web: SocketAddr,
    /// Where sensors connect.
    pub grpc: SocketAddr,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    committer: JoinHandle<()>,
    queue: mpsc::Sender<committer::Pending>,
    encoder: JoinHandle<()>,
    store: Arc<dyn Store>,
}

/// Opens the store, listens and serves.
///
/// # Errors
/// What keeps it from that.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    for address in [settings.web, settings.grpc] {
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback(address.ip()));
        }
    }
    let (web_listener, web) = listen(settings.web, "--web").await?;
    let (grpc_listener, grpc) = listen(settings.grpc, "--grpc").await?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&settings.data).await?);

    let started_unix_ms = clock::unix_ms();
    let books = Arc::new(Books::default());
    let (live, updates) = Live::new(Arc::clone(&books));
    let registry: Arc<Registry> = registry::Registry::new(live.clone());
    let (stop, stop_seen) = watch::channel(false);
    let (queue, pending) = mpsc::channel(committer::QUEUE_BATCHES);
    let service = Service::new(
        Arc::clone(&store),
        Arc::clone(&registry),
        Arc::clone(&books),
        queue.downgrade(),
        stop_seen.clone(),
    );
    let state = AppState {
        store: Arc::clone(&store),
        registry,
        books: Arc::clone(&books),
        hub: web::live::Hub::new(started_unix_ms),
        token: settings.token,
        started_unix_ms,
        stop: stop_seen.clone(),
    };
    let (web_books, grpc_books) = (Arc::clone(&books), Arc::clone(&books));
    let committer = tokio::spawn(committer::run(pending, Arc::clone(&store), books, live));
    let encoder = tokio::spawn(web::live::encode(state.clone(), updates));
    let servers = vec![
        tokio::spawn(web::connections::serve(
            web_listener,
            web::router(state),
            web_books,
            stop_seen.clone(),
        )),
        tokio::spawn(serve_grpc(grpc_listener, service, grpc_books, stop_seen)),
    ];
    Ok(Running {
        web,
        grpc,
        stop,
        servers,
        committer,
        queue,
        encoder,
        store,
    })
}

impl Running {
    /// Stops taking, stores and acknowledges what was taken, closes the store.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for mut server in self.servers {
            if tokio::time::timeout(DRAIN_MAX, &mut server).await.is_err() {
                tracing::warn!("a request did not end in time and was cut off");
                server.abort();
            }
        }
        // Connections hold the queue open until what they took is acknowledged.
        drop(self.queue);
        if tokio::time::timeout(DRAIN_MAX, self.committer)
            .await
            .is_err()
        {
            tracing::warn!("a sensor's connection did not end in time");
        }
        self.encoder.abort();
        self.store.close().await;
    }
}

async fn listen(
    address: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen {
        address,
        option,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn serve_grpc(
    listener: TcpListener,
    service: Service,
    books: Arc<Books>,
    mut stop: watch::Receiver<bool>,
) {
    let service = CollectorServer::new(service)
        .max_decoding_message_size(BATCH_BYTES_MAX + MESSAGE_OVERHEAD_BYTES);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(4)
        .add_service(service)
        .serve_with_incoming_shutdown(connections::incoming(listener, books), async move {
            stopped(&mut stop).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the sensors' server ended");
    }
}
