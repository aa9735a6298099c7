//! The power goes at any write: what was acknowledged is there, nothing is there twice.
//!
//! `kill -9` proves nothing about durability: the kernel still has what was written. Here SQLite's
//! file system is wrapped by one that records every write, sync and removal of one run of the store
//! ([`recorder`]). Then the power is cut at many places of the record: what was synced before is kept, of
//! the rest each write is kept, lost, or torn between sectors ([`cut`]). The store is opened on what is
//! left, by itself, and asked.

#![expect(
    clippy::unwrap_used,
    reason = "tests; the exemption of clippy.toml does not reach their helpers"
)]

mod cut;
mod recorder;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use netml_collector::record::{
    CounterTotals, Counters, Direction, Packet, Record, SensorBatch, SensorName, Verdict,
};
use netml_collector::store::sqlite::SqliteStore;
use netml_collector::store::sqlite::check::{self, Depth};
use netml_collector::store::{Filter, PageRequest, Range, RowId, Step, Store as _};

/// 2026-11-22 23:59:00 UTC.
const START_S: i64 = 1_795_391_940;

const BATCHES: u64 = 120;
const RECORDS: u64 = 60;

/// Cuts, and as many as `NETML_LONG` asks for.
const CUTS: usize = 150;
const CUTS_LONG: usize = 1_000;

fn received_ms(n: u64) -> i64 {
    // Midnight passes twice.
    (START_S + i64::try_from(n).unwrap() * 900) * 1_000
}

/// The `n`-th batch: packets with their sequence number as flow, and a counter.
fn batch(n: u64) -> SensorBatch {
    let first_seq = n * RECORDS + 1;
    let unix_ns = received_ms(n) * 1_000_000;
    let mut records: Vec<Option<Record>> = (first_seq..first_seq + RECORDS - 1)
        .map(|seq| {
            Some(Record::Packet(Packet {
                unix_ns,
                src_ip: IpAddr::from([10, 0, 0, 1]),
                dst_ip: IpAddr::from([10, 0, 0, 2]),
                src_port: 1,
                dst_port: 2,
                ip_protocol: 6,
                wire_bytes: 60,
                segments: 1,
                tcp_flags: 2,
                direction: Direction::Ingress,
                interface: "eth0".to_owned(),
                verdict: Verdict::Normal,
                kind: String::new(),
                probability: 0.0,
                flow_id: seq,
            }))
        })
        .collect();
    records.push(Some(Record::Counters(Counters {
        unix_ns,
        interface: "eth0".to_owned(),
        direction: Direction::Ingress,
        attach_id: 1,
        totals: CounterTotals {
            packets: (n + 1) * 10,
            bytes: (n + 1) * 600,
            frames: (n + 1) * 10,
            recorded: (n + 1) * 10,
            ..CounterTotals::default()
        },
    })));
    SensorBatch {
        sensor: SensorName::parse("host-a").unwrap(),
        stream_id: 7,
        first_seq,
        elsewhere_seq: 0,
        records,
    }
}

/// Sequence numbers of all packets, in the order of their storing.
async fn packets(store: &SqliteStore) -> Vec<u64> {
    let mut found = Vec::new();
    let mut before = RowId::END;
    loop {
        let request = PageRequest {
            before,
            limit: 1_000,
        };
        let page = store.packets(&Filter::default(), request).await.unwrap();
        found.extend(page.rows.iter().map(|row| row.packet.flow_id));
        match page.next {
            Some(next) => before = next,
            None => break,
        }
    }
    found.reverse();
    found
}

/// Packets of the first `batches` batches.
fn of_batches(batches: u64) -> Vec<u64> {
    (1..=batches * RECORDS)
        .filter(|seq| seq % RECORDS != 0)
        .collect()
}

async fn counted(store: &SqliteStore) -> u64 {
    let range = Range {
        from_unix_s: 0,
        to_unix_s: START_S * 2,
    };
    let points = store.traffic(range, Step::Hour, None, None).await.unwrap();
    points.iter().map(|point| point.rx_packets).sum()
}

/// One run, with stops in between as an administrator makes them.
async fn run(directory: &Path) {
    let mut store = SqliteStore::open(directory).await.unwrap();
    for n in 0..BATCHES {
        if n % 50 == 49 {
            store.close().await;
            drop(store);
            store = SqliteStore::open(directory).await.unwrap();
        }
        store.append(&[batch(n)], received_ms(n)).await.unwrap();
        recorder::acknowledged(n + 1);
    }
    store.close().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_power_that_goes_at_any_write() {
    recorder::install();
    let recorded = tempfile::tempdir().unwrap();
    recorder::watch(recorded.path());
    run(recorded.path()).await;
    let steps = recorder::taken();
    let cuts = if std::env::var_os("NETML_LONG").is_some() {
        CUTS_LONG
    } else {
        CUTS
    };
    let mut random = cut::Random::new(11);
    let (mut lost_writes, mut set_aside, mut beyond) = (0, 0, 0);
    let mut places: BTreeMap<u64, u32> = BTreeMap::new();
    for case in 0..cuts {
        let at = random.below(steps.len() + 1);
        let (acknowledged, files, lost) = cut::cut(&steps, at, &mut random);
        lost_writes += u32::from(lost);
        *places.entry(acknowledged).or_default() += 1;
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let told = format!("case {case}: power cut before step {at}, {acknowledged} acknowledged");
        let store = SqliteStore::open(directory.path())
            .await
            .unwrap_or_else(|error| panic!("{told}: it does not start: {error}"));
        let found = packets(&store).await;
        let batches = found.len() as u64 / (RECORDS - 1);
        assert!(
            batches >= acknowledged,
            "{told}: {batches} batches are there"
        );
        assert!(batches <= acknowledged + 1, "{told}");
        assert_eq!(found, of_batches(batches), "{told}: each once, whole");
        assert_eq!(
            counted(&store).await,
            batches * 10,
            "{told}: sums are of the same moment"
        );
        beyond += u32::from(batches > acknowledged);
        // The sensor sends again what was not acknowledged, and more than it has to.
        let from = acknowledged.saturating_sub(2);
        let until = (batches + 5).min(BATCHES);
        let again: Vec<SensorBatch> = (from..until).map(batch).collect();
        store.append(&again, received_ms(BATCHES)).await.unwrap();
        assert_eq!(
            packets(&store).await,
            of_batches(until),
            "{told}: afterwards"
        );
        assert_eq!(counted(&store).await, until * 10, "{told}: afterwards");
        set_aside += u32::from(store.damage().days_set_aside > 0);
        store.close().await;
        if case % 10 == 0 {
            let report = check::check(directory.path(), Depth::Full).await.unwrap();
            assert!(report.is_whole(), "{told}: {report:?}");
        }
    }
    println!(
        "{cuts} cuts in {} steps: writes were lost in {lost_writes}, a batch stored and not acknowledged in {beyond}, an empty new file set aside in {set_aside}",
        steps.len()
    );
    assert!(lost_writes as usize > cuts / 2, "the cuts lose something");
    assert!(places.len() > 20, "and lie all over the run");
}
