//! What is told every second: kernel totals, health, and events when something changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netml_common::{INTERFACES_MAX, LossReason};
use netml_proto::v1;
use tokio::sync::mpsc;

use super::books::KernelBooks;
use super::reader::LiveState;
use crate::commands::events;
use crate::export::client::ExportState;
use crate::export::health::Meter;
use crate::export::outbox::OutboxBooks;
use crate::export::{Chunk, Exporter, Observation, Outbox, convert};
use crate::model::Model;
use crate::probe::Probe;
use crate::sys;

/// Reports without a loss that end an episode of losses.
const QUIET_REPORTS: u32 = 5;

/// Gathers and sends what is told every second.
pub(super) struct Reporter {
    state: Arc<LiveState>,
    collector: Option<Collector>,
    attach_id: u64,
    ring_bytes: u64,
    flows_max: u64,
    meter: Meter,
    kernel: KernelBooks,
    episode: Option<Episode>,
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
            attach_id: probe.attach_id(),
            ring_bytes: probe.ring_bytes().into(),
            flows_max: flows_max as u64,
            meter: Meter::default(),
            kernel: KernelBooks::default(),
            episode: None,
        }
    }

    /// The first events.
    pub(super) fn started(&mut self, model: Option<&Model>) {
        self.send(events::started(sys::unix_ns(), model));
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
        for (slot, direction, totals) in probe.counters()? {
            kernel.frames += totals.frames;
            kernel.packets += totals.packets;
            kernel.bytes += totals.bytes;
            kernel.recorded += totals.recorded;
            for (sum, lost) in kernel.lost.iter_mut().zip(totals.lost) {
                *sum += lost;
            }
            let interface = probe
                .interfaces()
                .iter()
                .find(|interface| interface.slot == slot);
            // Frames of interfaces without a slot are in the books only.
            if let Some(interface) = interface.filter(|_| slot < INTERFACES_MAX) {
                records.push(convert::counters(
                    unix_ns,
                    slot,
                    &interface.name,
                    direction,
                    self.attach_id,
                    &totals,
                ));
            }
        }
        let lost_before = self.kernel.lost[LossReason::RingFull.index()];
        self.kernel = kernel;
        let lost = kernel.lost[LossReason::RingFull.index()];
        self.state.ring_lost.store(lost, Ordering::Relaxed);
        records.extend(self.loss_event(unix_ns, lost_before, lost));
        records.push(self.health(unix_ns));
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
                    "the ring was full: packets without record; totals stay exact"
                );
                Some(convert::event(
                    unix_ns,
                    "loss",
                    "warning",
                    "the ring is full: packets go without a record, totals stay exact".into(),
                    &[("ring-full", (now - before).to_string())],
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
                    &[("ring-full", packets.to_string())],
                ))
            }
            None => None,
        }
    }

    fn health(&mut self, unix_ns: u64) -> v1::Record {
        let usage = self.meter.usage(sys::monotonic_ns());
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let state = &self.state;
        let mut books: Vec<(&str, u64)> = vec![
            ("kernel_frames", self.kernel.frames),
            ("kernel_recorded", self.kernel.recorded),
            ("kernel_lost", self.kernel.lost.iter().sum()),
            ("ring_out", read(&state.ring_out)),
            ("record-refused", read(&state.refused)),
            ("engine_in", read(&state.packets_in)),
            ("engine_ended", read(&state.packets_ended)),
            ("engine_live", read(&state.packets_live)),
            ("engine_rows", read(&state.rows)),
            ("engine_out_of_order", read(&state.out_of_order)),
            ("flows_started", read(&state.flows_started)),
            ("flows_ended", read(&state.flows_ended)),
            ("flows_evicted", read(&state.flows_evicted)),
            ("hosts_evicted", read(&state.hosts_evicted)),
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
            ]);
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
            observations: records.into_iter().map(Observation::Record).collect(),
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
