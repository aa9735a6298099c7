//! One suite for every store: the same story is told to a store and to the model, and every
//! answer must be equal. The story has resends, overlaps, gaps, restarts, new attachments,
//! refused records, several sensors, and crosses midnight.

use std::net::IpAddr;
use std::path::Path;

use super::ledger::WATERMARKS_MAX;
use super::memory::MemoryStore;
use super::sqlite::SqliteStore;
use super::{
    Dimension, Filter, FlowRow, Order, PageRequest, Range, Retention, RowId, Step, Store,
    StoreError,
};
use crate::record::{
    Baseline, CounterTotals, Counters, Deviation, Direction, DnsNumbers, Event, Flow, FlowState,
    Health, Hello, IcmpError, Packet, Reason, Record, RuleFinding, SensorBatch, SensorName, Source,
    Tunnel, Verdict,
};

/// 2026-11-22 23:59:30 UTC.
pub(crate) const START_S: i64 = 1_795_391_970;

pub(super) fn name(name: &str) -> SensorName {
    SensorName::parse(name).unwrap()
}

fn address(last: u8) -> IpAddr {
    match last % 3 {
        0 => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
        _ => IpAddr::from([10, 0, 0, last]),
    }
}

pub(super) fn packet(n: u64, unix_s: i64) -> Record {
    let small = u8::try_from(n % 7).unwrap();
    Record::Packet(Packet {
        unix_ns: unix_s * 1_000_000_000 + 5,
        src_ip: address(small),
        dst_ip: address(small + 1),
        src_port: 1_000 + u16::from(small),
        dst_port: 443,
        ip_protocol: [6, 17, 58][usize::from(small) % 3],
        wire_bytes: 60,
        segments: 1,
        tcp_flags: small,
        direction: Direction::ALL[usize::from(small) % 2],
        interface: "eth0".to_owned(),
        verdict: Verdict::ALL[usize::from(small) % 4],
        kind: String::new(),
        probability: 0.5,
        flow_id: u64::MAX - n % 5,
    })
}

pub(super) fn flow(flow_id: u64, packets: u64, state: FlowState, unix_s: i64) -> Record {
    let small = u8::try_from(flow_id % 11).unwrap();
    Record::Flow(Box::new(Flow {
        flow_id: u64::MAX - flow_id,
        state,
        end_reason: String::new(),
        first_unix_ns: unix_s * 1_000_000_000,
        last_unix_ns: unix_s * 1_000_000_000,
        src_ip: address(small),
        dst_ip: address(small / 2),
        src_port: 40_000,
        dst_port: 50 + u16::from(small),
        ip_protocol: [6, 17, 1][usize::from(small) % 3],
        interface: "eth0".to_owned(),
        fwd_packets: packets,
        rev_packets: packets / 2,
        fwd_bytes: packets * 100,
        rev_bytes: packets * 9,
        tcp_flags: 2,
        verdict: Verdict::ALL[usize::try_from((flow_id + packets) % 4).unwrap()],
        kind: ["", "scan"][usize::from(small) % 2].to_owned(),
        probability: 0.25,
        score: 0.75,
        reasons: vec![Reason {
            feature: "f".to_owned(),
            value: -1.0,
            contribution: 0.5,
            usual_low: (small % 2 == 0).then_some(-2.0),
            usual_high: (small % 2 == 0).then_some(1.5),
        }],
        model_id: "m".to_owned(),
        lost_meanwhile: 3,
        unrecorded_packets: packets / 3,
        rule: (small % 2 == 1).then(|| RuleFinding {
            rule: "r".to_owned(),
            value: 30.0,
            limit: 20.0,
        }),
        baseline: (small % 3 > 0).then(|| Baseline {
            initiator_known: true,
            responder_known: small % 2 == 0,
            score: 3.5,
            limit: 3.0,
            new_port: small % 2 == 0,
            first_contact: small % 2 == 1,
            farthest: (small % 2 == 1).then(|| Deviation {
                feature: "g".to_owned(),
                value: 9.0,
                usual_low: 0.0,
                usual_high: 2.5,
            }),
        }),
        forest: Verdict::Unsure,
        forest_score: 0.5,
        expected_false_alarms_per_day: (small % 2 == 0).then_some(0.5),
        initiator_direction: Some(Direction::Egress),
        also_seen_on: ["eth1", "veth2"]
            .map(str::to_owned)
            .into_iter()
            .take(usize::from(small) % 3)
            .collect(),
        tunnel: (small % 3 == 1).then(|| Tunnel {
            kind: "vxlan".to_owned(),
            network_id: (small % 2 == 0).then_some(u32::MAX),
            src_ip: address(1),
            dst_ip: address(3),
            deeper: small % 2 == 1,
        }),
        icmp_errors: u32::from(small),
        icmp_last: (small > 0).then_some(IcmpError {
            icmp_type: small,
            code: 255,
        }),
        dns: (small % 4 == 2).then_some(DnsNumbers {
            questions: u32::MAX,
            answers: 2,
            failures: 1,
            name_bytes: 253,
            labels: 3,
            digits: 4,
            query_type: 65_535,
            response_code: 3,
            answer_records: 9,
        }),
    }))
}

