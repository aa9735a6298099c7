//! What outlives a power cut, and what may go.

use super::super::fs::SpoolFs;
use super::super::state::{Noted, STREAMS_MAX, StateFile};
use super::super::{BAD_KEPT_MAX, Moment, RETRY_MS, bad_name, segment_name};
use super::Spool;
use super::segment::Segment;

impl<F: SpoolFs> Spool<F> {
    pub(super) fn sync(&mut self, now: Moment) {
        self.active_sync(now);
        self.note_synced();
        self.synced_ms = now.mono_ms;
    }

    /// Syncs the segment being written. One that cannot be synced takes no more: what of it is on the
    /// disk cannot be said.
    pub(super) fn active_sync(&mut self, now: Moment) {
        if self.unsynced_bytes == 0 {
            return;
        }
        self.unsynced_bytes = 0;
        if let Some(file) = &self.active
            && let Err(error) = self.fs.sync(file)
        {
            self.failed(&error, "a segment of the spool cannot be synced");
            self.active = None;
            self.retry_at_ms = now.mono_ms + RETRY_MS;
        }
    }

    pub(super) fn note_synced(&mut self) {
        self.note();
        if let Some(state) = &mut self.state
            && let Err(error) = state.sync(&self.fs)
        {
            self.failed(&error, "the spool's state cannot be synced");
        }
    }

    /// Notes the streams, the present one first and then those that something is missing of.
    pub(super) fn note(&mut self) {
        if self.state.is_none() {
            match StateFile::open(&self.fs) {
                Ok((state, _)) => self.state = Some(state),
                Err(error) => {
                    tracing::debug!(%error, "the spool's state cannot be noted");
                    return;
                }
            }
        }
        let present = self.settings.stream_id;
        let mut noted: Vec<(u8, Noted)> = self
            .streams
            .iter()
            .filter(|(id, stream)| **id == present || stream.acked > 0 || stream.has_gap())
            .map(|(id, stream)| {
                let is_present = *id == present;
                let noted = Noted {
                    stream_id: *id,
                    acked: stream.acked,
                    made: stream.made,
                    unix_ns: stream.unix_ns,
                    is_open: if is_present {
                        !self.is_stopped
                    } else {
                        stream.has_crashed
                    },
                };
                let rank = match (is_present, stream.has_gap()) {
                    (true, _) => 0,
                    (false, true) => 1,
                    (false, false) => 2,
                };
                (rank, noted)
            })
            .collect();
        noted.sort_by_key(|(rank, _)| *rank);
        self.books.streams_unnoted = noted.len().saturating_sub(STREAMS_MAX) as u64;
        let noted: Vec<Noted> = noted.into_iter().map(|(_, noted)| noted).collect();
        self.is_state_dirty = false;
        if let Some(state) = &mut self.state
            && let Err(error) = state.write(&self.fs, &noted)
        {
            self.failed(&error, "the spool's state cannot be noted");
        }
    }

    /// A stream that is known no more is finished.
    pub(super) fn acked(&self, stream_id: u64) -> u64 {
        self.streams
            .get(&stream_id)
            .map_or(u64::MAX, |stream| stream.acked)
    }

    pub(super) fn sent(&self, stream_id: u64) -> u64 {
        self.streams
            .get(&stream_id)
            .map_or(u64::MAX, |stream| stream.sent)
    }

    /// Removes what is acknowledged whole; what is acknowledged is noted before.
    pub(super) fn retire(&mut self) {
        let is_done = |segment: &Segment| {
            let mut extents = segment.extents.iter();
            extents.all(|extent| extent.last <= self.acked(extent.stream_id))
        };
        let active = self.active.as_ref().and(self.segments.back());
        let active = active.map(|segment| segment.number);
        let done: Vec<u64> = self
            .segments
            .iter()
            .filter(|segment| Some(segment.number) != active && is_done(segment))
            .map(|segment| segment.number)
            .collect();
        if !done.is_empty() {
            self.note_synced();
            for number in done {
                let Some(at) = self.segments.iter().position(|s| s.number == number) else {
                    continue;
                };
                let Some(segment) = self.segments.remove(at) else {
                    continue;
                };
                if segment.is_damaged {
                    self.set_aside(&segment);
                } else if let Err(error) = self.fs.remove(&segment_name(number)) {
                    self.failed(&error, "an acknowledged segment cannot be removed");
                }
            }
        }
        let present = self.settings.stream_id;
        let finished: Vec<u64> = self
            .streams
            .iter()
            .filter(|(id, stream)| {
                **id != present && stream.acked >= stream.made && stream.acked >= stream.left_to
            })
            .map(|(id, _)| *id)
            .collect();
        for id in finished {
            self.streams.remove(&id);
            self.is_state_dirty = true;
        }
    }

    /// Keeps a damaged segment under another name for who wants to look at it.
    pub(super) fn set_aside(&mut self, segment: &Segment) {
        let (name, bad) = (segment_name(segment.number), bad_name(segment.number));
        self.books.set_aside += 1;
        if self.fs.rename(&name, &bad).is_ok() {
            self.bad.push_back((segment.number, segment.charged()));
        } else if let Err(error) = self.fs.remove(&name) {
            self.failed(&error, "a damaged segment cannot be set aside");
        }
        self.forget_bad();
    }

    pub(super) fn forget_bad(&mut self) {
        while self.bad.len() > BAD_KEPT_MAX {
            if let Some((number, _)) = self.bad.pop_front()
                && let Err(error) = self.fs.remove(&bad_name(number))
            {
                self.failed(&error, "a segment set aside cannot be removed");
            }
        }
    }
}
