//! The engine's sink on the reader's thread: samples packets, gathers observations into chunks
//! and hands those over.
//!
//! Shell. Handing over never blocks a live reader: where the channel is full the chunk is given up
//! and counted. A replay waits instead, since a file can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::sampler::Sampler;
use super::{Chunk, Observation};
use crate::engine::{FlowReport, JudgedPacket, Sink};
use crate::model::Model;

/// Observations of a full chunk.
pub const CHUNK_OBSERVATIONS: usize = 256;

/// Chunks between the reader and whoever takes them.
pub const CHUNKS_MAX: usize = 256;

/// What to do where the channel is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Give the chunk up and count it.
    Drop,
    /// Wait for room; for sources that can.
    Wait,
}

/// Cumulative counts of an outbox, readable from other threads.
///
/// `observations == handed + lost` but for what is gathered right now;
/// `packets == sampled + left_out` but for the window that is open.
#[derive(Debug, Default)]
pub struct OutboxBooks {
    /// Observations made.
    pub observations: AtomicU64,
    /// Observations handed over.
    pub handed: AtomicU64,
    /// Observations given up because the channel was full or closed.
    pub lost: AtomicU64,
    /// Packets seen.
    pub packets: AtomicU64,
    /// Packets that became samples.
    pub sampled: AtomicU64,
    /// Packets left out for want of budget.
    pub left_out: AtomicU64,
}

/// See the module.
pub struct Outbox {
    sender: mpsc::Sender<Chunk>,
    when_full: WhenFull,
    pending: Vec<Observation>,
    sampler: Sampler,
    unix_offset_ns: i64,
    model: Option<Arc<Model>>,
    flow_id_base: u64,
    packets: u64,
    books: Arc<OutboxBooks>,
}

impl Outbox {
    /// An outbox into a channel.
    #[must_use]
    pub fn new(sender: mpsc::Sender<Chunk>, when_full: WhenFull, sampler: Sampler) -> Self {
        Self {
            sender,
            when_full,
            pending: Vec::with_capacity(CHUNK_OBSERVATIONS),
            sampler,
            unix_offset_ns: 0,
            model: None,
            flow_id_base: 0,
            packets: 0,
            books: Arc::default(),
        }
    }

    /// Counts, for others to read.
    #[must_use]
    pub fn books(&self) -> Arc<OutboxBooks> {
        Arc::clone(&self.books)
    }

    /// Sets what turns monotonic times into unix ones; what was gathered goes with the old one.
    pub fn set_unix_offset_ns(&mut self, unix_offset_ns: i64) {
        if self.unix_offset_ns != unix_offset_ns {
            self.hand_over();
            self.unix_offset_ns = unix_offset_ns;
        }
    }

    /// Sets the model that judges from now on; what was gathered goes with the old one.
    pub fn set_model(&mut self, now_ns: u64, model: Arc<Model>) {
        self.flush(now_ns);
        self.model = Some(model);
    }

    /// Sets what is added to the flow numbers of the engine, which begin at 1 in every engine; a
    /// random upper half keeps those of two engines apart.
    pub fn set_flow_id_base(&mut self, flow_id_base: u64) {
        self.hand_over();
        self.flow_id_base = flow_id_base;
    }

    /// To be called a few times a second: closes the sample window when it is due and hands over
    /// what was gathered. `now_ns` is any clock that goes on steadily.
    pub fn tick(&mut self, now_ns: u64) {
        if self.sampler.is_due(now_ns) {
            self.close_window(now_ns);
        }
        self.hand_over();
    }

    /// Closes the window and hands over everything; for the end, or before a jump in time.
    pub fn flush(&mut self, now_ns: u64) {
        self.close_window(now_ns);
        self.hand_over();
    }

    /// Adds a complete record.
    pub fn record(&mut self, record: netml_proto::v1::Record) {
        self.observe(Observation::Record(Box::new(record)));
    }

    fn close_window(&mut self, now_ns: u64) {
        let Self {
            sampler,
            pending,
            flow_id_base,
            ..
        } = self;
        let before = pending.len();
        sampler.close(now_ns, |packet| {
            let mut packet = *packet;
            packet.flow_id = packet.flow_id.wrapping_add(*flow_id_base);
            pending.push(Observation::Packet(packet));
        });
        let made = (pending.len() - before) as u64;
        self.books.observations.fetch_add(made, Ordering::Relaxed);
        self.books.packets.store(self.packets, Ordering::Relaxed);
        self.books
            .sampled
            .store(self.sampler.given(), Ordering::Relaxed);
        self.books
            .left_out
            .store(self.sampler.left_out(), Ordering::Relaxed);
    }