pub(super) fn counters(attach_id: u64, direction: Direction, packets: u64, unix_s: i64) -> Record {
    Record::Counters(Counters {
        unix_ns: unix_s * 1_000_000_000,
        interface: "eth0".to_owned(),
        direction,
        attach_id,
        totals: CounterTotals {
            packets,
            bytes: packets * 70,
            frames: packets,
            recorded: packets - packets / 10 - packets / 5,
            mapped: packets / 5,
            lost: [
                ("ring-full".to_owned(), packets / 20),
                ("arp".to_owned(), packets / 10 - packets / 20),
            ]
            .into(),
            protocol_packets: [("tcp".to_owned(), packets)].into(),
            protocol_bytes: [("tcp".to_owned(), packets * 70)].into(),
        },
    })
}

pub(super) fn event(unix_s: i64) -> Record {
    Record::Event(Event {
        unix_ns: unix_s * 1_000_000_000,
        kind: "started".to_owned(),
        severity: "info".to_owned(),
        message: "x".to_owned(),
        fields: [("a".to_owned(), "b".to_owned())].into(),
    })
}

fn health(unix_s: i64) -> Record {
    Record::Health(Health {
        unix_ms: unix_s * 1_000,
        resident_bytes: 1,
        cpu_share: 0.5,
        ring_bytes: 2,
        ring_backlog_bytes: 3,
        flows_live: 4,
        flows_max: 5,
        backlog_records: 6,
        stepped_down: true,
        mode_since_unix_ms: Some(unix_s * 1_000 - 8),
        step_downs: 9,
        books: [("in".to_owned(), 7)].into(),
    })
}

pub(super) fn batch(
    sensor: &str,
    stream_id: u64,
    first_seq: u64,
    records: Vec<Record>,
) -> SensorBatch {
    SensorBatch {
        sensor: name(sensor),
        stream_id,
        first_seq,
        elsewhere_seq: 0,
        records: records.into_iter().map(Some).collect(),
    }
}

