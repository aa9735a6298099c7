//! Long runs: memory at a steady rate, and the highest rate. Run with
//! `cargo test --release --workspace --test process soak -- --ignored --nocapture`;
//! `NETML_SOAK_S` sets the seconds of the first (default 60).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use netml_proto::v1;

use super::harness::{Collector, Sensor, batch, counters, flow, hello, packet};

/// Bound of the collector's resident memory.
const RESIDENT_MIB_MAX: u64 = 256;

/// Growth over the second half of the run that an hour may show, in MiB.
const GROWTH_MIB_PER_HOUR_MAX: f64 = 64.0;

const RATE_PER_S: u64 = 1_000;

/// More flows than the collector remembers.
const WARM_UP_BATCHES: u64 = 70;

fn resident_mib(collector: &Collector) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", collector.child.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1_024
}

/// One second of a host: packets, and flows of ever new peers.
fn second(n: u64) -> Vec<v1::record::Record> {
    let mut records: Vec<v1::record::Record> = (0..880)
        .map(|p| packet(u32::try_from(n * 880 + p).unwrap()))
        .collect();
    for f in 0..118 {
        let id = n * 59 + f / 2;
        let state = [v1::FlowState::Start, v1::FlowState::Update][usize::try_from(f % 2).unwrap()];
        let mut flow = flow(id, state, f + 1, v1::Verdict::Normal);
        flow.src_ip = Ipv4Addr::from(u32::try_from(id).unwrap()).octets().to_vec();
        records.push(v1::record::Record::Flow(flow));
    }
    records.push(counters(1, v1::Direction::Ingress, n * 900));
    records.push(counters(1, v1::Direction::Egress, n * 300));
    records
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long; see the module"]
async fn memory_stays_bounded_at_a_thousand_records_a_second() {
    let seconds: u64 = std::env::var("NETML_SOAK_S").map_or(60, |s| s.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let _live = collector.live();
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    // First the caches are filled to their bounds, or their filling would be taken for a leak.
    for n in 0..WARM_UP_BATCHES {
        let flows = (0..RATE_PER_S).map(|f| {
            let id = (1 << 32) + n * RATE_PER_S + f;
            v1::record::Record::Flow(flow(id, v1::FlowState::Start, 1, v1::Verdict::Normal))
        });
        sensor
            .send(batch(2, n * RATE_PER_S + 1, flows.collect()))
            .await;
        assert_eq!(sensor.ack().await, (n + 1) * RATE_PER_S);
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut middle = 0;
    let mut highest = 0;
    for n in 0..seconds {
        ticks.tick().await;
        sensor.send(batch(1, n * RATE_PER_S + 1, second(n))).await;
        assert_eq!(sensor.ack().await, (n + 1) * RATE_PER_S);
        for path in [
            "/api/packets",
            "/api/flows",
            "/api/talkers",
            "/api/traffic",
            "/api/sensors",
        ] {
            collector.get(path);
        }
        let resident = resident_mib(&collector);
        highest = highest.max(resident);
        if n == seconds / 2 {
            middle = resident;
        }
    }
    let end = resident_mib(&collector);
    let hours = f64::from(u32::try_from(seconds).unwrap()) / 2.0 / 3_600.0;
    let slope = (f64::from(u32::try_from(end).unwrap())
        - f64::from(u32::try_from(middle).unwrap()))
        / hours;
    println!(
        "{seconds} s at {RATE_PER_S}/s: highest {highest} MiB, half-way {middle}, end {end}, slope {slope:.0} MiB/h"
    );
    assert!(highest <= RESIDENT_MIB_MAX);
    // A few MiB over a short run are grain, not a slope.
    assert!(end <= middle + 4 || slope <= GROWTH_MIB_PER_HOUR_MAX);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; see the module"]
async fn highest_rate() {
    const BATCHES: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    let batches: Vec<v1::Batch> = (0..BATCHES)
        .map(|n| batch(1, n * RATE_PER_S + 1, second(n)))
        .collect();
    let outgoing = sensor.outgoing.clone();
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for batch in batches {
            let message = v1::SensorMessage {
                message: Some(v1::sensor_message::Message::Batch(batch)),
            };
            outgoing.send(message).await.unwrap();
        }
    });
    while sensor.ack().await < BATCHES * RATE_PER_S {}
    sending.await.unwrap();
    let rate =
        f64::from(u32::try_from(BATCHES * RATE_PER_S).unwrap()) / start.elapsed().as_secs_f64();
    println!(
        "{rate:.0} records/s, {} MiB resident",
        resident_mib(&collector)
    );
    assert!(resident_mib(&collector) <= RESIDENT_MIB_MAX);
    for path in [
        "/api/packets",
        "/api/packets?address=192.0.2.250",
        "/api/talkers?by=source",
        "/api/totals",
    ] {
        let asked = Instant::now();
        collector.get(path);
        println!("{path}: {:.1} ms", asked.elapsed().as_secs_f64() * 1_000.0);
    }
}
