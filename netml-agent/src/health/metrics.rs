//! The sensor's metrics: one table. `docs/metrics.md` is made of it.

use std::ops::Deref;

use netml_common::LossReason;
use netml_proto::daemon::exposition::{Family, Kind, Samples};

use super::{Export, Interface, Snapshot, Spool};
use crate::commands::identity::{COMMIT, VERSION};
use crate::flow::schema;

/// What a page is made of.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The sensor, a second ago at most.
    pub snapshot: Snapshot,
    /// Stages, and milliseconds since each was seen to make progress.
    pub stages: Vec<(&'static str, u64)>,
}

impl Deref for Reading {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// Every metric of the sensor.
pub const FAMILIES: &[Family<Reading>] = &[
    Family {
        name: "netml_agent_info",
        kind: Kind::Gauge,
        unit: "1",
        labels: &["sensor", "version", "commit", "kernel", "schema"],
        help: "Always 1; who the sensor is, the kernel it runs on and the digest of its features.",
        read: |of, out| {
            let labels = [&of.sensor, VERSION, COMMIT, &of.kernel, &schema::digest()];
            out.count_of(&labels, 1);
        },
    },
    Family {
        name: "netml_agent_model_info",
        kind: Kind::Gauge,
        unit: "1",
        labels: &["model"],
        help: "Always 1; the model that judges. No value: none does, and every verdict is NO_VERDICT.",
        read: |of, out| {
            if let Some(model) = &of.model {
                out.count_of(&[model], 1);
            }
        },
    },
    Family {
        name: "netml_agent_start_time_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "When the sensor started, since 1970.",
        read: |of, out| out.number(of.started_unix_s),
    },
    Family {
        name: "netml_agent_resident_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Resident memory.",
        read: |of, out| out.count(of.resident_bytes),
    },
    Family {
        name: "netml_agent_cpu_seconds_total",
        kind: Kind::Counter,
        unit: "seconds",
        labels: &[],
        help: "Processor time used, user and system.",
        read: |of, out| out.number(of.cpu_seconds),
    },
    Family {
        name: "netml_agent_stage_progress_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &["stage"],
        help: "Time since a stage was last seen to make progress, as of this or an earlier look.",
        read: |of, out| {
            for (stage, ms) in &of.stages {
                out.number_of(&[stage], *ms as f64 / 1e3);
            }
        },
    },
    Family {
        name: "netml_agent_interface_info",
        kind: Kind::Gauge,
        unit: "1",
        labels: &["interface", "ingress", "egress", "aggregated"],
        help: "Always 1; an interface that is watched, and by which kind of program in each direction.",
        read: |of, out| {
            for one in &of.interfaces {
                let aggregated = if one.aggregated { "true" } else { "false" };
                out.count_of(
                    &[&one.name, one.ingress_mode, one.egress_mode, aggregated],
                    1,
                );
            }
        },
    },
    Family {
        name: "netml_agent_interfaces_refused_total",
        kind: Kind::Counter,
        unit: "interfaces",
        labels: &[],
        help: "Interfaces that could not be watched because all slots were taken.",
        read: |of, out| out.count(of.interfaces_refused),
    },
    Family {
        name: "netml_agent_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &["interface", "direction"],
        help: "Exact wire packets by the kernel's own count since the interface was attached.",
        read: |of, out| by_direction(of, out, |one| one.packets),
    },
    Family {
        name: "netml_agent_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: &["interface", "direction"],
        help: "Exact wire bytes, alike.",
        read: |of, out| by_direction(of, out, |one| one.bytes),
    },
    Family {
        name: "netml_agent_frames_total",
        kind: Kind::Counter,
        unit: "frames",
        labels: &[],
        help: "Frames the kernel programs saw: recorded, mapped, or lost for one of the kernel's reasons.",
        read: |of, out| out.count(of.frames),
    },
    Family {
        name: "netml_agent_recorded_frames_total",
        kind: Kind::Counter,
        unit: "frames",
        labels: &[],
        help: "Frames with a record in the ring.",
        read: |of, out| out.count(of.recorded),
    },
    Family {
        name: "netml_agent_mapped_frames_total",
        kind: Kind::Counter,
        unit: "frames",
        labels: &[],
        help: "Frames counted by flow in the kernel instead of a record, while the ring filled.",
        read: |of, out| out.count(of.mapped),
    },
    Family {
        name: "netml_agent_lost_total",
        kind: Kind::Counter,
        unit: "frames or records",
        labels: &["reason"],
        help: "What went no further, by reason: up to flow-map-full frames in the kernel, then records refused, packet samples above their budget, and records above the bound of the backlog, those of the spool included.",
        read: |of, out| {
            for reason in LossReason::ALL {
                out.count_of(&[reason.name()], of.lost[reason.index()]);
            }
        },
    },
    Family {
        name: "netml_agent_ring_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Size of the ring between kernel and sensor.",
        read: |of, out| out.count(of.ring_bytes),
    },
    Family {
        name: "netml_agent_ring_backlog_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Bytes in the ring that were not read yet.",
        read: |of, out| out.count(of.ring_backlog_bytes),
    },
    Family {
        name: "netml_agent_ring_records_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records read from the ring.",
        read: |of, out| out.count(of.ring_records),
    },
    Family {
        name: "netml_agent_stepped_down",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: &[],
        help: "1 while the ring fills and known flows are counted in the kernel and sampled.",
        read: |of, out| out.count(of.stepped_down.into()),
    },
    Family {
        name: "netml_agent_mode_change_time_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "When that changed last, since 1970. No value: never since the sensor attached.",
        read: |of, out| {
            if let Some(since) = of.mode_since_unix_s {
                out.number(since);
            }
        },
    },
    Family {
        name: "netml_agent_step_downs_total",
        kind: Kind::Counter,
        unit: "times",
        labels: &[],
        help: "Times the sensor stepped down.",
        read: |of, out| out.count(of.step_downs),
    },
    Family {
        name: "netml_agent_flows_live",
        kind: Kind::Gauge,
        unit: "flows",
        labels: &[],
        help: "Flows in the table.",
        read: |of, out| out.count(of.flows_live),
    },
    Family {
        name: "netml_agent_flows_max",
        kind: Kind::Gauge,
        unit: "flows",
        labels: &[],
        help: "Bound of the table.",
        read: |of, out| out.count(of.flows_max),
    },
    Family {
        name: "netml_agent_flows_started_total",
        kind: Kind::Counter,
        unit: "flows",
        labels: &[],
        help: "Flows begun.",
        read: |of, out| out.count(of.flows_started),
    },
    Family {
        name: "netml_agent_flows_ended_total",
        kind: Kind::Counter,
        unit: "flows",
        labels: &[],
        help: "Flows ended, evicted ones included.",
        read: |of, out| out.count(of.flows_ended),
    },
    Family {
        name: "netml_agent_flows_evicted_total",
        kind: Kind::Counter,
        unit: "flows",
        labels: &[],
        help: "Flows that ended because their place was needed.",
        read: |of, out| out.count(of.flows_evicted),
    },
    Family {
        name: "netml_agent_hosts_evicted_total",
        kind: Kind::Counter,
        unit: "hosts",
        labels: &[],
        help: "Hosts forgotten because their place was needed.",
        read: |of, out| out.count(of.hosts_evicted),
    },
    Family {
        name: "netml_agent_baselines_evicted_total",
        kind: Kind::Counter,
        unit: "hosts",
        labels: &[],
        help: "Hosts of which the usual was forgotten because its place was needed.",
        read: |of, out| out.count(of.baselines_evicted),
    },
    Family {
        name: "netml_agent_rows_judged_total",
        kind: Kind::Counter,
        unit: "rows",
        labels: &[],
        help: "Rows of features that were judged.",
        read: |of, out| out.count(of.rows),
    },
    Family {
        name: "netml_agent_collector_connected",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: &["collector"],
        help: "1 while a stream to the collector is open.",
        read: |of, out| {
            if let Some(export) = &of.export {
                out.count_of(&[&export.collector], export.connected.into());
            }
        },
    },
    Family {
        name: "netml_agent_acked_records_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records acknowledged as stored, whichever collector it was.",
        read: |of, out| exported(of, out, |export| export.acked),
    },
    Family {
        name: "netml_agent_export_records_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records taken into batches: acknowledged, waiting, or lost as backlog-full.",
        read: |of, out| exported(of, out, |export| export.records_in),
    },
    Family {
        name: "netml_agent_backlog_records",
        kind: Kind::Gauge,
        unit: "records",
        labels: &[],
        help: "Records not acknowledged yet, in memory or on the disk.",
        read: |of, out| exported(of, out, |export| export.waiting),
    },
    Family {
        name: "netml_agent_observations_lost_total",
        kind: Kind::Counter,
        unit: "observations",
        labels: &[],
        help: "Flows, samples and reports given up because the sender was behind.",
        read: |of, out| exported(of, out, |export| export.observations_lost),
    },
    Family {
        name: "netml_agent_spool_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Bytes of the spool on the disk.",
        read: |of, out| spooled(of, out, |spool| spool.bytes),
    },
    Family {
        name: "netml_agent_spool_max_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Bound of them.",
        read: |of, out| spooled(of, out, |spool| spool.bytes_max),
    },
    Family {
        name: "netml_agent_spool_memory_records",
        kind: Kind::Gauge,
        unit: "records",
        labels: &[],
        help: "Records that wait in memory because the disk takes nothing.",
        read: |of, out| spooled(of, out, |spool| spool.in_memory),
    },
    Family {
        name: "netml_agent_spool_found_records_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records of earlier starts found on the disk.",
        read: |of, out| spooled(of, out, |spool| spool.books.found),
    },
    Family {
        name: "netml_agent_spool_lost_records_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &["reason"],
        help: "Records of the spool given up: no room below its bound, the disk takes nothing, not readable any more, refused by the collector, made by earlier starts and never written.",
        read: |of, out| {
            if let Some(Spool { books, .. }) = spool_of(of) {
                for (reason, lost) in [
                    ("full", books.lost_full),
                    ("no-space", books.lost_memory),
                    ("damaged", books.lost_damaged),
                    ("refused", books.lost_refused),
                    ("before", books.lost_before),
                ] {
                    out.count_of(&[reason], lost);
                }
            }
        },
    },
    Family {
        name: "netml_agent_spool_errors_total",
        kind: Kind::Counter,
        unit: "operations",
        labels: &[],
        help: "Operations of the file system that failed.",
        read: |of, out| spooled(of, out, |spool| spool.books.io_errors),
    },
];

fn by_direction(of: &Reading, out: &mut Samples<'_>, totals: fn(&Interface) -> [u64; 2]) {
    for one in &of.interfaces {
        for (direction, total) in ["ingress", "egress"].into_iter().zip(totals(one)) {
            out.count_of(&[&one.name, direction], total);
        }
    }
}

fn exported(of: &Reading, out: &mut Samples<'_>, value: fn(&Export) -> u64) {
    if let Some(export) = &of.export {
        out.count(value(export));
    }
}

fn spool_of(of: &Reading) -> Option<&Spool> {
    of.export.as_ref()?.spool.as_ref()
}

fn spooled(of: &Reading, out: &mut Samples<'_>, value: fn(&Spool) -> u64) {
    if let Some(spool) = spool_of(of) {
        out.count(value(spool));
    }
}
