//! How fast a spool takes batches and gives them back, and what it costs in memory. Run with
//! `cargo test --release --workspace --test process spool_rates -- --ignored --nocapture --test-threads 1`
//! after `cargo build --release --workspace`, which makes the collector that is asked; `NETML_SPOOL_S`
//! sets the seconds without a collector (default 60).

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netml_agent::commands::identity;
use netml_agent::diagnose::Runner;
use netml_agent::export::batcher::{Limits, Sealer};
use netml_agent::export::convert::Context;
use netml_agent::export::outbox::WhenFull;
use netml_agent::export::spooler::Spooler;
use netml_agent::export::{Chunk, Client, Exporter, Observation, Watched};
use netml_agent::spool::fs::Directory;
use netml_agent::spool::{Moment, Settings, Spool};
use netml_proto::v1;
use std::sync::atomic::Ordering;

const RATE_PER_S: u64 = 5_000;

/// Growth of resident memory without a collector, in KiB.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// Least ratio of what drains to what comes.
const DRAIN_MIN: f64 = 3.0;

fn unix_ns() -> u64 {
    netml_agent::sys::unix_ns()
}

fn packet(n: u64) -> v1::Record {
    v1::Record {
        record: Some(v1::record::Record::Packet(v1::PacketSample {
            unix_ns: unix_ns(),
            src_ip: vec![10, 0, 0, 1],
            dst_ip: vec![10, 0, 1, (n % 200) as u8],
            src_port: 40_000,
            dst_port: (n % 60_000) as u32,
            ip_protocol: 6,
            wire_bytes: 1_000,
            segments: 1,
            tcp_flags: 0x12,
            direction: v1::Direction::Egress.into(),
            interface: "eth0".into(),
            verdict: v1::Verdict::Normal.into(),
            probability: 0.25,
            flow_id: n / 10,
            ..v1::PacketSample::default()
        })),
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1);
    kib.unwrap().parse().unwrap()
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "a measurement; see the module"]
fn append_and_read() {
    const BATCHES: u64 = 2_000;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = Directory::lock(folder.path()).unwrap();
    let settings = Settings::new("rates".into(), 1, 4 << 30);
    let mut sealer = Sealer::new(1);
    let batches: Vec<v1::Batch> = (0..BATCHES * 1_000)
        .filter_map(|n| sealer.push(&packet(n), 0).unwrap())
        .collect();
    let bytes: usize = batches.iter().map(|batch| batch.payload.len()).sum();
    let started = Instant::now();
    let now = || Moment {
        mono_ms: started.elapsed().as_millis() as u64,
        unix_ns: unix_ns(),
    };
    let mut spool = Spool::open(directory, settings, now()).unwrap();
    let begun = Instant::now();
    for batch in batches {
        spool.append(batch, now());
        spool.tick(0, now());
    }
    spool.close(BATCHES * 1_000, now());
    let told = |what: &str, seconds: f64| {
        println!(
            "{what}: {:.0} records/s, {:.1} MB/s, load {}",
            (BATCHES * 1_000) as f64 / seconds,
            bytes as f64 / 1e6 / seconds,
            load()
        );
    };
    told(
        "append, synced after 1 MiB or 500 ms",
        begun.elapsed().as_secs_f64(),
    );
    let begun = Instant::now();
    while let Some(batch) = spool.next(now()) {
        let seq = batch.first_seq + u64::from(batch.count) - 1;
        assert!(spool.ack(v1::Ack { stream_id: 1, seq }));
        spool.tick(0, now());
    }
    assert_eq!(spool.waiting(), 0);
    told(
        "read back, checked and removed",
        begun.elapsed().as_secs_f64(),
    );
}

/// The collector beside the sensor's program, ended at drop.
struct Collector(Child);

impl Collector {
    fn start(grpc: &str, data: &std::path::Path) -> Self {
        let agent = std::path::Path::new(env!("CARGO_BIN_EXE_netml-agent"));
        let mut child = Command::new(agent.with_file_name("netml-collector"))
            .args(["serve", "--web", "127.0.0.1:0", "--grpc", grpc, "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .map(Result::unwrap)
            .find(|line| line.starts_with("sensors: "));
        assert!(ready.is_some());
        Self(child)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement; see the module"]
async fn a_collector_that_is_away_costs_no_memory_and_what_waits_drains_faster_than_it_comes() {
    let seconds: u64 = std::env::var("NETML_SPOOL_S").map_or(60, |s| s.parse().unwrap());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut hello = identity::hello(
        "rates".into(),
        v1::Source::Live,
        Vec::new(),
        None,
        Vec::new(),
    )
    .unwrap();
    hello.stream_id = identity::random().unwrap();
    let directory = Directory::lock(&folder.path().join("spool")).unwrap();
    let settings = Settings::new("rates".into(), hello.stream_id, 4 << 30);
    let spool = Spool::open(directory, settings, Moment::default()).unwrap();
    let exporter = Exporter::start(Client {
        endpoint: identity::endpoint(&format!("http://{address}")).unwrap(),
        spool: Some(Spooler::start(spool, hello.stream_id).unwrap()),
        hello,
        context: Context {
            model: None,
            interfaces: Watched::default(),
        },
        limits: Limits::default(),
        when_full: WhenFull::Drop,
        runner: Runner::new(Vec::new()),
    });
    let state = exporter.state();
    let sender = exporter.sender();
    let made = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (count, over) = (made.clone(), is_over.clone());
    let source = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut refused = 0;
        while !over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let before = count.fetch_add(RATE_PER_S / 100, Ordering::Relaxed);
            let observations = (before..before + RATE_PER_S / 100)
                .map(|n| Observation::Record(Box::new(packet(n))));
            let chunk = Chunk {
                unix_offset_ns: 0,
                model: None,
                observations: observations.collect(),
            };
            refused += u64::from(sender.try_send(chunk).is_err());
        }
        refused
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let at_first = resident_kib();
    let mut highest = at_first;
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        highest = highest.max(resident_kib());
    }
    println!(
        "{seconds} s without a collector at {RATE_PER_S}/s: resident {at_first} KiB, at most {highest} KiB, \
         {} records wait, load {}",
        state.waiting.load(Ordering::Relaxed),
        load()
    );
    let _collector = Collector::start(&address, &folder.path().join("data"));
    while state.acked.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (begun, acked) = (Instant::now(), state.acked.load(Ordering::Relaxed));
    while state.waiting.load(Ordering::Relaxed) > RATE_PER_S {
        assert!(
            begun.elapsed() < Duration::from_secs(600),
            "it does not drain"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        highest = highest.max(resident_kib());
    }
    let taken = state.acked.load(Ordering::Relaxed) - acked;
    let rate = taken as f64 / begun.elapsed().as_secs_f64();
    println!(
        "drained {taken} in {:.1} s: {rate:.0} records/s, {:.1} times what comes; resident at most {highest} KiB, \
         load {}",
        begun.elapsed().as_secs_f64(),
        rate / RATE_PER_S as f64,
        load()
    );
    is_over.store(true, Ordering::Relaxed);
    let refused = source.await.unwrap();
    let delivered = exporter.finish().await.unwrap();
    println!("{refused} chunks found no room; {delivered:?}");
    assert_eq!(delivered.books.lost, 0);
    assert_eq!(delivered.undelivered, 0);
    assert!(highest - at_first <= GROWTH_KIB_MAX);
    assert!(rate >= DRAIN_MIN * RATE_PER_S as f64);
}
