//! What a sensor keeps on its disk: over a collector that is away, a stop, a kill, a full disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use netml_proto::v1;
use prost::Message as _;
use v1::record::Record;

use super::collector::{Fake, Manner, PATIENCE, Seen, records};
use super::misuse::{expect, text};
use super::{Running, run, stderr, watching_lo};

/// An address where nobody listens now.
fn free_address() -> SocketAddr {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    reserved.local_addr().unwrap()
}

/// A sensor on the loopback with a spool; `None` without the rights.
fn sensor(spool: &Path, url: &str) -> Option<(Running, Log)> {
    let arguments = ["--no-model", "--spool", text(spool), "--collector", url];
    let (child, lines) = watching_lo(&arguments)?;
    Some((child, Log(Box::new(lines.map(Result::unwrap)))))
}

struct Log(Box<dyn Iterator<Item = String>>);

fn signal(child: &Running, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.0.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Ends a sensor in good order; gives what it said.
fn stop(mut child: Running, log: Log) -> String {
    signal(&child, "-TERM");
    let said: Vec<_> = log.0.collect();
    assert_eq!(child.0.wait().unwrap().code(), Some(0), "{said:#?}");
    said.join("\n")
}

/// Packets for the sensor to see.
struct Traffic(UdpSocket);

impl Traffic {
    fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    fn send(&self, packets: usize) {
        for _ in 0..packets {
            self.0
                .send_to(b"netml", self.0.local_addr().unwrap())
                .unwrap();
        }
        // What came is not read by anyone: the socket drops what finds no room.
    }
}

/// What `spool check` says.
#[derive(Debug)]
struct Checked {
    records: u64,
    unacked: u64,
    /// Of the state: stream, acknowledged, made.
    streams: Vec<(u64, u64, u64)>,
}

fn check(spool: &Path) -> Checked {
    let output = run(&["spool", "check", text(spool)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let numbers = |line: &str| -> Vec<u64> {
        line.split(|c: char| !c.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    };
    let last = numbers(said.lines().last().unwrap());
    let streams = said
        .lines()
        .filter_map(|line| line.strip_prefix("stream "))
        .map(|line| {
            let (id, rest) = line.split_once(':').unwrap();
            let rest = numbers(rest);
            (u64::from_str_radix(id, 16).unwrap(), rest[0], rest[1])
        });
    Checked {
        records: last[2],
        unacked: last[3],
        streams: streams.collect(),
    }
}

/// Sends packets until so many records are on the disk.
fn fill(traffic: &Traffic, spool: &Path, wanted: u64) {
    let deadline = Instant::now() + PATIENCE;
    while check(spool).records < wanted {
        assert!(Instant::now() < deadline, "{:?}", check(spool));
        traffic.send(100);
    }
}

/// Batches by stream as a collector keeps them: each once. One that comes again is the same.
fn by_stream(batches: &[v1::Batch]) -> BTreeMap<u64, Vec<v1::Batch>> {
    let mut kept: BTreeMap<u64, Vec<v1::Batch>> = BTreeMap::new();
    for batch in batches {
        let stream = kept.entry(batch.stream_id).or_default();
        match stream.iter().find(|kept| kept.first_seq == batch.first_seq) {
            Some(earlier) => assert_eq!(earlier, batch, "a number used twice"),
            None => {
                let behind = stream
                    .last()
                    .is_none_or(|last| last.first_seq + u64::from(last.count) <= batch.first_seq);
                assert!(behind, "out of order");
                stream.push(batch.clone());
            }
        }
    }
    kept
}

fn is_loss(batch: &v1::Batch) -> bool {
    let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
    payload
        .records
        .iter()
        .any(|record| matches!(&record.record, Some(Record::Event(event)) if event.kind == "loss"))
}

fn last_event(batches: &[v1::Batch]) -> Option<String> {
    records(batches)
        .into_iter()
        .rev()
        .find_map(|record| match record {
            Record::Event(event) => Some(event.kind),
            _ => None,
        })
}

/// Takes batches until one fits.
fn take_until(fake: &Fake, batches: &mut Vec<v1::Batch>, fits: impl Fn(&[v1::Batch]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits(batches) {
        assert!(Instant::now() < deadline, "it does not come");
        if let Seen::Batch(batch) = fake.next() {
            batches.push(batch);
        }
    }
}

/// Needs root.
#[test]
fn what_was_kept_at_a_stop_without_a_collector_is_delivered_by_the_next_start_once_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let address = free_address();
    let url = format!("http://{address}");
    let traffic = Traffic::new();
    let Some((first, log)) = sensor(&spool, &url) else {
        return;
    };
    fill(&traffic, &spool, 500);
    // One holder at a time.
    expect(
        &[
            "run",
            "--interface",
            "lo",
            "--no-model",
            "--spool",
            text(&spool),
        ],
        1,
        &["is in use by another process"],
    );
    let said = stop(first, log);
    assert!(said.contains("kept in the spool"), "{said}");
    assert!(said.contains("+ 0 undelivered"), "{said}");
    let kept = check(&spool);
    assert_eq!(kept.records, kept.unacked);

    // Another sensor's name is refused.
    expect(
        &[
            "run",
            "--interface",
            "lo",
            "--spool",
            text(&spool),
            "--sensor",
            "another",
        ],
        1,
        &["holds records of the sensor"],
    );
    let (second, mut log) = sensor(&spool, &url).unwrap();
    let away = log.0.find(|line| line.contains("collector not reachable"));
    assert!(away.is_some());
    traffic.send(1_000);
    let fake = Fake::start_at(address, Manner::default());
    let earlier = kept.streams[0].0;
    let mut batches = Vec::new();
    take_until(&fake, &mut batches, |batches| {
        let count = |stream: bool| -> u64 {
            let of = batches
                .iter()
                .filter(|b| (b.stream_id == earlier) == stream);
            of.map(|batch| u64::from(batch.count)).sum()
        };
        count(true) >= kept.records && count(false) > 0
    });
    stop(second, log);
    batches.extend(fake.until_closed().1);
    let streams = by_stream(&batches);
    assert_eq!(streams.len(), 2);
    for (stream_id, batches) in &streams {
        assert!(!batches.iter().any(is_loss), "nothing was lost");
        assert_eq!(last_event(batches).as_deref(), Some("stopped"));
        if *stream_id == earlier {
            assert_eq!(records(batches).len() as u64, kept.records);
        }
    }
    let end = check(&spool);
    assert_eq!((end.records, end.unacked), (0, 0), "nothing is left");
}

/// Needs root.
#[test]
fn what_a_kill_leaves_is_delivered_and_what_it_took_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let address = free_address();
    let url = format!("http://{address}");
    let traffic = Traffic::new();
    let Some((mut first, _log)) = sensor(&spool, &url) else {
        return;
    };
    fill(&traffic, &spool, 500);
    traffic.send(500);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let kept = check(&spool);
    let (killed, acked, made) = kept.streams[0];
    assert_eq!(acked, 0);
    let dumped = run(&["spool", "dump", text(&spool)]);
    let lines: Vec<serde_json::Value> = String::from_utf8(dumped.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len() as u64, kept.records);
    assert_eq!(lines[0]["seq"], 1);
    assert_eq!(lines[0]["stream"], format!("{killed:016x}"));
    assert!(
        lines
            .iter()
            .any(|line| line["record"] == "packet" && line["dst_ip"] == "127.0.0.1")
    );

    let fake = Fake::start_at(address, Manner::default());
    let (second, log) = sensor(&spool, &url).unwrap();
    // The number made last is noted every 50 ms: batches written since then are beyond it.
    let lost = made.saturating_sub(kept.records);
    let wanted = kept.records + u64::from(lost > 0);
    let mut batches = Vec::new();
    take_until(&fake, &mut batches, |batches| {
        let of = batches.iter().filter(|b| b.stream_id == killed);
        of.map(|batch| u64::from(batch.count)).sum::<u64>() >= wanted
    });
    stop(second, log);
    batches.extend(fake.until_closed().1);
    let streams = by_stream(&batches);
    let mut of_killed = streams[&killed].clone();
    if lost > 0 {
        let closing = of_killed.pop().unwrap();
        assert!(is_loss(&closing));
        assert_eq!(
            closing.first_seq,
            made + 1,
            "the numbers between are the gap"
        );
    }
    assert_eq!(records(&of_killed).len() as u64, kept.records);
    assert_eq!(check(&spool).unacked, 0);
}

/// Needs root. 5 kills, 50 with `NETML_LONG`.
#[test]
fn killed_over_and_over_nothing_is_doubled_and_every_number_is_delivered_or_in_a_gap() {
    let kills = if std::env::var_os("NETML_LONG").is_some() {
        50
    } else {
        5
    };
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let fake = Fake::start(Manner::default());
    let traffic = Traffic::new();
    let mut batches = Vec::new();
    let mut made_by = BTreeMap::new();
    for kill in 0..kills {
        let Some((mut child, _log)) = sensor(&spool, &fake.url) else {
            return;
        };
        let before = batches.len();
        traffic.send(200 + kill * 37 % 300);
        take_until(&fake, &mut batches, |batches| {
            batches.len() > before + kill % 3
        });
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        for (stream_id, _, made) in check(&spool).streams {
            made_by.insert(stream_id, made);
        }
    }
    let (last, log) = sensor(&spool, &fake.url).unwrap();
    take_until(&fake, &mut batches, |batches| {
        // One of its own: by then it takes signals.
        let is_up = batches.iter().any(|b| !made_by.contains_key(&b.stream_id));
        is_up
            && made_by.iter().all(|(stream_id, made)| {
                let mut of = batches.iter().filter(|b| b.stream_id == *stream_id);
                *made == 0 || of.any(|b| b.first_seq + u64::from(b.count) > *made)
            })
    });
    stop(last, log);
    let mut closed = 0;
    while let Ok(seen) = fake.seen.try_recv() {
        match seen {
            Seen::Batch(batch) => batches.push(batch),
            Seen::Closed => closed += 1,
            Seen::Hello(_) | Seen::Result(_) => {}
        }
    }
    assert!(closed > 0);
    for (stream_id, batches) in by_stream(&batches) {
        // A gap has only the closing event behind it.
        let whole = batches.iter().filter(|batch| !is_loss(batch)).cloned();
        let whole: Vec<_> = whole.collect();
        let delivered = records(&whole).len() as u64;
        if let Some(closing) = batches.iter().find(|batch| is_loss(batch)) {
            assert_eq!(closing.first_seq, made_by[&stream_id].max(delivered) + 1);
        }
    }
    assert_eq!(check(&spool).unacked, 0);
}

/// A file system of a megabyte, gone at drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "netml-test"])
            .arg(folder.path())
            .status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        is_mounted.then_some(Self(folder))
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = File::create(self.0.path().join("ballast")).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4_096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that fails can leave the sensor's files open.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// Values of a book in the health records, in order.
fn book(batches: &[v1::Batch], name: &str) -> Vec<u64> {
    let mut values = Vec::new();
    for batch in batches {
        let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
        for record in payload.records {
            if let Some(Record::Health(health)) = record.record {
                values.extend(health.books.get(name));
            }
        }
    }
    values
}

/// Needs root.
#[test]
fn a_full_disk_does_not_end_the_sensor_and_it_writes_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let spool = disk.0.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    disk.fill();
    let fake = Fake::start(Manner::default());
    let traffic = Traffic::new();
    let Some((child, log)) = sensor(&spool, &fake.url) else {
        return;
    };
    let mut batches = Vec::new();
    take_until(&fake, &mut batches, |batches| {
        traffic.send(20);
        book(batches, "spool_errors")
            .iter()
            .any(|errors| *errors > 0)
    });
    disk.free();
    take_until(&fake, &mut batches, |batches| {
        traffic.send(20);
        book(batches, "spool_bytes")
            .last()
            .is_some_and(|bytes| *bytes > 0)
    });
    let said = stop(child, log);
    assert!(said.contains("books balance"), "{said}");
    batches.extend(fake.until_closed().1);
    let streams = by_stream(&batches);
    assert_eq!(streams.len(), 1);
    for batches in streams.values() {
        // Without a gap: memory held what the disk did not take.
        assert_eq!(last_event(batches).as_deref(), Some("stopped"));
    }
}

#[test]
fn check_and_repair_tell_damage_by_its_place_and_what_is_no_spool_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    expect(
        &["spool", "check", text(&spool)],
        1,
        &["cannot be used", "spool"],
    );
    std::fs::create_dir(&spool).unwrap();
    assert_eq!(check(&spool).records, 0);
    let bad = spool.join("0000000000000001.seg");
    std::fs::write(&bad, [0x55; 1_000]).unwrap();
    let output = run(&["spool", "check", text(&spool)]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("  byte 128, 872 bytes: no frame can be read"),
        "{said}"
    );
    let output = run(&["spool", "repair", text(&spool)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("set aside, nothing in its 1000 bytes"),
        "{said}"
    );
    assert!(!bad.exists());
    assert!(check(&spool).streams.is_empty());
}
