//! How the sensor fares, for those who run it: metrics, life and readiness.
//!
//! Data in: a [`Snapshot`] a second from the thread that tells totals, and the stages' own counts of
//! work done. Data out: text, by [`endpoint`] over HTTP, and a yes or no for the service manager's
//! watchdog. The table of metrics is [`metrics::FAMILIES`].
//!
//! Invariant: a stage that stands still is told; a collector that is away is no stall.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netml_common::LOSS_REASONS;
use netml_proto::daemon::exposition;
use netml_proto::daemon::progress::{Gate, Sign};

pub mod endpoint;
pub mod metrics;

/// A stage without progress for longer than this is said to stand still.
pub const STALL_AFTER: Duration = Duration::from_secs(10);

/// One interface that is watched, and what passed it.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How its received packets are seen.
    pub ingress_mode: &'static str,
    /// How its sent packets are seen.
    pub egress_mode: &'static str,
    /// What is received is counted behind GRO.
    pub aggregated: bool,
    /// Wire packets received and sent since it was attached.
    pub packets: [u64; 2],
    /// Wire bytes, alike.
    pub bytes: [u64; 2],
}

/// The way to the collectors.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// URL of the collector.
    pub collector: String,
    /// A stream to it is open.
    pub connected: bool,
    /// Observations given up because the client's task was behind.
    pub observations_lost: u64,
    /// Records taken into batches.
    pub records_in: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records waiting.
    pub waiting: u64,
    /// The spool, where there is one.
    pub spool: Option<Spool>,
}

/// What waits on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spool {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Bound of them.
    pub bytes_max: u64,
    /// Records that wait in memory because the disk takes nothing.
    pub in_memory: u64,
    /// Books.
    pub books: crate::spool::Books,
}

/// The sensor at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its name.
    pub sensor: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Model that judges; None: none.
    pub model: Option<String>,
    /// When it started, unix seconds.
    pub started_unix_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Processor time used.
    pub cpu_seconds: f64,
    /// What it watches.
    pub interfaces: Vec<Interface>,
    /// What it is told to watch, for people.
    pub selection: String,
    /// Interfaces refused because all slots are taken.
    pub interfaces_refused: u64,
    /// Frames the kernel programs saw: `recorded + mapped + Σ` of the kernel's reasons in `lost`.
    pub frames: u64,
    /// Frames with a record.
    pub recorded: u64,
    /// Frames counted by flow in the kernel.
    pub mapped: u64,
    /// By [`netml_common::LossReason`].
    pub lost: [u64; LOSS_REASONS],
    /// Size of the ring.
    pub ring_bytes: u64,
    /// Bytes in it that were not read yet.
    pub ring_backlog_bytes: u64,
    /// Records read from it.
    pub ring_records: u64,
    /// The ring fills: known flows are counted in the kernel and sampled.
    pub stepped_down: bool,
    /// Latest change of that, unix seconds; None: none since attaching.
    pub mode_since_unix_s: Option<f64>,
    /// Times the sensor stepped down.
    pub step_downs: u64,
    /// Live flows.
    pub flows_live: u64,
    /// Bound of them.
    pub flows_max: u64,
    /// Flows begun.
    pub flows_started: u64,
    /// Flows ended.
    pub flows_ended: u64,
    /// Flows that ended because their place was needed.
    pub flows_evicted: u64,
    /// Hosts forgotten because their place was needed.
    pub hosts_evicted: u64,
    /// What is usual for a host, forgotten because its place was needed.
    pub baselines_evicted: u64,
    /// Rows that the model judged.
    pub rows: u64,
    /// The way to the collectors; None: there is none.
    pub export: Option<Export>,
}

/// The sensor as it is seen from outside; shared by those who tell and those who ask.
pub struct Observed {
    started: Instant,
    snapshot: Mutex<Option<Snapshot>>,
    gate: Mutex<Gate>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            snapshot: Mutex::default(),
            gate: Mutex::default(),
        }
    }
}