    fn observe(&mut self, observation: Observation) {
        self.pending.push(observation);
        self.books.observations.fetch_add(1, Ordering::Relaxed);
        if self.pending.len() >= CHUNK_OBSERVATIONS {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let count = self.pending.len() as u64;
        let chunk = Chunk {
            unix_offset_ns: self.unix_offset_ns,
            model: self.model.clone(),
            observations: std::mem::replace(
                &mut self.pending,
                Vec::with_capacity(CHUNK_OBSERVATIONS),
            ),
        };
        let handed = match self.when_full {
            WhenFull::Wait => self.sender.blocking_send(chunk).is_ok(),
            WhenFull::Drop => match self.sender.try_send(chunk) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
            },
        };
        let counter = if handed {
            &self.books.handed
        } else {
            &self.books.lost
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Sink for Outbox {
    fn flow(&mut self, report: &FlowReport) {
        let mut report = report.clone();
        report.flow_id = report.flow_id.wrapping_add(self.flow_id_base);
        self.observe(Observation::Flow(report));
    }

    fn packet(&mut self, packet: &JudgedPacket) {
        self.packets += 1;
        self.sampler.offer(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::convert::testing::judged;
    use crate::verdict::Verdict;

    fn outbox(chunks: usize) -> (Outbox, mpsc::Receiver<Chunk>) {
        let (sender, receiver) = mpsc::channel(chunks);
        let outbox = Outbox::new(sender, WhenFull::Drop, Sampler::new(10, 3));
        (outbox, receiver)
    }

    #[test]
    fn a_full_channel_costs_the_observations_and_never_the_reader() {
        let (mut outbox, mut receiver) = outbox(1);
        for second in 1..=3 {
            outbox.packet(&judged(second, Verdict::Normal));
            outbox.flush(second * 1_000_000_000);
        }
        let books = outbox.books();
        assert_eq!(books.observations.load(Ordering::Relaxed), 3);
        assert_eq!(books.handed.load(Ordering::Relaxed), 1);
        assert_eq!(books.lost.load(Ordering::Relaxed), 2);
        assert_eq!(receiver.try_recv().unwrap().observations.len(), 1);
    }

    #[test]
    fn every_packet_is_a_sample_or_counted_as_left_out() {
        let (mut outbox, mut receiver) = outbox(8);
        for at in 0..25 {
            outbox.packet(&judged(at, Verdict::Normal));
        }
        outbox.tick(1);
        let books = outbox.books();
        assert_eq!(books.packets.load(Ordering::Relaxed), 25);
        assert_eq!(books.sampled.load(Ordering::Relaxed), 10);
        assert_eq!(books.left_out.load(Ordering::Relaxed), 15);
        assert_eq!(receiver.try_recv().unwrap().observations.len(), 10);
    }

    #[test]
    fn packets_go_with_the_model_that_judged_them() {
        let (mut outbox, mut receiver) = outbox(8);
        let model = Arc::new(crate::model::embedded().unwrap());
        outbox.packet(&judged(1, Verdict::Normal));
        outbox.set_model(1, Arc::clone(&model));
        outbox.packet(&judged(2, Verdict::Normal));
        outbox.flush(2);
        let (before, after) = (receiver.try_recv().unwrap(), receiver.try_recv().unwrap());
        assert!(before.model.is_none() && before.observations.len() == 1);
        assert_eq!(after.model.unwrap().id(), model.id());
    }

    #[test]
    fn a_new_offset_does_not_touch_what_was_gathered_under_the_old_one() {
        let (mut outbox, mut receiver) = outbox(8);
        outbox.set_unix_offset_ns(1);
        outbox.record(netml_proto::v1::Record::default());
        outbox.set_unix_offset_ns(2);
        outbox.record(netml_proto::v1::Record::default());
        outbox.flush(0);
        assert_eq!(receiver.try_recv().unwrap().unix_offset_ns, 1);
        assert_eq!(receiver.try_recv().unwrap().unix_offset_ns, 2);
    }
}
