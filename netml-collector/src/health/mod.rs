//! How the collector fares, for those who run it: life, readiness and what metrics are made of.
//!
//! Life: the loops make progress ([`Health::stalled`]). Ready: sensors are taken and what they send
//! can be stored ([`Health::unready`]); that the disk takes data is tried by a small file, at most
//! once in [`TRIAL_INTERVAL`], however often it is asked. The table of metrics is
//! [`metrics::FAMILIES`].

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netml_proto::daemon::exposition::Histogram;
use netml_proto::daemon::progress::{Gate, Sign, Work};
use netml_proto::daemon::usage::{Meter, Usage};
use tokio::sync::mpsc;

use crate::ingest::committer::{Pending, QUEUE_BATCHES};

pub mod metrics;

/// A loop within one piece of work for longer than this is said to stand still.
pub const STALL_AFTER: Duration = Duration::from_secs(60);

/// Time between two trials whether the disk takes data.
pub const TRIAL_INTERVAL: Duration = Duration::from_secs(5);

/// Longest trial; a disk that takes longer is as good as none.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes that the disk has to take.
const TRIAL_BYTES: usize = 4_096;

/// The file of the trial, in the data directory; gone after it.
const TRIAL_FILE: &str = "writable.tmp";

/// Upper ends of the histogram of commit times, in seconds.
const COMMIT_BOUNDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// What the loops tell of themselves.
#[derive(Debug)]
pub struct Loops {
    /// Transactions of the store.
    pub commits: Work,
    /// Updates of the live feed.
    pub encodes: Work,
    /// Time of each transaction, failed ones included.
    pub commit_seconds: Histogram,
    /// The last transaction failed.
    pub is_store_failing: AtomicBool,
    /// Sensors are not taken any more.
    pub is_ingest_closed: AtomicBool,
}

impl Default for Loops {
    fn default() -> Self {
        Self {
            commits: Work::default(),
            encodes: Work::default(),
            commit_seconds: Histogram::new(COMMIT_BOUNDS),
            is_store_failing: AtomicBool::new(false),
            is_ingest_closed: AtomicBool::new(false),
        }
    }
}

/// What became of the last trial of the disk, and when it ended.
type Trial = Option<(Instant, Result<(), String>)>;

/// See the module.
pub struct Health {
    started: Instant,
    loops: Arc<Loops>,
    queue: mpsc::WeakSender<Pending>,
    gate: Mutex<Gate>,
    meter: Mutex<Meter>,
    data: PathBuf,
    trial: Arc<tokio::sync::Mutex<Trial>>,
    /// Trials made.
    trials: AtomicU64,
}

impl Health {
    /// That of a collector with this queue and data directory.
    #[must_use]
    pub fn new(loops: Arc<Loops>, queue: mpsc::WeakSender<Pending>, data: &Path) -> Self {
        let mut gate = Gate::default();
        let commits = Arc::clone(&loops);
        gate.add("commit", 0, move || commits.commits.sign());
        let encodes = Arc::clone(&loops);
        gate.add("live-feed", 0, move || encodes.encodes.sign());
        let committer = queue.clone();
        // A committer that is gone takes nothing, which is no progress. One that has ended in good
        // order has nothing to do.
        gate.add("ingest", 0, move || match committer.upgrade() {
            Some(queue) if queue.is_closed() => Sign::Done(0),
            _ => Sign::Idle,
        });
        Self {
            started: Instant::now(),
            loops,
            queue,
            gate: Mutex::new(gate),
            meter: Mutex::default(),
            data: data.to_owned(),
            trial: Arc::default(),
            trials: AtomicU64::new(0),
        }
    }

    /// What the loops tell.
    #[must_use]
    pub fn loops(&self) -> &Loops {
        &self.loops
    }

    /// Stages, and milliseconds since each was seen to make progress.
    #[must_use]
    pub fn stages(&self) -> Vec<(&'static str, u64)> {
        self.gate().look(self.now_ms())
    }

    /// Loops without progress for longer than `limit`, in words.
    #[must_use]
    pub fn stalled(&self, limit: Duration) -> Vec<String> {
        self.gate().stalled_in_words(self.now_ms(), limit)
    }

