//! The sensor's own export over a way that fails: nothing is lost and nothing doubled, counted in the
//! store against what was sent. `NETML_SEEDS` sets how many sensors try (default 16 each way).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use netml_agent::diagnose::Runner;
use netml_agent::export::batcher::Limits;
use netml_agent::export::convert::Context;
use netml_agent::export::credentials::Credentials;
use netml_agent::export::outbox::WhenFull;
use netml_agent::export::spooler::Spooler;
use netml_agent::export::{Chunk, Client, Exporter, Observation, Pace, Transport, Watched};
use netml_agent::spool::fs::Directory;
use netml_agent::spool::{Moment, Settings, Spool};
use netml_proto::v1;
use tonic::{Code, Status};

use super::harness::{Collector, Sensor, batch, command, command_at, hello, packet};
use super::proxy::{Fault, Kind, Proxy, Random, Way};
use super::tls;

/// Records that each sensor sends, numbered by their ports.
const RECORDS: u32 = 2_000;

/// Records handed to the export at once, and the time to the next; a batch is made every 200 ms.
const CHUNK_RECORDS: u32 = 50;
const CHUNK_PAUSE: Duration = Duration::from_millis(40);

/// Connections of each sensor that something happens to; then the way is a good one.
const FAULTY_CONNECTIONS: u64 = 4;

/// Longest wait. A connection that is silent is found dead after 20 s.
const PATIENCE: Duration = Duration::from_secs(180);

fn seeds() -> u64 {
    std::env::var("NETML_SEEDS").map_or(16, |seeds| seeds.parse::<u64>().unwrap().min(100))
}

fn numbered(from: u32, to: u32) -> Chunk {
    let records = (from..to).map(|n| v1::Record {
        record: Some(packet(n)),
    });
    Chunk {
        unix_offset_ns: 0,
        model: None,
        observations: records
            .map(|record| Observation::Record(Box::new(record)))
            .collect(),
    }
}

/// The export of a sensor; its records wait in memory, or in a spool.
fn export(transport: Transport, hello: v1::Hello, spool: Option<&Path>) -> Exporter {
    export_to(vec![transport], Pace::default(), hello, spool)
}

pub(crate) fn export_to(
    transports: Vec<Transport>,
    pace: Pace,
    hello: v1::Hello,
    spool: Option<&Path>,
) -> Exporter {
    let spool = spool.map(|folder| {
        let settings = Settings::new(hello.sensor.clone(), hello.stream_id, 1 << 30);
        let directory = Directory::lock(folder).unwrap();
        let spool = Spool::open(directory, settings, Moment::default()).unwrap();
        Spooler::start(spool, hello.stream_id).unwrap()
    });
    Exporter::start(Client {
        transports,
        pace,
        hello,
        context: Context {
            model: None,
            interfaces: Watched::default(),
        },
        limits: Limits::default(),
        spool,
        when_full: WhenFull::Drop,
        runner: Runner::new(Vec::new()),
    })
}

