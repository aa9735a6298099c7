//! Where sealed batches wait for their acknowledgement: in memory, or on the disk.

use netml_proto::v1;

use super::batcher::{Batcher, BatcherBooks};
use super::route::Queue;
use super::spooler::Spooler;

/// See the module.
pub(super) enum Backlog {
    /// Gone with the process.
    Memory(Batcher),
    /// Kept over restarts.
    Disk(Box<Spooler>),
}

impl Backlog {
    /// Takes a record.
    pub(super) fn push(&mut self, record: &v1::Record, now_ms: u64) {
        match self {
            Self::Memory(batcher) => batcher.push(record, now_ms),
            Self::Disk(spooler) => spooler.push(record, now_ms),
        }
    }

    /// Seals the open batch when it is old enough.
    pub(super) fn tick(&mut self, now_ms: u64) {
        match self {
            Self::Memory(batcher) => batcher.tick(now_ms),
            Self::Disk(spooler) => spooler.tick(now_ms),
        }
    }

    /// Seals the open batch, if it has a record.
    pub(super) fn seal(&mut self) {
        match self {
            Self::Memory(batcher) => batcher.seal(),
            Self::Disk(spooler) => spooler.seal(),
        }
    }

    /// Waits for a batch from the disk; for ever where there is none. May be dropped and called again.
    pub(super) async fn fill(&mut self) {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Disk(spooler) => spooler.fill().await,
        }
    }

    /// True where [`Self::take_unsent`] gives something.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Memory(batcher) => batcher.unsent().is_some(),
            Self::Disk(spooler) => spooler.has_unsent(),
        }
    }

    /// Records taken and neither acknowledged nor given up.
    pub(super) fn waiting(&self) -> u64 {
        match self {
            Self::Memory(batcher) => batcher.waiting(),
            Self::Disk(spooler) => spooler.waiting(),
        }
    }

    /// Books so far.
    pub(super) fn books(&self) -> BatcherBooks {
        match self {
            Self::Memory(batcher) => batcher.books(),
            Self::Disk(spooler) => spooler.books(),
        }
    }

    /// True while a patient source should wait.
    pub(super) fn is_half_full(&self) -> bool {
        match self {
            Self::Memory(batcher) => batcher.is_half_full(),
            Self::Disk(_) => false,
        }
    }

    /// True while the disk does not keep up: what comes waits before it is taken.
    pub(super) fn is_behind(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Disk(spooler) => spooler.is_behind(),
        }
    }

    /// For the end: how many records are on the disk now; `None` without a spool.
    pub(super) async fn close(&mut self) -> Option<u64> {
        match self {
            Self::Memory(_) => None,
            Self::Disk(spooler) => Some(spooler.close().await),
        }
    }
}

impl Queue for Backlog {
    fn take_unsent(&mut self) -> Option<v1::Batch> {
        match self {
            Self::Memory(batcher) => {
                let batch = batcher.unsent().cloned();
                batcher.mark_sent();
                batch
            }
            Self::Disk(spooler) => spooler.take_unsent(),
        }
    }

    fn rewind(&mut self) {
        match self {
            Self::Memory(batcher) => batcher.rewind(),
            Self::Disk(spooler) => spooler.rewind(),
        }
    }

    /// In memory nothing comes of it: what is there was not read from a disk.
    fn refused(&mut self) {
        if let Self::Disk(spooler) = self {
            spooler.refused();
        }
    }

    fn ack(&mut self, ack: v1::Ack) -> bool {
        match self {
            Self::Memory(batcher) => batcher.ack(ack),
            Self::Disk(spooler) => {
                spooler.ack(ack);
                true
            }
        }
    }

    fn acknowledged_before(&self) -> Vec<v1::Ack> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Disk(spooler) => spooler.acknowledged_before().to_vec(),
        }
    }
}
