//! The spool itself: batches in, batches out in the order of their streams, until acknowledged.
//!
//! Core over [`SpoolFs`]; `now` is passed in. See [`super`] for what holds.

use std::collections::{BTreeMap, VecDeque};

use netml_proto::v1;

use super::frame::{FrameHeader, SEGMENT_HEADER_BYTES, Window};
use super::fs::SpoolFs;
use super::state::StateFile;
use super::{
    Books, Moment, OpenError, READ_AHEAD_BYTES, REFUSALS_MAX, SYNC_BYTES, SYNC_MS, Settings,
    WINDOW_BATCHES, WINDOW_BYTES,
};

mod read;
mod recover;
mod segment;
mod sync;
mod write;

use segment::Segment;

/// Of a stream. `acked <= sent`.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    acked: u64,
    /// Sent on the present connection, or stepped over as damaged.
    sent: u64,
    /// Records were made up to here.
    made: u64,
    /// The last record that is on the disk; 0: none is.
    left_to: u64,
    unix_ns: u64,
    /// Its sensor ended without stopping.
    has_crashed: bool,
}

impl Stream {
    /// True where its last records are neither stored nor there.
    fn has_gap(&self) -> bool {
        self.made > self.acked.max(self.left_to)
    }
}

/// Where one of the two readers is: earlier streams, or the present one.
#[derive(Debug)]
struct Lane<H> {
    number: u64,
    offset: u64,
    file: Option<H>,
    window: Window,
    /// Tries in vain, in a row.
    failures: u32,
    /// No read is tried before.
    retry_at_ms: u64,
}

impl<H> Lane<H> {
    fn new() -> Self {
        Self {
            number: 0,
            offset: SEGMENT_HEADER_BYTES as u64,
            file: None,
            window: Window::new(READ_AHEAD_BYTES),
            failures: 0,
            retry_at_ms: 0,
        }
    }

    fn go_to(&mut self, number: u64) {
        self.number = number;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.file = None;
        self.window.forget();
    }
}

/// A batch sent and not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Sent {
    stream_id: u64,
    first_seq: u64,
    last_seq: u64,
    bytes: usize,
}

/// Index of the lane of earlier streams.
const EARLIER: usize = 0;
/// Index of the lane of the present stream.
const PRESENT: usize = 1;

/// See [`super`].
pub struct Spool<F: SpoolFs> {
    fs: F,
    settings: Settings,
    segments: VecDeque<Segment>,
    /// The last of `segments`, while it is written.
    active: Option<F::File>,
    next_number: u64,
    bad: VecDeque<(u64, u64)>,
    memory: VecDeque<v1::Batch>,
    memory_records: u64,
    memory_bytes: u64,
    /// No write is tried before.
    retry_at_ms: u64,
    streams: BTreeMap<u64, Stream>,
    lanes: [Lane<F::File>; 2],
    turn: usize,
    in_flight: VecDeque<Sent>,
    in_flight_bytes: usize,
    state: Option<StateFile<F::File>>,
    unsynced_bytes: u64,
    synced_ms: u64,
    is_state_dirty: bool,
    is_stopped: bool,
    /// Number of the batch that was first when the collector refused, and how often in a row.
    refusals: Option<(u64, u64, u32)>,
    waiting: u64,
    books: Books,
}

impl<F: SpoolFs> Spool<F> {
    /// Opens a spool and takes up what earlier starts left: a torn tail is cut, what cannot be read
    /// is set aside and counted.
    ///
    /// # Errors
    /// Where the directory cannot be read, is of another sensor, or of a newer format. A disk without
    /// space is none: batches stay in memory then.
    pub fn open(fs: F, settings: Settings, now: Moment) -> Result<Self, OpenError> {
        let mut spool = Self {
            segments: VecDeque::new(),
            active: None,
            next_number: 1,
            bad: VecDeque::new(),
            memory: VecDeque::new(),
            memory_records: 0,
            memory_bytes: 0,
            retry_at_ms: 0,
            streams: BTreeMap::new(),
            lanes: [Lane::new(), Lane::new()],
            turn: PRESENT,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            state: None,
            unsynced_bytes: 0,
            synced_ms: now.mono_ms,
            is_state_dirty: true,
            is_stopped: false,
            refusals: None,
            waiting: 0,
            books: Books::default(),
            fs,
            settings,
        };
        spool.recover(now)?;
        Ok(spool)
    }

