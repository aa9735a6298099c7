//! Day files that are damaged, foreign or newer: what is set aside, what is served, what is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tempfile::TempDir;

use super::conformance::{START_S, batch, counters, event, flow, packet};
use super::sqlite::SqliteStore;
use super::{
    Dimension, Filter, Order, Outcome, PageRequest, Range, RowId, Step, Store, StoreError,
};
use crate::record::{Direction, FlowState, Record, SensorBatch};

pub(super) const DAYS: [u32; 3] = [20_261_122, 20_261_123, 20_261_124];

/// Records of a batch; a day has one.
const RECORDS: u64 = 200;

/// Far longer than any of it takes: what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn received_ms(day: usize) -> i64 {
    (START_S + i64::try_from(day).unwrap() * 86_400) * 1_000
}

/// What comes on a day. Packets have the sequence number in their flow's id.
pub(super) fn of_day(day: usize) -> SensorBatch {
    let n = u64::try_from(day).unwrap();
    let now_s = received_ms(day) / 1_000;
    let mut records: Vec<Record> = (0..RECORDS - 23)
        .map(|i| match packet(i, now_s) {
            Record::Packet(mut packet) => {
                packet.flow_id = n * RECORDS + i + 1;
                Record::Packet(packet)
            }
            other => other,
        })
        .collect();
    records.extend((0..20).map(|i| flow(100 * n + i, i + 2, FlowState::End, now_s)));
    records.push(counters(1, Direction::Ingress, (n + 1) * 100, now_s));
    records.push(counters(1, Direction::Egress, (n + 1) * 40, now_s));
    records.push(event(now_s));
    assert_eq!(records.len() as u64, RECORDS);
    batch("host-a", 7, n * RECORDS + 1, records)
}

