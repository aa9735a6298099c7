//! The thread that owns a [`Spool`], and the handle by which the client speaks to it.
//!
//! Shell. The disk may take its time: on this thread nobody waits for it. Batches go to it unasked,
//! up to [`QUEUED_BYTES_MAX`], beyond which the client takes nothing more from the reader; they come
//! back one by one for each that was handed to the connection, [`READ_AHEAD`] of them before that.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use netml_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::batcher::{BatcherBooks, Sealer};
use crate::spool::fs::Directory;
use crate::spool::{Books, Moment, Spool};
use crate::sys;

/// Payload bytes on the way to the disk, beyond which nothing more is taken; a chunk more may follow.
pub const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Batches read from the disk before the connection asks for them.
pub const READ_AHEAD: usize = 2;

/// Pulse of the thread.
const TICK: Duration = Duration::from_millis(50);

/// Longest wait for the disk at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the thread is told.
enum Command {
    Append(v1::Batch),
    Ack(v1::Ack),
    /// The connection of this number is open: begin with what is not acknowledged.
    Begin(u64),
    /// The collector refused something that was sent.
    Refused,
    /// One more may be read.
    More,
    Close(oneshot::Sender<()>),
}

/// State of a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its books.
    pub books: Books,
    /// Records waiting.
    pub waiting: u64,
    /// Of those, the ones in memory only.
    pub waiting_in_memory: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Number of the last record made.
    made: AtomicU64,
    queued_bytes: AtomicUsize,
    status: Mutex<Status>,
    /// Turns of the thread.
    turns: AtomicU64,
}

impl Shared {
    fn status(&self) -> Status {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, spool: &Spool<Directory>) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Status {
            books: spool.books(),
            waiting: spool.waiting(),
            waiting_in_memory: spool.waiting_in_memory(),
            bytes: spool.bytes(),
        };
    }
}

/// A way to read a spool's state from other threads.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// As it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Turns of the thread, each with some work or none to do.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }
}

/// See the module.
pub struct Spooler {
    sealer: Sealer,
    commands: std_mpsc::Sender<Command>,
    read: mpsc::UnboundedReceiver<(u64, v1::Batch)>,
    unsent: VecDeque<v1::Batch>,
    connection: u64,
    shared: Arc<Shared>,
    /// Records in batches given to the thread.
    handed: u64,
    /// Records that could not be encoded, or found the thread dead.
    lost: u64,
    acknowledged_before: Vec<v1::Ack>,
}

