//! The collector's metrics: one table. `docs/metrics.md` is made of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use netml_proto::daemon::exposition::{Family, Kind};
use netml_proto::daemon::usage::Usage;

use super::Loops;
use crate::ingest::books::Books;
use crate::store::Size;

/// A sensor that is known.
#[derive(Clone, Debug)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// Connected now.
    pub connected: bool,
    /// When it was last heard.
    pub last_seen_unix_ms: i64,
    /// Its clock less the collector's.
    pub clock_offset_ms: Option<i64>,
}

/// Certificates refused at the door.
#[derive(Clone, Copy, Debug, Default)]
pub struct Door {
    /// Of no authority here, or not known.
    pub unknown: u64,
    /// Taken back.
    pub revoked: u64,
    /// Too old even for renewal.
    pub expired: u64,
}

/// What a page is made of.
pub struct Snapshot {
    /// When the collector started.
    pub started_unix_ms: i64,
    /// Memory and processor time.
    pub usage: Usage,
    /// Loops, and milliseconds since each was seen to make progress.
    pub stages: Vec<(&'static str, u64)>,
    /// What came in.
    pub books: Arc<Books>,
    /// What the loops tell.
    pub loops: Arc<Loops>,
    /// Batches waiting to be stored.
    pub queued: u64,
    /// What the store takes.
    pub size: Size,
    /// All sensors.
    pub sensors: Vec<Sensor>,
    /// Pages that watch.
    pub watchers: u64,
    /// Certificates.
    pub door: Door,
}

/// Every metric of the collector.
pub const FAMILIES: &[Family<Snapshot>] = &[
    Family {
        name: "netml_collector_info",
        kind: Kind::Gauge,
        unit: "1",
        labels: &["version"],
        help: "Always 1; the version of the collector.",
        read: |_, out| out.count_of(&[env!("CARGO_PKG_VERSION")], 1),
    },
    Family {
        name: "netml_collector_start_time_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "When the collector started, since 1970.",
        read: |of, out| out.number(of.started_unix_ms as f64 / 1e3),
    },
    Family {
        name: "netml_collector_resident_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Resident memory.",
        read: |of, out| out.count(of.usage.resident_bytes),
    },
    Family {
        name: "netml_collector_cpu_seconds_total",
        kind: Kind::Counter,
        unit: "seconds",
        labels: &[],
        help: "Processor time used, user and system.",
        read: |of, out| out.number(of.usage.cpu_seconds),
    },
    Family {
        name: "netml_collector_stage_progress_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &["stage"],
        help: "Time since a loop was last seen to wait for work or to have done some, as of this or an earlier look.",
        read: |of, out| {
            for (stage, ms) in &of.stages {
                out.number_of(&[stage], *ms as f64 / 1e3);
            }
        },
    },
    Family {
        name: "netml_collector_batches_in_total",
        kind: Kind::Counter,
        unit: "batches",
        labels: &[],
        help: "Batches whose fate is known.",
        read: |of, out| out.count(Books::get(&of.books.batches_in)),
    },
    Family {
        name: "netml_collector_batches_refused_total",
        kind: Kind::Counter,
        unit: "messages",
        labels: &["reason"],
        help: "Messages refused as a whole, by reason: no hello or a second one, of no known kind or version, a batch that is too large, damaged or miscounted, or of another sensor's stream.",
        read: |of, out| {
            for (reason, count) in of.books.refusals.all() {
                out.count_of(&[reason], count);
            }
        },
    },
    Family {
        name: "netml_collector_batches_failed_total",
        kind: Kind::Counter,
        unit: "batches",
        labels: &[],
        help: "Batches the store could not take; sensors send them again.",
        read: |of, out| out.count(Books::get(&of.books.batches_failed)),
    },
    Family {
        name: "netml_collector_records_in_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records of those batches: committed, duplicates or refused.",
        read: |of, out| out.count(Books::get(&of.books.records_in)),
    },
    Family {
        name: "netml_collector_records_committed_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records durably stored.",
        read: |of, out| out.count(Books::get(&of.books.records_stored)),
    },
    Family {
        name: "netml_collector_records_duplicate_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records that had been stored before.",
        read: |of, out| out.count(Books::get(&of.books.records_duplicate)),
    },
    Family {
        name: "netml_collector_records_refused_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records refused for an impossible value, or with their batch.",
        read: |of, out| out.count(Books::get(&of.books.records_refused)),
    },
    Family {
        name: "netml_collector_records_gap_total",
        kind: Kind::Counter,
        unit: "records",
        labels: &[],
        help: "Records that sensors gave up before they came here; not among those in.",
        read: |of, out| out.count(Books::get(&of.books.records_gap)),
    },
    Family {
        name: "netml_collector_commit_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time of a transaction of the store, failed ones included.",
        read: |of, out| out.histogram(&of.loops.commit_seconds),
    },
    Family {
        name: "netml_collector_queued_batches",
        kind: Kind::Gauge,
        unit: "batches",
        labels: &[],
        help: "Batches waiting for a transaction.",
        read: |of, out| out.count(of.queued),
    },
    Family {
        name: "netml_collector_store_failing",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: &[],
        help: "1 while the last transaction failed.",
        read: |of, out| out.count(of.loops.is_store_failing.load(Ordering::Relaxed).into()),
    },
    Family {
        name: "netml_collector_store_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Bytes of all day files with their logs: what retention bounds.",
        read: |of, out| out.count(of.size.bytes),
    },
    Family {
        name: "netml_collector_store_wal_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Of these the write-ahead logs.",
        read: |of, out| out.count(of.size.wal_bytes),
    },
    Family {
        name: "netml_collector_store_day_files",
        kind: Kind::Gauge,
        unit: "files",
        labels: &[],
        help: "Days that are kept.",
        read: |of, out| out.count(of.size.days),
    },
    Family {
        name: "netml_collector_days_removed_total",
        kind: Kind::Counter,
        unit: "files",
        labels: &[],
        help: "Days that went because they were beyond the retention.",
        read: |of, out| out.count(Books::get(&of.books.days_removed)),
    },
    Family {
        name: "netml_collector_state_forgotten_total",
        kind: Kind::Counter,
        unit: "entries",
        labels: &[],
        help: "Streams, counters and flows whose state left memory for want of room; it is read again from the store where it is needed.",
        read: |of, out| out.count(Books::get(&of.books.state_forgotten)),
    },
    Family {
        name: "netml_collector_sensors_connected",
        kind: Kind::Gauge,
        unit: "sensors",
        labels: &[],
        help: "Sensors connected now.",
        read: |of, out| {
            out.count(of.sensors.iter().filter(|sensor| sensor.connected).count() as u64)
        },
    },
    Family {
        name: "netml_collector_sensor_connected",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: &["sensor"],
        help: "1 while the sensor is connected; every sensor that was ever taken has a value.",
        read: |of, out| {
            for sensor in &of.sensors {
                out.count_of(&[&sensor.name], sensor.connected.into());
            }
        },
    },
    Family {
        name: "netml_collector_sensor_last_heard_time_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &["sensor"],
        help: "When the sensor was last heard, since 1970, to within 30 s.",
        read: |of, out| {
            for sensor in &of.sensors {
                out.number_of(&[&sensor.name], sensor.last_seen_unix_ms as f64 / 1e3);
            }
        },
    },
    Family {
        name: "netml_collector_sensor_clock_offset_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &["sensor"],
        help: "The sensor's clock less the collector's and less the way of a report, which is some tenths of a second. No value where the sensor is away, did not report, or replays a capture.",
        read: |of, out| {
            for sensor in &of.sensors {
                if let Some(ms) = sensor.clock_offset_ms {
                    out.number_of(&[&sensor.name], ms as f64 / 1e3);
                }
            }
        },
    },
    Family {
        name: "netml_collector_live_watchers",
        kind: Kind::Gauge,
        unit: "pages",
        labels: &[],
        help: "Pages that watch the live feed.",
        read: |of, out| out.count(of.watchers),
    },
    Family {
        name: "netml_collector_live_dropped_total",
        kind: Kind::Counter,
        unit: "updates",
        labels: &[],
        help: "Updates that the live feed was too slow for; they are stored all the same.",
        read: |of, out| out.count(Books::get(&of.books.live_dropped)),
    },
    Family {
        name: "netml_collector_connections_refused_total",
        kind: Kind::Counter,
        unit: "connections",
        labels: &["reason"],
        help: "Connections and streams turned away: too many, too slow, not TLS, or by a certificate that is not known, revoked, too old even for renewal, missing, or another sensor's.",
        read: |of, out| {
            let books = &of.books;
            for (reason, count) in [
                ("too-many", Books::get(&books.connections_refused)),
                ("timed-out", Books::get(&books.connections_timed_out)),
                ("tls-failed", Books::get(&books.tls_failed)),
                ("certificate-unknown", of.door.unknown),
                ("certificate-revoked", of.door.revoked),
                ("certificate-expired", of.door.expired),
                (
                    "certificate-missing",
                    Books::get(&books.certificates_missing),
                ),
                ("name-foreign", Books::get(&books.names_foreign)),
            ] {
                out.count_of(&[reason], count);
            }
        },
    },
    Family {
        name: "netml_collector_enrolments_refused_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: &[],
        help: "Enrolments and renewals refused.",
        read: |of, out| out.count(Books::get(&of.books.enrolments_refused)),
    },
];
