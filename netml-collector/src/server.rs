//! Starting and stopping: which task feeds which, and in what order they end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::Stream;
use netml_proto::BATCH_BYTES_MAX;
use netml_proto::v1::collector_server::CollectorServer;
use netml_proto::v1::enrolment_server::EnrolmentServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::health::Health;
use crate::ingest::books::Books;
use crate::ingest::enrolment::{self, Enrolment};
use crate::ingest::registry::Registry;
use crate::ingest::service::{Service, stopped};
use crate::ingest::{committer, connections, registry};
use crate::live::Live;
use crate::pki::{Pki, PkiError};
use crate::store::sqlite::SqliteStore;
use crate::store::{Retention, Store, StoreError};
use crate::web::guard::Token;
use crate::web::tls::{Identity, Scheme, TlsError};
use crate::web::{self, AppState};

/// Room in a gRPC message for what surrounds a batch's payload.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1_024;

/// A connection that answers no ping for this long is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Time between two looks at what is beyond the retention.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);

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
    /// How the dashboard is served.
    pub scheme: Scheme,
    /// What allows changes.
    pub token: Token,
    /// How much of the past is kept.
    pub retention: Retention,
}

/// Why the collector did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address other hosts can reach.
    #[error(
        "{0} can be reached from other hosts, which needs HTTPS; give --web-certificate and --web-key, or --web-tls after netml-collector ca init, or bind to 127.0.0.1 and use a tunnel"
    )]
    NotLoopback(IpAddr),
    /// The dashboard's certificate, of an authority that is not there.
    #[error(
        "--web-tls needs an authority; make one: netml-collector ca init, or give --web-certificate and --web-key"
    )]
    NoOwnAuthority,
    /// The dashboard's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sensors' port, reachable, without certificates.
    #[error(
        "{0} can be reached from other hosts, which needs certificates; make an authority: netml-collector ca init, or bind to 127.0.0.1"
    )]
    NoAuthority(IpAddr),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
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
    /// Whether sensors have to show certificates.
    pub has_tls: bool,
    /// The dashboard's certificate; None: it is served in plain text.
    pub identity: Option<Arc<Identity>>,
    /// How it fares.
    pub health: Arc<Health>,
    books: Arc<Books>,
    registry: Arc<Registry>,
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
    let is_local = settings.web.ip().is_loopback();
    if !is_local && settings.scheme == Scheme::Http {
        return Err(StartError::NotLoopback(settings.web.ip()));
    }
    let pki = Pki::open(&settings.data).await?;
    if pki.is_none() && !settings.grpc.ip().is_loopback() {
        return Err(StartError::NoAuthority(settings.grpc.ip()));
    }
    let identity = match settings.scheme {
        Scheme::Http => None,
        Scheme::Given(files) => Some(Arc::new(Identity::of_files(files, clock::unix_ms())?)),
        Scheme::Own => {
            let pki = pki.as_ref().ok_or(StartError::NoOwnAuthority)?;
            Some(pki.web())
        }
    };
    let web_tls = match &identity {
        Some(identity) => Some(TlsAcceptor::from(Arc::new(identity.settings()?))),
        None => None,
    };
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
        pki.as_ref().map(|pki| pki.roll()),
        stop_seen.clone(),
    );
    let health = Arc::new(Health::new(
        Arc::clone(&books.loops),
        queue.downgrade(),
        &settings.data,
    ));
    let state = AppState {
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        pki: pki.clone(),
        books: Arc::clone(&books),
        health: Arc::clone(&health),
        hub: web::live::Hub::new(started_unix_ms),
        identity: identity.clone(),
        reading_is_open: is_local,
        token: settings.token,
        started_unix_ms,
        stop: stop_seen.clone(),
    };
    let loops = Arc::clone(&books.loops);
    let (running_books, running_registry) = (Arc::clone(&books), Arc::clone(&registry));
    let (web_books, grpc_books) = (Arc::clone(&books), Arc::clone(&books));
    let committer = tokio::spawn(committer::run(pending, Arc::clone(&store), books, live));
    tokio::spawn(retain(
        Arc::clone(&store),
        settings.retention,
        Arc::clone(&web_books),
        stop_seen.clone(),
    ));
    let encoder = tokio::spawn(web::live::encode(state.clone(), updates));
    let tls = match &pki {
        Some(pki) => Some(TlsAcceptor::from(Arc::new(pki.tls()?))),
        None => None,
    };
    let enrolment = pki
        .as_ref()
        .map(|pki| Enrolment::new(Arc::clone(pki), Arc::clone(&grpc_books)));
    let has_tls = tls.is_some();
    if let Some(pki) = pki {
        tokio::spawn(pki.watch(registry, stop_seen.clone()));
    }
    if let Some(identity) = identity.clone() {
        tokio::spawn(identity.follow(stop_seen.clone()));
    }
    let sockets = connections::incoming(grpc_listener, tls, grpc_books);
    let servers = vec![
        tokio::spawn(web::connections::serve(
            web_listener,
            web::router(state),
            web_tls,
            web_books,
            stop_seen.clone(),
        )),
        tokio::spawn(async move {
            serve_grpc(sockets, service, enrolment, stop_seen).await;
            loops.is_ingest_closed.store(true, Ordering::Relaxed);
        }),
    ];
    Ok(Running {
        web,
        grpc,
        has_tls,
        identity,
        health,
        books: running_books,
        registry: running_registry,
        stop,
        servers,
        committer,
        queue,
        encoder,
        store,
    })
}

