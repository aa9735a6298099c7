//! Records to numbered batches, kept until they are acknowledged.
//!
//! Core. Each record is encoded once, straight into the payload of the open batch; a batch is
//! sealed (numbered, checksummed) when it is full or old enough: [`Sealer`]. In [`Batcher`] sealed
//! batches wait in memory, in order, until acknowledged; past a bound the oldest goes and is counted,
//! which leaves a gap in the numbers. `records_in == acked + lost + waiting`.

use std::collections::VecDeque;

use netml_proto::{BATCH_RECORDS_MAX, v1};
use prost::Message;

/// Most records waiting for an acknowledgement; the oldest batch goes at one more.
pub const BACKLOG_RECORDS_MAX: u64 = 200_000;

/// Most payload bytes waiting for an acknowledgement; the oldest batch goes at one more.
pub const BACKLOG_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A batch of this many payload bytes is sealed, far below what a collector accepts.
pub const BATCH_SEAL_BYTES: usize = 1024 * 1024;

/// A batch is sealed this long after its first record.
pub const BATCH_SEAL_MS: u64 = 200;

/// Key of [`v1::Payload::records`] on the wire: field 1, length-delimited.
const RECORDS_KEY: u8 = 1 << 3 | 2;

/// Where a batcher gives up records.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`BACKLOG_RECORDS_MAX`].
    pub records_max: u64,
    /// See [`BACKLOG_BYTES_MAX`].
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records_max: BACKLOG_RECORDS_MAX,
            bytes_max: BACKLOG_BYTES_MAX,
        }
    }
}

/// Books of a batcher: `records_in == acked + lost + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatcherBooks {
    /// Records taken.
    pub records_in: u64,
    /// Records the collector said are stored.
    pub acked: u64,
    /// Records given up for want of room. One that was sent may still have been stored.
    pub lost: u64,
}

struct Sealed {
    batch: v1::Batch,
}

impl Sealed {
    fn last_seq(&self) -> u64 {
        self.batch.first_seq + u64::from(self.batch.count) - 1
    }
}

/// A record that cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRecord;

/// Records to numbered batches. See the module.
pub struct Sealer {
    stream_id: u64,
    open: Vec<u8>,
    open_records: u32,
    opened_ms: u64,
    next_seq: u64,
}

impl Sealer {
    /// An empty one; numbers start at 1.
    #[must_use]
    pub fn new(stream_id: u64) -> Self {
        Self {
            stream_id,
            open: Vec::new(),
            open_records: 0,
            opened_ms: 0,
            next_seq: 1,
        }
    }

    /// Takes a record; gives the batch that is full with it.
    ///
    /// # Errors
    /// [`NoRecord`]; nothing is changed then.
    pub fn push(
        &mut self,
        record: &v1::Record,
        now_ms: u64,
    ) -> Result<Option<v1::Batch>, NoRecord> {
        let before = self.open.len();
        self.open.push(RECORDS_KEY);
        if record.encode_length_delimited(&mut self.open).is_err() {
            // A buffer that grows always has room; were it not so, the record is counted.
            self.open.truncate(before);
            return Err(NoRecord);
        }
        if self.open_records == 0 {
            self.opened_ms = now_ms;
        }
        self.open_records += 1;
        let is_full =
            self.open_records as usize >= BATCH_RECORDS_MAX || self.open.len() >= BATCH_SEAL_BYTES;
        Ok(if is_full { self.seal() } else { None })
    }

    /// Seals the open batch when it is old enough.
    pub fn tick(&mut self, now_ms: u64) -> Option<v1::Batch> {
        let is_old = now_ms.saturating_sub(self.opened_ms) >= BATCH_SEAL_MS;
        if is_old { self.seal() } else { None }
    }

    /// Seals the open batch, if it has a record.
    pub fn seal(&mut self) -> Option<v1::Batch> {
        if self.open_records == 0 {
            return None;
        }
        let payload = std::mem::take(&mut self.open);
        let batch = v1::Batch {
            stream_id: self.stream_id,
            first_seq: self.next_seq,
            count: std::mem::take(&mut self.open_records),
            crc32: crc32fast::hash(&payload),
            payload,
        };
        self.next_seq += u64::from(batch.count);
        Some(batch)
    }

