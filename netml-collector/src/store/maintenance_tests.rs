//! Check, backup, restore and compact on stores whose days are known.

use std::path::Path;

use super::Store as _;
use super::StoreError;
use super::conformance::story;
use super::damage_tests::{
    DAYS, file, new_directory, of_day, packets_of, received_ms, sent, served, smash, sql,
    three_days,
};
use super::sqlite::SqliteStore;
use super::sqlite::check::{Depth, Report, check};
use super::sqlite::copy::{backup, compact, restore};

async fn checked(directory: &Path) -> Report {
    check(directory, Depth::Full).await.unwrap()
}

fn faults(report: &Report) -> Vec<String> {
    let files = report.files.iter();
    files
        .flat_map(|file| {
            file.faults
                .iter()
                .map(|fault| format!("{}: {fault}", file.name))
        })
        .collect()
}

#[tokio::test]
async fn what_appends_make_has_no_fault_also_while_the_store_is_open() {
    let directory = new_directory();
    for part in story().chunks(13) {
        let store = SqliteStore::open(directory.path()).await.unwrap();
        for (group, at) in part {
            store.append(group, *at).await.unwrap();
        }
        assert_eq!(faults(&checked(directory.path()).await), [""; 0]);
        store.close().await;
    }
    let report = check(directory.path(), Depth::Quick).await.unwrap();
    assert!(report.is_whole());
    let names: Vec<&str> = report.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["meta.db", "day-20261122.db", "day-20261123.db"]);
    assert!(report.files.iter().all(|file| file.bytes > 0));
}

#[tokio::test]
async fn each_rule_that_is_broken_is_named_with_its_file() {
    for (statement, words) in [
        (
            "UPDATE traffic_1m SET rx_bytes = rx_bytes + 1",
            "minutes of traffic",
        ),
        ("DELETE FROM traffic_1s", "minutes of traffic"),
        ("UPDATE traffic_1h SET lost_packets = 3", "hours of traffic"),
        (
            "UPDATE talkers SET bytes = bytes + 1 WHERE dimension = 1",
            "talkers differ",
        ),
        ("DELETE FROM talkers WHERE dimension = 4", "talkers differ"),
        ("DELETE FROM flows WHERE id = 3", "1 flows first told"),
        (
            "UPDATE verdict_totals SET flows = flows + 2 WHERE verdict = (SELECT min(verdict) FROM verdict_totals)",
            "2 flows by verdict",
        ),
        (
            "UPDATE counter_bases SET frames = frames + 1",
            "2 counters do not balance",
        ),
        (
            "UPDATE counter_bases SET bytes = bytes + 5",
            "other traffic than their counters",
        ),
        ("UPDATE watermarks SET seq = seq + 1", "1 watermarks"),
        ("DELETE FROM carried", "not finished"),
        ("DROP TABLE health", "of health is missing"),
        (
            "DELETE FROM _sqlx_migrations WHERE version = 3",
            "migrations",
        ),
        (
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', TRUE, x'00', 0)",
            "newer netml",
        ),
    ] {
        let directory = three_days().await;
        sql(&file(directory.path(), DAYS[1]), statement).await;
        let found = faults(&checked(directory.path()).await);
        let name = format!("day-{}.db: ", DAYS[1]);
        assert!(
            found
                .iter()
                .any(|fault| fault.starts_with(&name) && fault.contains(words)),
            "{statement}: {found:?}"
        );
    }
    let directory = three_days().await;
    smash(&file(directory.path(), DAYS[1]), "flows").await;
    std::fs::write(file(directory.path(), DAYS[2]), "").unwrap();
    std::fs::write(directory.path().join("damaged-20260101-1.db"), "old").unwrap();
    let report = checked(directory.path()).await;
    let found = faults(&report);
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with(&format!("day-{}", DAYS[1]))),
        "{found:?}"
    );
    assert!(
        found.contains(&format!("day-{}.db: is empty", DAYS[2])),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|fault| fault.starts_with("damaged")),
        "known already"
    );
    assert_eq!(report.files.last().unwrap().notes.len(), 1);

    let nothing = new_directory();
    let refused = check(nothing.path(), Depth::Full).await;
    assert!(matches!(refused, Err(StoreError::NoStore { .. })));
}