impl Spooler {
    /// Starts the thread of a spool that was opened for this stream.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(spool: Spool<Directory>, stream_id: u64) -> io::Result<Self> {
        let (commands, received) = std_mpsc::channel();
        // Bounded by READ_AHEAD: one is read for each that was asked for.
        let (sender, read) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        shared.tell(&spool);
        let acknowledged_before = spool.acknowledged();
        let keeper = Keeper {
            spool,
            shared: Arc::clone(&shared),
            started: Instant::now(),
            sender,
            connection: 0,
            wanted: 0,
        };
        std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || keeper.run(&received))?;
        Ok(Self {
            sealer: Sealer::new(stream_id),
            commands,
            read,
            unsent: VecDeque::new(),
            connection: 0,
            shared,
            handed: 0,
            lost: 0,
            acknowledged_before,
        })
    }

    /// How far streams were acknowledged when the spool was opened.
    pub(super) fn acknowledged_before(&self) -> &[v1::Ack] {
        &self.acknowledged_before
    }

    /// Its state, for others to read.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    pub(super) fn push(&mut self, record: &v1::Record, now_ms: u64) {
        match self.sealer.push(record, now_ms) {
            Ok(batch) => self.append(batch),
            Err(_) => self.lost += 1,
        }
        self.shared
            .made
            .store(self.sealer.made(), Ordering::Relaxed);
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        let batch = self.sealer.tick(now_ms);
        self.append(batch);
    }

    pub(super) fn seal(&mut self) {
        let batch = self.sealer.seal();
        self.append(batch);
    }

    fn append(&mut self, batch: Option<v1::Batch>) {
        let Some(batch) = batch else {
            return;
        };
        let (bytes, count) = (batch.payload.len(), u64::from(batch.count));
        self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if self.commands.send(Command::Append(batch)).is_ok() {
            self.handed += count;
        } else {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.lost += count;
        }
    }

    /// Waits for a batch that was read; one of an earlier connection is passed over.
    pub(super) async fn fill(&mut self) {
        match self.read.recv().await {
            Some((connection, batch)) if connection == self.connection => {
                self.unsent.push_back(batch);
            }
            Some(_) => {}
            // The thread is gone, which `append` counts.
            None => std::future::pending().await,
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn take_unsent(&mut self) -> Option<v1::Batch> {
        let batch = self.unsent.pop_front()?;
        self.say(Command::More);
        Some(batch)
    }

    pub(super) fn rewind(&mut self) {
        self.unsent.clear();
        self.connection += 1;
        self.say(Command::Begin(self.connection));
    }

    pub(super) fn refused(&self) {
        self.say(Command::Refused);
    }

    pub(super) fn ack(&mut self, ack: v1::Ack) {
        self.say(Command::Ack(ack));
    }

    fn say(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("the spool's thread is gone");
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        let status = self.shared.status();
        let on_the_way = self.handed.saturating_sub(status.books.records_in);
        status.waiting + on_the_way + self.sealer.open_records()
    }

    pub(super) fn books(&self) -> BatcherBooks {
        let status = self.shared.status();
        BatcherBooks {
            records_in: status.books.found + self.handed + self.sealer.open_records() + self.lost,
            acked: status.books.acked,
            lost: status.books.lost() + self.lost,
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.shared.queued_bytes.load(Ordering::Acquire) >= QUEUED_BYTES_MAX
    }

    /// Ends the thread; tells how many records are on the disk.
    pub(super) async fn close(&mut self) -> u64 {
        self.seal();
        let (done, closed) = oneshot::channel();
        self.say(Command::Close(done));
        if !matches!(timeout(CLOSE_TIMEOUT, closed).await, Ok(Ok(()))) {
            tracing::warn!("the disk of the spool does not answer; its last records may be lost");
        }
        let status = self.shared.status();
        status.waiting - status.waiting_in_memory
    }
}

/// The thread's side.
struct Keeper {
    spool: Spool<Directory>,
    shared: Arc<Shared>,
    started: Instant,
    sender: mpsc::UnboundedSender<(u64, v1::Batch)>,
    connection: u64,
    /// Batches that may be read.
    wanted: usize,
}

impl Keeper {
    fn run(mut self, commands: &std_mpsc::Receiver<Command>) {
        let mut ticked = Instant::now();
        loop {
            let closing = match commands.recv_timeout(TICK) {
                Ok(Command::Close(done)) => Some(Some(done)),
                Ok(command) => {
                    self.obey(command);
                    None
                }
                Err(RecvTimeoutError::Timeout) => None,
                // The client died: what is there is kept.
                Err(RecvTimeoutError::Disconnected) => Some(None),
            };
            let now = self.now();
            let made = self.shared.made.load(Ordering::Relaxed);
            if let Some(done) = closing {
                self.spool.close(made, now);
                self.shared.tell(&self.spool);
                if let Some(Err(())) = done.map(|done| done.send(())) {
                    tracing::debug!("nobody waits for the spool's end");
                }
                return;
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.spool.tick(made, now);
            }
            while self.wanted > 0 {
                let Some(batch) = self.spool.next(now) else {
                    break;
                };
                self.wanted -= 1;
                if self.sender.send((self.connection, batch)).is_err() {
                    break;
                }
            }
            self.shared.tell(&self.spool);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Append(batch) => {
                let bytes = batch.payload.len();
                let now = self.now();
                self.spool.append(batch, now);
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            }
            Command::Ack(ack) => {
                if !self.spool.ack(ack) {
                    tracing::debug!(seq = ack.seq, "an acknowledgement of nothing sent");
                }
            }
            Command::Begin(connection) => {
                self.connection = connection;
                self.spool.rewind();
                self.wanted = READ_AHEAD;
            }
            Command::Refused => self.spool.refused(),
            Command::More => self.wanted += 1,
            // Taken before.
            Command::Close(_) => {}
        }
    }

    fn now(&self) -> Moment {
        Moment {
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix_ns: sys::unix_ns(),
        }
    }
}