    /// Records in the open batch.
    #[must_use]
    pub fn open_records(&self) -> u64 {
        u64::from(self.open_records)
    }

    /// Number of the last record taken, sealed or not; 0: none was.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.next_seq - 1 + self.open_records()
    }
}

/// See the module.
pub struct Batcher {
    sealer: Sealer,
    limits: Limits,
    sealed: VecDeque<Sealed>,
    sealed_records: u64,
    sealed_bytes: u64,
    /// How many of `sealed`, from the front, were sent on the present connection.
    sent: usize,
    books: BatcherBooks,
}

impl Batcher {
    /// An empty batcher; numbers start at 1.
    #[must_use]
    pub fn new(stream_id: u64, limits: Limits) -> Self {
        Self {
            sealer: Sealer::new(stream_id),
            limits,
            sealed: VecDeque::new(),
            sealed_records: 0,
            sealed_bytes: 0,
            sent: 0,
            books: BatcherBooks::default(),
        }
    }

    /// Takes a record.
    pub fn push(&mut self, record: &v1::Record, now_ms: u64) {
        self.books.records_in += 1;
        match self.sealer.push(record, now_ms) {
            Ok(batch) => self.keep(batch),
            Err(NoRecord) => self.books.lost += 1,
        }
    }

    /// Seals the open batch when it is old enough.
    pub fn tick(&mut self, now_ms: u64) {
        let batch = self.sealer.tick(now_ms);
        self.keep(batch);
    }

    /// Seals the open batch, if it has a record.
    pub fn seal(&mut self) {
        let batch = self.sealer.seal();
        self.keep(batch);
    }

    fn keep(&mut self, batch: Option<v1::Batch>) {
        let Some(batch) = batch else {
            return;
        };
        self.sealed_records += u64::from(batch.count);
        self.sealed_bytes += batch.payload.len() as u64;
        self.sealed.push_back(Sealed { batch });
        while self.sealed_records > self.limits.records_max
            || self.sealed_bytes > self.limits.bytes_max
        {
            let Some(count) = self.forget_front() else {
                break;
            };
            self.books.lost += count;
        }
    }

    /// The oldest batch not sent on this connection.
    #[must_use]
    pub fn unsent(&self) -> Option<&v1::Batch> {
        self.sealed.get(self.sent).map(|sealed| &sealed.batch)
    }

    /// The batch [`Self::unsent`] gave was sent.
    pub fn mark_sent(&mut self) {
        self.sent = (self.sent + 1).min(self.sealed.len());
    }

    /// The connection was lost: everything not acknowledged is to be sent again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Takes an acknowledgement; false where it is of another stream or of what was never sent.
    pub fn ack(&mut self, ack: v1::Ack) -> bool {
        if ack.stream_id != self.sealer.stream_id || ack.seq >= self.sealer.next_seq {
            return false;
        }
        while self
            .sealed
            .front()
            .is_some_and(|front| front.last_seq() <= ack.seq)
        {
            if let Some(count) = self.forget_front() {
                self.books.acked += count;
            }
        }
        true
    }