/// The story: what is appended together, and when. Sixty groups, a second apart.
pub(crate) fn story() -> Vec<(Vec<SensorBatch>, i64)> {
    let mut groups = Vec::new();
    let mut seq = 1;
    for n in 0..60u64 {
        let now_s = START_S + i64::try_from(n).unwrap();
        let mut records = vec![
            counters(1 + n / 40, Direction::Ingress, (n % 40 + 1) * 20, now_s),
            counters(1 + n / 40, Direction::Egress, (n % 40 + 1) * 10, now_s),
            packet(n, now_s),
            packet(n + 1, now_s),
            flow(n % 9, n + 1, FlowState::Update, now_s),
            // Twice in one group: only the last stays, both count.
            flow(n % 9, n + 3, FlowState::Update, now_s),
            health(now_s),
        ];
        if n % 10 == 0 {
            records.push(event(now_s));
        }
        if n % 20 == 19 {
            records.push(flow(100 + n, 5, FlowState::End, now_s));
        }
        let count = records.len() as u64;
        let mut first = batch("host-a", 7, seq, records);
        if n == 5 {
            first.records[2] = None;
        }
        let mut group = vec![first.clone()];
        match n {
            // A resend beside its original, an overlap, a stream of another, a gap.
            8 => group.push(first.clone()),
            12 => {
                let records = vec![packet(1, now_s), packet(2, now_s), packet(3, now_s)];
                group.push(batch("host-a", 7, seq + count - 2, records));
                seq += 1;
            }
            15 => group.push(batch("thief", 7, seq, vec![packet(9, now_s)])),
            25 => seq += 4,
            _ => {}
        }
        if n % 3 == 0 {
            let other = vec![
                counters(9, Direction::Egress, n + 1, now_s),
                flow(n, n + 1, FlowState::Start, now_s),
            ];
            group.push(batch("host-b", u64::MAX - 1, n / 3 * 2 + 1, other));
        }
        seq += count;
        groups.push((group, now_s * 1_000));
    }
    groups
}

fn hello(sensor: &str) -> Hello {
    Hello {
        sensor: name(sensor),
        version: "1".to_owned(),
        kernel: "6".to_owned(),
        boot_id: "b".to_owned(),
        source: Source::Lab,
        stream_id: u64::MAX,
        interfaces: Vec::new(),
        model_id: String::new(),
        schema_digest: "d".to_owned(),
        accepted_commands: vec!["probe".to_owned()],
    }
}

/// All rows, page by page.
macro_rules! all_pages {
    ($store:expr, $list:ident, $filter:expr, $limit:expr) => {{
        let mut rows = Vec::new();
        let mut before = RowId::END;
        loop {
            let request = PageRequest {
                before,
                limit: $limit,
            };
            let page = $store.$list($filter, request).await.unwrap();
            assert!(page.rows.len() <= $limit);
            rows.extend(page.rows);
            match page.next {
                Some(next) => {
                    assert!(next < before, "paging moves on");
                    before = next;
                }
                None => break rows,
            }
        }
    }};
}

fn filters() -> Vec<Filter> {
    let any = Filter::default();
    vec![
        any.clone(),
        Filter {
            verdict: Some(Verdict::Suspicious),
            ..any.clone()
        },
        Filter {
            ip_protocol: Some(17),
            port: Some(443),
            ..any.clone()
        },
        Filter {
            address: Some(address(3)),
            ..any.clone()
        },
        Filter {
            direction: Some(Direction::Egress),
            sensor: Some("host-a".to_owned()),
            ..any.clone()
        },
        Filter {
            kind: Some("scan".to_owned()),
            ..any.clone()
        },
        Filter {
            seen: Some(Range {
                from_unix_s: START_S + 7,
                to_unix_s: START_S + 44,
            }),
            ..any.clone()
        },
        Filter {
            sensor: Some("nobody".to_owned()),
            ..any
        },
    ]
}

/// Flows but for their places: the model does not know of days.
fn sorted(mut rows: Vec<FlowRow>) -> Vec<FlowRow> {
    for row in &mut rows {
        row.id = RowId::END;
    }
    rows.sort_by_key(FlowRow::key);
    rows
}

