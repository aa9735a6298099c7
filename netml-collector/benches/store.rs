//! The store by itself: how fast it takes records, what they cost, how fast it answers.
//!
//! `cargo xtask bench store` runs it. Records are made up: of 1,000 there are 700 packets, 280 records of
//! flows (a third begins one, the rest goes on or ends it), 12 counters, 6 events and 2 of health, from
//! 4 sensors and 20,000 addresses. What is stored goes into a temporary directory on the disk.

#![expect(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use netml_collector::export::{self, Kind, Table};
use netml_collector::record::{
    CounterTotals, Counters, Direction, Event, Flow, FlowState, Health, Packet, Reason, Record,
    SensorBatch, SensorName, Verdict,
};
use netml_collector::store::sqlite::SqliteStore;
use netml_collector::store::{
    Dimension, Filter, Order, PageRequest, Range, Retention, RowId, Step, Store as _,
};

/// Records of one commit, as ingest groups them.
const GROUP: u64 = 1_000;

/// 2026-11-22 00:00 UTC.
const DAY_S: i64 = 1_795_305_600;

const DAY_LENGTH_S: i64 = 86_400;

#[derive(Parser)]
struct Arguments {
    /// Records in the store that is asked, over 24 hours
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Records of each measurement of the writer
    #[arg(long, default_value_t = 300_000)]
    ingest: u64,
    /// Times each question is asked
    #[arg(long, default_value_t = 100)]
    questions: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Makes batches, each a second later than the one before or spread over a day.
struct Maker {
    made: u64,
    random: u64,
}

impl Maker {
    fn next(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn address(&mut self) -> IpAddr {
        // Most traffic is of few hosts.
        let bound = if self.next(4) > 0 { 200 } else { 20_000 };
        let n = u32::try_from(self.next(bound)).unwrap();
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | n))
    }

    fn verdict(&mut self) -> Verdict {
        match self.next(200) {
            0 => Verdict::Suspicious,
            1 => Verdict::Unsure,
            _ => Verdict::Normal,
        }
    }

    fn packet(&mut self, unix_ns: i64, flow_id: u64) -> Record {
        Record::Packet(Packet {
            unix_ns,
            src_ip: self.address(),
            dst_ip: self.address(),
            src_port: u16::try_from(32_768 + self.next(28_000)).unwrap(),
            dst_port: [443, 53, 80, 22, 8_080][usize::try_from(self.next(5)).unwrap()],
            ip_protocol: [6, 17][usize::try_from(self.next(2)).unwrap()],
            wire_bytes: u32::try_from(60 + self.next(1_400)).unwrap(),
            segments: 1,
            tcp_flags: 0x18,
            direction: Direction::ALL[usize::try_from(self.next(2)).unwrap()],
            interface: "eth0".to_owned(),
            verdict: self.verdict(),
            kind: String::new(),
            probability: 0.01,
            flow_id,
        })
    }

    fn flow(&mut self, unix_ns: i64, flow_id: u64, state: FlowState) -> Record {
        let n = match state {
            FlowState::Start => 1,
            FlowState::Update => 20,
            FlowState::End => 40,
        };
        let verdict = self.verdict();
        let reasons = [
            "fwd_packets",
            "syn_share",
            "iat_mean",
            "dst_ports_10s",
            "others",
        ];
        Record::Flow(Box::new(Flow {
            flow_id,
            state,
            end_reason: if state == FlowState::End { "fin" } else { "" }.to_owned(),
            first_unix_ns: unix_ns - 1_000_000_000,
            last_unix_ns: unix_ns,
            src_ip: self.address(),
            dst_ip: self.address(),
            src_port: u16::try_from(32_768 + self.next(28_000)).unwrap(),
            dst_port: [443, 53, 80, 22, 8_080][usize::try_from(self.next(5)).unwrap()],
            ip_protocol: 6,
            interface: "eth0".to_owned(),
            fwd_packets: n,
            rev_packets: n,
            fwd_bytes: n * 120,
            rev_bytes: n * 900,
            tcp_flags: 0x1b,
            verdict,
            kind: if verdict == Verdict::Suspicious {
                "scan"
            } else {
                ""
            }
            .to_owned(),
            probability: 0.0123,
            score: 0.1234,
            reasons: reasons
                .map(|feature| Reason {
                    feature: feature.to_owned(),
                    value: 12.5,
                    contribution: -0.0125,
                    usual_low: Some(1.0),
                    usual_high: Some(40.0),
                })
                .to_vec(),
            model_id: "forest-2026-11-a1b2c3".to_owned(),
            lost_meanwhile: 0,
            unrecorded_packets: 0,
            rule: None,
            baseline: None,
            forest: verdict,
            forest_score: 0.1234,
            expected_false_alarms_per_day: Some(0.5),
            initiator_direction: Some(Direction::Egress),
            also_seen_on: Vec::new(),
            tunnel: None,
            icmp_errors: 0,
            icmp_last: None,
            dns: None,
        }))
    }