/// Sends all records of a sensor and waits until the collector has them.
async fn deliver(exporter: Exporter, seed: u64) {
    let (sender, state) = (exporter.sender(), exporter.state());
    for from in (0..RECORDS).step_by(CHUNK_RECORDS as usize) {
        let chunk = numbered(from, from + CHUNK_RECORDS);
        assert!(sender.send(chunk).await.is_ok(), "seed {seed}");
        tokio::time::sleep(CHUNK_PAUSE).await;
    }
    drop(sender);
    let deadline = Instant::now() + PATIENCE;
    while state.acked.load(Ordering::Relaxed) < u64::from(RECORDS) {
        assert!(Instant::now() < deadline, "seed {seed}: {state:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let delivered = exporter.finish().await.unwrap();
    let books = delivered.books;
    assert_eq!(
        (
            books.records_in,
            books.acked,
            books.lost,
            delivered.undelivered
        ),
        (u64::from(RECORDS), u64::from(RECORDS), 0, 0),
        "seed {seed}"
    );
}

/// How often each number of a sensor is in the store.
fn stored(collector: &Collector, sensor: &str) -> BTreeMap<u64, u32> {
    let mut found = BTreeMap::new();
    let mut before = String::new();
    loop {
        let page = collector.get(&format!(
            "/api/packets?limit=1000&sensor={sensor}&before={before}"
        ));
        for item in page["items"].as_array().unwrap() {
            *found.entry(item["dst_port"].as_u64().unwrap()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut before),
            None => return found,
        }
    }
}

fn address(collector: &Collector) -> std::net::SocketAddr {
    let (_, address) = collector.grpc.split_once("://").unwrap();
    address.parse().unwrap()
}

/// Something happens to the first connections of each sensor, of all kinds in turn.
fn plan(seed: u64, kinds: &'static [Kind]) -> super::proxy::Plan {
    Box::new(move |number, random: &mut Random| {
        if number >= FAULTY_CONNECTIONS {
            return None;
        }
        let way = [Way::ToCollector, Way::ToCollector, Way::ToSensor][random.below(3) as usize];
        // In the handshake, in the hello, within the first batches or far behind. Little comes back.
        let exponent = match way {
            Way::ToCollector => 8 + random.below(10),
            Way::ToSensor => 5 + random.below(7),
        };
        Some(Fault {
            kind: kinds[((seed + number) % kinds.len() as u64) as usize],
            way,
            after_bytes: random.below(1 << exponent),
        })
    })
}

/// Many sensors at once, each over a way of its own.
async fn over_bad_ways<F>(collector: &Arc<Collector>, kinds: &'static [Kind], transport: F)
where
    F: Fn(u64, std::net::SocketAddr) -> Transport,
{
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = Vec::new();
    for seed in 0..seeds() {
        let proxy = Proxy::start(address(collector), seed, plan(seed, kinds)).await;
        let name = format!("link-{seed}");
        let spool = folder.path().join(&name);
        let exporter = export(
            transport(seed, proxy.address),
            hello(&name, 1_000 + seed),
            (seed % 2 == 1).then_some(&spool),
        );
        tasks.push((
            proxy,
            tokio::spawn(async move { deliver(exporter, seed).await }),
        ));
    }
    let mut happened = vec![0; kinds.len()];
    for (proxy, task) in tasks {
        task.await.unwrap();
        for (count, kind) in happened.iter_mut().zip(kinds) {
            *count += proxy.happened(*kind);
        }
    }
    assert!(happened.iter().all(|count| *count > 0), "{happened:?}");
    for seed in 0..seeds() {
        let found = stored(collector, &format!("link-{seed}"));
        let wrong: Vec<_> = (0..u64::from(RECORDS))
            .filter(|n| found.get(n) != Some(&1))
            .collect();
        assert!(wrong.is_empty(), "seed {seed}: lost or doubled: {wrong:?}");
        assert_eq!(found.len(), RECORDS as usize, "seed {seed}: never sent");
    }
    let sensors = collector.items("/api/sensors");
    assert_eq!(sensors.len() as u64, seeds(), "no other sensor came of it");
    let books = collector.get("/api/status")["books"].clone();
    let of = |name: &str| books[name].as_u64().unwrap();
    assert_eq!(of("records_stored"), seeds() * u64::from(RECORDS));
    assert_eq!(
        of("records_in"),
        of("records_stored") + of("records_duplicate")
    );
    assert_eq!((of("records_refused"), of("records_gap")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_delays_cuts_and_falls_silent_loses_and_doubles_nothing() {
    const KINDS: [Kind; 5] = [
        Kind::Delay,
        Kind::Cut,
        Kind::HalfClose,
        Kind::Rate,
        Kind::Stall,
    ];
    let directory = tempfile::tempdir().unwrap();
    let collector = Arc::new(Collector::start(directory.path()));
    over_bad_ways(&collector, &KINDS, |_, address| {
        Transport::new(&format!("http://{address}"), None).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_also_changes_doubles_and_swaps_bytes_loses_and_doubles_nothing_under_tls() {
    let (data, collector) = tls::with_authority();
    let collector = Arc::new(collector);
    let mut identities = Vec::new();
    for seed in 0..seeds() {
        let name = format!("link-{seed}");
        identities.push(tls::enrolled(data.path(), &collector, &name).await.0);
    }
    over_bad_ways(&collector, &Kind::ALL, |seed, address| {
        let path = &identities[seed as usize];
        let credentials = Credentials::read(path).unwrap();
        Transport::new(&format!("https://{address}"), Some((path, credentials))).unwrap()
    })
    .await;
}

/// A proxy that does one thing to every connection.
async fn always(collector: &Collector, seed: u64, fault: Fault) -> Proxy {
    let plan = move |_: u64, _: &mut Random| Some(fault);
    Proxy::start(address(collector), seed, Box::new(plan)).await
}

fn with_causes(status: &Status) -> String {
    let mut text = format!("{status:?}");
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Bytes of a batch of packets, of which the payload begins within the first 100 behind the hello.
const BATCH_BYTES: u64 = 60_000;

const CHANGES: [Kind; 3] = [Kind::Corrupt, Kind::Duplicate, Kind::Swap];

fn change(seed: u64) -> Fault {
    Fault {
        kind: CHANGES[(seed % 3) as usize],
        way: Way::ToCollector,
        after_bytes: 10_000 + Random::new(seed).below(BATCH_BYTES - 20_000),
    }
}

fn large_batch() -> v1::Batch {
    let batch = batch(1, 1, (0..1_000).map(packet).collect());
    assert!(batch.payload.len() as u64 > BATCH_BYTES);
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_of_a_batch_end_the_stream_by_name_and_nothing_of_it_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut by_checksum = 0;
    for seed in 0..12 {
        let proxy = always(&collector, seed, change(seed)).await;
        let message = v1::sensor_message::Message::Hello(hello("host-a", 1));
        let url = format!("http://{}", proxy.address);
        let mut sensor = Sensor::open_at(&url, message).await;
        sensor.send(large_batch()).await;
        let status = sensor.refusal().await;
        let said = with_causes(&status);
        // What hits the frames of HTTP/2 around the payload is told by their library.
        let is_checksum = status.code() == Code::DataLoss && said.contains("checksum");
        let is_frame = said.contains("h2 protocol error") || said.contains("http2 error");
        assert!(is_checksum || is_frame, "seed {seed}: {said}");
        by_checksum += u64::from(is_checksum);
        assert_eq!(proxy.happened(change(seed).kind), 1, "seed {seed}");
    }
    assert!(by_checksum > 0);
    assert!(stored(&collector, "host-a").is_empty());
    let books = collector.get("/api/status")["books"].clone();
    assert_eq!(books["batches_refused"], by_checksum);
    assert_eq!(books["records_stored"], 0);
    // The same batch over a good way.
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(large_batch()).await;
    assert_eq!(sensor.ack().await, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_any_changed_byte_ends_the_connection_by_name_and_nothing_of_it_is_stored() {
    let data = tempfile::tempdir().unwrap();
    tls::tell(data.path(), &["ca", "init", "--host", "127.0.0.1"]).unwrap();
    let log = data.path().join("log");
    let mut logged = command(data.path());
    logged.stderr(std::fs::File::create(&log).unwrap());
    let collector = Collector::start_as(logged);
    let (path, _) = tls::enrolled(data.path(), &collector, "edge-1").await;
    for seed in 0..12 {
        let proxy = always(&collector, seed, change(seed)).await;
        let credentials = Credentials::read(&path).unwrap();
        let url = format!("https://{}", proxy.address);
        let way = Transport::new(&url, Some((&path, credentials))).unwrap();
        let mut sensor = tls::stream(&way, hello("edge-1", 1)).await.unwrap();
        sensor.send(large_batch()).await;
        // Where the end of the connection overtakes the alert, the sensor is not told why.
        sensor.refusal().await;
        // The collector says it: one line for each.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(&log).unwrap();
            let ends: Vec<_> = said
                .lines()
                .filter(|line| line.contains("sensor disconnected"))
                .collect();
            if ends.len() as u64 > seed {
                let end = ends[ends.len() - 1];
                let is_named = end.contains("cannot decrypt") || end.contains("corrupt message");
                assert!(is_named, "seed {seed}: {end}");
                break;
            }
            assert!(Instant::now() < deadline, "seed {seed}: {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(proxy.happened(change(seed).kind), 1, "seed {seed}");
    }
    assert!(stored(&collector, "edge-1").is_empty());
    assert_eq!(collector.get("/api/status")["books"]["records_stored"], 0);
}

/// Times of the route, shortened.
const PACE: Pace = Pace {
    backoff_first_ms: 100,
    backoff_max_ms: 1_000,
    fail_over_ms: 1_000,
    ack_max_ms: 5_000,
    probe_ms: 300,
    probe_max_ms: 1_000,
    return_ms: 1_500,
    return_max_ms: 60_000,
    drain_ms: 2_000,
};

/// Records of packets a second while collectors come and go.
const RATE_PER_S: u32 = 500;

/// A port that is free, and stays a collector's over its restarts.
fn reserved() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn collector_at(data: &Path, address: &str) -> Collector {
    Collector::start_by(command_at(data, "127.0.0.1:0", address))
}

/// Events of a kind that a collector has.
fn events(collector: &Collector, kind: &str) -> Vec<serde_json::Value> {
    let mut events = collector.items("/api/events?limit=1000");
    events.retain(|event| event["kind"] == kind);
    events
}

/// The preferred collector is killed, the sensor goes to the other one; it comes back, the sensor returns.
/// With a spool and without.
async fn fails_over_and_returns(has_spool: bool) {
    let folder = tempfile::tempdir().unwrap();
    let data = |name: &str| folder.path().join(name);
    let addresses = [reserved(), reserved()];
    let first = collector_at(&data("a"), &addresses[0]);
    let second = collector_at(&data("b"), &addresses[1]);
    let ways = addresses
        .iter()
        .map(|address| Transport::new(&format!("http://{address}"), None).unwrap());
    let spool = data("spool");
    let exporter = export_to(
        ways.collect(),
        PACE,
        hello("host-a", 7),
        has_spool.then_some(&spool),
    );
    let state = exporter.state();
    let sender = exporter.sender();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let source = tokio::spawn(async move {
        let mut made = 0;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            assert!(
                sender
                    .send(numbered(made, made + RATE_PER_S / 20))
                    .await
                    .is_ok()
            );
            made += RATE_PER_S / 20;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        made
    });
    let deadline = Instant::now() + PATIENCE;
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: {state:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let acked = || state.acked.load(Ordering::Relaxed);
    until("the first takes some", &|| acked() > 500).await;
    assert_eq!(state.collector.load(Ordering::Relaxed), 0);
    first.kill();
    until("the sensor fails over", &|| {
        state.fail_overs.load(Ordering::Relaxed) == 1
    })
    .await;
    assert_eq!(state.collector.load(Ordering::Relaxed), 1);
    let before = acked();
    until("the second takes some", &|| acked() > before + 500).await;
    let first = collector_at(&data("a"), &addresses[0]);
    until("the sensor returns", &|| {
        state.returns.load(Ordering::Relaxed) == 1
    })
    .await;
    assert_eq!(state.collector.load(Ordering::Relaxed), 0);
    let before = acked();
    until("the first takes some again", &|| acked() > before + 500).await;
    stop.send(()).unwrap();
    let made = source.await.unwrap();
    let delivered = exporter.finish().await.unwrap();
    let books = delivered.books;
    assert_eq!(
        books.lost + delivered.undelivered + delivered.kept.unwrap_or(0),
        0
    );
    // Two records tell of the other collector.
    assert_eq!(books.acked, u64::from(made) + 2);

    let (at_first, at_second) = (stored(&first, "host-a"), stored(&second, "host-a"));
    let doubled = |found: &BTreeMap<u64, u32>| found.values().any(|count| *count != 1);
    assert!(
        !doubled(&at_first) && !doubled(&at_second),
        "each alone has each once"
    );
    let nowhere: Vec<_> = (0..u64::from(made))
        .filter(|n| !at_first.contains_key(n) && !at_second.contains_key(n))
        .collect();
    assert!(nowhere.is_empty(), "{nowhere:?}");
    let both = at_first
        .keys()
        .filter(|n| at_second.contains_key(n))
        .count();
    println!(
        "{made} made, {} at the first, {} at the second, {both} at both",
        at_first.len(),
        at_second.len()
    );
    assert!(at_second.len() > 500 && at_first.len() > 1_000);
    // At both is at most what was under way when the first was killed.
    assert!(both < 500, "{both}");
    for (collector, severity) in [(&first, "info"), (&second, "warning")] {
        assert!(events(collector, "gap").is_empty(), "nothing is missing");
        let changes = events(collector, "collector-changed");
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0]["severity"], severity);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_fails_over_and_returns_and_nothing_is_lost_or_missing() {
    fails_over_and_returns(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_with_a_spool() {
    fails_over_and_returns(true).await;
}