impl Running {
    /// Where a browser finds the dashboard.
    #[must_use]
    pub fn url(&self) -> String {
        let Some(identity) = &self.identity else {
            return format!("http://{}", self.web);
        };
        // No browser opens 0.0.0.0, and a certificate has names rather than addresses.
        match identity.name().filter(|_| !self.web.ip().is_loopback()) {
            Some(name) if name.contains(':') => format!("https://[{name}]:{}", self.web.port()),
            Some(name) => format!("https://{name}:{}", self.web.port()),
            None => format!("https://{}", self.web),
        }
    }

    /// How it fares, in one line for the service manager.
    #[must_use]
    pub fn status_line(&self) -> String {
        format!(
            "{} sensors connected; {} records stored, {} refused; {} batches not stored",
            self.registry.connected().len(),
            Books::get(&self.books.records_stored),
            Books::get(&self.books.records_refused),
            Books::get(&self.books.batches_failed),
        )
    }

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

/// Removes what is beyond the retention, at the start and every [`RETENTION_INTERVAL`].
async fn retain(
    store: Arc<dyn Store>,
    retention: Retention,
    books: Arc<Books>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pulse = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        tokio::select! {
            _ = pulse.tick() => {}
            () = stopped(&mut stop) => return,
        }
        match store.retain(retention).await {
            Ok(days) => {
                for day in days {
                    Books::add(&books.days_removed, 1);
                    tracing::info!(day, "a day beyond the retention was removed");
                }
            }
            Err(error) => {
                tracing::error!(%error, "days beyond the retention could not be removed");
            }
        }
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
    sockets: impl Stream<Item = std::io::Result<connections::Connection>>,
    service: Service,
    enrolment: Option<Enrolment>,
    mut stop: watch::Receiver<bool>,
) {
    let service = CollectorServer::new(service)
        .max_decoding_message_size(BATCH_BYTES_MAX + MESSAGE_OVERHEAD_BYTES);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(4)
        .add_service(service)
        .add_optional_service(enrolment.map(|enrolment| {
            EnrolmentServer::new(enrolment).max_decoding_message_size(enrolment::MESSAGE_BYTES_MAX)
        }))
        .serve_with_incoming_shutdown(sockets, async move {
            stopped(&mut stop).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the sensors' server ended");
    }
}
