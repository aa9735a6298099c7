//! Measurements from the sensor's export to the collector's disk, run by `cargo xtask bench link`: records a
//! second acknowledged (the store syncs each transaction), by mutual TLS and in plain text in turn, and
//! memory of the collector while ten sensors offer all they can. `NETML_ROUNDS` and `NETML_ROUND_S` set the
//! rounds (default 5) and their seconds (default 8).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netml_agent::export::credentials::Credentials;
use netml_agent::export::{Chunk, Exporter, Observation, Pace, Transport};
use netml_proto::v1;

use super::harness::{Collector, flow, hello, packet};
use super::link::export_to;
use super::tls;

/// What has to be reached, in records a second.
const RATE_MIN: f64 = 40_000.0;

/// Bound of the collector's memory under overload.
const RESIDENT_MIB_MAX: u64 = 512;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Records of a busy host: packets, and one in ten a flow.
fn chunk(from: u64) -> Chunk {
    let record = |n: u64| {
        let record = if n.is_multiple_of(10) {
            let state = [v1::FlowState::Start, v1::FlowState::End][(n / 10 % 2) as usize];
            v1::record::Record::Flow(flow(n / 20, state, n % 100 + 1, v1::Verdict::Normal))
        } else {
            packet(u32::try_from(n % 1_000_000).unwrap())
        };
        Observation::Record(Box::new(v1::Record {
            record: Some(record),
        }))
    };
    Chunk {
        unix_offset_ns: 0,
        model: None,
        observations: (from..from + 250).map(record).collect(),
    }
}

/// A sensor that sends as fast as it is let.
struct Source {
    exporter: Exporter,
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Source {
    fn start(transport: Transport, name: &str, stream_id: u64) -> Self {
        let exporter = export_to(
            vec![transport],
            Pace::default(),
            hello(name, stream_id),
            None,
        );
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, over) = (exporter.sender(), Arc::clone(&is_over));
        let state = exporter.state();
        let task = tokio::spawn(async move {
            let mut made = 0;
            while !over.load(Ordering::Relaxed) {
                // Half of what may wait in memory: more would be given up and not measured.
                if state.waiting.load(Ordering::Relaxed) > 50_000 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                sender.send(chunk(made)).await.unwrap();
                made += 250;
            }
        });
        Self {
            exporter,
            is_over,
            task,
        }
    }

    async fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let delivered = self.exporter.finish().await.unwrap();
        assert_eq!(delivered.books.lost + delivered.undelivered, 0);
        delivered.books.acked
    }
}

fn status_kib(id: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn way(collector: &Collector, identity: Option<&Path>) -> Transport {
    let identity = identity.map(|path| (path, Credentials::read(path).unwrap()));
    Transport::new(&collector.grpc, identity).unwrap()
}

/// Records a second acknowledged over a round, its first second left out.
async fn rate(transport: Transport, name: &str, stream_id: u64) -> f64 {
    let source = Source::start(transport, name, stream_id);
    let state = source.exporter.state();
    let acked = || state.acked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), acked());
    tokio::time::sleep(Duration::from_secs(setting("NETML_ROUND_S", 8))).await;
    let rate = (acked() - before) as f64 / begun.elapsed().as_secs_f64();
    source.stop().await;
    rate
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement; see the module"]
async fn records_a_second_to_the_disk_by_tls_and_in_plain_text() {
    let (data, by_tls) = tls::with_authority();
    let identity = tls::enrolled(data.path(), &by_tls, "edge-1").await.0;
    let directory = tempfile::tempdir().unwrap();
    let plain = Collector::start(directory.path());
    let (mut secure, mut open, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..setting("NETML_ROUNDS", 5) {
        let stream_id = 100 + round;
        let tls = rate(way(&by_tls, Some(&identity)), "edge-1", stream_id).await;
        let text = rate(way(&plain, None), "edge-1", stream_id).await;
        println!(
            "round {round}: {tls:.0} records/s by TLS, {text:.0} in plain text, load {}",
            load()
        );
        secure.push(tls);
        open.push(text);
        ratios.push(tls / text);
    }
    let (tls, text) = (median(&mut secure), median(&mut open));
    println!(
        "median: {tls:.0} records/s by TLS ({:.0} to {:.0}; {RATE_MIN} wanted), {text:.0} in plain text, ratio {:.2}; \
         this process at most {} MiB, the collector {} MiB",
        secure[0],
        secure[secure.len() - 1],
        median(&mut ratios),
        status_kib("self", "VmHWM:") / 1_024,
        status_kib(&by_tls.child.id().to_string(), "VmHWM:") / 1_024,
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; see the module"]
async fn memory_of_the_collector_while_ten_sensors_offer_all_they_can() {
    let (data, collector) = tls::with_authority();
    let mut sources = Vec::new();
    for n in 0..10 {
        let name = format!("edge-{n}");
        let identity = tls::enrolled(data.path(), &collector, &name).await.0;
        sources.push(Source::start(
            way(&collector, Some(&identity)),
            &name,
            n + 1,
        ));
    }
    let seconds = 4 * setting("NETML_ROUND_S", 8);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let id = collector.child.id().to_string();
    let (now, most) = (status_kib(&id, "VmRSS:"), status_kib(&id, "VmHWM:"));
    let mut acked = 0;
    for source in sources {
        acked += source.exporter.state().acked.load(Ordering::Relaxed);
        source.is_over.store(true, Ordering::Relaxed);
        drop(source.task.await);
    }
    println!(
        "{acked} records in {seconds} s; the collector holds {} MiB, at most {} MiB of {RESIDENT_MIB_MAX}; load {}",
        now / 1_024,
        most / 1_024,
        load()
    );
    assert!(most / 1_024 <= RESIDENT_MIB_MAX);
}
