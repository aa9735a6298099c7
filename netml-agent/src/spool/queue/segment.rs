//! What memory knows of segments: which records are in them.

use super::super::BLOCK_BYTES;
use super::super::frame::FrameHeader;

/// A run of records without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) stream_id: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Extent {
    /// Records of it with numbers in `after + 1 ..= up_to`.
    pub(super) fn covered(&self, stream_id: u64, after: u64, up_to: u64) -> u64 {
        if self.stream_id != stream_id {
            return 0;
        }
        let first = self.first.max(after.saturating_add(1));
        let last = self.last.min(up_to);
        (last + 1).saturating_sub(first)
    }
}

/// A segment as far as memory knows it; its frames are on the disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Up to the end of its last frame.
    pub(super) bytes: u64,
    pub(super) extents: Vec<Extent>,
    pub(super) is_damaged: bool,
    /// Damage before this offset was counted.
    pub(super) noted_to: u64,
}

impl Segment {
    pub(super) fn add(&mut self, header: &FrameHeader) {
        if let Some(extent) = self.extents.last_mut()
            && extent.stream_id == header.stream_id
            && extent.last.checked_add(1) == Some(header.first_seq)
        {
            extent.last = header.last_seq();
            return;
        }
        self.extents.push(Extent {
            stream_id: header.stream_id,
            first: header.first_seq,
            last: header.last_seq(),
        });
    }

    pub(super) fn covered(&self, stream_id: u64, after: u64, up_to: u64) -> u64 {
        let extents = self.extents.iter();
        extents.map(|e| e.covered(stream_id, after, up_to)).sum()
    }

    /// Takes numbers out; tells how many records they were.
    pub(super) fn remove(&mut self, stream_id: u64, after: u64, up_to: u64) -> u64 {
        let gone = self.covered(stream_id, after, up_to);
        if gone > 0 {
            let mut left = Vec::with_capacity(self.extents.len() + 1);
            for extent in self.extents.drain(..) {
                if extent.covered(stream_id, after, up_to) == 0 {
                    left.push(extent);
                    continue;
                }
                if extent.first <= after {
                    left.push(Extent {
                        last: after,
                        ..extent
                    });
                }
                if extent.last > up_to {
                    left.push(Extent {
                        first: up_to + 1,
                        ..extent
                    });
                }
            }
            self.extents = left;
        }
        gone
    }

    /// What it takes on the disk.
    pub(super) fn charged(&self) -> u64 {
        self.bytes.max(BLOCK_BYTES)
    }
}
