//! A sensor's export at a steady rate into the collector itself: killed over and over nothing is lost or
//! doubled. And measurements: how fast a spool takes batches and gives them back, and what it costs in
//! memory. Those run with
//! `cargo test --release --workspace --test process spool_rates -- --ignored --nocapture --test-threads 1`
//! after `cargo build --release --workspace`, which makes the collector that is asked; `NETML_SPOOL_S`
//! sets the seconds without a collector (default 60).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netml_agent::commands::identity;
use netml_agent::diagnose::Runner;
use netml_agent::export::batcher::{Limits, Sealer};
use netml_agent::export::convert::Context;
use netml_agent::export::outbox::WhenFull;
use netml_agent::export::spooler::Spooler;
use netml_agent::export::{
    Chunk, Client, Delivered, Exporter, Observation, Pace, Transport, Watched,
};
use netml_agent::spool::fs::Directory;
use netml_agent::spool::{Moment, Settings, Spool};
use netml_proto::v1;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

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
struct Collector {
    child: Child,
    web: String,
}

impl Collector {
    /// Made by `cargo build` or `cargo test` of the workspace.
    fn program() -> PathBuf {
        Path::new(env!("CARGO_BIN_EXE_netml-agent")).with_file_name("netml-collector")
    }

    fn start(grpc: &str, data: &Path) -> Self {
        let mut child = Command::new(Self::program())
            .args(["serve", "--web", "127.0.0.1:0", "--grpc", grpc, "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let dashboard = lines
            .find_map(|line| Some(line.strip_prefix("dashboard: http://")?.to_owned()))
            .unwrap();
        assert!(lines.any(|line| line.starts_with("sensors: ")));
        let web = dashboard.split('/').next().unwrap().to_owned();
        Self { child, web }
    }

    fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.web).unwrap();
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.web
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An export with a spool, and records at a steady rate into it.
struct Sensor {
    exporter: Exporter,
    is_over: Arc<AtomicBool>,
    /// Records made, and those that found no room.
    source: JoinHandle<(u64, u64)>,
}

impl Sensor {
    fn start(folder: &Path, address: &str, rate_per_s: u64) -> Self {
        let mut hello = identity::hello(
            "rates".into(),
            v1::Source::Live,
            Vec::new(),
            None,
            Vec::new(),
        )
        .unwrap();
        hello.stream_id = identity::random().unwrap();
        let directory = Directory::lock(&folder.join("spool")).unwrap();
        let settings = Settings::new("rates".into(), hello.stream_id, 4 << 30);
        let spool = Spool::open(directory, settings, Moment::default()).unwrap();
        let exporter = Exporter::start(Client {
            transports: vec![Transport::new(&format!("http://{address}"), None).unwrap()],
            pace: Pace::default(),
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
        let sender = exporter.sender();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let source = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            let (mut made, mut refused) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                ticks.tick().await;
                let next = made + rate_per_s / 100;
                let observations = (made..next).map(|n| Observation::Record(Box::new(packet(n))));
                let chunk = Chunk {
                    unix_offset_ns: 0,
                    model: None,
                    observations: observations.collect(),
                };
                if sender.try_send(chunk).is_err() {
                    refused += next - made;
                }
                made = next;
            }
            (made, refused)
        });
        Self {
            exporter,
            is_over,
            source,
        }
    }

    /// Ends the source and flushes: records made, refused, and what became of the others.
    async fn finish(self) -> (u64, u64, Delivered) {
        self.is_over.store(true, Ordering::Relaxed);
        let (made, refused) = self.source.await.unwrap();
        (made, refused, self.exporter.finish().await.unwrap())
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// 5 kills, 50 with `NETML_LONG`.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_over_and_over_stores_every_record_once() {
    if !Collector::program().exists() {
        let is_required = std::env::var_os("NETML_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!is_required, "no netml-collector beside the sensor");
        println!("skipped: build the workspace first, for netml-collector");
        return;
    }
    let kills = if std::env::var_os("NETML_LONG").is_some() {
        50
    } else {
        5
    };
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let data = folder.path().join("data");
    let sensor = Sensor::start(folder.path(), &address, 10_000);
    let state = sensor.exporter.state();
    let deadline = Instant::now() + Duration::from_secs(60 + 20 * kills);
    let until_acked = async |more: u64| {
        let wanted = state.acked.load(Ordering::Relaxed) + more;
        while state.acked.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "nothing is stored");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for kill in 0..kills {
        let collector = Collector::start(&address, &data);
        // Somewhere within what follows, by kill numbers that have no period in common with batches.
        until_acked(1 + kill * 3_701 % 9_973).await;
        drop(collector);
    }
    let collector = Collector::start(&address, &data);
    until_acked(10_000).await;
    let (made, refused, delivered) = sensor.finish().await;
    assert_eq!(
        delivered.books.lost + delivered.undelivered + refused,
        0,
        "{delivered:?}"
    );
    // What was not acknowledged within the flush is taken from the spool by the next start.
    if delivered.kept > Some(0) {
        let next = Sensor::start(folder.path(), &address, 0);
        let state = next.exporter.state();
        while state.waiting.load(Ordering::Relaxed) > 0 || state.acked.load(Ordering::Relaxed) == 0
        {
            assert!(Instant::now() < deadline, "the rest does not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        next.finish().await;
    }
    let newest = collector.get("/api/packets?limit=1");
    let id = newest["items"][0]["id"].as_str().unwrap().to_owned();
    let (_, rows) = id.split_once('-').unwrap();
    assert_eq!(rows, made.to_string(), "rows stored, numbered from 1");
    let events = collector.get("/api/events?limit=100");
    assert_eq!(events["items"].as_array().unwrap().len(), 0, "{events}");
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement; see the module"]
async fn a_collector_that_is_away_costs_no_memory_and_what_waits_drains_faster_than_it_comes() {
    let seconds: u64 = std::env::var("NETML_SPOOL_S").map_or(60, |s| s.parse().unwrap());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let address = free_address();
    let sensor = Sensor::start(folder.path(), &address, RATE_PER_S);
    let state = sensor.exporter.state();
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
    let (made, refused, delivered) = sensor.finish().await;
    println!("{made} made, {refused} found no room; {delivered:?}");
    assert_eq!(delivered.books.lost, 0);
    assert_eq!(delivered.undelivered, 0);
    assert!(highest - at_first <= GROWTH_KIB_MAX);
    assert!(rate >= DRAIN_MIN * RATE_PER_S as f64);
}
