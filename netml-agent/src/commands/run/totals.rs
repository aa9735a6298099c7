//! What is told every second: kernel totals, health, and events when something changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use netml_common::{INTERFACES_MAX, LossReason};
use netml_proto::daemon::usage::{Meter, Usage};
use netml_proto::v1;
use tokio::sync::mpsc;

use super::books::KernelBooks;
use super::links;
use super::reader::LiveState;
use crate::commands::events;
use crate::export::client::ExportState;
use crate::export::outbox::OutboxBooks;
use crate::export::{Chunk, Exporter, Observation, Outbox, convert};
use crate::model::Model;
use crate::probe::{LinkEvent, Probe};
use crate::sys;

pub(super) mod snapshot;

use snapshot::Observing;

/// Reports without a loss that end an episode of losses.
const QUIET_REPORTS: u32 = 5;

/// Gathers and sends what is told every second.
pub(super) struct Reporter {
    state: Arc<LiveState>,
    collector: Option<Collector>,
    ring_bytes: u64,
    flows_max: u64,
    meter: Meter,
    usage: Usage,
    started_unix_ns: u64,
    model_id: Option<String>,
    observing: Option<Observing>,
    kernel: KernelBooks,
    refusals: u64,
    episode: Option<Episode>,
    step_down: Option<StepDownEpisode>,
    step_downs_told: u64,
}

/// A time of counting by flow that was told.
struct StepDownEpisode {
    since: Instant,
    mapped_before: u64,
    quiet_reports: u32,
}

struct Collector {
    sender: mpsc::Sender<Chunk>,
    export: Arc<ExportState>,
    outbox: Arc<OutboxBooks>,
}

/// Losses that belong together.
struct Episode {
    lost_before: u64,
    quiet_reports: u32,
}

impl Reporter {
    pub(super) fn new(
        probe: &Probe,
        state: Arc<LiveState>,
        exporter: Option<&Exporter>,
        outbox: Option<&Outbox>,
        flows_max: usize,
    ) -> Self {
        Self {
            state,
            collector: exporter.zip(outbox).map(|(exporter, outbox)| Collector {
                sender: exporter.sender(),
                export: exporter.state(),
                outbox: outbox.books(),
            }),
            ring_bytes: probe.ring_bytes().into(),
            flows_max: flows_max as u64,
            meter: Meter::default(),
            usage: Usage::default(),
            started_unix_ns: sys::unix_ns(),
            model_id: None,
            observing: None,
            kernel: KernelBooks::default(),
            refusals: 0,
            episode: None,
            step_down: None,
            step_downs_told: 0,
        }
    }

    /// Tells these as well, with each report.
    pub(super) fn observe(&mut self, observing: Observing) {
        self.observing = Some(observing);
    }

    /// The first events.
    pub(super) fn started(&mut self, model: Option<&Model>) {
        self.model_id = model.map(|model| model.id().to_owned());
        self.send(events::started(sys::unix_ns(), model));
    }

    /// What became of a changed model file.
    pub(super) fn model(&mut self, change: &events::ModelChange<'_>) {
        if let events::ModelChange::Loaded { model_id, .. } = change {
            self.model_id = Some((*model_id).to_owned());
        }
        self.send(vec![events::model(sys::unix_ns(), change)]);
    }

    /// The last event.
    pub(super) fn stopped(&mut self) {
        self.send(vec![events::stopped(sys::unix_ns())]);
    }

    /// Reads the totals and tells them, with health and what changed.
    pub(super) fn report(&mut self, probe: &Probe) -> anyhow::Result<()> {
        let unix_ns = sys::unix_ns();
        let mut records = Vec::new();
        let mut kernel = KernelBooks::default();
        let mut told: Vec<_> = probe.interfaces().iter().map(snapshot::interface).collect();
        for (slot, direction, totals) in probe.counters()? {
            kernel.frames += totals.frames;
            kernel.packets += totals.packets;
            kernel.bytes += totals.bytes;
            kernel.recorded += totals.recorded;
            kernel.mapped += totals.mapped;
            for (sum, lost) in kernel.lost.iter_mut().zip(totals.lost) {
                *sum += lost;
            }
            let interface = probe
                .interfaces()
                .iter()
                .zip(&mut told)
                .find(|(interface, _)| interface.slot == slot);
            // Frames of interfaces without a slot are in the books only.
            if let Some((interface, told)) = interface.filter(|_| slot < INTERFACES_MAX) {
                snapshot::set_totals(told, direction, &totals);
                records.push(convert::counters(
                    unix_ns,
                    slot,
                    &interface.name,
                    direction,
                    interface.attach_id,
                    &totals,
                ));
            }
        }
        let lost_before = without_room(&self.kernel);
        self.kernel = kernel;
        records.extend(self.loss_event(unix_ns, lost_before, without_room(&kernel)));
        records.extend(self.mode_event(unix_ns));
        self.refusals = probe.refusals();
        records.push(self.health(unix_ns));
        self.send(records);
        self.tell_observers(probe, told);
        Ok(())
    }