#[tokio::test]
async fn a_backup_beside_a_store_that_is_written_is_whole_and_can_be_restored() {
    let directory = three_days().await;
    let places = new_directory();
    let [copy, again] = ["copy", "again"].map(|name| places.path().join(name));
    let store = SqliteStore::open(directory.path()).await.unwrap();
    // In the log, not in the file.
    assert_eq!(sent(&store, &of_day(3), 2).await.0, 200);
    let copied = backup(directory.path(), &copy).await.unwrap();
    assert_eq!(copied.len(), 4, "three days and meta.db");
    // What comes later is not in it, and the store goes on.
    assert_eq!(sent(&store, &of_day(4), 2).await.0, 200);
    assert_eq!(faults(&checked(&copy).await), [""; 0]);
    assert!(!places.path().join("copy.partial").exists());

    restore(&copy, &again).await.unwrap();
    let restored = SqliteStore::open(&again).await.unwrap();
    let days = served(&restored).await;
    assert_eq!(days[&DAYS[0]], packets_of(0));
    assert_eq!(days[&DAYS[2]], [packets_of(2), packets_of(3)].concat());
    assert_eq!(
        sent(&restored, &of_day(3), 2).await,
        (0, 200),
        "known as stored"
    );
    assert_eq!(
        sent(&restored, &of_day(4), 2).await,
        (200, 0),
        "lost with the disk, taken again"
    );

    for taken in [&copy, &again] {
        let refused = backup(directory.path(), taken).await;
        assert!(
            matches!(refused, Err(StoreError::NotEmpty { .. })),
            "{refused:?}"
        );
    }
    std::fs::create_dir(places.path().join("empty")).unwrap();
    backup(directory.path(), &places.path().join("empty"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_backup_with_a_fault_is_not_restored_and_a_damaged_day_not_copied() {
    let directory = three_days().await;
    let places = new_directory();
    let [copy, again] = ["copy", "again"].map(|name| places.path().join(name));
    backup(directory.path(), &copy).await.unwrap();
    sql(&file(&copy, DAYS[0]), "DELETE FROM traffic_1m").await;
    let refused = restore(&copy, &again).await;
    assert!(
        matches!(&refused, Err(StoreError::NotWhole { path, .. }) if *path == file(&copy, DAYS[0]))
    );
    assert!(!again.exists());

    smash(&file(directory.path(), DAYS[1]), "packets").await;
    let refused = backup(directory.path(), &again).await;
    assert!(
        matches!(&refused, Err(StoreError::Open { path, .. }) if *path == file(directory.path(), DAYS[1])),
        "{refused:?}"
    );
    assert_eq!(
        std::fs::read_dir(places.path()).unwrap().count(),
        1,
        "nothing half written"
    );
}

#[tokio::test]
async fn past_days_become_smaller_and_hold_the_same() {
    let directory = three_days().await;
    for day in DAYS {
        let path = file(directory.path(), day);
        sql(&path, "CREATE TABLE filler AS SELECT zeroblob(500000) AS b").await;
        sql(&path, "DROP TABLE filler").await;
    }
    let running = SqliteStore::open(directory.path()).await.unwrap();
    let refused = compact(directory.path()).await;
    assert!(matches!(refused, Err(StoreError::InUse { .. })));
    running.close().await;
    drop(running);

    let compacted = compact(directory.path()).await.unwrap();
    let names: Vec<String> = compacted.iter().map(|file| file.name.clone()).collect();
    assert_eq!(
        names,
        [0, 1].map(|day| format!("day-{}.db", DAYS[day])),
        "not the latest"
    );
    for file in &compacted {
        assert!(file.bytes + 400_000 < file.bytes_before, "{file:?}");
    }
    assert_eq!(faults(&checked(directory.path()).await), [""; 0]);
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let days = served(&store).await;
    assert_eq!(
        days.into_values().collect::<Vec<_>>(),
        [0, 1, 2].map(packets_of)
    );
    let next = store.append(&[of_day(3)], received_ms(3)).await.unwrap();
    assert_eq!(next.packets.len(), packets_of(3).len());
    store.close().await;
    drop(store);
    let compacted = compact(directory.path()).await.unwrap();
    assert_eq!(compacted.len(), 1, "of those done before nothing is won");
}