impl Observed {
    /// Adds a stage whose progress is a condition of life.
    pub fn add_stage(&self, name: &'static str, look: impl Fn() -> Sign + Send + 'static) {
        self.gate().add(name, self.now_ms(), look);
    }

    /// How it fares now.
    pub fn set(&self, snapshot: Snapshot) {
        *self.snapshot() = Some(snapshot);
    }

    /// Stages without progress for longer than `limit`, in words.
    #[must_use]
    pub fn stalled(&self, limit: Duration) -> Vec<String> {
        self.gate().stalled_in_words(self.now_ms(), limit)
    }

    /// What keeps the sensor from its work, in words; empty: it is ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let mut why = self.stalled(STALL_AFTER);
        let snapshot = self.snapshot();
        let Some(snapshot) = snapshot.as_ref() else {
            why.push("the first report is not made yet".into());
            return why;
        };
        if snapshot.interfaces.is_empty() {
            why.push(format!(
                "no interface is attached; waiting for {}",
                snapshot.selection
            ));
        }
        let spool = snapshot.export.as_ref().and_then(|export| export.spool);
        if let Some(spool) = spool.filter(|spool| spool.in_memory > 0) {
            why.push(format!(
                "the disk of the spool takes nothing: {} records wait in memory",
                spool.in_memory
            ));
        }
        why
    }

    /// The page of metrics; None before the first report.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        let ages = self.gate().look(self.now_ms());
        let snapshot = self.snapshot();
        let reading = metrics::Reading {
            snapshot: snapshot.clone()?,
            stages: ages,
        };
        Some(exposition::page(metrics::FAMILIES, &reading))
    }

    /// One line for the service manager.
    #[must_use]
    pub fn status_line(&self) -> String {
        let snapshot = self.snapshot();
        let Some(snapshot) = snapshot.as_ref() else {
            return "starting".into();
        };
        let names: Vec<&str> = snapshot.interfaces.iter().map(|i| &*i.name).collect();
        let watches = match names[..] {
            [] => format!("waits for {}", snapshot.selection),
            _ => format!("watches {}", names.join(", ")),
        };
        let lost: u64 = snapshot.lost_packets();
        let export = snapshot.export.as_ref().map_or_else(String::new, |export| {
            let way = if export.connected {
                "collector connected"
            } else {
                "collector away"
            };
            format!("; {way}, {} records wait", export.waiting)
        });
        format!(
            "{watches}; {} flows, {lost} packets lost{export}",
            snapshot.flows_live
        )
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn snapshot(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Packets missing from the analysis: what the kernel lost, but for frames that are not IP.
    fn lost_packets(&self) -> u64 {
        use netml_common::{KERNEL_LOSS_REASONS, LossReason};
        LossReason::ALL
            .iter()
            .filter(|reason| reason.index() < KERNEL_LOSS_REASONS && !reason.is_not_ip())
            .map(|reason| self.lost[reason.index()])
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use netml_common::LossReason;
    use netml_proto::daemon::exposition::parse;

    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot {
            sensor: "edge-1".into(),
            interfaces: vec![Interface {
                name: "eth0".into(),
                ingress_mode: "native-xdp",
                egress_mode: "tcx",
                packets: [7, 8],
                bytes: [700, 800],
                ..Interface::default()
            }],
            frames: 20,
            recorded: 12,
            mapped: 3,
            export: Some(Export {
                collector: "https://c:1/\"\\".into(),
                acked: 9,
                spool: Some(Spool::default()),
                ..Export::default()
            }),
            model: Some("m".into()),
            ..Snapshot::default()
        };
        for (n, reason) in (1..).zip([LossReason::RingFull, LossReason::Arp]) {
            snapshot.lost[reason.index()] = n;
        }
        snapshot.lost[LossReason::BadIpv4Header.index()] = 2;
        snapshot.lost[LossReason::SampleBudget.index()] = 1_000;
        snapshot
    }

    #[test]
    fn the_page_holds_each_reason_and_the_books_of_the_kernel() {
        let observed = Observed::default();
        assert!(observed.page().is_none());
        observed.set(snapshot());
        let page = parse::parse(&observed.page().unwrap()).unwrap();
        let lost = "netml_agent_lost_total";
        assert_eq!(page.samples(lost).count(), LossReason::ALL.len());
        for reason in LossReason::ALL {
            let value = page.value(lost, &[("reason", reason.name())]);
            assert_eq!(value, Some(snapshot().lost[reason.index()] as f64));
        }
        let kernel: u64 = LossReason::ALL
            .iter()
            .filter(|reason| reason.index() < netml_common::KERNEL_LOSS_REASONS)
            .filter_map(|reason| page.count(lost, &[("reason", reason.name())]))
            .sum();
        let of = |name| page.count(name, &[]).unwrap();
        assert_eq!(
            of("netml_agent_frames_total"),
            of("netml_agent_recorded_frames_total")
                + of("netml_agent_mapped_frames_total")
                + kernel
        );
        assert_eq!(
            page.value("netml_agent_acked_records_total", &[]),
            Some(9.0)
        );
        let connected = page.value(
            "netml_agent_collector_connected",
            &[("collector", "https://c:1/\"\\")],
        );
        assert_eq!(connected, Some(0.0), "told though it is away");
        let received = [("interface", "eth0"), ("direction", "ingress")];
        let packets = page.value("netml_agent_packets_total", &received);
        assert_eq!(packets, Some(7.0));
    }

    #[test]
    fn every_metric_of_the_table_has_a_value_where_all_is_there() {
        let observed = Observed::default();
        observed.add_stage("capture", || Sign::Idle);
        let mut whole = snapshot();
        whole.mode_since_unix_s = Some(1.5);
        observed.set(whole);
        let page = parse::parse(&observed.page().unwrap()).unwrap();
        let empty: Vec<_> = page
            .families()
            .iter()
            .filter(|metric| metric.samples.is_empty())
            .collect();
        assert!(empty.is_empty(), "{empty:?}");
        assert_eq!(page.families().len(), metrics::FAMILIES.len());
    }

    #[test]
    fn a_sensor_is_ready_once_it_watches_and_its_disk_takes() {
        let observed = Observed::default();
        assert_eq!(observed.unready().len(), 1);
        observed.set(snapshot());
        assert!(observed.unready().is_empty());
        let mut waiting = snapshot();
        waiting.interfaces.clear();
        waiting.selection = "eth9".into();
        let export = waiting.export.as_mut().unwrap();
        export.connected = false;
        export.spool.as_mut().unwrap().in_memory = 5;
        observed.set(waiting);
        let why = observed.unready();
        assert_eq!(why.len(), 2, "{why:?}");
        assert!(why[0].contains("eth9") && why[1].contains("5 records"));
    }

    #[test]
    fn a_stage_that_stands_still_is_named() {
        let observed = Observed::default();
        let turns = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&turns);
        observed.add_stage("capture", move || Sign::Done(read.load(Ordering::Relaxed)));
        observed.add_stage("spool", || Sign::Idle);
        assert!(observed.stalled(STALL_AFTER).is_empty());
        std::thread::sleep(Duration::from_millis(3));
        let stalled = observed.stalled(Duration::from_millis(1));
        assert_eq!(stalled.len(), 1, "{stalled:?}");
        assert!(stalled[0].starts_with("capture has"));
        turns.store(1, Ordering::Relaxed);
        assert!(observed.stalled(Duration::from_millis(1)).is_empty());
    }

    #[test]
    fn the_status_line_tells_the_essentials() {
        let observed = Observed::default();
        assert_eq!(observed.status_line(), "starting");
        observed.set(snapshot());
        let line = observed.status_line();
        assert!(line.contains("watches eth0") && line.contains("3 packets lost"));
        assert!(line.contains("collector away"), "{line}");
    }
}
