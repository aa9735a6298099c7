//! A day's file that is damaged: the rest is served, and it is told.

use netml_proto::v1;

use super::harness::{Collector, Sensor, batch, hello, packet};

/// Name of the only day's file in a data directory.
fn day_file(directory: &std::path::Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut days = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("day-") && name.ends_with(".db")
    });
    let day = days.next().unwrap();
    assert!(days.next().is_none());
    day
}

fn of(first_seq: u64) -> v1::Batch {
    let first = u32::try_from(first_seq).unwrap();
    batch(1, first_seq, (first..first + 100).map(packet).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_the_present_day_is_set_aside_told_and_followed_by_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(of(1)).await;
    assert_eq!(sensor.ack().await, 100);
    assert_eq!(collector.stop(), Some(0));

    let path = day_file(directory.path());
    let whole = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(whole / 2).unwrap();

    let collector = Collector::start(directory.path());
    let status = collector.get("/api/status");
    assert_eq!(status["books"]["days_set_aside"], 1);
    let name = status["set_aside"][0].as_str().unwrap();
    assert_eq!(
        std::fs::metadata(directory.path().join(name))
            .unwrap()
            .len(),
        whole / 2,
        "as it was found"
    );
    assert_eq!(collector.items("/api/packets").len(), 0);
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(of(101)).await;
    assert_eq!(sensor.ack().await, 200);
    assert_eq!(collector.items("/api/packets?limit=1000").len(), 100);
    assert_eq!(collector.stop(), Some(0));

    let collector = Collector::start(directory.path());
    let status = collector.get("/api/status");
    assert_eq!(status["books"]["days_set_aside"], 0, "since this start");
    assert_eq!(status["set_aside"].as_array().unwrap().len(), 1);
    assert_eq!(collector.items("/api/packets?limit=1000").len(), 100);
}
