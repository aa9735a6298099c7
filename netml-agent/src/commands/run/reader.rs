//! The reader's thread: ring and flow maps → engine → sinks. It waits for the ring only.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use netml_common::Direction;
use tokio::sync::oneshot;

use super::books::LiveBooks;
use crate::engine::{Books, Engine, FlowReport, FlowState, FlowTotals, JudgedPacket, Sink};
use crate::export::Outbox;
use crate::model::Model;
use crate::probe::{FlowMaps, KnownFlow, ProbeError, RingReader};
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

/// How often the flow maps are read: while packets are counted there, while flows seen one way
/// wait to be aged, and else, to remove what is left of flows that have ended.
const READ_BUSY_NS: u64 = 250_000_000;
const READ_OPENING_NS: u64 = 1_000_000_000;
const READ_IDLE_NS: u64 = 30_000_000_000;

/// What the threads tell each other.
#[derive(Debug, Default)]
pub(super) struct LiveState {
    /// Set once the probe is detached: drain what is left and end.
    pub(super) stop: AtomicBool,
    /// A model to judge by from now on, until the reader takes it.
    pub(super) next_model: Mutex<Option<Arc<Model>>>,
    /// Set where there is one: a look at it costs nothing.
    pub(super) has_next_model: AtomicBool,
    /// 1 while the kernel counts packets by flow.
    pub(super) stepped_down: AtomicU64,
    /// Monotonic time of the latest change of that; 0: none yet.
    pub(super) mode_since_ns: AtomicU64,
    /// Times the kernel stepped down.
    pub(super) step_downs: AtomicU64,
    /// Frames read from the flow maps.
    pub(super) map_out: AtomicU64,
    /// Entries in use there, and flows that found no place, in either map.
    pub(super) map_entries: AtomicU64,
    pub(super) map_opening: AtomicU64,
    pub(super) map_refused: AtomicU64,
    /// Turns of the reader that took something or found nothing to take.
    pub(super) turns: AtomicU64,
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
    pub(super) unrecorded_in: AtomicU64,
    pub(super) unrecorded_ended: AtomicU64,
    pub(super) flows_started: AtomicU64,
    pub(super) flows_ended: AtomicU64,
    pub(super) flows_evicted: AtomicU64,
    pub(super) hosts_evicted: AtomicU64,
    pub(super) baselines_evicted: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) out_of_order: AtomicU64,
}

impl LiveState {
    /// Hands a model to the reader; one that it has not taken yet is replaced.
    pub(super) fn hand_model(&self, model: Arc<Model>) {
        let mut next = self
            .next_model
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *next = Some(model);
        self.has_next_model.store(true, Ordering::Release);
    }

    fn take_model(&self) -> Option<Arc<Model>> {
        if !self.has_next_model.load(Ordering::Acquire) {
            return None;
        }
        let mut next = self
            .next_model
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.has_next_model.store(false, Ordering::Relaxed);
        next.take()
    }