    /// Tells what became of interfaces: events, and the last totals of those that went.
    pub(super) fn links(&mut self, probe: &mut Probe) -> anyhow::Result<()> {
        let unix_ns = sys::unix_ns();
        let events = probe.take_events();
        if events.is_empty() {
            return Ok(());
        }
        let totals = probe.counters()?;
        let mut records = Vec::new();
        for event in events {
            if let LinkEvent::Gone(interface) = &event {
                for (slot, direction, totals) in &totals {
                    if *slot == interface.slot {
                        records.push(convert::counters(
                            unix_ns,
                            *slot,
                            &interface.name,
                            *direction,
                            interface.attach_id,
                            totals,
                        ));
                    }
                }
            }
            records.push(links::told(unix_ns, &event));
        }
        self.send(records);
        Ok(())
    }

    /// Totals of the last report.
    pub(super) fn kernel_books(&self) -> KernelBooks {
        self.kernel
    }

    /// One event where losses begin and one where they have ended.
    fn loss_event(&mut self, unix_ns: u64, before: u64, now: u64) -> Option<v1::Record> {
        let lost = now > before;
        match &mut self.episode {
            None if lost => {
                self.episode = Some(Episode {
                    lost_before: before,
                    quiet_reports: 0,
                });
                tracing::warn!(
                    packets = now - before,
                    "no room for a record: packets are lost to their flows; totals stay exact"
                );
                Some(convert::event(
                    unix_ns,
                    "loss",
                    "warning",
                    "the ring is full: packets go without a record, totals stay exact".into(),
                    &[("packets", (now - before).to_string())],
                ))
            }
            Some(episode) if lost => {
                episode.quiet_reports = 0;
                None
            }
            Some(episode) => {
                episode.quiet_reports += 1;
                if episode.quiet_reports < QUIET_REPORTS {
                    return None;
                }
                let packets = now - episode.lost_before;
                self.episode = None;
                Some(convert::event(
                    unix_ns,
                    "loss",
                    "info",
                    format!("losses ended: {packets} packets went without a record"),
                    &[("packets", packets.to_string())],
                ))
            }
            None => None,
        }
    }

    /// One event where counting by flow begins and one where it has ended.
    fn mode_event(&mut self, unix_ns: u64) -> Option<v1::Record> {
        let step_downs = self.state.step_downs.load(Ordering::Relaxed);
        let is_down = self.state.stepped_down.load(Ordering::Relaxed) != 0
            || step_downs > self.step_downs_told;
        self.step_downs_told = step_downs;
        match &mut self.step_down {
            None if is_down => {
                self.step_down = Some(StepDownEpisode {
                    since: Instant::now(),
                    mapped_before: self.kernel.mapped,
                    quiet_reports: 0,
                });
                tracing::warn!("stepped down: the ring fills, packets are counted by flow");
                Some(convert::event(
                    unix_ns,
                    "step-down",
                    "warning",
                    "the ring fills: known flows are counted by the kernel and sampled; their \
                     totals stay exact"
                        .into(),
                    &[("step_downs", step_downs.to_string())],
                ))
            }
            Some(episode) if is_down => {
                episode.quiet_reports = 0;
                None
            }
            Some(episode) => {
                episode.quiet_reports += 1;
                if episode.quiet_reports < QUIET_REPORTS {
                    return None;
                }
                let frames = self.kernel.mapped - episode.mapped_before;
                let seconds = episode.since.elapsed().as_secs();
                self.step_down = None;
                tracing::info!(frames, seconds, "every packet is recorded again");
                Some(convert::event(
                    unix_ns,
                    "step-down",
                    "info",
                    format!("every packet is recorded again: {frames} were only counted by flow"),
                    &[("frames", frames.to_string())],
                ))
            }
            None => None,
        }
    }

