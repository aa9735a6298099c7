//! Taking up what earlier starts left.

use std::io;

use super::super::frame::{self, SEGMENT_HEADER_BYTES, SegmentHeader, Start, Step, Window};
use super::super::fs::SpoolFs;
use super::super::state::StateFile;
use super::super::{Moment, OpenError, READ_AHEAD_BYTES, bad_number_of, number_of, segment_name};
use super::segment::Segment;
use super::{Spool, Stream, is_full};

impl<F: SpoolFs> Spool<F> {
    pub(super) fn recover(&mut self, now: Moment) -> Result<(), OpenError> {
        let mut files = self.fs.list().map_err(OpenError::Unreadable)?;
        files.sort();
        let noted = match StateFile::open(&self.fs) {
            Ok((state, noted)) => {
                self.state = Some(state);
                noted
            }
            Err(error) if is_full(&error) => Vec::new(),
            Err(error) => return Err(OpenError::Unreadable(error)),
        };
        for noted in &noted {
            let stream = self.streams.entry(noted.stream_id).or_default();
            stream.acked = noted.acked;
            stream.sent = noted.acked;
            stream.made = noted.made.max(noted.acked);
            stream.unix_ns = noted.unix_ns;
            stream.has_crashed = noted.is_open;
        }
        let newest = files.iter().rev().find_map(|(name, _)| number_of(name));
        for (name, bytes) in &files {
            if let Some(number) = number_of(name) {
                self.take_up(number, *bytes, Some(number) == newest)?;
                self.next_number = self.next_number.max(number + 1);
            } else if let Some(number) = bad_number_of(name) {
                self.bad.push_back((number, *bytes));
                self.next_number = self.next_number.max(number + 1);
            }
        }
        self.forget_bad();
        // Present from the start, so that a crash before the first batch is known too.
        self.streams.insert(
            self.settings.stream_id,
            Stream {
                unix_ns: now.unix_ns,
                ..Stream::default()
            },
        );
        for extent in self.segments.iter().flat_map(|segment| &segment.extents) {
            let stream = self.streams.entry(extent.stream_id).or_default();
            stream.left_to = stream.left_to.max(extent.last);
            self.waiting += extent.covered(extent.stream_id, stream.acked, u64::MAX);
        }
        for stream in self.streams.values_mut() {
            let there = stream.acked.max(stream.left_to);
            stream.made = stream.made.max(there);
            self.books.lost_before += stream.made - there;
        }
        self.books.found = self.waiting;
        self.note_synced();
        self.retire();
        Ok(())
    }

    /// Takes up a segment of an earlier start.
    pub(super) fn take_up(
        &mut self,
        number: u64,
        bytes: u64,
        is_newest: bool,
    ) -> Result<(), OpenError> {
        let name = segment_name(number);
        let mut segment = Segment {
            number,
            bytes,
            extents: Vec::new(),
            is_damaged: false,
            noted_to: u64::MAX,
        };
        match self.scan(&name, &mut segment, is_newest) {
            Ok(Start::Whole(header)) if header.sensor != self.settings.sensor => {
                return Err(OpenError::OtherSensor {
                    found: header.sensor,
                });
            }
            Ok(Start::Newer(format)) => return Err(OpenError::Newer { name, format }),
            Ok(Start::Whole(_)) => {}
            // A power cut can leave a file without its header, and then without a frame.
            Ok(Start::Damaged) => segment.is_damaged |= !segment.extents.is_empty(),
            Err(error) => {
                tracing::warn!(%error, name, "a segment of the spool cannot be read");
                self.books.io_errors += 1;
                segment.is_damaged = true;
            }
        }
        let is_bare = segment.extents.is_empty();
        if is_bare && !segment.is_damaged {
            if let Err(error) = self.fs.remove(&name) {
                self.failed(&error, "an empty segment cannot be removed");
            }
        } else if is_bare {
            self.set_aside(&segment);
        } else {
            self.segments.push_back(segment);
        }
        Ok(())
    }

    /// Reads the headers of a segment, and of the newest one everything: it alone can be torn, since
    /// each is synced before the next is made.
    pub(super) fn scan(
        &mut self,
        name: &str,
        segment: &mut Segment,
        is_newest: bool,
    ) -> io::Result<Start> {
        let file = self.fs.open(name)?;
        let end = segment.bytes;
        let mut window = Window::new(frame_scan_bytes(is_newest));
        let start =
            SegmentHeader::decode(window.get(&self.fs, &file, 0, SEGMENT_HEADER_BYTES, end)?);
        if matches!(start, Start::Newer(_)) {
            return Ok(start);
        }
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        // Up to the end of the last good frame.
        let mut good_to = offset.min(end);
        let mut regions = 0;
        let mut tail_regions = 0;
        loop {
            match frame::step(&self.fs, &file, &mut window, offset, end)? {
                Step::Frame(header) => {
                    let is_good =
                        !is_newest || frame::payload(&self.fs, &file, offset, &header)?.is_some();
                    offset += header.frame_bytes();
                    if is_good {
                        segment.add(&header);
                        good_to = offset;
                        regions += std::mem::take(&mut tail_regions);
                    } else {
                        tail_regions += 1;
                    }
                }
                Step::Damage(bytes) => {
                    offset += bytes;
                    tail_regions += 1;
                }
                Step::End => break,
            }
        }
        // A new file whose first bytes were not written yet has zeros or nothing.
        let is_bare = segment.extents.is_empty() && end > SEGMENT_HEADER_BYTES as u64;
        if is_newest && good_to < end && !is_bare {
            self.books.torn_tails += 1;
            if let Err(error) = self.fs.cut(&file, good_to) {
                self.failed(&error, "a torn tail of the spool cannot be cut");
            }
        } else {
            regions += tail_regions;
        }
        // A kill leaves it unsynced, and the next segment may be made only once it is.
        if is_newest && let Err(error) = self.fs.sync(&file).and_then(|()| self.fs.sync_names()) {
            self.failed(&error, "the newest segment of the spool cannot be synced");
        }
        segment.bytes = good_to;
        segment.is_damaged = regions > 0;
        self.books.damaged += regions;
        Ok(start)
    }
}

/// Bytes read at once while a segment is taken up.
fn frame_scan_bytes(is_newest: bool) -> usize {
    // Payloads of the newest are read as well, by themselves.
    if is_newest {
        READ_AHEAD_BYTES
    } else {
        16 * READ_AHEAD_BYTES
    }
}
