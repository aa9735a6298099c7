//! Batches back from segments, by two readers: one of earlier streams, one of the present one.

use std::io;

use netml_proto::v1;
use prost::Message as _;

use super::super::frame::{self, Step};
use super::super::fs::SpoolFs;
use super::super::{Moment, READ_TRIES_MAX, RETRY_MS, segment_name};
use super::{PRESENT, Spool};
use crate::export::convert::event;

impl<F: SpoolFs> Spool<F> {
    /// The next batch of a lane that is on the disk.
    pub(super) fn read(&mut self, lane: usize, now: Moment) -> Option<v1::Batch> {
        loop {
            if now.mono_ms < self.lanes[lane].retry_at_ms {
                return None;
            }
            let at = self.seek(lane)?;
            match self.read_in(lane, at) {
                Ok(batch) => {
                    self.lanes[lane].failures = 0;
                    if batch.is_some() {
                        return batch;
                    }
                }
                Err(error) => {
                    self.failed(&error, "a segment of the spool cannot be read");
                    let reader = &mut self.lanes[lane];
                    reader.file = None;
                    reader.failures += 1;
                    if reader.failures < READ_TRIES_MAX {
                        reader.retry_at_ms = now.mono_ms + RETRY_MS;
                        return None;
                    }
                    reader.failures = 0;
                    self.segments[at].is_damaged = true;
                    self.give_up_rest(lane, at);
                }
            }
        }
    }

    /// Place of the first segment from the lane's on that holds something to send in it.
    pub(super) fn seek(&mut self, lane: usize) -> Option<usize> {
        let from = self.lanes[lane].number;
        let found = self.segments.iter().position(|segment| {
            let mut extents = segment.extents.iter();
            segment.number >= from
                && extents.any(|extent| {
                    self.is_of(lane, extent.stream_id) && extent.last > self.sent(extent.stream_id)
                })
        });
        let at = found?;
        let number = self.segments[at].number;
        if number != from {
            self.lanes[lane].go_to(number);
        }
        Some(at)
    }

    pub(super) fn is_of(&self, lane: usize, stream_id: u64) -> bool {
        (lane == PRESENT) == (stream_id == self.settings.stream_id)
    }

    /// The next batch of the segment at a place; `None`: nothing of it is left in this segment.
    pub(super) fn read_in(&mut self, lane: usize, at: usize) -> io::Result<Option<v1::Batch>> {
        let number = self.segments[at].number;
        let end = self.segments[at].bytes;
        if self.lanes[lane].file.is_none() {
            self.lanes[lane].file = Some(self.fs.open(&segment_name(number))?);
        }
        loop {
            let reader = &mut self.lanes[lane];
            let Some(file) = &reader.file else {
                return Ok(None);
            };
            let offset = reader.offset;
            match frame::step(&self.fs, file, &mut reader.window, offset, end)? {
                Step::Frame(header) => {
                    let (id, first) = (header.stream_id, header.first_seq);
                    let last = header.last_seq();
                    // One that was given up is there still, and in no extent.
                    let is_due = self.is_of(lane, id)
                        && last > self.sent(id)
                        && self.segments[at].covered(id, first - 1, last) > 0;
                    let reader = &mut self.lanes[lane];
                    let Some(file) = reader.file.as_ref().filter(|_| is_due) else {
                        reader.offset += header.frame_bytes();
                        continue;
                    };
                    let payload = frame::payload(&self.fs, file, offset, &header)?;
                    reader.offset += header.frame_bytes();
                    let Some(payload) = payload else {
                        self.note_damage(at, offset);
                        continue;
                    };
                    // What should have come before it cannot be read.
                    let sent = self.sent(id);
                    self.give_up(at, id, sent, first - 1);
                    return Ok(Some(header.batch(payload)));
                }
                Step::Damage(bytes) => {
                    reader.offset += bytes;
                    self.note_damage(at, offset);
                }
                Step::End => {
                    self.give_up_rest(lane, at);
                    return Ok(None);
                }
            }
        }
    }

    pub(super) fn note_damage(&mut self, at: usize, offset: u64) {
        let segment = &mut self.segments[at];
        segment.is_damaged = true;
        if offset >= segment.noted_to {
            segment.noted_to = offset + 1;
            self.books.damaged += 1;
            tracing::warn!(
                segment = segment.number,
                offset,
                "a batch in the spool is damaged and left out"
            );
        }
    }

    /// Counts records of a segment that cannot be read.
    pub(super) fn give_up(&mut self, at: usize, stream_id: u64, after: u64, up_to: u64) {
        let gone = self.segments[at].remove(stream_id, after, up_to);
        if gone > 0 {
            self.waiting -= gone;
            self.books.lost_damaged += gone;
            self.look_anew(stream_id);
        }
    }

    /// The same for all that a lane has not sent of it.
    pub(super) fn give_up_rest(&mut self, lane: usize, at: usize) {
        let extents = self.segments[at].extents.iter();
        let mut streams: Vec<u64> = extents.map(|extent| extent.stream_id).collect();
        streams.dedup();
        for id in streams {
            if self.is_of(lane, id) {
                let sent = self.sent(id);
                self.give_up(at, id, sent, u64::MAX - 1);
            }
        }
    }

    /// Counts a batch that no collector takes.
    pub(super) fn give_up_refused(&mut self, stream_id: u64, first: u64, last: u64) {
        let segments = self.segments.iter_mut();
        let mut gone: u64 = segments
            .map(|segment| segment.remove(stream_id, first - 1, last))
            .sum();
        let memory = self.memory.front();
        if memory.is_some_and(|batch| batch.stream_id == stream_id && batch.first_seq == first) {
            gone += self.forget_front();
        }
        self.waiting -= gone;
        self.books.lost_refused += gone;
        self.look_anew(stream_id);
        if gone == 0
            && let Some(stream) = self.streams.get_mut(&stream_id)
        {
            // The batch that tells of the end: nothing more can be told.
            stream.made = stream.acked.max(stream.left_to);
        }
        tracing::warn!(
            records = gone,
            "a batch is given up: the collector refuses it"
        );
    }

    /// The next batch that is in memory only.
    pub(super) fn remembered(&self) -> Option<v1::Batch> {
        let sent = self.sent(self.settings.stream_id);
        let mut memory = self.memory.iter();
        memory.find(|batch| batch.first_seq > sent).cloned()
    }

    /// A batch that tells of the end of an earlier stream whose last records are not there. Its number
    /// is behind theirs, so that the collector counts them as a gap.
    pub(super) fn closing(&mut self, now: Moment) -> Option<v1::Batch> {
        let present = self.settings.stream_id;
        let (id, stream) = self.streams.iter().find(|(id, stream)| {
            **id != present && stream.sent >= stream.left_to && stream.made > stream.sent
        })?;
        let missing = stream.made - stream.sent;
        let message = if stream.has_crashed {
            "the sensor ended without stopping: its last records are lost"
        } else {
            "the sensor's spool had no room or was damaged: records are lost"
        };
        let seq = stream.made.checked_add(1)?;
        let record = event(
            if stream.unix_ns == 0 {
                now.unix_ns
            } else {
                stream.unix_ns
            },
            "loss",
            "warning",
            message.into(),
            // One field: maps have no order, and a resend is to be the same.
            &[("records", missing.to_string())],
        );
        let payload = v1::Payload {
            records: vec![record],
        }
        .encode_to_vec();
        Some(v1::Batch {
            stream_id: *id,
            first_seq: seq,
            count: 1,
            crc32: crc32fast::hash(&payload),
            payload,
        })
    }
}