    fn counters(&mut self, unix_s: i64, direction: Direction) -> Record {
        let packets = self.made;
        Record::Counters(Counters {
            unix_ns: unix_s * 1_000_000_000,
            interface: format!("eth{}", self.next(3)),
            direction,
            attach_id: 1,
            totals: CounterTotals {
                packets,
                bytes: packets * 700,
                frames: packets,
                recorded: packets,
                mapped: 0,
                lost: BTreeMap::new(),
                protocol_packets: [("tcp".to_owned(), packets)].into(),
                protocol_bytes: [("tcp".to_owned(), packets * 700)].into(),
            },
        })
    }

    /// The next batch of a sensor.
    fn batch(&mut self, unix_s: i64) -> SensorBatch {
        let group = self.made / GROUP;
        let sensor = group % 4;
        let stream = 100 + sensor;
        let unix_ns = unix_s * 1_000_000_000;
        let mut records = Vec::with_capacity(usize::try_from(GROUP).unwrap());
        for n in 0..GROUP {
            let flow_id = group * 94 + n % 94;
            records.push(Some(match n {
                0..700 => self.packet(unix_ns, flow_id),
                700..794 => self.flow(unix_ns, flow_id, FlowState::Start),
                // Of the sensor's batch before.
                794..887 => self.flow(unix_ns, flow_id.saturating_sub(94 * 4), FlowState::Update),
                887..980 => self.flow(unix_ns, flow_id.saturating_sub(94 * 8), FlowState::End),
                980..986 => self.counters(unix_s, Direction::Ingress),
                986..992 => self.counters(unix_s, Direction::Egress),
                992..998 => Record::Event(Event {
                    unix_ns,
                    kind: "interface-attached".to_owned(),
                    severity: "info".to_owned(),
                    message: "eth0 is watched".to_owned(),
                    fields: BTreeMap::new(),
                }),
                _ => Record::Health(Health {
                    unix_ms: unix_s * 1_000,
                    resident_bytes: 1,
                    cpu_share: 0.5,
                    ring_bytes: 2,
                    ring_backlog_bytes: 3,
                    flows_live: 4,
                    flows_max: 5,
                    backlog_records: 6,
                    stepped_down: false,
                    mode_since_unix_ms: None,
                    step_downs: 0,
                    books: BTreeMap::new(),
                }),
            }));
        }
        let first_seq = (group / 4) * GROUP + 1;
        self.made += GROUP;
        SensorBatch {
            sensor: SensorName::parse(&format!("host-{sensor}")).unwrap(),
            stream_id: stream,
            first_seq,
            elsewhere_seq: 0,
            records,
        }
    }
}

/// The value below which a share of the others lies.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in the list"
    )]
    let at = ((times.len() - 1) as f64 * share).round() as usize;
    times[at]
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// Bytes of the files of a directory whose names end so.
fn bytes(directory: &Path, ending: &str) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.ends_with(ending))
        })
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Stores records in groups; gives the time of each commit. The making of records is not in it.
async fn ingest(
    store: &SqliteStore,
    maker: &mut Maker,
    records: u64,
    at: impl Fn(u64) -> i64,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..records / GROUP {
        let unix_s = at(n);
        let batch = [maker.batch(unix_s)];
        let begin = Instant::now();
        store.append(&batch, unix_s * 1_000).await.unwrap();
        times.push(begin.elapsed());
    }
    times
}

