//! What is known of streams: how far each is acknowledged and how far it was made. One small file of
//! two slots of fixed size, so that noting it needs no space.
//!
//! Core over [`SpoolFs`]. Slots are written in turn, the next one only after the last was synced: at
//! any time one of them is whole. What is written but not synced outlives the process and not a power
//! cut. Both slots lost means that what is there is sent again, which the collector tells apart.
//!
//! A slot has [`SLOT_BYTES`], numbers are little-endian: `netmlack` and the format (2 bytes, 1), the
//! count of streams (2 bytes), 4 bytes of zeros, the generation (8 bytes); from byte 64 on 40 bytes
//! for each stream: id, acknowledged up to, made up to, unix nanoseconds of the note, flags (1: of a
//! sensor that runs or did not stop); the last 4 bytes are the CRC-32 of the others.

use std::io;

use super::frame::{is_sealed, seal, u64_at};
use super::fs::SpoolFs;

/// Name of the file.
pub const STATE: &str = "state";

/// Bytes of a slot: a page, which is written whole or, at a power cut, may be torn.
pub const SLOT_BYTES: usize = 4096;

/// Most streams in a slot. Of more, those with the most to tell are noted.
pub const STREAMS_MAX: usize = (SLOT_BYTES - ENTRIES_AT - 4) / ENTRY_BYTES;

const MAGIC: [u8; 8] = *b"netmlack";
const FORMAT: u16 = 1;
const ENTRIES_AT: usize = 64;
const ENTRY_BYTES: usize = 40;
const OPEN: u64 = 1;

/// A stream's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Which.
    pub stream_id: u64,
    /// Everything up to here is stored by a collector.
    pub acked: u64,
    /// Records were made up to here, written or not.
    pub made: u64,
    /// When that was noted.
    pub unix_ns: u64,
    /// Its sensor runs, or ended without stopping.
    pub is_open: bool,
}

/// The file.
#[derive(Debug)]
pub struct StateFile<H> {
    file: H,
    slot: u64,
    generation: u64,
    is_written: bool,
}

impl<H> StateFile<H> {
    /// Opens the file, or makes one with room for both slots; gives what the last whole slot said.
    ///
    /// # Errors
    /// Where it can be neither read nor made.
    pub fn open<F: SpoolFs<File = H>>(fs: &F) -> io::Result<(Self, Vec<Noted>)> {
        let file = match fs.open(STATE) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs.create(STATE)?,
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        let read = fs.read_at(&file, 0, &mut bytes)?;
        let slots = bytes[..read].chunks_exact(SLOT_BYTES).map(decode);
        let newest = (0_u64..)
            .zip(slots)
            .filter_map(|(slot, found)| Some((slot, found?)))
            .max_by_key(|(_, (generation, _))| *generation);
        if read < bytes.len() {
            // New, or cut: the blocks are taken now, so that no note needs space later.
            fs.write_at(&file, read as u64, &bytes[read..])?;
        }
        // What was read may have been in memory only.
        fs.sync(&file)?;
        fs.sync_names()?;
        let (slot, generation, streams) = match newest {
            Some((slot, (generation, streams))) => (1 - slot, generation, streams),
            None => (0, 0, Vec::new()),
        };
        let state = Self {
            file,
            slot,
            generation,
            is_written: false,
        };
        Ok((state, streams))
    }

    /// What the last whole slot says, without making or changing anything.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub fn look<F: SpoolFs<File = H>>(fs: &F) -> io::Result<Vec<Noted>> {
        let file = match fs.open(STATE) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        let read = fs.read_at(&file, 0, &mut bytes)?;
        let slots = bytes[..read].chunks_exact(SLOT_BYTES).filter_map(decode);
        let newest = slots.max_by_key(|(generation, _)| *generation);
        Ok(newest.map_or_else(Vec::new, |(_, streams)| streams))
    }

    /// Notes streams, the first [`STREAMS_MAX`] of them.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write<F: SpoolFs<File = H>>(&mut self, fs: &F, streams: &[Noted]) -> io::Result<()> {
        self.generation += 1;
        self.is_written = true;
        let bytes = encode(self.generation, streams);
        fs.write_at(&self.file, self.slot * SLOT_BYTES as u64, &bytes)
    }

    /// True where what was noted outlives a power cut.
    #[cfg(test)]
    pub(super) fn is_synced(&self) -> bool {
        !self.is_written
    }

    /// Returns once what was noted outlives a power cut.
    ///
    /// # Errors
    /// Where that cannot be said; the same slot is written again then.
    pub fn sync<F: SpoolFs<File = H>>(&mut self, fs: &F) -> io::Result<()> {
        if self.is_written {
            fs.sync(&self.file)?;
            self.is_written = false;
            self.slot = 1 - self.slot;
        }
        Ok(())
    }
}

fn encode(generation: u64, streams: &[Noted]) -> Vec<u8> {
    let streams = &streams[..streams.len().min(STREAMS_MAX)];
    let mut bytes = vec![0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    // At most STREAMS_MAX, which fits.
    bytes[10..12].copy_from_slice(&(streams.len() as u16).to_le_bytes());
    bytes[16..24].copy_from_slice(&generation.to_le_bytes());
    for (entry, noted) in bytes[ENTRIES_AT..]
        .chunks_exact_mut(ENTRY_BYTES)
        .zip(streams)
    {
        let flags = if noted.is_open { OPEN } else { 0 };
        let values = [
            noted.stream_id,
            noted.acked,
            noted.made,
            noted.unix_ns,
            flags,
        ];
        for (place, value) in entry.chunks_exact_mut(8).zip(values) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    seal(&mut bytes);
    bytes
}

/// Generation and streams of a whole slot of this format.
fn decode(bytes: &[u8]) -> Option<(u64, Vec<Noted>)> {
    if bytes.len() != SLOT_BYTES || bytes[..8] != MAGIC || !is_sealed(bytes) {
        return None;
    }
    if u16::from_le_bytes([bytes[8], bytes[9]]) != FORMAT {
        return None;
    }
    let count = usize::from(u16::from_le_bytes([bytes[10], bytes[11]])).min(STREAMS_MAX);
    let streams = bytes[ENTRIES_AT..]
        .chunks_exact(ENTRY_BYTES)
        .take(count)
        .map(|entry| Noted {
            stream_id: u64_at(entry, 0),
            acked: u64_at(entry, 8),
            made: u64_at(entry, 16),
            unix_ns: u64_at(entry, 24),
            is_open: u64_at(entry, 32) & OPEN != 0,
        });
    Some((u64_at(bytes, 16), streams.collect()))
}
