//! The stream to the collector: connect, say hello, send batches, take acknowledgements.
//!
//! Shell. One task owns the backlog and the connection. A collector that cannot be reached is
//! a state that is shown, not an error: records wait in the bounded backlog, in memory or on the
//! disk, and everything not acknowledged is sent again after the next hello, to the same collector or to
//! another one: [`super::route`] decides. When every sender of chunks is gone the task flushes, until
//! [`FLUSH_TIMEOUT`] brings no acknowledgement, and tells what became of the records. What is on the disk
//! is not waited for without a connection, nor long.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netml_proto::v1;
use netml_proto::v1::collector_client::CollectorClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::Chunk;
use super::backlog::Backlog;
use super::batcher::{Batcher, BatcherBooks, Limits};
use super::convert::{Context, event};
use super::outbox::{CHUNKS_MAX, WhenFull};
use super::route::{Act, Change, Dispatch, Pace};
use super::spooler::{Spooler, Watch};
use super::transport::{Transport, describe_status};
use crate::diagnose::Runner;
use crate::sys;

/// Time for a connection and for the answer to the stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The flush at the end is given up when nothing was acknowledged for this long.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest flush of a live sensor, whose host wants to go on; a replay may take its time.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest flush of a sensor that keeps its records on the disk.
const FLUSH_KEPT_MAX: Duration = Duration::from_secs(5);
/// How long a source that can wait is made to wait for a collector that is away.
const PATIENCE: Duration = Duration::from_secs(30);
/// A silent peer is asked for a sign of life this often, and given the time after it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages between this task and the connection: what may be sent ahead of flow control.
const OUTBOUND_MESSAGES_MAX: usize = 4;
/// Largest message taken from a collector: an acknowledgement or a command.
const INBOUND_BYTES_MAX: usize = 64 * 1024;
/// Pulse of the task: batches are sealed by age at this grain.
const TICK: Duration = Duration::from_millis(50);
/// While the collector stays away it is said again this often.
const REMINDER: Duration = Duration::from_secs(60);

/// What the client needs to know.
pub struct Client {
    /// The ways to the collectors, at least one; the first is preferred.
    pub transports: Vec<Transport>,
    /// When to connect, and to which.
    pub pace: Pace,
    /// First message of every stream; names the stream id of all batches. Its interfaces are
    /// those of `context`, where that has any.
    pub hello: v1::Hello,
    /// What messages say beside the observations.
    pub context: Context,
    /// Bounds of the backlog in memory.
    pub limits: Limits,
    /// Where batches wait instead, on the disk.
    pub spool: Option<Spooler>,
    /// Whether the source can wait for room.
    pub when_full: WhenFull,
    /// Runs what the collector asks for, as far as it is accepted.
    pub runner: Runner,
}

/// State of the export, readable from other threads.
#[derive(Debug, Default)]
pub struct ExportState {
    /// A stream to the collector is open.
    pub connected: AtomicBool,
    /// Number of the collector spoken to, or tried: 0 is the preferred one.
    pub collector: AtomicUsize,
    /// Streams opened to another collector because that before took nothing.
    pub fail_overs: AtomicU64,
    /// Streams opened to the preferred collector because it answers again.
    pub returns: AtomicU64,
    /// Records taken into batches.
    pub records_in: AtomicU64,
    /// Records acknowledged.
    pub acked: AtomicU64,
    /// Records given up for want of room.
    pub lost: AtomicU64,
    /// Records waiting.
    pub waiting: AtomicU64,
    /// Turns of the task, with a connection or without.
    pub turns: AtomicU64,
    /// What the spool tells, where there is one.
    pub spool: OnceLock<Watch>,
}

/// What became of the records:
/// `books.records_in == books.acked + books.lost + undelivered + kept`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Books of the batcher.
    pub books: BatcherBooks,
    /// Records not acknowledged when time was up.
    pub undelivered: u64,
    /// Records that wait on the disk for the next start; `None` without a spool.
    pub kept: Option<u64>,
    /// Why the last connection ended or failed, where there is none now.
    pub last_error: Option<String>,
}

