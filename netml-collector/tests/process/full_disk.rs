//! A disk that fills while the collector runs.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use netml_proto::v1;
use tempfile::TempDir;
use tonic::Code;

use super::harness::{Collector, PATIENCE, Sensor, batch, hello, packet};

/// Far more than the refusal needs once the disk is full.
const BATCHES_MAX: u64 = 200;

const RECORDS: u64 = 500;

/// A file system of a few megabytes, gone at drop.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=700", "netml-test"])
            .arg(directory.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all room that is left.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        loop {
            match file.write(&[0; 4_096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path: &Path = self.0.path();
        // Lazily: a test that fails can leave the collector's files open.
        drop(Command::new("umount").arg("-l").arg(path).status());
    }
}

fn next_batch(acked: u64) -> v1::Batch {
    let packets = (0..RECORDS).map(|n| packet(u32::try_from(n).unwrap()));
    batch(1, acked + 1, packets.collect())
}

/// Sends a batch on a new connection; true when it was stored.
async fn is_taken(collector: &Collector, acked: u64) -> bool {
    let mut sensor = Sensor::connect(collector, hello("host-a", 1)).await;
    sensor.is_sent(next_batch(acked)).await && matches!(sensor.message().await, Ok(Some(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_tells_and_takes_again_by_itself_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let collector = Collector::start(&disk.data());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(next_batch(0)).await;
    let mut acked = sensor.ack().await;
    disk.fill();

    let refusal = loop {
        assert!(acked < BATCHES_MAX * RECORDS, "the disk does not fill");
        sensor.send(next_batch(acked)).await;
        match sensor.message().await {
            Ok(Some(_)) => acked += RECORDS,
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    assert!(!is_taken(&collector, acked).await, "still full");
    let status = collector.get("/api/status");
    assert!(status["books"]["batches_failed"].as_u64().unwrap() >= 1);
    assert_eq!(status["books"]["records_stored"], acked);
    assert_eq!(collector.items("/api/packets?limit=100").len(), 100);

    disk.free();
    let deadline = Instant::now() + PATIENCE;
    while !is_taken(&collector, acked).await {
        assert!(Instant::now() < deadline, "it does not take again");
    }
    acked += RECORDS;
    assert_eq!(
        collector.get("/api/status")["books"]["records_stored"],
        acked
    );
    assert_eq!(collector.stop(), Some(0));
    let again = Collector::start(&disk.data());
    let newest = again.items("/api/packets?limit=1");
    let day_and_row = newest[0]["id"].as_str().unwrap();
    assert!(day_and_row.ends_with(&format!("-{acked}")), "{day_and_row}");
    assert_eq!(again.stop(), Some(0));
}
