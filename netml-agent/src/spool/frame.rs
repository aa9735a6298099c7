//! What stands in a segment: a header, then frames, each a batch as it was encoded once.
//!
//! Core. All numbers are little-endian. A segment's header has [`SEGMENT_HEADER_BYTES`]:
//!
//! | Offset | |
//! |---|---|
//! | 0 | `netmlspl` |
//! | 8 | format, 2 bytes: 1; then 6 bytes of zeros |
//! | 16 | number of the segment, 8 bytes |
//! | 24 | stream id, 8 bytes |
//! | 32 | made at, unix nanoseconds, 8 bytes |
//! | 40 | name of the sensor, 64 bytes, filled up with zeros |
//! | 124 | CRC-32 of what is before, 4 bytes |
//!
//! A frame's header has [`FRAME_HEADER_BYTES`] and a checksum of its own, so that a damaged payload
//! does not hide the frame behind it; a damaged header is stepped over to the next that fits.
//!
//! | Offset | |
//! |---|---|
//! | 0 | `f5 4e 4d 0a` |
//! | 4 | bytes of the payload, 4 bytes |
//! | 8 | stream id, 8 bytes |
//! | 16 | number of the first record, 8 bytes |
//! | 24 | records, 4 bytes |
//! | 28 | CRC-32 of the payload, 4 bytes: that of the batch |
//! | 32 | zeros, 4 bytes |
//! | 36 | CRC-32 of what is before, 4 bytes |

use std::io;

use netml_proto::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, v1};

use super::fs::SpoolFs;

/// Format written.
pub const FORMAT: u16 = 1;

/// Bytes before the first frame.
pub const SEGMENT_HEADER_BYTES: usize = 128;

/// Bytes before a payload.
pub const FRAME_HEADER_BYTES: usize = 40;

/// Longest name of a sensor, in bytes.
pub const SENSOR_BYTES_MAX: usize = 64;

/// Bytes read at once while looking for the next header behind damage.
const RESYNC_BYTES: usize = 64 * 1024;

const SEGMENT_MAGIC: [u8; 8] = *b"netmlspl";
const FRAME_MAGIC: [u8; 4] = [0xf5, b'N', b'M', b'\n'];

/// Start of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// As in the file's name.
    pub number: u64,
    /// Of its frames.
    pub stream_id: u64,
    /// When it was made.
    pub made_unix_ns: u64,
    /// Who made it.
    pub sensor: String,
}

/// What the first bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A whole header of this format.
    Whole(SegmentHeader),
    /// A whole header of a format made later.
    Newer(u16),
    /// Neither.
    Damaged,
}

impl SegmentHeader {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.stream_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.made_unix_ns.to_le_bytes());
        let sensor = self.sensor.as_bytes();
        let sensor = &sensor[..sensor.len().min(SENSOR_BYTES_MAX)];
        bytes[40..40 + sensor.len()].copy_from_slice(sensor);
        seal(&mut bytes);
        bytes
    }

    /// What `bytes` are.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Start {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return Start::Damaged;
        };
        if bytes[..8] != SEGMENT_MAGIC || !is_sealed(bytes) {
            return Start::Damaged;
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if format != FORMAT {
            return Start::Newer(format);
        }
        let sensor = bytes[40..40 + SENSOR_BYTES_MAX]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Start::Whole(Self {
            number: u64_at(bytes, 16),
            stream_id: u64_at(bytes, 24),
            made_unix_ns: u64_at(bytes, 32),
            sensor: String::from_utf8_lossy(sensor).into_owned(),
        })
    }
}

/// Start of a frame: what a batch is beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Of its records.
    pub stream_id: u64,
    /// Number of the first.
    pub first_seq: u64,
    /// How many, at least one.
    pub count: u32,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Checksum of the payload.
    pub payload_crc32: u32,
}

impl FrameHeader {
    /// The header of a batch; `None` for one that no collector would take.
    #[must_use]
    pub fn of(batch: &v1::Batch) -> Option<Self> {
        let header = Self {
            stream_id: batch.stream_id,
            first_seq: batch.first_seq,
            count: batch.count,
            payload_bytes: u32::try_from(batch.payload.len()).ok()?,
            payload_crc32: batch.crc32,
        };
        header.is_possible().then_some(header)
    }

    /// The batch again.
    #[must_use]
    pub fn batch(&self, payload: Vec<u8>) -> v1::Batch {
        v1::Batch {
            stream_id: self.stream_id,
            first_seq: self.first_seq,
            count: self.count,
            crc32: self.payload_crc32,
            payload,
        }
    }

    /// Number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq
            .saturating_add(u64::from(self.count))
            .saturating_sub(1)
    }

    /// Bytes with the payload.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.stream_id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_crc32.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// The header that `bytes` begin with, if they do.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        if bytes[..4] != FRAME_MAGIC || !is_sealed(bytes) {
            return None;
        }
        let header = Self {
            payload_bytes: u32_at(bytes, 4),
            stream_id: u64_at(bytes, 8),
            first_seq: u64_at(bytes, 16),
            count: u32_at(bytes, 24),
            payload_crc32: u32_at(bytes, 28),
        };
        header.is_possible().then_some(header)
    }

    fn is_possible(&self) -> bool {
        let records = self.count as usize;
        (1..=BATCH_RECORDS_MAX).contains(&records)
            && self.payload_bytes as usize <= BATCH_BYTES_MAX
            && self.first_seq > 0
            && self.first_seq.checked_add(u64::from(self.count)).is_some()
    }
}