    fn publish(&self, books: &Books) {
        for (cell, value) in [
            (&self.packets_in, books.packets_in),
            (&self.packets_ended, books.packets_ended),
            (&self.packets_live, books.packets_live),
            (&self.unrecorded_in, books.unrecorded_in),
            (&self.unrecorded_ended, books.unrecorded_ended),
            (&self.flows_started, books.flows_started),
            (&self.flows_ended, books.flows_ended),
            (&self.flows_evicted, books.flows_evicted),
            (&self.hosts_evicted, books.hosts_evicted),
            (&self.baselines_evicted, books.baselines_evicted),
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

/// A reader made slow, to see what happens when it cannot keep up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hindrance {
    /// Pause after every [`DRAIN_RECORDS_MAX`] records at most.
    pub(super) delay: Duration,
    /// One pause, after the first records.
    pub(super) pause: Duration,
}

impl Hindrance {
    fn hinder(&mut self, stopping: bool) {
        let pause = std::mem::take(&mut self.pause);
        let rest = if stopping {
            Duration::ZERO
        } else {
            self.delay + pause
        };
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }
}

/// What the thread owns.
pub(super) struct Reader {
    ring: RingReader,
    maps: Maps,
    engine: Engine,
    sinks: Sinks,
    state: Arc<LiveState>,
    hindrance: Hindrance,
}

impl Reader {
    pub(super) fn new(
        ring: RingReader,
        maps: FlowMaps,
        engine: Engine,
        sinks: Sinks,
        state: Arc<LiveState>,
        hindrance: Hindrance,
    ) -> Self {
        Self {
            maps: Maps::new(maps, ring.ring_bytes()),
            ring,
            engine,
            sinks,
            state,
            hindrance,
        }
    }
}

/// The flow maps, and what was read there and waits for the records that came before it.
struct Maps {
    maps: FlowMaps,
    read_ns: u64,
    told_frames: u64,
    waiting: Vec<FlowTotals>,
    /// Position of the ring behind all records of before the read.
    behind: usize,
    lost_told: u64,
    low_mark_bytes: usize,
    changes_read: u64,
    is_down: bool,
    since_ns: u64,
    known: Vec<KnownFlow>,
    ended: Vec<netml_common::FlowKey>,
}

impl Maps {
    fn new(maps: FlowMaps, ring_bytes: usize) -> Self {
        Self {
            maps,
            low_mark_bytes: ring_bytes / 4,
            changes_read: 0,
            read_ns: 0,
            told_frames: 0,
            waiting: Vec::new(),
            behind: 0,
            lost_told: 0,
            is_down: false,
            since_ns: 0,
            known: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Follows the mode, tells the engine of losses, and reads the maps where it is time to.
    fn tick(
        &mut self,
        now_ns: u64,
        ring: &RingReader,
        engine: &mut Engine,
        state: &LiveState,
    ) -> Result<(), ProbeError> {
        let kernel = self.maps.state()?;
        engine.lost(kernel.lost.saturating_sub(self.lost_told));
        self.lost_told = kernel.lost;
        // The kernel looks at the ring with a packet only: where none comes, the mode is over.
        let is_down = kernel.is_stepped_down() && ring.backlog_bytes() >= self.low_mark_bytes;
        if is_down == kernel.is_stepped_down() {
            self.since_ns = kernel.since_mono_ns;
        } else if is_down != self.is_down {
            self.since_ns = now_ns;
        }
        self.is_down = is_down;
        self.tell_known(engine)?;
        let books = self.maps.books();
        let moves = books.frames != self.told_frames || kernel.changes != self.changes_read;
        let interval_ns = if kernel.is_stepped_down() || moves {
            READ_BUSY_NS
        } else if books.opening > 0 {
            READ_OPENING_NS
        } else {
            READ_IDLE_NS
        };
        if self.waiting.is_empty() && now_ns.saturating_sub(self.read_ns) >= interval_ns {
            self.changes_read = kernel.changes;
            self.read(now_ns, ring, engine)?;
        }
        let books = self.maps.books();
        for (cell, value) in [
            (&state.stepped_down, u64::from(is_down)),
            (&state.mode_since_ns, self.since_ns),
            (&state.step_downs, kernel.step_downs()),
            (&state.map_out, books.frames),
            (&state.map_entries, books.entries),
            (&state.map_opening, books.opening),
            (
                &state.map_refused,
                kernel.opening_full + kernel.established_full + books.seeds_refused,
            ),
        ] {
            cell.store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Tells the kernel which flows are established and which of these have ended.
    fn tell_known(&mut self, engine: &mut Engine) -> Result<(), ProbeError> {
        let Self {
            maps,
            known,
            ended,
            waiting,
            ..
        } = self;
        engine.take_established(
            |flow| {
                known.push(KnownFlow {
                    key: flow.key,
                    initiator_is_low: flow.initiator_is_low,
                    low_is_egress: flow.low_direction() == Direction::Egress,
                    tcp_flags: flow.tcp_flags,
                });
            },
            |key| ended.push(key),
        );
        maps.forget(ended, |totals| waiting.push(*totals))?;
        ended.clear();
        maps.seed(known)?;
        known.clear();
        Ok(())
    }

    /// Reads both maps. What they counted is older than records that come from now on, and younger
    /// than some that wait in the ring.
    fn read(&mut self, now_ns: u64, ring: &RingReader, engine: &Engine) -> Result<(), ProbeError> {
        self.read_ns = now_ns;
        self.told_frames = self.maps.books().frames;
        let Self { maps, waiting, .. } = self;
        maps.read(
            now_ns,
            |key| engine.knows(key),
            |totals| waiting.push(*totals),
        )?;
        self.behind = ring.end_position();
        Ok(())
    }

    /// Gives the engine what waits, once the records of before it are in.
    fn give<S: Sink>(&mut self, ring: &RingReader, engine: &mut Engine, sink: &mut S) {
        if !self.waiting.is_empty() && ring.has_passed(self.behind) {
            for totals in self.waiting.drain(..) {
                engine.totals(&totals, sink);
            }
            engine.flush(sink);
        }
    }
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
        self.engine.tell_established_flows();
        let error = self.work().err();
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
        books.map_out = self.maps.maps.books().frames;
        Done { books, error }
    }

    /// Until told to stop and nothing is left.
    fn work(&mut self) -> Result<(), ProbeError> {
        let mut ticked_ns = 0;
        loop {
            let stopping = self.state.stop.load(Ordering::Acquire);
            let before_ns = sys::monotonic_ns();
            let taken = self.drain();
            // A record that is there and cannot be had is no progress.
            if taken > 0 || self.ring.backlog_bytes() == 0 {
                self.state.turns.fetch_add(1, Ordering::Relaxed);
            }
            if taken > 0 {
                self.hindrance.hinder(stopping);
            }
            self.maps
                .give(&self.ring, &mut self.engine, &mut self.sinks);
            if before_ns.saturating_sub(ticked_ns) >= TICK_NS {
                ticked_ns = before_ns;
                self.change_model(before_ns);
                self.maps
                    .tick(before_ns, &self.ring, &mut self.engine, &self.state)?;
                self.maps
                    .give(&self.ring, &mut self.engine, &mut self.sinks);
                // While records or totals wait their time has not come yet.
                if taken < DRAIN_RECORDS_MAX && self.maps.waiting.is_empty() {
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
            self.ring.wait(WAIT)?;
        }
        // The programs are gone: what the maps hold now is the whole.
        let now_ns = sys::monotonic_ns();
        self.maps
            .tick(now_ns, &self.ring, &mut self.engine, &self.state)?;
        self.maps.read(now_ns, &self.ring, &self.engine)?;
        self.maps
            .give(&self.ring, &mut self.engine, &mut self.sinks);
        self.state
            .map_out
            .store(self.maps.maps.books().frames, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a model that waits: what was judged before goes with the old one.
    fn change_model(&mut self, now_ns: u64) {
        if let Some(model) = self.state.take_model() {
            self.engine.flush(&mut self.sinks);
            for outbox in self.sinks.outboxes() {
                outbox.set_model(now_ns, Arc::clone(&model));
            }
            self.engine.set_model(Some(model));
        }
    }

    fn drain(&mut self) -> usize {
        let Self {
            ring,
            engine,
            sinks,
            state,
            ..
        } = self;
        let mut refused = 0;
        let taken = ring.drain(DRAIN_RECORDS_MAX, |entry| match entry {
            Ok((record, extras)) => engine.packet_with(&record, &extras, sinks),
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
