//! Group commit: batches of all sensors are gathered for a moment and stored in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::books::Books;
use super::reasons;
use crate::clock;
use crate::live::{Live, Update};
use crate::record::SensorBatch;
use crate::store::{Appended, Outcome, Store, StoreError};

/// A transaction is closed once it holds this many records; a batch is never split.
pub const GROUP_RECORDS: usize = 1_000;

/// A transaction is closed this long after its first batch.
pub const GROUP_WAIT: Duration = Duration::from_millis(200);

/// Batches waiting to be stored; further ones make their sensors wait.
pub const QUEUE_BATCHES: usize = 64;

/// Where it is told what became of a batch.
pub type Reply = oneshot::Sender<Result<Outcome, CommitFailed>>;

/// The store could not take the batch; it was not acknowledged and can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store could not take the batch")]
pub struct CommitFailed;

/// The batches of one connection, in their order. Once one of them could not be stored, none of those
/// behind it may be: they would leave it behind the stream's watermark, and its resend would be taken
/// for something stored. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<AtomicBool>);

impl Line {
    fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn break_off(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A batch on its way into the store.
pub struct Pending {
    /// The batch.
    pub batch: SensorBatch,
    /// The connection it came by.
    pub line: Line,
    /// Told what became of it, once it is durable.
    pub reply: Reply,
    /// Its share of the memory for batches in flight; freed when it is dropped.
    pub memory: OwnedSemaphorePermit,
}

/// Stores batches until the last sender is gone and everything is stored.
pub async fn run(
    mut queue: mpsc::Receiver<Pending>,
    store: Arc<dyn Store>,
    books: Arc<Books>,
    live: Live,
) {
    while let Some(first) = queue.recv().await {
        let deadline = Instant::now() + GROUP_WAIT;
        let mut group = Group::default();
        group.push(first, &books);
        while !group.is_full() {
            match timeout_at(deadline, queue.recv()).await {
                Ok(Some(pending)) => group.push(pending, &books),
                Ok(None) | Err(_) => break,
            }
        }
        if group.batches().is_empty() {
            continue;
        }
        let loops = &books.loops;
        let appended = {
            let _busy = loops.commits.begin();
            let begun = Instant::now();
            let appended = store.append(group.batches(), clock::unix_ms()).await;
            loops.commit_seconds.observe(begun.elapsed());
            appended
        };
        loops
            .is_store_failing
            .store(appended.is_err(), Ordering::Relaxed);
        if let Some(appended) = group.settle(appended, &books) {
            live.give(Update::Stored(Arc::new(appended)));
        }
    }
}

/// Batches that are stored in one transaction. Pure but for the replies.
#[derive(Default)]
pub struct Group {
    batches: Vec<SensorBatch>,
    rest: Vec<(Line, Reply, OwnedSemaphorePermit)>,
    records: usize,
}

impl Group {
    /// Takes a batch, or refuses it where one before it on its connection was not stored.
    pub fn push(&mut self, pending: Pending, books: &Books) {
        if pending.line.is_broken() {
            fail(pending.reply, books);
            return;
        }
        self.records += pending.batch.records.len();
        self.batches.push(pending.batch);
        self.rest
            .push((pending.line, pending.reply, pending.memory));
    }

    /// True once it is to be stored without waiting for more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records >= GROUP_RECORDS
    }

    /// What is to be stored.
    #[must_use]
    pub fn batches(&self) -> &[SensorBatch] {
        &self.batches
    }

    /// Tells each connection what became of its batches; gives back what was stored.
    pub fn settle(self, appended: Result<Appended, StoreError>, books: &Books) -> Option<Appended> {
        let batches = self.batches.iter().zip(self.rest);
        match appended {
            Ok(appended) => {
                for ((batch, (_, reply, _)), outcome) in batches.zip(&appended.outcomes) {
                    count(books, *outcome, batch.records.len() as u64);
                    // A sensor that left meanwhile sends again when it returns.
                    if reply.send(Ok(*outcome)).is_err() {
                        tracing::debug!("a batch was stored whose sensor is gone");
                    }
                }
                Books::add(&books.state_forgotten, appended.forgotten);
                Some(appended)
            }
            Err(error) => {
                tracing::error!(%error, batches = self.batches.len(), "the store could not take batches; sensors will send them again");
                for (_, (line, reply, _)) in batches {
                    line.break_off();
                    fail(reply, books);
                }
                None
            }
        }
    }
}

fn fail(reply: Reply, books: &Books) {
    Books::add(&books.batches_failed, 1);
    if reply.send(Err(CommitFailed)).is_err() {
        tracing::debug!("a batch failed whose sensor is gone");
    }
}

fn count(books: &Books, outcome: Outcome, records: u64) {
    Books::add(&books.batches_in, 1);
    Books::add(&books.records_in, records);
    match outcome {
        Outcome::Stored {
            stored,
            duplicate,
            refused,
            gap,
            ..
        } => {
            Books::add(&books.records_stored, stored);
            Books::add(&books.records_duplicate, duplicate);
            Books::add(&books.records_refused, refused);
            Books::add(&books.records_gap, gap);
        }
        Outcome::ForeignStream => {
            Books::add(&books.batches_refused, 1);
            books.refusals.add(reasons::FOREIGN_STREAM);
            Books::add(&books.records_refused, records);
        }
    }
}