    /// Takes a batch of the present stream. Never fails: what finds no place is counted.
    pub fn append(&mut self, batch: v1::Batch, now: Moment) {
        let count = u64::from(batch.count);
        self.books.records_in += count;
        self.waiting += count;
        let last_seq = batch.first_seq.saturating_add(count).saturating_sub(1);
        let stream = self.streams.entry(batch.stream_id).or_default();
        stream.made = stream.made.max(last_seq);
        stream.unix_ns = now.unix_ns;
        self.is_state_dirty = true;
        let Some(header) = FrameHeader::of(&batch) else {
            // No collector would take it either; it leaves a gap in the numbers.
            self.waiting -= count;
            self.books.lost_damaged += count;
            return;
        };
        if !self.memory.is_empty() || now.mono_ms < self.retry_at_ms {
            self.remember(batch);
            return;
        }
        if let Err(error) = self.write(&header, &batch.payload, now) {
            self.no_write(&error, now);
            self.remember(batch);
        }
        if self.unsynced_bytes >= SYNC_BYTES {
            self.sync(now);
        }
    }

    /// The next batch to send, earlier streams and the present one in turn; `None` while as many are
    /// under way as may be, or nothing waits to be sent.
    pub fn next(&mut self, now: Moment) -> Option<v1::Batch> {
        if self.in_flight.len() >= WINDOW_BATCHES || self.in_flight_bytes >= WINDOW_BYTES {
            return None;
        }
        let batch = [self.turn, 1 - self.turn].into_iter().find_map(|lane| {
            let batch = self.read(lane, now);
            let batch = batch.or_else(|| match lane {
                EARLIER => self.closing(now),
                _ => self.remembered(),
            })?;
            self.turn = 1 - lane;
            Some(batch)
        })?;
        let sent = Sent {
            stream_id: batch.stream_id,
            first_seq: batch.first_seq,
            last_seq: batch.first_seq + u64::from(batch.count) - 1,
            bytes: batch.payload.len(),
        };
        if let Some(stream) = self.streams.get_mut(&sent.stream_id) {
            stream.sent = stream.sent.max(sent.last_seq);
        }
        self.in_flight_bytes += sent.bytes;
        self.in_flight.push_back(sent);
        Some(batch)
    }

