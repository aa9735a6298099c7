//! What came in and what became of it, since the collector's start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reasons::Counts;
use crate::health::Loops;

/// Counters of ingest. `records_in == records_stored + records_duplicate + records_refused`.
#[derive(Debug, Default)]
pub struct Books {
    /// Batches whose fate is known.
    pub batches_in: AtomicU64,
    /// Batches refused as a whole; a part of `batches_in`.
    pub batches_refused: AtomicU64,
    /// The same by reason, those that are no batches as well.
    pub refusals: Counts,
    /// What the loops tell of themselves.
    pub loops: Arc<Loops>,
    /// Records of those batches, as they stated.
    pub records_in: AtomicU64,
    /// Records stored.
    pub records_stored: AtomicU64,
    /// Records that had been stored before.
    pub records_duplicate: AtomicU64,
    /// Records refused, alone or with their batch.
    pub records_refused: AtomicU64,
    /// Records sensors gave up before they came here; not in `records_in`.
    pub records_gap: AtomicU64,
    /// Batches the store could not take; the sensor sends them again.
    pub batches_failed: AtomicU64,
    /// Connections closed at once because too many were open.
    pub connections_refused: AtomicU64,
    /// Connections closed because no whole request came in time, idle ones of browsers too.
    pub connections_timed_out: AtomicU64,
    /// Connections to a port for TLS that spoke something else, or broke off before they were known.
    pub tls_failed: AtomicU64,
    /// Streams refused because no certificate was shown, or it is not good for a stream any more.
    pub certificates_missing: AtomicU64,
    /// Streams refused because the name in them is not that of the certificate.
    pub names_foreign: AtomicU64,
    /// Enrolments and renewals refused.
    pub enrolments_refused: AtomicU64,
    /// Updates that the live feed was too slow for; they are stored all the same.
    pub live_dropped: AtomicU64,
    /// Days that went because they were beyond the retention.
    pub days_removed: AtomicU64,
    /// Streams, counters and flows whose state left memory for want of room; it is read again from
    /// the store where it is needed.
    pub state_forgotten: AtomicU64,
}

impl Books {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Value of a counter.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