    /// Records taken and neither acknowledged nor given up.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.sealed_records + self.sealer.open_records()
    }

    /// True while at least half of either bound is used: time for a patient source to wait.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.sealed_records >= self.limits.records_max / 2
            || self.sealed_bytes >= self.limits.bytes_max / 2
    }

    /// Books so far.
    #[must_use]
    pub fn books(&self) -> BatcherBooks {
        self.books
    }

    /// Removes the oldest batch and tells its records.
    fn forget_front(&mut self) -> Option<u64> {
        let gone = self.sealed.pop_front()?;
        let count = u64::from(gone.batch.count);
        self.sent = self.sent.saturating_sub(1);
        self.sealed_records -= count;
        self.sealed_bytes -= gone.batch.payload.len() as u64;
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: u64 = 42;

    fn event(text: &str) -> v1::Record {
        v1::Record {
            record: Some(v1::record::Record::Event(v1::Event {
                message: text.into(),
                ..Default::default()
            })),
        }
    }

    fn ack(seq: u64) -> v1::Ack {
        v1::Ack {
            stream_id: STREAM,
            seq,
        }
    }

    fn batcher(records_max: u64) -> Batcher {
        Batcher::new(
            STREAM,
            Limits {
                records_max,
                bytes_max: BACKLOG_BYTES_MAX,
            },
        )
    }

    #[test]
    fn a_batch_is_numbered_from_one_checked_and_decodes_to_its_records() {
        let mut batcher = batcher(1_000);
        for text in ["a", "b", "c"] {
            batcher.push(&event(text), 0);
        }
        assert!(batcher.unsent().is_none());
        batcher.tick(BATCH_SEAL_MS - 1);
        assert!(batcher.unsent().is_none(), "not old enough");
        batcher.tick(BATCH_SEAL_MS);
        let batch = batcher.unsent().unwrap();
        assert_eq!(
            (batch.stream_id, batch.first_seq, batch.count),
            (STREAM, 1, 3)
        );
        assert_eq!(batch.crc32, crc32fast::hash(&batch.payload));
        let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
        assert_eq!(payload.records, ["a", "b", "c"].map(event));
    }

    #[test]
    fn a_full_batch_is_sealed_at_once_by_records_and_by_bytes() {
        let mut batcher = batcher(100_000);
        for _ in 0..BATCH_RECORDS_MAX {
            batcher.push(&event(""), 0);
        }
        assert_eq!(batcher.unsent().unwrap().count as usize, BATCH_RECORDS_MAX);
        batcher.mark_sent();
        batcher.push(&event(&"x".repeat(BATCH_SEAL_BYTES)), 0);
        assert_eq!(batcher.unsent().unwrap().first_seq, 1_001);
    }

    #[test]
    fn what_was_sent_and_not_acknowledged_is_sent_again_the_same() {
        let mut batcher = batcher(1_000);
        for text in ["a", "b", "c"] {
            batcher.push(&event(text), 0);
            batcher.seal();
        }
        let first: Vec<_> = std::iter::from_fn(|| {
            let batch = batcher.unsent().cloned();
            batcher.mark_sent();
            batch
        })
        .collect();
        assert!(batcher.ack(ack(1)));
        batcher.rewind();
        assert_eq!(batcher.unsent(), Some(&first[1]));
        assert_eq!(batcher.books().acked, 1);
        assert_eq!(batcher.waiting(), 2);
    }

    #[test]
    fn a_foreign_or_impossible_acknowledgement_changes_nothing() {
        let mut batcher = batcher(1_000);
        batcher.push(&event("a"), 0);
        batcher.seal();
        assert!(!batcher.ack(ack(2)));
        assert!(!batcher.ack(v1::Ack {
            stream_id: 1,
            seq: 1
        }));
        assert_eq!(batcher.waiting(), 1);
    }

    proptest! {
        #[test]
        fn the_books_balance_whatever_happens(steps in proptest::collection::vec(0..6_u8, 0..300)) {
            let mut batcher = batcher(10);
            let mut seen_seq = 0;
            for (now, step) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => batcher.push(&event("x"), now as u64),
                    2 => batcher.seal(),
                    3 => {
                        if let Some(batch) = batcher.unsent() {
                            seen_seq = batch.first_seq + u64::from(batch.count) - 1;
                            batcher.mark_sent();
                        }
                    }
                    4 => { batcher.ack(ack(seen_seq)); }
                    _ => batcher.rewind(),
                }
                let books = batcher.books();
                prop_assert_eq!(books.records_in, books.acked + books.lost + batcher.waiting());
            }
        }
    }

    #[test]
    fn past_the_bound_the_oldest_goes_and_is_counted() {
        let mut batcher = batcher(2);
        for text in ["a", "b", "c"] {
            batcher.push(&event(text), 0);
            batcher.seal();
        }
        assert_eq!(batcher.unsent().unwrap().first_seq, 2);
        assert_eq!(batcher.books().lost, 1);
        assert_eq!(batcher.waiting(), 2);
    }
}