async fn compare(store: &dyn Store, model: &MemoryStore) {
    for filter in &filters() {
        for limit in [1, 7, 1_000] {
            let rows = all_pages!(store, packets, filter, limit);
            let expected = all_pages!(model, packets, filter, 1_000);
            let strip = |rows: Vec<super::PacketRow>| -> Vec<_> {
                rows.into_iter()
                    .map(|r| (r.sensor, r.flow, r.packet))
                    .collect()
            };
            assert_eq!(strip(rows), strip(expected), "{filter:?}");
            let rows = all_pages!(store, flows, filter, limit);
            let expected = all_pages!(model, flows, filter, 1_000);
            assert_eq!(sorted(rows), sorted(expected), "{filter:?}");
            let rows = all_pages!(store, events, filter, limit);
            let expected = all_pages!(model, events, filter, 1_000);
            let strip = |rows: Vec<super::EventRow>| -> Vec<_> {
                rows.into_iter()
                    .map(|r| (r.sensor, r.event.unix_ns, r.event.kind))
                    .collect()
            };
            assert_eq!(strip(rows), strip(expected), "{filter:?}");
        }
    }
    for row in all_pages!(model, flows, &Filter::default(), 1_000) {
        let found = store.flow(row.key()).await.unwrap().unwrap();
        assert_eq!(found.flow, row.flow);
    }
    let ranges = [
        (START_S - 10, START_S + 100),
        (START_S + 3, START_S + 31),
        (START_S - 90_000, START_S - 80_000),
    ];
    for (from_unix_s, to_unix_s) in ranges {
        let range = Range {
            from_unix_s,
            to_unix_s,
        };
        for step in Step::ALL {
            for (sensor, interface) in [
                (None, None),
                (Some("host-b"), None),
                (None, Some("eth0")),
                (None, Some("x")),
            ] {
                let points = store.traffic(range, step, sensor, interface).await.unwrap();
                let expected = model.traffic(range, step, sensor, interface).await.unwrap();
                assert_eq!(
                    points, expected,
                    "{range:?} {step:?} {sensor:?} {interface:?}"
                );
            }
        }
        for dimension in Dimension::ALL {
            for order in [Order::Bytes, Order::Packets, Order::Flows] {
                let talkers = store.talkers(dimension, range, order, 3).await.unwrap();
                let expected = model.talkers(dimension, range, order, 3).await.unwrap();
                assert_eq!(talkers, expected, "{range:?} {dimension:?}");
            }
        }
    }
    for sensor in [None, Some("host-a"), Some("host-b"), Some("nobody")] {
        let totals = store.totals(sensor).await.unwrap();
        assert_eq!(totals, model.totals(sensor).await.unwrap(), "{sensor:?}");
    }
}

async fn tell(store: &dyn Store, model: &MemoryStore, groups: &[(Vec<SensorBatch>, i64)]) {
    for (group, received_unix_ms) in groups {
        let stored = store.append(group, *received_unix_ms).await.unwrap();
        let expected = model.append(group, *received_unix_ms).await.unwrap();
        assert_eq!(stored.outcomes, expected.outcomes);
    }
}

#[tokio::test]
async fn sqlite_answers_as_the_model_does_over_restarts_and_midnight() {
    let directory = tempfile::tempdir().unwrap();
    let model = MemoryStore::default();
    let story = story();
    for part in story.chunks(13) {
        let store = SqliteStore::open(directory.path()).await.unwrap();
        store.hello(&hello("host-a"), 5).await.unwrap();
        model.hello(&hello("host-a"), 5).await.unwrap();
        store.seen(&name("host-a"), 9).await.unwrap();
        model.seen(&name("host-a"), 9).await.unwrap();
        tell(&store, &model, part).await;
        compare(&store, &model).await;
        assert_eq!(
            store.sensors().await.unwrap(),
            model.sensors().await.unwrap()
        );
        store.close().await;
    }
    let files = |suffix: &str| {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names
            .filter(|n| n.starts_with("day-") && n.ends_with(suffix))
            .count()
    };
    assert_eq!(files(".db"), 2, "one file per day of receipt");
    assert_eq!(files("-wal"), 0, "closing folds the log in");
}

#[tokio::test]
async fn a_resend_of_the_whole_story_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let model = MemoryStore::default();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    tell(&store, &model, &story()).await;
    for (group, _) in story() {
        let again = store.append(&group, (START_S + 70) * 1_000).await.unwrap();
        assert!(again.packets.is_empty() && again.flows.is_empty() && again.traffic.is_empty());
    }
    compare(&store, &model).await;
}