    /// The connection is another: everything not acknowledged is to be sent again.
    pub fn rewind(&mut self) {
        for stream in self.streams.values_mut() {
            stream.sent = stream.acked;
        }
        for lane in &mut self.lanes {
            lane.go_to(0);
        }
        self.turn = PRESENT;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// The collector ended the connection because a batch is none to it: the first one that is not
    /// acknowledged. Refused [`REFUSALS_MAX`] times in a row it is given up and counted, so that it
    /// does not hold up those behind it. To be called before [`Self::rewind`].
    pub fn refused(&mut self) {
        let Some(first) = self.in_flight.front().copied() else {
            return;
        };
        let times = match self.refusals {
            Some((stream_id, first_seq, times))
                if (stream_id, first_seq) == (first.stream_id, first.first_seq) =>
            {
                times + 1
            }
            _ => 1,
        };
        self.refusals = Some((first.stream_id, first.first_seq, times));
        if times >= REFUSALS_MAX {
            self.refusals = None;
            self.give_up_refused(first.stream_id, first.first_seq, first.last_seq);
        }
    }

    /// Takes an acknowledgement; false where nothing of that kind was ever made.
    pub fn ack(&mut self, ack: v1::Ack) -> bool {
        let is_present = ack.stream_id == self.settings.stream_id;
        let Some(stream) = self.streams.get_mut(&ack.stream_id) else {
            return false;
        };
        if is_present && ack.seq > stream.made {
            return false;
        }
        if ack.seq <= stream.acked {
            return true;
        }
        let before = stream.acked;
        // Of an earlier stream the collector may know more than a disk that lost power.
        stream.acked = ack.seq;
        stream.sent = stream.sent.max(ack.seq);
        stream.made = stream.made.max(ack.seq);
        let mut acked: u64 = self
            .segments
            .iter()
            .map(|segment| segment.covered(ack.stream_id, before, ack.seq))
            .sum();
        while let Some(front) = self.memory.front()
            && front.stream_id == ack.stream_id
            && front.first_seq + u64::from(front.count) - 1 <= ack.seq
        {
            acked += self.forget_front();
        }
        self.books.acked += acked;
        self.waiting -= acked;
        let in_flight_bytes = &mut self.in_flight_bytes;
        self.in_flight.retain(|sent| {
            let is_done = sent.stream_id == ack.stream_id && sent.last_seq <= ack.seq;
            if is_done {
                *in_flight_bytes -= sent.bytes;
            }
            !is_done
        });
        self.is_state_dirty = true;
        true
    }

    /// To be called a few times a second: syncs and notes what is due, moves batches from memory to
    /// the disk, removes what is acknowledged. `made` is the number of the last record made.
    pub fn tick(&mut self, made: u64, now: Moment) {
        let stream = self.streams.entry(self.settings.stream_id).or_default();
        if made > stream.made {
            stream.made = made;
            self.is_state_dirty = true;
        }
        if self.is_state_dirty {
            stream.unix_ns = now.unix_ns;
        }
        if !self.memory.is_empty() && now.mono_ms >= self.retry_at_ms {
            self.move_from_memory(now);
        }
        let is_due = now.mono_ms.saturating_sub(self.synced_ms) >= SYNC_MS;
        if is_due && (self.unsynced_bytes > 0 || self.is_state_dirty) {
            self.sync(now);
        } else if self.is_state_dirty {
            self.note();
        }
        self.retire();
    }

    /// For the end: all that can be is on the disk. The present stream is told to have stopped.
    pub fn close(&mut self, made: u64, now: Moment) {
        self.retry_at_ms = 0;
        let stream = self.streams.entry(self.settings.stream_id).or_default();
        stream.made = stream.made.max(made);
        stream.unix_ns = now.unix_ns;
        while !self.memory.is_empty() {
            let before = self.memory.len();
            self.move_from_memory(now);
            if self.memory.len() == before {
                break;
            }
        }
        self.active_sync(now);
        self.active = None;
        // What stays in memory goes with the process: the next start says so.
        self.is_state_dirty = true;
        self.is_stopped = true;
        self.retire();
        self.note_synced();
    }

    /// Books so far.
    #[must_use]
    pub fn books(&self) -> Books {
        self.books
    }

    /// How far each of its streams is acknowledged, where anything of one is.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<v1::Ack> {
        let streams = self.streams.iter().filter(|(_, stream)| stream.acked > 0);
        let acks = streams.map(|(stream_id, stream)| v1::Ack {
            stream_id: *stream_id,
            seq: stream.acked,
        });
        acks.collect()
    }

    /// Records taken or found, and neither acknowledged nor lost.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Of those, the ones that are in memory only, for want of a disk.
    #[must_use]
    pub fn waiting_in_memory(&self) -> u64 {
        self.memory_records
    }

    /// Bytes on the disk, what was set aside included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let kept: u64 = self.segments.iter().map(Segment::charged).sum();
        kept + self.bad.iter().map(|(_, bytes)| *bytes).sum::<u64>()
    }

    /// True where a power cut now would lose nothing.
    #[cfg(test)]
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced_bytes == 0 && self.memory.is_empty() && !self.is_state_dirty && {
            let state = self.state.as_ref();
            state.is_some_and(StateFile::is_synced)
        }
    }
}

/// True where an error says that there is no space.
fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}