    /// What keeps the collector from taking and storing, in words; empty: it is ready.
    pub async fn unready(&self) -> Vec<String> {
        let mut why = self.stalled(STALL_AFTER);
        if self.loops.is_ingest_closed.load(Ordering::Relaxed) || self.queue.upgrade().is_none() {
            why.push("ingest is closed: the collector is stopping".into());
        }
        if self.loops.is_store_failing.load(Ordering::Relaxed) {
            why.push("the store could not take the last batches; the log has the cause".into());
        }
        if let Err(error) = self.try_disk().await {
            why.push(format!("the data directory takes no data: {error}"));
        }
        why
    }

    /// Batches waiting to be stored.
    #[must_use]
    pub fn queued(&self) -> usize {
        let room = self.queue.upgrade().map(|queue| queue.capacity());
        room.map_or(0, |room| QUEUE_BATCHES.saturating_sub(room))
    }

    /// Memory and processor time.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.usage(now_ns)
    }

    /// Trials of the disk made so far.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.trials.load(Ordering::Relaxed)
    }

    /// The last trial of the disk, or a new one where that is too long ago.
    async fn try_disk(&self) -> Result<(), String> {
        let slow = || format!("not within {} s", TRIAL_TIME_MAX.as_secs());
        // A trial that hangs holds the lock: nobody begins another.
        let locked = Arc::clone(&self.trial).lock_owned();
        let Ok(mut trial) = tokio::time::timeout(TRIAL_TIME_MAX, locked).await else {
            return Err(slow());
        };
        if let Some((ended, outcome)) = &*trial
            && ended.elapsed() < TRIAL_INTERVAL
        {
            return outcome.clone();
        }
        self.trials.fetch_add(1, Ordering::Relaxed);
        let path = self.data.join(TRIAL_FILE);
        let trying = tokio::task::spawn_blocking(move || {
            let outcome = write(&path).map_err(|error| error.to_string());
            *trial = Some((Instant::now(), outcome.clone()));
            outcome
        });
        match tokio::time::timeout(TRIAL_TIME_MAX, trying).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(slow()),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes some bytes through to the disk and removes them.
fn write(path: &Path) -> std::io::Result<()> {
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(&[0; TRIAL_BYTES])?;
        file.sync_data()
    });
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(data: &Path) -> (Health, mpsc::Sender<Pending>, mpsc::Receiver<Pending>) {
        let (queue, pending) = mpsc::channel(QUEUE_BATCHES);
        let health = Health::new(Arc::default(), queue.downgrade(), data);
        (health, queue, pending)
    }

    #[tokio::test]
    async fn it_is_ready_while_it_takes_and_stores() {
        let data = tempfile::tempdir().unwrap();
        let (health, queue, pending) = health(data.path());
        assert_eq!(health.unready().await, [""; 0]);
        assert_eq!(health.queued(), 0);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
        let loops = health.loops();
        loops.is_store_failing.store(true, Ordering::Relaxed);
        let why = health.unready().await;
        assert_eq!(why.len(), 1, "{why:?}");
        assert!(why[0].contains("last batches"), "{why:?}");
        loops.is_store_failing.store(false, Ordering::Relaxed);
        drop(pending);
        assert_eq!(health.unready().await, [""; 0], "not for long");
        std::thread::sleep(Duration::from_millis(5));
        let stalled = health.stalled(Duration::from_millis(1));
        assert!(stalled[0].starts_with("ingest has"), "{stalled:?}");
        drop(queue);
        assert!(health.unready().await[0].contains("ingest is closed"));
    }

    #[tokio::test]
    async fn the_disk_is_tried_once_however_often_it_is_asked() {
        let data = tempfile::tempdir().unwrap();
        let gone = data.path().join("gone");
        let (health, _queue, _pending) = health(&gone);
        for _ in 0..10 {
            let why = health.unready().await;
            assert!(why[0].contains("takes no data"), "{why:?}");
        }
        assert_eq!(health.trials(), 1);
    }

    #[tokio::test]
    async fn a_transaction_that_does_not_end_is_a_stall() {
        let data = tempfile::tempdir().unwrap();
        let (health, _queue, _pending) = health(data.path());
        let busy = health.loops().commits.begin();
        assert!(health.stalled(Duration::from_millis(1)).is_empty());
        std::thread::sleep(Duration::from_millis(5));
        let stalled = health.stalled(Duration::from_millis(1));
        assert!(stalled[0].starts_with("commit has"), "{stalled:?}");
        drop(busy);
        assert!(health.stalled(Duration::from_millis(1)).is_empty());
    }
}