/// A running client.
pub struct Exporter {
    sender: mpsc::Sender<Chunk>,
    state: Arc<ExportState>,
    task: JoinHandle<Delivered>,
}

impl Exporter {
    /// Starts the client on the present runtime.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let state = Arc::new(ExportState::default());
        let task = tokio::spawn(Task::new(client, Arc::clone(&state)).run(chunks));
        Self {
            sender,
            state,
            task,
        }
    }

    /// A way in for observations.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<Chunk> {
        self.sender.clone()
    }

    /// State, for others to read.
    #[must_use]
    pub fn state(&self) -> Arc<ExportState> {
        Arc::clone(&self.state)
    }

    /// Waits for the flush, which begins when all other senders are gone.
    ///
    /// # Errors
    /// Where the client's task died.
    pub async fn finish(self) -> Result<Delivered, tokio::task::JoinError> {
        drop(self.sender);
        self.task.await
    }
}

/// The connection's state.
enum Link {
    Down {
        until: Instant,
    },
    Connecting(Opening),
    Up {
        inbound: Box<Streaming<v1::CollectorMessage>>,
        /// A stream that is to take its place.
        next: Option<Opening>,
    },
}

/// A stream that is being opened.
type Opening = JoinHandle<Result<Session, String>>;

struct Session {
    /// Number of the collector.
    at: usize,
    outbound: mpsc::Sender<v1::SensorMessage>,
    inbound: Streaming<v1::CollectorMessage>,
}

/// What happened on the link.
enum LinkEvent {
    Retry,
    Opened(Box<Session>),
    Message(v1::CollectorMessage),
    /// A batch is none to the collector.
    Refused(String),
    /// The stream that was to take the present one's place could not be opened.
    NotReplaced(String),
    Lost(String),
}

/// Waits for a stream that is being opened; for ever where there is none.
async fn opened(opening: &mut Option<Opening>) -> Result<Session, String> {
    match opening {
        None => std::future::pending().await,
        Some(task) => task.await.unwrap_or_else(|error| Err(error.to_string())),
    }
}

/// Waits for a look at the preferred collector; for ever where there is none.
async fn probed(probe: &mut Option<JoinHandle<bool>>) -> bool {
    match probe {
        None => std::future::pending().await,
        Some(task) => task.await.unwrap_or(false),
    }
}

impl Link {
    /// Waits for the next event; may be dropped and called again.
    async fn next(&mut self) -> LinkEvent {
        match self {
            Self::Down { until } => {
                sleep_until(*until).await;
                LinkEvent::Retry
            }
            Self::Connecting(task) => match task.await {
                Ok(Ok(session)) => LinkEvent::Opened(Box::new(session)),
                Ok(Err(error)) => LinkEvent::Lost(error),
                Err(error) => LinkEvent::Lost(error.to_string()),
            },
            Self::Up { inbound, next } => tokio::select! {
                opened = opened(next) => match opened {
                    Ok(session) => LinkEvent::Opened(Box::new(session)),
                    Err(error) => {
                        *next = None;
                        LinkEvent::NotReplaced(error)
                    }
                },
                message = inbound.message() => match message {
                    Ok(Some(message)) => LinkEvent::Message(message),
                    Ok(None) => LinkEvent::Lost("the collector ended the stream".into()),
                    Err(status) if status.code() == Code::DataLoss => {
                        LinkEvent::Refused(describe_status(&status))
                    }
                    Err(status) => LinkEvent::Lost(describe_status(&status)),
                },
            },
        }
    }
}

struct Task {
    client: Client,
    state: Arc<ExportState>,
    dispatch: Dispatch<Backlog>,
    started: Instant,
    link: Link,
    outbound: Option<mpsc::Sender<v1::SensorMessage>>,
    probe: Option<JoinHandle<bool>>,
    down_since: Instant,
    reminded: Option<Instant>,
    last_error: Option<String>,
    acked_at: Option<Instant>,
    /// By collector.
    renewals: Vec<Option<watch::Receiver<u64>>>,
}

