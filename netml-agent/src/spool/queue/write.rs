//! Batches to segments, and to memory where the disk takes nothing.

use std::io;

use netml_proto::v1;

use super::super::frame::{FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::super::fs::SpoolFs;
use super::super::{Moment, RETRY_MS, SEGMENTS_MAX, bad_name, segment_name};
use super::segment::Segment;
use super::{Spool, is_full};

/// Batches moved from memory to the disk at once, so that a tick stays short.
const MOVED_MAX: usize = 64;

impl<F: SpoolFs> Spool<F> {
    pub(super) fn write(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        now: Moment,
    ) -> io::Result<()> {
        let bytes = header.frame_bytes();
        let is_used_up = self.segments.back().is_some_and(|last| {
            last.bytes + bytes > self.settings.segment_bytes && !last.extents.is_empty()
        });
        if self.active.is_some() && is_used_up {
            self.active_sync(now);
            self.active = None;
        }
        let new_bytes = if self.active.is_none() {
            bytes + SEGMENT_HEADER_BYTES as u64
        } else {
            bytes
        };
        self.make_room(new_bytes)?;
        if self.active.is_none() {
            self.begin_segment(header.stream_id, now)?;
        }
        let (Some(file), Some(segment)) = (&self.active, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        let offset = segment.bytes;
        let written = self
            .fs
            .write_at(file, offset, &header.encode())
            .and_then(|()| {
                let behind = offset + FRAME_HEADER_BYTES as u64;
                self.fs.write_at(file, behind, payload)
            });
        if let Err(error) = written {
            // Half a frame must not stand before the next one.
            if self.fs.cut(file, offset).is_err() || !is_full(&error) {
                self.active = None;
            }
            return Err(error);
        }
        segment.add(header);
        segment.bytes += bytes;
        self.unsynced_bytes += bytes;
        let stream = self.streams.entry(header.stream_id).or_default();
        stream.left_to = header.last_seq();
        Ok(())
    }

    pub(super) fn begin_segment(&mut self, stream_id: u64, now: Moment) -> io::Result<()> {
        let number = self.next_number;
        let name = segment_name(number);
        // Never tried again, whatever becomes of it.
        self.next_number += 1;
        let file = self.fs.create(&name)?;
        let header = SegmentHeader {
            number,
            stream_id,
            made_unix_ns: now.unix_ns,
            sensor: self.settings.sensor.clone(),
        };
        let made = self
            .fs
            .write_at(&file, 0, &header.encode())
            .and_then(|()| self.fs.sync_names());
        if let Err(error) = made {
            if let Err(error) = self.fs.remove(&name) {
                self.failed(&error, "a segment without its header cannot be removed");
            }
            return Err(error);
        }
        self.unsynced_bytes += SEGMENT_HEADER_BYTES as u64;
        self.active = Some(file);
        self.segments.push_back(Segment {
            number,
            bytes: SEGMENT_HEADER_BYTES as u64,
            extents: Vec::new(),
            is_damaged: false,
            noted_to: 0,
        });
        Ok(())
    }

    /// Makes room below the bound: what was set aside goes first, then the oldest segment with what
    /// is in it.
    pub(super) fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        if self.has_room(bytes) {
            return Ok(());
        }
        self.retire();
        while !self.has_room(bytes) {
            if let Some((number, _)) = self.bad.pop_front() {
                self.fs.remove(&bad_name(number))?;
                continue;
            }
            let is_only_active = self.segments.len() <= usize::from(self.active.is_some());
            let oldest = if is_only_active {
                None
            } else {
                self.segments.pop_front()
            };
            let Some(oldest) = oldest else {
                return Err(io::ErrorKind::QuotaExceeded.into());
            };
            self.lose(&oldest);
            // Before it goes: a stream that ends in it is known by this alone from now on.
            self.note_synced();
            if let Err(error) = self.fs.remove(&segment_name(oldest.number)) {
                self.failed(&error, "the oldest segment of the spool cannot be removed");
            }
        }
        Ok(())
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.bytes() + bytes <= self.settings.bytes_max && self.segments.len() < SEGMENTS_MAX
    }

    /// Counts what was in a segment that goes because there is no room.
    pub(super) fn lose(&mut self, segment: &Segment) {
        let mut lost = 0;
        for extent in &segment.extents {
            let acked = self.acked(extent.stream_id);
            lost += extent.covered(extent.stream_id, acked, u64::MAX);
            self.look_anew(extent.stream_id);
        }
        self.waiting -= lost;
        self.books.lost_full += lost;
        self.books.segments_lost += 1;
        tracing::warn!(records = lost, "the spool is full: its oldest segment goes");
    }

    /// Finds the last record of a stream that is there.
    pub(super) fn look_anew(&mut self, stream_id: u64) {
        let extents = self.segments.iter().flat_map(|segment| &segment.extents);
        let left_to = extents
            .filter(|extent| extent.stream_id == stream_id)
            .map(|extent| extent.last)
            .max();
        if let Some(stream) = self.streams.get_mut(&stream_id) {
            stream.left_to = left_to.unwrap_or(0);
        }
        self.is_state_dirty = true;
    }

    /// Keeps a batch in memory. Past the bound the oldest one there goes and is counted.
    pub(super) fn remember(&mut self, batch: v1::Batch) {
        self.memory_records += u64::from(batch.count);
        self.memory_bytes += batch.payload.len() as u64;
        self.memory.push_back(batch);
        while self.memory_records > self.settings.memory.records_max
            || self.memory_bytes > self.settings.memory.bytes_max
        {
            let gone = self.forget_front();
            self.waiting -= gone;
            self.books.lost_memory += gone;
        }
    }

    pub(super) fn forget_front(&mut self) -> u64 {
        let Some(gone) = self.memory.pop_front() else {
            return 0;
        };
        let count = u64::from(gone.count);
        self.memory_records -= count;
        self.memory_bytes -= gone.payload.len() as u64;
        count
    }

    pub(super) fn move_from_memory(&mut self, now: Moment) {
        for _ in 0..MOVED_MAX {
            let Some(batch) = self.memory.pop_front() else {
                break;
            };
            let written = FrameHeader::of(&batch)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
                .and_then(|header| self.write(&header, &batch.payload, now));
            match written {
                Ok(()) => {
                    self.memory_records -= u64::from(batch.count);
                    self.memory_bytes -= batch.payload.len() as u64;
                }
                Err(error) => {
                    self.memory.push_front(batch);
                    self.no_write(&error, now);
                    return;
                }
            }
        }
        if self.memory.is_empty() {
            tracing::info!("the spool takes batches again");
        }
    }

    pub(super) fn no_write(&mut self, error: &io::Error, now: Moment) {
        if self.memory.is_empty() {
            tracing::warn!(%error, "the spool takes nothing: batches stay in memory, up to a bound");
        }
        self.books.io_errors += 1;
        self.retry_at_ms = now.mono_ms + RETRY_MS;
        if is_full(error) {
            // Kept for who wants to look, and not at this price.
            while let Some((number, _)) = self.bad.pop_front() {
                if let Err(error) = self.fs.remove(&bad_name(number)) {
                    self.failed(&error, "a segment set aside cannot be removed");
                }
            }
        }
    }

    pub(super) fn failed(&mut self, error: &io::Error, what: &str) {
        tracing::warn!(%error, "{what}");
        self.books.io_errors += 1;
    }
}
