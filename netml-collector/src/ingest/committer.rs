//! Group commit: batches of all sensors are gathered for a moment and stored in one transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::books::Books;
use super::reasons;
use crate::clock;
use crate::live::{Live, Update};
use crate::record::SensorBatch;
use crate::store::{Outcome, Store};

/// A transaction is closed once it holds this many records; a batch is never split.
pub const GROUP_RECORDS: usize = 1_000;

/// A transaction is closed this long after its first batch.
pub const GROUP_WAIT: Duration = Duration::from_millis(200);

/// Batches waiting to be stored; further ones make their sensors wait.
pub const QUEUE_BATCHES: usize = 64;

/// The store could not take the batch; it was not acknowledged and can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store could not take the batch")]
pub struct CommitFailed;

/// A batch on its way into the store.
pub struct Pending {
    /// The batch.
    pub batch: SensorBatch,
    /// Told what became of it, once it is durable.
    pub reply: oneshot::Sender<Result<Outcome, CommitFailed>>,
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
        let mut records = first.batch.records.len();
        let mut group = vec![first];
        while records < GROUP_RECORDS {
            match timeout_at(deadline, queue.recv()).await {
                Ok(Some(pending)) => {
                    records += pending.batch.records.len();
                    group.push(pending);
                }
                Ok(None) | Err(_) => break,
            }
        }
        commit(group, store.as_ref(), &books, &live).await;
    }
}

async fn commit(group: Vec<Pending>, store: &dyn Store, books: &Books, live: &Live) {
    let mut batches = Vec::with_capacity(group.len());
    let mut replies = Vec::with_capacity(group.len());
    let mut memory = Vec::with_capacity(group.len());
    for pending in group {
        batches.push(pending.batch);
        replies.push(pending.reply);
        memory.push(pending.memory);
    }
    let loops = &books.loops;
    let _busy = loops.commits.begin();
    let begun = Instant::now();
    let stored = store.append(&batches, clock::unix_ms()).await;
    loops.commit_seconds.observe(begun.elapsed());
    loops
        .is_store_failing
        .store(stored.is_err(), Ordering::Relaxed);
    match stored {
        Ok(appended) => {
            for ((outcome, reply), batch) in appended.outcomes.iter().zip(replies).zip(&batches) {
                count(books, *outcome, batch.records.len() as u64);
                // A sensor that left meanwhile sends again when it returns.
                if reply.send(Ok(*outcome)).is_err() {
                    tracing::debug!("a batch was stored whose sensor is gone");
                }
            }
            Books::add(&books.state_forgotten, appended.forgotten);
            live.give(Update::Stored(Arc::new(appended)));
        }
        Err(error) => {
            tracing::error!(%error, batches = batches.len(), "the store could not take batches; sensors will send them again");
            Books::add(&books.batches_failed, batches.len() as u64);
            for reply in replies {
                if reply.send(Err(CommitFailed)).is_err() {
                    tracing::debug!("a batch failed whose sensor is gone");
                }
            }
        }
    }
    drop(memory);
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