#[tokio::test]
async fn streams_and_counters_beyond_what_memory_holds_are_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let model = MemoryStore::default();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let streams = u64::try_from(WATERMARKS_MAX + 10).unwrap();
    let at = |s: i64| (START_S + s) * 1_000;
    let first: Vec<SensorBatch> = (1..=streams)
        .map(|stream| {
            let counters = counters(stream, Direction::Ingress, 20, START_S);
            batch("host-a", stream, 1, vec![counters])
        })
        .collect();
    let stored = store.append(&first, at(0)).await.unwrap();
    model.append(&first, at(0)).await.unwrap();
    assert_eq!(stored.forgotten, 2 * streams, "streams and counters");
    // Resent, and read anew: nothing counts twice, and the thief's stream is known for another's.
    for stream in [1, streams / 2, streams] {
        let counters = counters(stream, Direction::Ingress, 60, START_S + 1);
        let again = [
            first[usize::try_from(stream - 1).unwrap()].clone(),
            batch("host-a", stream, 2, vec![counters]),
            batch("thief", stream, 3, vec![packet(1, START_S)]),
        ];
        tell(&store, &model, &[(again.to_vec(), at(1))]).await;
    }
    compare(&store, &model).await;
}

#[tokio::test]
async fn totals_are_those_of_the_sensors_present_start_and_of_what_it_watches_now() {
    let directory = tempfile::tempdir().unwrap();
    let model = MemoryStore::default();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let on = |interface: &str, attach_id, packets, unix_s| match counters(
        attach_id,
        Direction::Ingress,
        packets,
        unix_s,
    ) {
        Record::Counters(c) => Record::Counters(Counters {
            interface: interface.to_owned(),
            ..c
        }),
        other => other,
    };
    // The second start replays a capture of old: its clock is behind, its receipt is not.
    let starts = [
        (
            1,
            vec![on("eth0", 1, 50, START_S), on("eth1", 1, 20, START_S)],
        ),
        (2, vec![on("eth1", 2, 7, START_S - 1_000_000)]),
    ];
    for (stream_id, records) in starts {
        let at = (START_S + i64::try_from(stream_id).unwrap()) * 1_000;
        let groups = [(vec![batch("host-a", stream_id, 1, records)], at)];
        tell(&store, &model, &groups).await;
        compare(&store, &model).await;
    }
    assert_eq!(store.totals(None).await.unwrap().rx.packets, 7);
}

#[tokio::test]
async fn a_clock_that_goes_back_stays_with_the_latest_day() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    for (seq, received_s) in (1..).zip([START_S + 60, START_S - 86_400]) {
        let group = [batch("host-a", 7, seq, vec![packet(seq, START_S)])];
        store.append(&group, received_s * 1_000).await.unwrap();
    }
    let rows = all_pages!(store, packets, &Filter::default(), 10);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].id.day, rows[1].id.day);
}

/// Files in a directory that belong to some day.
fn day_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut days: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("day-")?.get(..8)?.to_owned()))
        .collect();
    days.sort();
    days.dedup();
    days
}

#[tokio::test]
async fn the_oldest_days_go_and_what_was_in_them_is_still_known_as_stored() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let day = |day: i64| (START_S + day * 86_400) * 1_000;
    let of_day = |n: i64| {
        let seq = u64::try_from(n).unwrap() + 1;
        let records = vec![packet(seq, START_S + n * 86_400)];
        [batch("host-a", 5, seq, records)]
    };
    for n in 0..5 {
        store.append(&of_day(n), day(n)).await.unwrap();
    }
    let all = Retention::default();
    assert_eq!(store.retain(all).await.unwrap(), [0; 0]);
    let days = Retention {
        days_max: Some(3),
        bytes_max: None,
    };
    let removed = store.retain(days).await.unwrap();
    assert_eq!(removed, [20_261_122, 20_261_123]);
    assert_eq!(
        day_files(directory.path()),
        ["20261124", "20261125", "20261126"]
    );
    assert_eq!(store.retain(days).await.unwrap(), [0; 0], "once is enough");
    let page = PageRequest {
        before: RowId::END,
        limit: 10,
    };
    let rows = store.packets(&Filter::default(), page).await.unwrap().rows;
    assert_eq!(rows.len(), 3);
    let again = store.append(&of_day(0), day(4)).await.unwrap();
    assert!(again.packets.is_empty(), "a resend of a day that is gone");

    // A year ahead: one day begins, one ends.
    store.append(&of_day(5), day(365)).await.unwrap();
    assert_eq!(store.retain(days).await.unwrap(), [20_261_124]);

    // However little may be kept, the latest day stays and goes on.
    let nothing = Retention {
        days_max: Some(0),
        bytes_max: Some(0),
    };
    assert_eq!(store.retain(nothing).await.unwrap().len(), 2);
    assert_eq!(day_files(directory.path()).len(), 1);
    let more = [batch("host-a", 5, 7, vec![packet(7, START_S)])];
    assert_eq!(
        store.append(&more, day(365)).await.unwrap().packets.len(),
        1
    );
    store.close().await;
    drop(store);
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let again = store.append(&of_day(1), day(365)).await.unwrap();
    assert!(again.packets.is_empty(), "after a restart too");
}

