//! The reader's thread: ring → engine → sinks. It waits for the ring only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::books::LiveBooks;
use crate::engine::{Books, Engine, FlowReport, FlowState, JudgedPacket, Sink};
use crate::export::Outbox;
use crate::probe::{ProbeError, RingReader};
use crate::sys;

/// Records between two flushes of the engine.
const DRAIN_RECORDS_MAX: usize = 4_096;

/// Longest wait for records: also how late a verdict is on a silent host.
const WAIT: Duration = Duration::from_millis(50);

/// How often clocks are read and sinks are handed what was gathered.
const TICK_NS: u64 = 50_000_000;

/// The engine's clock stays this far behind: records of other processors may still be on their
/// way into the ring.
const CLOCK_SLACK_NS: u64 = 5_000_000;

/// What the threads tell each other.
#[derive(Debug, Default)]
pub(super) struct LiveState {
    /// Set once the probe is detached: drain what is left and end.
    pub(super) stop: AtomicBool,
    /// Packets the kernel lost for want of room in the ring, cumulative.
    pub(super) ring_lost: AtomicU64,
    /// Bytes in the ring not read yet.
    pub(super) backlog_bytes: AtomicU64,
    /// Live flows.
    pub(super) flows_live: AtomicU64,
    /// Records read, refused ones included.
    pub(super) ring_out: AtomicU64,
    /// Records refused.
    pub(super) refused: AtomicU64,
    /// Books of the engine.
    pub(super) packets_in: AtomicU64,
    pub(super) packets_ended: AtomicU64,
    pub(super) packets_live: AtomicU64,
    pub(super) flows_started: AtomicU64,
    pub(super) flows_ended: AtomicU64,
    pub(super) flows_evicted: AtomicU64,
    pub(super) hosts_evicted: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) out_of_order: AtomicU64,
}

impl LiveState {
    fn publish(&self, books: &Books) {
        for (cell, value) in [
            (&self.packets_in, books.packets_in),
            (&self.packets_ended, books.packets_ended),
            (&self.packets_live, books.packets_live),
            (&self.flows_started, books.flows_started),
            (&self.flows_ended, books.flows_ended),
            (&self.flows_evicted, books.flows_evicted),
            (&self.hosts_evicted, books.hosts_evicted),
            (&self.rows, books.rows),
            (&self.out_of_order, books.out_of_order),
        ] {
            cell.store(value, Ordering::Relaxed);
        }
    }
}

/// Where reports go, and the counts of what was reported.
pub(super) struct Sinks {
    to_collector: Option<Outbox>,
    to_printer: Option<Outbox>,
    books: LiveBooks,
}

impl Sinks {
    pub(super) fn new(to_collector: Option<Outbox>, to_printer: Option<Outbox>) -> Self {
        Self {
            to_collector,
            to_printer,
            books: LiveBooks::default(),
        }
    }

    fn outboxes(&mut self) -> impl Iterator<Item = &mut Outbox> {
        self.to_collector.iter_mut().chain(&mut self.to_printer)
    }

    fn tick(&mut self, now_ns: u64, unix_offset_ns: i64) {
        for outbox in self.outboxes() {
            outbox.set_unix_offset_ns(unix_offset_ns);
            outbox.tick(now_ns);
        }
    }
}

impl Sink for Sinks {
    fn flow(&mut self, report: &FlowReport) {
        if matches!(report.state, FlowState::End(_)) {
            self.books.flow_ended(report);
        }
        for outbox in self.outboxes() {
            outbox.flow(report);
        }
    }

    fn packet(&mut self, packet: &JudgedPacket) {
        self.books.packet_judged(packet);
        for outbox in self.outboxes() {
            outbox.packet(packet);
        }
    }
}

/// What the thread owns.
pub(super) struct Reader {
    pub(super) ring: RingReader,
    pub(super) engine: Engine,
    pub(super) sinks: Sinks,
    pub(super) state: Arc<LiveState>,
}

/// How the thread ended.
pub(super) struct Done {
    pub(super) books: LiveBooks,
    pub(super) error: Option<ProbeError>,
}

/// A started reader.
pub(super) struct Running {
    /// Resolves when the thread ends.
    pub(super) ended: oneshot::Receiver<Done>,
}

/// Starts the thread.
pub(super) fn start(reader: Reader) -> anyhow::Result<Running> {
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("ring-reader".into())
        .spawn(move || {
            if sender.send(reader.run()).is_err() {
                tracing::debug!("nobody waits for the reader");
            }
        })
        .context("cannot start the reader's thread")?;
    Ok(Running { ended })
}

impl Reader {
    fn run(mut self) -> Done {
        let mut error = None;
        let mut ticked_ns = 0;
        let mut lost_told = 0;
        loop {
            let stopping = self.state.stop.load(Ordering::Acquire);
            let before_ns = sys::monotonic_ns();
            let taken = self.drain();
            if before_ns.saturating_sub(ticked_ns) >= TICK_NS {
                ticked_ns = before_ns;
                let lost = self.state.ring_lost.load(Ordering::Relaxed);
                self.engine.lost(lost.saturating_sub(lost_told));
                lost_told = lost;
                // While records wait in the ring their time has not come yet.
                if taken < DRAIN_RECORDS_MAX {
                    let clock_ns = before_ns.saturating_sub(CLOCK_SLACK_NS);
                    self.engine.advance(clock_ns, &mut self.sinks);
                }
                self.sinks.tick(before_ns, sys::unix_offset_ns());
                self.publish();
            }
            if taken == DRAIN_RECORDS_MAX {
                continue;
            }
            if stopping && taken == 0 {
                break;
            }
            if let Err(failed) = self.ring.wait(WAIT) {
                error = Some(failed);
                break;
            }
        }
        self.engine.finish(&mut self.sinks);
        let now_ns = sys::monotonic_ns();
        for outbox in self.sinks.outboxes() {
            outbox.flush(now_ns);
        }
        self.publish();
        let mut books = self.sinks.books;
        books.engine = self.engine.books();
        books.ring_out = self.state.ring_out.load(Ordering::Relaxed);
        books.refused = self.state.refused.load(Ordering::Relaxed);
        Done { books, error }
    }

    fn drain(&mut self) -> usize {
        let Self {
            ring,
            engine,
            sinks,
            state,
        } = self;
        let mut refused = 0;
        let taken = ring.drain(DRAIN_RECORDS_MAX, |record| match record {
            Ok(record) => engine.packet(&record, sinks),
            Err(_) => refused += 1,
        });
        if taken > 0 {
            engine.flush(sinks);
            engine.lost(refused);
            state.refused.fetch_add(refused, Ordering::Relaxed);
            state.ring_out.fetch_add(taken as u64, Ordering::Relaxed);
        }
        taken
    }

    fn publish(&self) {
        self.state.publish(&self.engine.books());
        self.state
            .flows_live
            .store(self.engine.flows_live() as u64, Ordering::Relaxed);
        self.state
            .backlog_bytes
            .store(self.ring.backlog_bytes() as u64, Ordering::Relaxed);
    }
}