pub(super) fn new_directory() -> TempDir {
    // Where there is one, in memory: nothing here asks whether a disk keeps what it was given.
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A closed store of three days.
pub(super) async fn three_days() -> TempDir {
    let directory = new_directory();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    for day in 0..DAYS.len() {
        store
            .append(&[of_day(day)], received_ms(day))
            .await
            .unwrap();
    }
    store.close().await;
    directory
}

pub(super) fn file(directory: &Path, day: u32) -> PathBuf {
    directory.join(format!("day-{day}.db"))
}

fn set_aside(directory: &Path, day: u32) -> PathBuf {
    directory.join(format!("damaged-{day}-1.db"))
}

pub(super) async fn sql(path: &Path, statement: &'static str) {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Sequence numbers of the packets served, by day, in the order of their storing.
pub(super) async fn served(store: &SqliteStore) -> BTreeMap<u32, Vec<u64>> {
    let mut days: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut before = RowId::END;
    loop {
        let request = PageRequest { before, limit: 150 };
        let page = store.packets(&Filter::default(), request).await.unwrap();
        for row in page.rows {
            days.entry(row.id.day)
                .or_default()
                .insert(0, row.packet.flow_id);
        }
        match page.next {
            Some(next) => {
                assert!(next < before, "paging moves on");
                before = next;
            }
            None => return days,
        }
    }
}

pub(super) fn packets_of(day: usize) -> Vec<u64> {
    let first = u64::try_from(day).unwrap() * RECORDS + 1;
    (first..first + RECORDS - 23).collect()
}

/// Records stored now and known as stored.
pub(super) async fn sent(store: &SqliteStore, batch: &SensorBatch, day: usize) -> (u64, u64) {
    let batches = std::slice::from_ref(batch);
    let appended = store.append(batches, received_ms(day)).await;
    match appended.unwrap().outcomes[0] {
        Outcome::Stored {
            stored,
            duplicate,
            ack,
            ..
        } => {
            assert!(ack >= batch.last_seq(), "acknowledged");
            (stored, duplicate)
        }
        Outcome::ForeignStream => panic!("the stream is the sensor's own"),
    }
}

/// Page and size of a table's first page.
async fn root_page(path: &Path, table: &str) -> (usize, usize) {
    let mut connection: SqliteConnection = SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    let root: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = ?")
        .bind(table.to_owned())
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let size: i64 = sqlx::query_scalar("PRAGMA page_size")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    (
        usize::try_from(root).unwrap(),
        usize::try_from(size).unwrap(),
    )
}

pub(super) async fn smash(path: &Path, table: &str) {
    let (root, size) = root_page(path, table).await;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[(root - 1) * size..root * size].fill(0xa5);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_day_is_set_aside_as_it_is_and_the_rest_is_served() {
    enum Harm {
        Header,
        Cut(u64),
        Foreign,
        Table,
        Schema,
    }
    for harm in [
        Harm::Header,
        Harm::Cut(0),
        Harm::Cut(5_000),
        Harm::Cut(40_000),
        Harm::Foreign,
        Harm::Table,
        Harm::Schema,
    ] {
        let directory = three_days().await;
        let path = file(directory.path(), DAYS[1]);
        match harm {
            Harm::Header => {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[..16].fill(b'x');
                std::fs::write(&path, bytes).unwrap();
            }
            Harm::Cut(length) => {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_len(length).unwrap();
            }
            Harm::Foreign => {
                std::fs::remove_file(&path).unwrap();
                let options = SqliteConnectOptions::new()
                    .filename(&path)
                    .create_if_missing(true);
                options.connect().await.unwrap().close().await.unwrap();
                sql(&path, "CREATE TABLE theirs (a)").await;
            }
            Harm::Table => smash(&path, "packets").await,
            Harm::Schema => sql(&path, "ALTER TABLE talkers RENAME TO walkers").await,
        }
        let bytes = std::fs::read(&path).unwrap();
        let store = SqliteStore::open(directory.path()).await.unwrap();
        let expected: BTreeMap<u32, Vec<u64>> =
            [(DAYS[0], packets_of(0)), (DAYS[2], packets_of(2))].into();
        assert_eq!(served(&store).await, expected);
        let damage = store.damage();
        assert_eq!(damage.days_set_aside, 1);
        assert_eq!(damage.files, [format!("damaged-{}-1.db", DAYS[1])]);
        assert_eq!(
            std::fs::read(set_aside(directory.path(), DAYS[1])).unwrap(),
            bytes
        );
        assert!(!path.exists());
        // What was in it is known as stored: its watermark had gone on into the next day.
        assert_eq!(sent(&store, &of_day(1), 2).await, (0, RECORDS));
    }
}

#[tokio::test]
async fn the_day_being_written_goes_on_in_a_new_file_that_knows_what_was_stored() {
    let directory = three_days().await;
    smash(&file(directory.path(), DAYS[2]), "packets").await;
    let store = SqliteStore::open(directory.path()).await.unwrap();
    assert_eq!(served(&store).await.len(), 2, "met by the first read");
    assert_eq!(store.damage().days_set_aside, 1);
    for day in 0..3 {
        assert_eq!(sent(&store, &of_day(day), 2).await, (0, RECORDS), "{day}");
    }
    assert_eq!(sent(&store, &of_day(3), 2).await, (RECORDS, 0));
    let expected = [
        (DAYS[0], packets_of(0)),
        (DAYS[1], packets_of(1)),
        (DAYS[2], packets_of(3)),
    ];
    assert_eq!(served(&store).await, expected.into());
    store.close().await;
    drop(store);
    let store = SqliteStore::open(directory.path()).await.unwrap();
    assert_eq!(
        sent(&store, &of_day(2), 2).await,
        (0, RECORDS),
        "still known"
    );
    assert_eq!(store.damage().files.len(), 1);
}

#[tokio::test]
async fn damage_met_by_the_writer_costs_no_batch() {
    let directory = three_days().await;
    let store = SqliteStore::open(directory.path()).await.unwrap();
    // The writer has read nothing of this table yet.
    smash(&file(directory.path(), DAYS[2]), "traffic_1h").await;
    assert_eq!(sent(&store, &of_day(3), 2).await, (RECORDS, 0));
    assert_eq!(store.damage().days_set_aside, 1);
    assert_eq!(sent(&store, &of_day(2), 2).await, (0, RECORDS));
    assert_eq!(served(&store).await[&DAYS[2]], packets_of(3));
}

#[tokio::test]
async fn without_its_watermarks_a_day_is_taken_again_and_still_served_once() {
    for table in ["watermarks", "sqlite_schema"] {
        let directory = three_days().await;
        let path = file(directory.path(), DAYS[2]);
        match table {
            "sqlite_schema" => std::fs::write(&path, vec![b'x'; 50_000]).unwrap(),
            _ => smash(&path, table).await,
        }
        let store = SqliteStore::open(directory.path()).await.unwrap();
        assert_eq!(
            sent(&store, &of_day(1), 2).await,
            (0, RECORDS),
            "of a day served"
        );
        assert_eq!(
            sent(&store, &of_day(2), 2).await,
            (RECORDS, 0),
            "of the day set aside"
        );
        assert_eq!(sent(&store, &of_day(2), 2).await, (0, RECORDS));
        let days = served(&store).await;
        assert_eq!(
            days.into_values().collect::<Vec<_>>(),
            [0, 1, 2].map(packets_of)
        );
        assert_eq!(store.damage().days_set_aside, 1);
    }
}

#[tokio::test]
async fn a_watermark_that_was_changed_lets_nothing_new_pass_for_stored() {
    let directory = three_days().await;
    let path = file(directory.path(), DAYS[2]);
    sql(&path, "UPDATE watermarks SET seq = seq + 1000000").await;
    let store = SqliteStore::open(directory.path()).await.unwrap();
    assert_eq!(store.damage().days_set_aside, 1);
    assert_eq!(sent(&store, &of_day(3), 2).await, (RECORDS, 0));
}

#[tokio::test]
async fn a_day_of_a_newer_netml_is_refused_and_left_where_it_is() {
    let directory = three_days().await;
    let path = file(directory.path(), DAYS[0]);
    sql(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .await;
    let refused = SqliteStore::open(directory.path()).await;
    assert!(matches!(refused, Err(StoreError::NewerSchema { path: of }) if of == path));
    assert!(path.exists() && !set_aside(directory.path(), DAYS[0]).exists());
}

#[tokio::test]
async fn a_row_with_an_impossible_value_is_left_out_and_counted_once() {
    let directory = three_days().await;
    sql(
        &file(directory.path(), DAYS[1]),
        "UPDATE packets SET verdict = 77 WHERE id IN (5, 6)",
    )
    .await;
    let store = SqliteStore::open(directory.path()).await.unwrap();
    for _ in 0..2 {
        let days = served(&store).await;
        let mut expected = packets_of(1);
        expected.drain(4..6);
        assert_eq!(days[&DAYS[1]], expected);
        assert_eq!(
            (days[&DAYS[0]].clone(), days[&DAYS[2]].clone()),
            (packets_of(0), packets_of(2))
        );
    }
    let damage = store.damage();
    assert_eq!((damage.days_set_aside, damage.rows_unreadable), (0, 2));
}

/// SplitMix64: the same cases in every run.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// Asks everything that can be asked.
async fn ask(store: &SqliteStore) {
    let request = PageRequest {
        before: RowId::END,
        limit: 1_000,
    };
    let range = Range {
        from_unix_s: 0,
        to_unix_s: START_S + 1_000_000,
    };
    store.flows(&Filter::default(), request).await.unwrap();
    store.events(&Filter::default(), request).await.unwrap();
    for step in Step::ALL {
        store.traffic(range, step, None, None).await.unwrap();
    }
    for dimension in Dimension::ALL {
        store
            .talkers(dimension, range, Order::Bytes, 10)
            .await
            .unwrap();
    }
    store.totals(None).await.unwrap();
}

#[tokio::test]
async fn random_damage_never_stops_it_and_days_that_are_whole_are_served_whole() {
    let cases = if std::env::var_os("NETML_LONG").is_some() {
        1_000
    } else {
        150
    };
    let original = three_days().await;
    let originals = DAYS.map(|day| std::fs::read(file(original.path(), day)).unwrap());
    let mut random = Random(5);
    let (mut set_aside_days, mut left_out, mut nothing_found) = (0, 0, 0);
    for case in 0..cases {
        let directory = new_directory();
        for (day, bytes) in DAYS.iter().zip(&originals) {
            std::fs::write(file(directory.path(), *day), bytes).unwrap();
        }
        let harmed = random.below(DAYS.len());
        let path = file(directory.path(), DAYS[harmed]);
        let mut bytes = originals[harmed].clone();
        if case % 4 == 0 {
            let length = random.below(bytes.len());
            bytes.truncate(length);
        } else {
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let told = tokio::time::timeout(PATIENCE, async {
            let store = SqliteStore::open(directory.path()).await.unwrap();
            let days = served(&store).await;
            ask(&store).await;
            // Resent as a whole, then something new: stored once, the whole days' not again.
            for day in 0..DAYS.len() {
                sent(&store, &of_day(day), 2).await;
            }
            assert_eq!(sent(&store, &of_day(3), 2).await, (RECORDS, 0));
            let after = served(&store).await;
            // In the file that was harmed a changed number can look like any other.
            let is_sound = |day: &u32| *day != DAYS[harmed] || store.damage().days_set_aside > 0;
            let sound: Vec<u64> = after
                .iter()
                .filter(|(day, _)| is_sound(day))
                .flat_map(|(_, found)| found.clone())
                .collect();
            for (day, name) in DAYS.iter().enumerate() {
                if day != harmed {
                    let expected = packets_of(day);
                    assert_eq!(days.get(name), Some(&expected), "case {case}");
                    assert!(after[name].starts_with(&expected), "case {case}");
                    let again = sound.iter().filter(|seq| expected.contains(seq));
                    assert_eq!(
                        again.count(),
                        expected.len(),
                        "case {case}: nothing doubled"
                    );
                }
            }
            let mut new = packets_of(3);
            new.retain(|seq| !after.values().flatten().any(|found| found == seq));
            assert!(new.is_empty(), "case {case}: {new:?} are missing");
            ask(&store).await;
            let damage = store.damage();
            store.close().await;
            if damage.days_set_aside == 0 && damage.rows_unreadable == 0 {
                // Values were changed, or bytes that mean nothing; no row may be missing.
                let rows = days.get(&DAYS[harmed]).map_or(0, Vec::len);
                assert_eq!(
                    rows,
                    packets_of(harmed).len(),
                    "case {case}: rows are missing, untold"
                );
            }
            damage
        })
        .await
        .unwrap_or_else(|_| panic!("case {case} hangs"));
        set_aside_days += usize::from(told.days_set_aside > 0);
        left_out += usize::from(told.days_set_aside == 0 && told.rows_unreadable > 0);
        nothing_found += usize::from(told.days_set_aside == 0 && told.rows_unreadable == 0);
    }
    println!(
        "{cases} cases: {set_aside_days} set aside, {left_out} with rows left out, {nothing_found} not noticed"
    );
    assert!(set_aside_days > cases / 4);
}
