//! Commands on a data directory, beside a running collector where they may be.

use std::path::Path;
use std::process::{Command, Output};

use super::full_disk::SmallDisk;
use super::harness::{Collector, Sensor, batch, flow, hello, packet};
use netml_proto::v1;

fn run(arguments: &[&str], data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netml-collector"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A collector with 500 packets and a flow.
async fn filled(data: &Path) -> (Collector, Sensor) {
    let collector = Collector::start(data);
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    let records = (0..500).map(packet);
    let ended = flow(5, v1::FlowState::End, 3, v1::Verdict::Suspicious);
    let records = records.chain([v1::record::Record::Flow(ended)]);
    sensor.send(batch(1, 1, records.collect())).await;
    assert_eq!(sensor.ack().await, 501);
    (collector, sensor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_collector_is_checked_backed_up_and_its_backup_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let [data, copy, again] = ["data", "copy", "again"].map(|name| directory.path().join(name));
    let (collector, mut sensor) = filled(&data).await;

    let output = run(&["check"], &data);
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout)
            .lines()
            .all(|line| line.ends_with("ok"))
    );
    let output = run(&["compact"], &data);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("in use by another collector"));

    let output = run(&["backup", copy.to_str().unwrap()], &data);
    assert!(output.status.success(), "{}", text(&output.stderr));
    sensor.send(batch(1, 502, vec![packet(9)])).await;
    assert_eq!(sensor.ack().await, 502, "it goes on");
    let output = run(&["backup", copy.to_str().unwrap()], &data);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing is overwritten"));
    let output = run(&["restore", copy.to_str().unwrap()], &data);
    assert_eq!(output.status.code(), Some(1), "never over what is there");
    assert_eq!(collector.stop(), Some(0));

    let output = run(&["restore", copy.to_str().unwrap()], &again);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let collector = Collector::start(&again);
    assert_eq!(collector.items("/api/packets?limit=1000").len(), 500);
    assert_eq!(collector.items("/api/sensors")[0]["sensor"], "host-a");
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(batch(1, 502, vec![packet(9)])).await;
    assert_eq!(sensor.ack().await, 502);
    assert_eq!(collector.items("/api/packets?limit=1000").len(), 501);
    assert_eq!(collector.stop(), Some(0));

    let day = std::fs::read_dir(&again)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("day-")
        })
        .unwrap();
    std::fs::write(&day, "no database").unwrap();
    let output = run(&["check", "--quick"], &again);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    let name = day.file_name().unwrap().to_str().unwrap();
    assert!(
        said.lines()
            .any(|line| line.starts_with(name) && !line.ends_with("ok")),
        "{said}"
    );
    let output = run(&["check"], &directory.path().join("nowhere"));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_exported_as_the_api_exports_them_and_as_parquet() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (collector, _sensor) = filled(&data).await;
    for format in ["csv", "ndjson"] {
        for table in ["packets", "flows", "events"] {
            let line = format!("GET /api/export/{table}.{format} HTTP/1.1");
            let expected = collector.request(&line, &[], "").body;
            let output = run(&["export", table, "--format", format], &data);
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert_eq!(text(&output.stdout), expected, "{table}.{format}");
        }
    }
    let file = directory.path().join("packets.parquet");
    let output = run(
        &["export", "packets", "--output", file.to_str().unwrap()],
        &data,
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));

    let output = run(&["export", "packets", "--to", "2000-01-01"], &data);
    assert_eq!(
        text(&output.stdout).lines().count(),
        1,
        "a header and no row"
    );
    let output = run(&["export", "packets", "--from", "yesterday"], &data);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--from takes a time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_gives_an_error_and_nothing_half_written() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (collector, _sensor) = filled(directory.path()).await;
    disk.fill();
    let before = std::fs::read_dir(disk.path()).unwrap().count();
    let [file, copy] = ["out.csv", "copy"].map(|name| disk.path().join(name));
    for arguments in [
        ["export", "packets", "--output", file.to_str().unwrap()].as_slice(),
        &[
            "export",
            "packets",
            "--format",
            "parquet",
            "--output",
            file.to_str().unwrap(),
        ],
        &["backup", copy.to_str().unwrap()],
    ] {
        let output = run(arguments, directory.path());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = text(&output.stderr);
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("netml-collector:"))
            .collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(
            ["No space left", "no storage space", "disk is full"]
                .iter()
                .any(|words| said.contains(words)),
            "{said}"
        );
        assert_eq!(
            std::fs::read_dir(disk.path()).unwrap().count(),
            before,
            "{arguments:?}"
        );
    }
    assert_eq!(collector.items("/api/packets").len(), 100, "it goes on");
}
