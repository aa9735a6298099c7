//! What is told of the sensor to those who ask it, made of the same counts as the health record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netml_common::{Direction, InterfaceCounters, LossReason};
use netml_proto::daemon::progress::Sign;

use super::super::reader::LiveState;
use super::Reporter;
use crate::export::client::ExportState;
use crate::health::{Export, Interface, Observed, Snapshot, Spool};
use crate::probe::{AttachedInterface, Probe};
use crate::sys;

/// Who is observed, and what does not change while it runs.
pub(in super::super) struct Observing {
    /// Where it is told.
    pub(in super::super) observed: Arc<Observed>,
    /// Name of the sensor.
    pub(in super::super) sensor: String,
    /// Release of the kernel.
    pub(in super::super) kernel: String,
    /// URLs of the collectors.
    pub(in super::super) collectors: Vec<String>,
    /// Bound of the spool.
    pub(in super::super) spool_max_bytes: u64,
}

/// Conditions of life: the reader's thread, the spool's, the client's task.
pub(in super::super) fn add_stages(
    observed: &Observed,
    state: &Arc<LiveState>,
    export: Option<&Arc<ExportState>>,
) {
    let reader = Arc::clone(state);
    observed.add_stage("capture", move || {
        Sign::Done(reader.turns.load(Ordering::Relaxed))
    });
    let Some(export) = export.cloned() else {
        return;
    };
    if let Some(spool) = export.spool.get().cloned() {
        observed.add_stage("spool", move || Sign::Done(spool.turns()));
    }
    // The task turns while the collector is away as well.
    observed.add_stage("send", move || {
        Sign::Done(export.turns.load(Ordering::Relaxed))
    });
}

/// An interface as it is told; its totals follow.
pub(super) fn interface(attached: &AttachedInterface) -> Interface {
    Interface {
        name: attached.name.clone(),
        ingress_mode: attached.ingress_mode,
        egress_mode: attached.egress_mode,
        aggregated: attached.aggregated,
        ..Interface::default()
    }
}

/// Sets the totals of a direction.
pub(super) fn set_totals(
    interface: &mut Interface,
    direction: Direction,
    totals: &InterfaceCounters,
) {
    interface.packets[direction as usize] = totals.packets;
    interface.bytes[direction as usize] = totals.bytes;
}

impl Reporter {
    /// Tells those who observe how the sensor fares.
    pub(super) fn tell_observers(&self, probe: &Probe, interfaces: Vec<Interface>) {
        let Some(observing) = &self.observing else {
            return;
        };
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let state = &self.state;
        let mut lost = [0; netml_common::LOSS_REASONS];
        lost[..self.kernel.lost.len()].copy_from_slice(&self.kernel.lost);
        lost[LossReason::RecordRefused.index()] = read(&state.refused);
        let export = self.collector.as_ref().map(|collector| {
            let (outbox, export) = (&collector.outbox, &collector.export);
            lost[LossReason::SampleBudget.index()] = read(&outbox.left_out);
            lost[LossReason::BacklogFull.index()] = read(&export.lost);
            Export {
                // The one in use.
                collector: observing
                    .collectors
                    .get(export.collector.load(Ordering::Relaxed))
                    .cloned()
                    .unwrap_or_default(),
                connected: export.connected.load(Ordering::Relaxed),
                observations_lost: read(&outbox.lost),
                records_in: read(&export.records_in),
                acked: read(&export.acked),
                waiting: read(&export.waiting),
                spool: export.spool.get().map(|spool| {
                    let status = spool.status();
                    Spool {
                        bytes: status.bytes,
                        bytes_max: observing.spool_max_bytes,
                        in_memory: status.waiting_in_memory,
                        books: status.books,
                    }
                }),
            }
        });
        let since_mono_ns = read(&state.mode_since_ns);
        observing.observed.set(Snapshot {
            sensor: observing.sensor.clone(),
            kernel: observing.kernel.clone(),
            model: self.model_id.clone(),
            started_unix_s: self.started_unix_ns as f64 / 1e9,
            resident_bytes: self.usage.resident_bytes,
            cpu_seconds: self.usage.cpu_seconds,
            interfaces,
            selection: probe.selection().to_string(),
            interfaces_refused: self.refusals,
            frames: self.kernel.frames,
            recorded: self.kernel.recorded,
            mapped: self.kernel.mapped,
            lost,
            ring_bytes: self.ring_bytes,
            ring_backlog_bytes: read(&state.backlog_bytes),
            ring_records: read(&state.ring_out),
            stepped_down: read(&state.stepped_down) != 0,
            mode_since_unix_s: (since_mono_ns != 0).then(|| {
                crate::export::convert::unix_ns(since_mono_ns, sys::unix_offset_ns()) as f64 / 1e9
            }),
            step_downs: read(&state.step_downs),
            flows_live: read(&state.flows_live),
            flows_max: self.flows_max,
            flows_started: read(&state.flows_started),
            flows_ended: read(&state.flows_ended),
            flows_evicted: read(&state.flows_evicted),
            hosts_evicted: read(&state.hosts_evicted),
            baselines_evicted: read(&state.baselines_evicted),
            rows: read(&state.rows),
            export,
        });
    }
}