impl Task {
    fn new(mut client: Client, state: Arc<ExportState>) -> Self {
        let now = Instant::now();
        let backlog = match client.spool.take() {
            Some(spooler) => {
                // Set here only, and only once.
                state.spool.get_or_init(|| spooler.watch());
                Backlog::Disk(Box::new(spooler))
            }
            None => Backlog::Memory(Batcher::new(client.hello.stream_id, client.limits)),
        };
        Self {
            dispatch: Dispatch::new(
                backlog,
                client.transports.len(),
                client.hello.stream_id,
                client.pace,
                0,
            ),
            renewals: client.transports.iter().map(Transport::renewals).collect(),
            client,
            state,
            started: now,
            link: Link::Down { until: now },
            outbound: None,
            probe: None,
            down_since: now,
            reminded: None,
            last_error: None,
            acked_at: None,
        }
    }

    async fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Delivered {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (result_sender, mut results) = mpsc::channel(crate::diagnose::RESULTS_MAX);
        let mut flush_begun: Option<Instant> = None;
        loop {
            let outbound = self.outbound.clone();
            let has_batch =
                outbound.is_some() && self.dispatch.may_send() && self.dispatch.queue.has_unsent();
            let for_batch = outbound.clone();
            tokio::select! {
                chunk = chunks.recv(), if flush_begun.is_none() && self.has_room() => match chunk {
                    Some(chunk) => self.take(chunk),
                    None => {
                        self.dispatch.queue.seal();
                        flush_begun = Some(Instant::now());
                    }
                },
                permit = reserve(for_batch), if has_batch => match permit {
                    Some(permit) => self.send(permit),
                    // The stream is gone; the link says why.
                    None => self.outbound = None,
                },
                Some(result) = results.recv(), if outbound.is_some() => {
                    self.answer(outbound, result);
                }
                () = self.dispatch.queue.fill() => {}
                event = self.link.next() => self.on_link(event, &result_sender),
                answers = probed(&mut self.probe) => {
                    self.probe = None;
                    let now_ms = self.now_ms();
                    self.dispatch.probed(answers, now_ms);
                }
                _ = tick.tick() => {
                    let now_ms = self.now_ms();
                    self.dispatch.queue.tick(now_ms);
                    self.follow_renewal();
                    if let Some(act) = self.dispatch.tick(now_ms) {
                        self.act(act);
                    }
                }
            }
            self.publish();
            if flush_begun.is_some_and(|begun| self.is_flushed(begun)) {
                break;
            }
        }
        let kept = self.dispatch.queue.close().await;
        self.publish();
        Delivered {
            books: self.dispatch.queue.books(),
            undelivered: self.dispatch.queue.waiting() - kept.unwrap_or(0),
            kept,
            last_error: self.last_error,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// True when everything is acknowledged or there is no use in waiting on.
    fn is_flushed(&self, begun: Instant) -> bool {
        let progress = self.acked_at.map_or(begun, |acked| acked.max(begun));
        let is_kept = matches!(self.dispatch.queue, Backlog::Disk(_));
        self.dispatch.queue.waiting() == 0
            || progress.elapsed() >= FLUSH_TIMEOUT
            || (is_kept && (self.outbound.is_none() || begun.elapsed() >= FLUSH_KEPT_MAX))
            || (self.client.when_full == WhenFull::Drop && begun.elapsed() >= FLUSH_TIME_MAX)
    }

    /// False where a source that can wait should.
    fn has_room(&self) -> bool {
        if self.dispatch.queue.is_behind() {
            return false;
        }
        self.client.when_full == WhenFull::Drop
            || !self.dispatch.queue.is_half_full()
            || (self.outbound.is_none() && self.down_since.elapsed() > PATIENCE)
    }

    fn take(&mut self, chunk: Chunk) {
        if let Some(model) = chunk.model {
            let client = &mut self.client;
            if client.hello.model_id != model.id() {
                client.hello.model_id = model.id().into();
            }
            client.context.model = Some(model);
        }
        let now_ms = self.now_ms();
        for observation in chunk.observations {
            let record = self
                .client
                .context
                .record(observation, chunk.unix_offset_ns);
            self.dispatch.queue.push(&record, now_ms);
        }
    }

    fn send(&mut self, permit: mpsc::OwnedPermit<v1::SensorMessage>) {
        let now_ms = self.now_ms();
        if let Some(batch) = self.dispatch.take_unsent(now_ms) {
            permit.send(v1::SensorMessage {
                message: Some(v1::sensor_message::Message::Batch(batch)),
            });
        }
    }

    /// Sends a command's result. Where the stream is busy or gone the result is lost, and the
    /// dashboard shows the command as unanswered.
    fn answer(&self, outbound: Option<mpsc::Sender<v1::SensorMessage>>, result: v1::CommandResult) {
        let message = v1::SensorMessage {
            message: Some(v1::sensor_message::Message::Result(result)),
        };
        let sent = outbound.is_some_and(|outbound| outbound.try_send(message).is_ok());
        if !sent {
            tracing::debug!("a command's result could not be sent");
        }
    }

    /// Opens a stream to a collector in a task of its own.
    fn opening(&self, at: usize) -> Opening {
        let mut hello = self.client.hello.clone();
        hello.stored_elsewhere = self.dispatch.stored_elsewhere(at);
        let watched = self.client.context.interfaces.interfaces();
        if !watched.is_empty() {
            hello.interfaces = watched;
        }
        let transport = self.client.transports[at].clone();
        tokio::spawn(open(transport, hello, at))
    }

    /// Does what the route asks for.
    fn act(&mut self, act: Act) {
        match act {
            Act::Probe => {
                let transport = self.client.transports[0].clone();
                self.probe = Some(tokio::spawn(async move {
                    transport.connect(|endpoint| endpoint).await.is_ok()
                }));
            }
            Act::Return => {
                let opening = self.opening(0);
                if let Link::Up { next, .. } = &mut self.link {
                    *next = Some(opening);
                }
            }
            Act::GiveUp => self.lost("nothing is acknowledged".into(), false),
        }
    }

    /// With a new certificate a new stream is opened beside the old one, which goes on meanwhile.
    fn follow_renewal(&mut self) {
        let at = self.dispatch.at();
        let renewed = self.renewals[at].as_mut().is_some_and(|renewals| {
            let changed = renewals.has_changed().unwrap_or(false);
            renewals.mark_unchanged();
            changed
        });
        if renewed && matches!(self.link, Link::Up { next: None, .. }) {
            let opening = self.opening(at);
            if let Link::Up { next, .. } = &mut self.link {
                *next = Some(opening);
            }
        }
    }

    fn on_link(&mut self, event: LinkEvent, results: &mpsc::Sender<v1::CommandResult>) {
        let now_ms = self.now_ms();
        match event {
            LinkEvent::Retry => {
                self.link = Link::Connecting(self.opening(self.dispatch.at()));
            }
            LinkEvent::Opened(session) => {
                let change = self.dispatch.opened(session.at, now_ms);
                self.outbound = Some(session.outbound);
                self.link = Link::Up {
                    inbound: Box::new(session.inbound),
                    next: None,
                };
                self.last_error = None;
                self.reminded = None;
                self.state.connected.store(true, Ordering::Relaxed);
                tracing::info!(
                    url = %self.url(session.at),
                    waiting = self.dispatch.queue.waiting(),
                    "collector connected"
                );
                self.tell(change, session.at);
            }
            LinkEvent::Message(message) => match message.message {
                Some(v1::collector_message::Message::Ack(ack)) => {
                    if self.dispatch.ack(ack, now_ms) {
                        self.acked_at = Some(Instant::now());
                    } else {
                        tracing::debug!(seq = ack.seq, "an acknowledgement of nothing sent");
                    }
                }
                Some(v1::collector_message::Message::Command(command)) => {
                    self.client.runner.start(command, results.clone());
                }
                None => tracing::debug!("an empty message from the collector"),
            },
            LinkEvent::Refused(error) => self.lost(error, true),
            LinkEvent::NotReplaced(error) => {
                self.dispatch.not_returned(now_ms);
                tracing::warn!(
                    "no stream to take the place of the old one, which goes on: {error}"
                );
            }
            LinkEvent::Lost(error) => self.lost(error, false),
        }
    }

    /// Says, and tells the collector, where it is another one than before.
    fn tell(&mut self, change: Change, at: usize) {
        let (before, severity, said) = match change {
            Change::None => return,
            Change::FailedOver(before) => (before, "warning", "took nothing any more"),
            Change::Returned(before) => {
                (before, "info", "was left: the preferred one answers again")
            }
        };
        let (before, now) = (self.url(before).to_owned(), self.url(at).to_owned());
        tracing::warn!(
            from = before,
            to = now,
            "another collector: the one before {said}"
        );
        let record = event(
            sys::unix_ns(),
            "collector-changed",
            severity,
            format!("another collector: the one before {said}"),
            &[("from", before), ("to", now)],
        );
        let now_ms = self.now_ms();
        self.dispatch.queue.push(&record, now_ms);
    }

    fn url(&self, at: usize) -> &str {
        self.client.transports[at].url()
    }

    fn lost(&mut self, error: String, is_refused: bool) {
        if self.state.connected.swap(false, Ordering::Relaxed) {
            self.down_since = Instant::now();
        }
        self.outbound = None;
        let (at, now_ms) = (self.dispatch.at(), self.now_ms());
        let pause = Duration::from_millis(self.dispatch.lost(is_refused, now_ms));
        self.link = Link::Down {
            until: Instant::now() + pause,
        };
        let remind = self
            .reminded
            .is_none_or(|reminded| reminded.elapsed() >= REMINDER);
        if remind {
            self.reminded = Some(Instant::now());
            tracing::warn!(
                url = %self.url(at),
                waiting = self.dispatch.queue.waiting(),
                lost = self.dispatch.queue.books().lost,
                "collector not reachable, trying on: {error}"
            );
        }
        self.last_error = Some(error);
    }

    fn publish(&self) {
        self.state.turns.fetch_add(1, Ordering::Relaxed);
        let books = self.dispatch.queue.books();
        let state = &self.state;
        state.collector.store(self.dispatch.at(), Ordering::Relaxed);
        state
            .fail_overs
            .store(self.dispatch.fail_overs(), Ordering::Relaxed);
        state
            .returns
            .store(self.dispatch.returns(), Ordering::Relaxed);
        self.state
            .records_in
            .store(books.records_in, Ordering::Relaxed);
        self.state.acked.store(books.acked, Ordering::Relaxed);
        self.state.lost.store(books.lost, Ordering::Relaxed);
        self.state
            .waiting
            .store(self.dispatch.queue.waiting(), Ordering::Relaxed);
    }
}

async fn reserve(
    outbound: Option<mpsc::Sender<v1::SensorMessage>>,
) -> Option<mpsc::OwnedPermit<v1::SensorMessage>> {
    outbound?.reserve_owned().await.ok()
}

/// Opens a stream and says hello.
async fn open(transport: Transport, hello: v1::Hello, at: usize) -> Result<Session, String> {
    let late = |_| format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
    let channel = transport
        .connect(|endpoint| {
            endpoint
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
        })
        .await?;
    let mut client = CollectorClient::new(channel).max_decoding_message_size(INBOUND_BYTES_MAX);
    let (outbound, messages) = mpsc::channel(OUTBOUND_MESSAGES_MAX);
    let hello = v1::SensorMessage {
        message: Some(v1::sensor_message::Message::Hello(hello)),
    };
    // The channel is empty and its receiver is held: it has room.
    outbound
        .send(hello)
        .await
        .map_err(|error| error.to_string())?;
    let answer = timeout(
        CONNECT_TIMEOUT,
        client.stream(ReceiverStream::new(messages)),
    );
    let inbound = answer
        .await
        .map_err(late)?
        .map_err(|status| describe_status(&status))?
        .into_inner();
    Ok(Session {
        at,
        outbound,
        inbound,
    })
}