fn rate(records: u64, times: &[Duration]) -> f64 {
    records as f64 / times.iter().sum::<Duration>().as_secs_f64()
}

async fn writer(arguments: &Arguments) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let mut maker = Maker { made: 0, random: 1 };
    let at = |n: u64| DAY_S + i64::try_from(n / 10).unwrap();
    let mut times = ingest(&store, &mut maker, arguments.ingest, at).await;
    println!(
        "writer: {} records in commits of {GROUP}, synchronous=FULL: {:.0} records/s (at least 40,000), commit p50 {}, p99 {}",
        arguments.ingest,
        rate(arguments.ingest, &times),
        ms(quantile(&mut times, 0.5)),
        ms(quantile(&mut times, 0.99)),
    );
    store.close().await;
    let bytes = bytes(directory.path(), ".db");
    println!(
        "space: {:.0} bytes a record, indices and sums included",
        bytes as f64 / arguments.ingest as f64
    );
}

/// Asks a question many times; gives its times.
async fn ask<F: Future<Output = ()>>(times: usize, question: impl Fn(usize) -> F) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..times {
        let begin = Instant::now();
        question(n).await;
        took.push(begin.elapsed());
    }
    took
}

fn told(name: &str, limit_ms: u64, mut times: Vec<Duration>) {
    println!(
        "{name}: p50 {}, p95 {} (at most {limit_ms} ms), most {}",
        ms(quantile(&mut times, 0.5)),
        ms(quantile(&mut times, 0.95)),
        ms(quantile(&mut times, 1.0)),
    );
}

fn filters() -> [(&'static str, Filter); 5] {
    let any = Filter::default();
    let host = |n: u32| Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | n)));
    [
        (
            "suspicious",
            Filter {
                verdict: Some(Verdict::Suspicious),
                ..any.clone()
            },
        ),
        (
            "a busy host",
            Filter {
                address: host(7),
                ..any.clone()
            },
        ),
        (
            "a quiet host",
            Filter {
                address: host(19_000),
                ..any.clone()
            },
        ),
        (
            "port 22 of a sensor",
            Filter {
                port: Some(22),
                sensor: Some("host-2".to_owned()),
                ..any.clone()
            },
        ),
        (
            "a host that is not there",
            Filter {
                address: host(99_999),
                ..any
            },
        ),
    ]
}

async fn questions(store: &SqliteStore, times: usize) {
    let day = Range {
        from_unix_s: DAY_S,
        to_unix_s: DAY_S + DAY_LENGTH_S,
    };
    let overview = ask(times, async |_| {
        store.traffic(day, Step::Minute, None, None).await.unwrap();
        store.totals(None).await.unwrap();
    });
    told(
        "overview of 24 hours (traffic and totals)",
        500,
        overview.await,
    );
    for dimension in Dimension::ALL {
        let talkers = ask(times / 2 + 1, async |_| {
            let talkers = store
                .talkers(dimension, day, Order::Bytes, 10)
                .await
                .unwrap();
            assert!(!talkers.top.is_empty());
        });
        told(
            &format!("top talkers of 24 hours by {dimension:?}"),
            500,
            talkers.await,
        );
    }
    for (name, filter) in filters() {
        let rows = AtomicU64::new(0);
        let flows = ask(times / 5 + 1, async |_| {
            let request = PageRequest {
                before: RowId::END,
                limit: 100,
            };
            let page = store.flows(&filter, request).await.unwrap();
            rows.store(page.rows.len() as u64, Ordering::Relaxed);
        });
        let flows = flows.await;
        let rows = rows.load(Ordering::Relaxed);
        told(
            &format!("page of 100 flows, {name} ({rows} rows in the first answer)"),
            1_000,
            flows,
        );
    }
}