/// What stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame whose header is whole and whose payload ends within the segment.
    Frame(FrameHeader),
    /// So many bytes of something else, up to the next frame or the end.
    Damage(u64),
    /// The end.
    End,
}

/// Reads a file piece by piece. Its memory is bounded by what is asked for and the size given.
#[derive(Debug)]
pub struct Window {
    ahead_bytes: usize,
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// A window that reads at least so many bytes at once, where there are.
    #[must_use]
    pub fn new(ahead_bytes: usize) -> Self {
        Self {
            ahead_bytes,
            at: 0,
            bytes: Vec::new(),
        }
    }

    /// Forgets what was read, for another file.
    pub fn forget(&mut self) {
        self.bytes.clear();
    }

    /// Up to `want` bytes from `offset` on, fewer only where `end` or the file's is nearer.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn get<F: SpoolFs>(
        &mut self,
        fs: &F,
        file: &F::File,
        offset: u64,
        want: usize,
        end: u64,
    ) -> io::Result<&[u8]> {
        let room = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = want.min(room);
        let held = offset
            .checked_sub(self.at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip.saturating_add(want) <= self.bytes.len());
        if let Some(skip) = held {
            return Ok(&self.bytes[skip..skip + want]);
        }
        self.bytes.clear();
        self.bytes.resize(want.max(self.ahead_bytes).min(room), 0);
        let read = match fs.read_at(file, offset, &mut self.bytes) {
            Ok(read) => read,
            Err(error) => {
                self.bytes.clear();
                return Err(error);
            }
        };
        self.bytes.truncate(read);
        self.at = offset;
        Ok(&self.bytes[..want.min(read)])
    }
}

/// What stands at `offset` of a segment that ends at `end`. The payload is not looked at.
///
/// # Errors
/// Where the file cannot be read.
pub fn step<F: SpoolFs>(
    fs: &F,
    file: &F::File,
    window: &mut Window,
    offset: u64,
    end: u64,
) -> io::Result<Step> {
    if offset >= end {
        return Ok(Step::End);
    }
    let fits = |header: &FrameHeader, at: u64| at.saturating_add(header.frame_bytes()) <= end;
    let head = window.get(fs, file, offset, FRAME_HEADER_BYTES, end)?;
    if let Some(header) = FrameHeader::decode(head).filter(|header| fits(header, offset)) {
        return Ok(Step::Frame(header));
    }
    let mut at = offset + 1;
    loop {
        let bytes = window.get(fs, file, at, RESYNC_BYTES, end)?;
        let next = bytes
            .windows(FRAME_HEADER_BYTES)
            .enumerate()
            .filter(|(_, head)| head[0] == FRAME_MAGIC[0] && head[..4] == FRAME_MAGIC)
            .find(|(skip, head)| {
                FrameHeader::decode(head).is_some_and(|header| fits(&header, at + *skip as u64))
            });
        if let Some((skip, _)) = next {
            return Ok(Step::Damage(at + skip as u64 - offset));
        }
        if bytes.len() < RESYNC_BYTES {
            return Ok(Step::Damage(end - offset));
        }
        at += (RESYNC_BYTES - FRAME_HEADER_BYTES + 1) as u64;
    }
}

/// The payload of the frame at `offset`; `None` where its checksum is another.
///
/// # Errors
/// Where the file cannot be read.
pub fn payload<F: SpoolFs>(
    fs: &F,
    file: &F::File,
    offset: u64,
    header: &FrameHeader,
) -> io::Result<Option<Vec<u8>>> {
    let mut payload = vec![0; header.payload_bytes as usize];
    let read = fs.read_at(file, offset + FRAME_HEADER_BYTES as u64, &mut payload)?;
    let is_whole = read == payload.len() && crc32fast::hash(&payload) == header.payload_crc32;
    Ok(is_whole.then_some(payload))
}

/// Puts the checksum of all but the last four bytes there.
pub(super) fn seal(bytes: &mut [u8]) {
    if let Some((body, sum)) = bytes.split_last_chunk_mut::<4>() {
        *sum = crc32fast::hash(body).to_le_bytes();
    }
}

/// True where the last four bytes are the checksum of the others.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(body, sum)| crc32fast::hash(body) == u32::from_le_bytes(*sum))
}

/// Four bytes as a number; 0 past the end.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let found = bytes
        .get(offset..)
        .and_then(|bytes| bytes.first_chunk::<4>());
    found.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Eight bytes as a number; 0 past the end.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let found = bytes
        .get(offset..)
        .and_then(|bytes| bytes.first_chunk::<8>());
    found.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