    fn health(&mut self, unix_ns: u64) -> v1::Record {
        self.usage = self.meter.usage(sys::monotonic_ns());
        let usage = self.usage;
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let state = &self.state;
        let mut books: Vec<(&str, u64)> = vec![
            ("kernel_frames", self.kernel.frames),
            ("kernel_recorded", self.kernel.recorded),
            ("kernel_mapped", self.kernel.mapped),
            ("kernel_lost", self.kernel.lost.iter().sum()),
            ("ring_out", read(&state.ring_out)),
            ("record-refused", read(&state.refused)),
            ("map_out", read(&state.map_out)),
            ("map_entries", read(&state.map_entries)),
            ("map_opening", read(&state.map_opening)),
            ("map_refused", read(&state.map_refused)),
            ("engine_unrecorded_in", read(&state.unrecorded_in)),
            ("engine_unrecorded_ended", read(&state.unrecorded_ended)),
            ("engine_in", read(&state.packets_in)),
            ("engine_ended", read(&state.packets_ended)),
            ("engine_live", read(&state.packets_live)),
            ("engine_rows", read(&state.rows)),
            ("engine_out_of_order", read(&state.out_of_order)),
            ("flows_started", read(&state.flows_started)),
            ("flows_ended", read(&state.flows_ended)),
            ("flows_evicted", read(&state.flows_evicted)),
            ("hosts_evicted", read(&state.hosts_evicted)),
            ("baselines_evicted", read(&state.baselines_evicted)),
            ("interfaces_refused", self.refusals),
        ];
        let mut waiting = 0;
        if let Some(collector) = &self.collector {
            let (outbox, export) = (&collector.outbox, &collector.export);
            waiting = read(&export.waiting);
            books.extend([
                ("packets_seen", read(&outbox.packets)),
                ("packets_sampled", read(&outbox.sampled)),
                ("sample-budget", read(&outbox.left_out)),
                ("observations", read(&outbox.observations)),
                ("observations_lost", read(&outbox.lost)),
                ("export_in", read(&export.records_in)),
                ("export_acked", read(&export.acked)),
                ("backlog-full", read(&export.lost)),
                // 1 is the preferred one.
                (
                    "collector",
                    export.collector.load(Ordering::Relaxed) as u64 + 1,
                ),
                ("collector_fail_overs", read(&export.fail_overs)),
                ("collector_returns", read(&export.returns)),
            ]);
            if let Some(spool) = export.spool.get().map(|spool| spool.status()) {
                books.extend([
                    ("spool_bytes", spool.bytes),
                    ("spool_found", spool.books.found),
                    ("spool_in_memory", spool.waiting_in_memory),
                    ("spool-full", spool.books.lost_full),
                    ("spool-no-space", spool.books.lost_memory),
                    ("spool-damaged", spool.books.lost_damaged),
                    ("spool-refused", spool.books.lost_refused),
                    ("spool_lost_before", spool.books.lost_before),
                    ("spool_errors", spool.books.io_errors),
                ]);
            }
        }
        v1::Record {
            record: Some(v1::record::Record::Health(v1::Health {
                unix_ns,
                resident_bytes: usage.resident_bytes,
                cpu_share: usage.cpu_share,
                ring_bytes: self.ring_bytes,
                ring_backlog_bytes: read(&state.backlog_bytes),
                flows_live: read(&state.flows_live),
                flows_max: self.flows_max,
                backlog_records: waiting,
                stepped_down: read(&state.stepped_down) != 0,
                mode_since_unix_ns: match read(&state.mode_since_ns) {
                    0 => 0,
                    since_ns => convert::unix_ns(since_ns, sys::unix_offset_ns()),
                },
                step_downs: read(&state.step_downs),
                books: books
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            })),
        }
    }

    /// Hands records over; where the channel is full they are lost, as totals are cumulative.
    fn send(&self, records: Vec<v1::Record>) {
        let Some(collector) = &self.collector else {
            return;
        };
        let count = records.len() as u64;
        let chunk = Chunk {
            unix_offset_ns: 0,
            model: None,
            observations: records
                .into_iter()
                .map(|record| Observation::Record(Box::new(record)))
                .collect(),
        };
        collector
            .outbox
            .observations
            .fetch_add(count, Ordering::Relaxed);
        let handed = collector.sender.try_send(chunk).is_ok();
        let counter = if handed {
            &collector.outbox.handed
        } else {
            &collector.outbox.lost
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Frames lost because neither ring nor flow map had room.
fn without_room(kernel: &KernelBooks) -> u64 {
    [LossReason::RingFull, LossReason::FlowMapFull]
        .iter()
        .map(|reason| kernel.lost[reason.index()])
        .sum()
}