/// Ten dashboards and an export beside the writer.
async fn beside_readers(
    directory: &Path,
    store: Arc<SqliteStore>,
    maker: &mut Maker,
    records: u64,
) {
    let at = |n: u64| DAY_S + DAY_LENGTH_S - 1 + i64::try_from(n / 1_000_000).unwrap();
    let alone = ingest(&store, maker, records, at).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for dashboard in 0..10 {
        let (store, stop, answers) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&answers));
        tasks.push(tokio::spawn(async move {
            let day = Range {
                from_unix_s: DAY_S,
                to_unix_s: DAY_S + DAY_LENGTH_S,
            };
            let filters = filters();
            for n in dashboard.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let request = PageRequest {
                    before: RowId::END,
                    limit: 100,
                };
                let (_, filter) = &filters[n % filters.len()];
                // An answer may come late here; the writer is what is measured.
                let done = match n % 4 {
                    0 => store.traffic(day, Step::Minute, None, None).await.map(drop),
                    1 => store
                        .talkers(Dimension::ALL[n % 5], day, Order::Bytes, 10)
                        .await
                        .map(drop),
                    2 => store.flows(filter, request).await.map(drop),
                    _ => store.packets(filter, request).await.map(drop),
                };
                answers.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }));
    }
    let exported = Arc::new(AtomicU64::new(0));
    tasks.push(tokio::spawn({
        let (store, stop, exported) =
            (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&exported));
        async move {
            struct Sink(Arc<AtomicU64>, Arc<AtomicBool>);
            impl std::io::Write for Sink {
                fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                    if self.1.load(Ordering::Relaxed) {
                        return Err(std::io::Error::other("enough"));
                    }
                    self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    Ok(bytes.len())
                }
                fn flush(&mut self) -> std::io::Result<()> {
                    Ok(())
                }
            }
            while !stop.load(Ordering::Relaxed) {
                let mut sink = Sink(Arc::clone(&exported), Arc::clone(&stop));
                drop(
                    export::export(
                        &*store,
                        Table::Flows,
                        Kind::Ndjson,
                        &Filter::default(),
                        &mut sink,
                    )
                    .await,
                );
            }
        }
    }));
    let wal_most = Arc::new(AtomicU64::new(0));
    tasks.push(tokio::spawn({
        let (stop, wal_most, directory) = (
            Arc::clone(&stop),
            Arc::clone(&wal_most),
            directory.to_owned(),
        );
        async move {
            while !stop.load(Ordering::Relaxed) {
                wal_most.fetch_max(bytes(&directory, "-wal"), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }));
    let beside = ingest(&store, maker, records, at).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let (alone, beside) = (rate(records, &alone), rate(records, &beside));
    println!(
        "beside ten dashboards ({} answers) and an export ({} MB): {beside:.0} records/s, {:.0} % of {alone:.0} alone (at least 80 %); log at most {:.0} MiB (at most 256)",
        answers.load(Ordering::Relaxed),
        exported.load(Ordering::Relaxed) / 1_000_000,
        100.0 * beside / alone,
        wal_most.load(Ordering::Relaxed) as f64 / f64::from(1 << 20),
    );
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    writer(&arguments).await;
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(directory.path()).await.unwrap());
    let mut maker = Maker { made: 0, random: 2 };
    let groups = i64::try_from(arguments.rows / GROUP).unwrap().max(1);
    let at = |n: u64| DAY_S + i64::try_from(n).unwrap() * (DAY_LENGTH_S - 1) / groups;
    let begin = Instant::now();
    let times = ingest(&store, &mut maker, arguments.rows, at).await;
    println!(
        "a store of {} records over 24 hours, {:.0} MB: {:.0} records/s while it was made ({:.0} s)",
        arguments.rows,
        bytes(directory.path(), ".db") as f64 / 1e6,
        rate(arguments.rows, &times),
        begin.elapsed().as_secs_f64(),
    );
    questions(&store, arguments.questions).await;
    beside_readers(
        directory.path(),
        Arc::clone(&store),
        &mut maker,
        arguments.ingest,
    )
    .await;
    // The next day begins, and the one before goes.
    let next = DAY_S + DAY_LENGTH_S + 1;
    let begin = Instant::now();
    store
        .append(&[maker.batch(next)], next * 1_000)
        .await
        .unwrap();
    println!("the next day begins: {}", ms(begin.elapsed()));
    let begin = Instant::now();
    let removed = store
        .retain(Retention {
            days_max: Some(1),
            bytes_max: None,
        })
        .await
        .unwrap();
    assert_eq!(removed.len(), 1);
    println!("a day goes: {} (at most 1,000 ms)", ms(begin.elapsed()));
    store.close().await;
}