#[tokio::test]
async fn days_go_until_the_rest_fits() {
    /// For the log of the day that is open.
    const SLACK: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    for n in 0..4 {
        let seq = u64::try_from(n).unwrap() * 2_000 + 1;
        let records = (0..2_000).map(|i| packet(i, START_S)).collect();
        let received = (START_S + n * 86_400) * 1_000;
        store
            .append(&[batch("host-a", 5, seq, records)], received)
            .await
            .unwrap();
    }
    store.close().await;
    drop(store);
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let size = |day: &str| {
        let path = directory.path().join(format!("day-{day}.db"));
        std::fs::metadata(path).unwrap().len()
    };
    let (third, last) = (size("20261124"), size("20261125"));
    assert!(third > SLACK, "a day is more than the slack");
    let fits = Retention {
        days_max: None,
        bytes_max: Some(third + last + SLACK),
    };
    let before = day_files(directory.path());
    let removed = store.retain(fits).await.unwrap();
    assert!(
        !removed.is_empty() && removed.len() <= 2,
        "{removed:?} of {before:?}"
    );
    let left: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with("day-"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(left <= third + last + SLACK);
}

#[tokio::test]
async fn a_second_store_on_the_same_directory_and_foreign_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = SqliteStore::open(directory.path()).await.unwrap();
    let second = SqliteStore::open(directory.path()).await;
    assert!(matches!(second, Err(StoreError::InUse { .. })));
    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("meta.db"), vec![b'x'; 8_192]).unwrap();
    let refused = SqliteStore::open(foreign.path()).await;
    assert!(matches!(refused, Err(StoreError::NotSqlite { .. })));
}

#[tokio::test]
async fn a_new_data_directory_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    SqliteStore::open(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn many_talkers_stay_bounded_and_their_sums_balance() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let mut seq = 1;
    for minute in 0..6 {
        let unix_s = START_S - 600 + minute * 60;
        let records: Vec<Record> = (0..900u64)
            .map(|n| {
                match flow(
                    n + 1_000 * u64::try_from(minute).unwrap(),
                    2,
                    FlowState::Start,
                    unix_s,
                ) {
                    Record::Flow(mut flow) => {
                        let n = u16::try_from(n).unwrap();
                        flow.src_ip = IpAddr::from([10, 1, (n >> 8) as u8, (n & 255) as u8]);
                        Record::Flow(flow)
                    }
                    other => other,
                }
            })
            .collect();
        let count = records.len() as u64;
        store
            .append(&[batch("host-a", 7, seq, records)], unix_s * 1_000)
            .await
            .unwrap();
        seq += count;
    }
    let range = Range {
        from_unix_s: START_S - 660,
        to_unix_s: START_S,
    };
    let talkers = store
        .talkers(Dimension::Source, range, Order::Bytes, 1_000)
        .await
        .unwrap();
    let flows: u64 = talkers.top.iter().map(|(_, v)| v.flows).sum();
    assert_eq!(flows + talkers.other.flows, 5_400);
    assert!(talkers.other.flows > 0, "closed minutes were folded");
}
