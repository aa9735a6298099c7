//! Batches on the sensor's disk until a collector has stored them.
//!
//! Data in: sealed batches, acknowledgements, the time. Data out: batches to send. The core ([`queue`],
//! [`frame`], [`state`]) works on any [`fs::SpoolFs`] and holds no clock; [`fs`] has the real one. The
//! thread that owns a spool is that of [`crate::export::spooler`]; `netml-agent spool` looks at one by
//! [`inspect`]. Why it is so: docs/decisions/0013-spool-and-interleaving.md.
//!
//! On the disk: segments `NUMBER.seg` of at most [`SEGMENT_BYTES`], each begun by one start of the
//! sensor and only appended to ([`frame`]); `state`, how far each stream is acknowledged and was made
//! ([`state`]); `lock`, held by who writes; at most [`BAD_KEPT_MAX`] damaged segments set aside as
//! `NUMBER.bad`.
//!
//! Invariants:
//! - A batch is written before it is sent; what was synced and neither acknowledged nor given up is
//!   sent until it is acknowledged, by the next start too, with its own stream id and numbers.
//! - `found + records_in == acked + Σ lost + waiting` ([`Books`]).
//! - A segment goes when all of it is acknowledged and that was noted, or as the oldest one when
//!   there is no room below the bound; then its records are counted.
//! - Within a stream batches are sent in order, since a collector's watermark is cumulative. A record
//!   that is lost leaves its number out, and the collector tells the gap. Where nothing comes behind
//!   it in an earlier stream, a last batch of one event with the number behind it is made.
//! - Memory does not grow with what is on the disk but by some 100 bytes a segment.
//! - Nothing needs space to free space: the state has its blocks from the start.
//!
//! A kill loses what was not sealed yet; a power cut what was not synced, at most [`SYNC_MS`] or
//! [`SYNC_BYTES`] of batches. Both are known by the number made last, which `state` holds.

use crate::export::batcher::Limits;

pub mod frame;
pub mod fs;
pub mod inspect;
pub mod queue;
#[cfg(test)]
mod sim;
pub mod state;
#[cfg(test)]
mod tests;

pub use queue::Spool;

/// Largest segment; one frame more begins the next.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Most segments at a time; with one more the oldest goes as if there were no room.
pub const SEGMENTS_MAX: usize = 4096;

/// Least bound of a spool: four segments of a size that still holds the largest batch.
pub const BYTES_MIN: u64 = 32 * 1024 * 1024;

/// Bound of a spool where none is given.
pub const BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;

/// What was written is synced this long after it at the latest.
pub const SYNC_MS: u64 = 500;

/// What was written is synced once it is so much.
pub const SYNC_BYTES: u64 = 1024 * 1024;

/// Damaged segments kept; of more the oldest go.
pub const BAD_KEPT_MAX: usize = 2;

/// Most batches sent and not acknowledged: as many as a collector takes of one connection at once.
pub const WINDOW_BATCHES: usize = 16;

/// Most payload bytes sent and not acknowledged; one batch more may begin below it.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Pause after a read or a write that failed, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Times that a segment is read in vain before what is left of it is given up.
const READ_TRIES_MAX: u32 = 10;

/// Times in a row that a collector refuses a batch before it is given up.
pub const REFUSALS_MAX: u32 = 3;

/// Bytes of headers read at once.
const READ_AHEAD_BYTES: usize = 4096;

/// Least that a file takes.
const BLOCK_BYTES: u64 = 4096;

/// How a spool is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the sensor; a spool of another is refused.
    pub sensor: String,
    /// Stream of this start.
    pub stream_id: u64,
    /// Most bytes on the disk, but for one segment and the state.
    pub bytes_max: u64,
    /// Most bytes of a segment.
    pub segment_bytes: u64,
    /// What may wait in memory while the disk takes nothing.
    pub memory: Limits,
}

impl Settings {
    /// Settings of a sensor's present start.
    #[must_use]
    pub fn new(sensor: String, stream_id: u64, bytes_max: u64) -> Self {
        Self {
            sensor,
            stream_id,
            bytes_max,
            segment_bytes: SEGMENT_BYTES.min(bytes_max / 4),
            memory: Limits::default(),
        }
    }
}

/// Now, by two clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Any clock that goes on steadily.
    pub mono_ms: u64,
    /// The wall clock, to be told.
    pub unix_ns: u64,
}

/// Cumulative counts since the start, in records where nothing else is said.
///
/// `found + records_in == acked + lost_full + lost_memory + lost_damaged + lost_refused + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Of earlier starts, on the disk and not acknowledged.
    pub found: u64,
    /// Taken.
    pub records_in: u64,
    /// Stored by a collector.
    pub acked: u64,
    /// In segments that went because there was no room. One that was sent may still be stored.
    pub lost_full: u64,
    /// Given up because the disk took nothing and memory was full.
    pub lost_memory: u64,
    /// Not readable any more.
    pub lost_damaged: u64,
    /// Refused by the collector, [`REFUSALS_MAX`] times in a row.
    pub lost_refused: u64,
    /// Of earlier starts, made and never written or gone before this start; not in the sum.
    pub lost_before: u64,
    /// Segments that went because there was no room.
    pub segments_lost: u64,
    /// Damaged places found.
    pub damaged: u64,
    /// Tails cut at the start: what was being written when the power went.
    pub torn_tails: u64,
    /// Segments set aside.
    pub set_aside: u64,
    /// Operations of the file system that failed.
    pub io_errors: u64,
    /// Streams that do not fit into the state now: after a restart theirs is sent again, and a gap at
    /// their end is not told.
    pub streams_unnoted: u64,
}

impl Books {
    /// Records given up for any reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_full + self.lost_memory + self.lost_damaged + self.lost_refused
    }
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or its state cannot be read or written.
    #[error("the spool cannot be read: {0}; choose another with --spool")]
    Unreadable(#[source] std::io::Error),
    /// Another sensor's.
    #[error(
        "the spool holds records of the sensor {found}: start with --sensor {found}, or choose another --spool"
    )]
    OtherSensor {
        /// Whose it is.
        found: String,
    },
    /// Written by a newer netml.
    #[error(
        "{name} in the spool is of format {format}, made by a newer netml: update netml or choose another --spool"
    )]
    Newer {
        /// Which segment.
        name: String,
        /// Its format.
        format: u16,
    },
}

/// Name of a segment.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// Name of a segment set aside.
#[must_use]
pub fn bad_name(number: u64) -> String {
    format!("{number:016x}.bad")
}

/// Number of a segment, from its name.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    numbered(name, ".seg")
}

/// Number of a segment set aside, from its name.
#[must_use]
pub fn bad_number_of(name: &str) -> Option<u64> {
    numbered(name, ".bad")
}

fn numbered(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let is_ours = digits.len() == 16
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_ours.then(|| u64::from_str_radix(digits, 16).ok())?
}
