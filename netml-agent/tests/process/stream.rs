use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netml_proto::v1;
use v1::record::Record;

use super::collector::{Fake, Manner, PATIENCE, Seen, records};
use super::fixture::conversation_file;
use super::{Running, agent, run, stderr, watching_lo};

fn replay_to(fake_url: &str, extra: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let mut arguments = vec!["replay", "--no-model", file.to_str().unwrap()];
    arguments.extend(["--collector", fake_url]);
    arguments.extend(extra);
    run(&arguments)
}

#[test]
fn a_replay_reaches_the_collector_whole_and_in_order() {
    let fake = Fake::start(Manner::default());
    let output = replay_to(&fake.url, &["--sensor", "test-1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (hellos, batches) = fake.until_closed();
    let hello = &hellos[0];
    assert_eq!(hellos.len(), 1);
    assert_eq!(hello.sensor, "test-1");
    assert_eq!(hello.source(), v1::Source::Replay);
    assert_eq!(hello.protocol_version, 1);
    assert_eq!(hello.model_id, "");
    assert_eq!(hello.interfaces[0].name, "conversation.pcap");
    assert!(
        batches
            .iter()
            .all(|batch| batch.stream_id == hello.stream_id)
    );

    let records = records(&batches);
    let ended: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Flow(flow) if flow.state() == v1::FlowState::End => Some(flow),
            _ => None,
        })
        .collect();
    assert_eq!(ended.len(), 2);
    assert!(
        ended
            .iter()
            .all(|flow| flow.verdict() == v1::Verdict::NoVerdict)
    );
    assert!(ended.iter().all(|flow| flow.flow_id >> 32 != 0));
    let samples: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Packet(packet) => Some(packet),
            _ => None,
        })
        .collect();
    assert_eq!(samples.len(), 9);
    let now_ns = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let age = now_ns.abs_diff(samples[0].unix_ns);
    assert!(
        age < PATIENCE.as_nanos() as u64,
        "the first packet is now, not in 2020"
    );
    let span = samples[8].unix_ns - samples[0].unix_ns;
    assert_eq!(span, 80_000_000, "their distances are kept");
    let last_totals = records
        .iter()
        .rev()
        .find_map(|record| match record {
            Record::Counters(counters) if counters.direction() == v1::Direction::Ingress => {
                Some(counters)
            }
            _ => None,
        })
        .unwrap();
    assert_eq!((last_totals.frames, last_totals.recorded), (10, 9));
    assert_eq!(last_totals.lost, [("arp".to_owned(), 1)].into());
    let events: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Event(event) => Some(event.kind.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(events, ["started", "model-loaded", "stopped"]);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_as_it_was() {
    let fake = Fake::start(Manner {
        hang_up_on: 2,
        ..Manner::default()
    });
    let output = replay_to(&fake.url, &["--speed", "max"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut first = Vec::new();
    let mut hellos = 0;
    let mut kept = Vec::new();
    loop {
        match fake.next() {
            Seen::Hello(_) => hellos += 1,
            Seen::Batch(batch) if hellos <= 2 => first.push(batch),
            Seen::Batch(batch) => kept.push(batch),
            Seen::Result(_) => {}
            Seen::Closed => break,
        }
    }
    assert_eq!(hellos, 3);
    assert_eq!(first[0].first_seq, 1);
    assert!(
        first.iter().any(|batch| *batch == kept[0]),
        "resent unchanged"
    );
    records(&kept);
}

#[test]
fn a_collector_that_comes_later_gets_everything() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let mut child = Running(
        agent()
            .args(["replay", "--no-model", "--speed", "max"])
            .arg(&file)
            .arg("--collector")
            .arg(format!("http://{address}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let log = BufReader::new(child.0.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let said = lines.find(|line| line.contains("collector not reachable"));
    assert!(said.is_some(), "the missing collector is shown");
    let fake = Fake::start_at(address, Manner::default());
    let rest: Vec<_> = lines.collect();
    assert!(child.0.wait().unwrap().success(), "{rest:?}");
    let (_, batches) = fake.until_closed();
    assert!(!records(&batches).is_empty());
}

#[test]
fn a_replay_that_reaches_nobody_says_so_and_fails() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    let output = replay_to(&url, &["--speed", "max"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("did not reach the collector at http://127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn a_command_of_the_collector_is_run_and_answered() {
    let target = "127.0.0.1".to_owned();
    let fake = Fake::start(Manner {
        command: Some(v1::Command {
            id: 77,
            command: Some(v1::command::Command::Probe(v1::Probe {
                target,
                count: 2,
                interval_ms: 10,
            })),
        }),
        ..Manner::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let _child = Running(
        agent()
            .args(["replay", "--no-model", "--loop"])
            .arg(&file)
            .args(["--collector", &fake.url])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let result = loop {
        match fake.next() {
            Seen::Result(result) => break result,
            Seen::Closed => panic!("closed without a result"),
            Seen::Hello(_) | Seen::Batch(_) => {}
        }
    };
    assert_eq!(
        (result.id, result.done, result.error.as_str()),
        (77, true, "")
    );
    let Some(v1::command_result::Result::Probe(summary)) = result.result else {
        panic!("no summary");
    };
    assert_eq!((summary.sent, summary.received), (2, 2));
}

/// Needs root: watches loopback, and ends on SIGTERM with everything delivered.
#[test]
fn a_live_sensor_flushes_at_sigterm_and_its_books_balance() {
    let fake = Fake::start(Manner::default());
    let Some((mut child, lines)) = watching_lo(&["--no-model", "--collector", &fake.url]) else {
        return;
    };
    let lines = lines.map(Result::unwrap);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let mut batches = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    // Until one of our packets was sent as a sample.
    let seen = |batches: &[v1::Batch]| {
        records(batches).iter().any(
            |record| matches!(record, Record::Packet(packet) if packet.dst_port == u32::from(port)),
        )
    };
    while !seen(&batches) {
        assert!(Instant::now() < deadline, "no sample of our packets");
        sender
            .send_to(b"netml", receiver.local_addr().unwrap())
            .unwrap();
        if let Ok(Seen::Batch(batch)) = fake.seen.recv_timeout(Duration::from_millis(100)) {
            batches.push(batch);
        }
    }
    let ended = Command::new("kill")
        .args(["-TERM", &child.0.id().to_string()])
        .status()
        .unwrap();
    assert!(ended.success());
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.0.wait().unwrap().code(), Some(0), "{rest:#?}");
    let rest = rest.join("\n");
    assert!(rest.contains("books balance"), "{rest}");
    assert!(rest.contains("+ 0 undelivered"), "{rest}");
    batches.extend(fake.until_closed().1);
    let all = records(&batches);
    assert!(all.iter().any(|record| matches!(
        record,
        Record::Flow(flow) if flow.dst_port == u32::from(port)
            && flow.state() == v1::FlowState::End
            && flow.end_reason == "shutdown"
    )));
    let last = all.iter().rev().find_map(|record| match record {
        Record::Event(event) => Some(event.kind.as_str()),
        _ => None,
    });
    assert_eq!(last, Some("stopped"));
    for record in &all {
        if let Record::Counters(totals) = record {
            assert_eq!(
                totals.frames,
                totals.recorded + totals.mapped + totals.lost.values().sum::<u64>()
            );
        }
    }
}

/// Needs root: a ring of one page cannot take a burst, and nothing of it may go uncounted.
#[test]
fn what_finds_no_room_in_the_ring_is_counted_by_flow_and_the_books_balance() {
    let mut child = Running(
        agent()
            .args(["run", "--interface", "lo", "--no-model", "--no-collector"])
            .args(["--ring-bytes", "4096"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let log = BufReader::new(child.0.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let started = lines
        .by_ref()
        .find(|line| line.contains("watching") || line.starts_with("error: "))
        .unwrap();
    if started.contains("no privilege") {
        eprintln!("skipped: {started}");
        return;
    }
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    for _ in 0..20_000 {
        sender.send_to(b"netml", to).unwrap();
    }
    let ended = Command::new("kill")
        .args(["-INT", &child.0.id().to_string()])
        .status()
        .unwrap();
    assert!(ended.success());
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.0.wait().unwrap().code(), Some(0), "{rest:#?}");
    let rest = rest.join("\n");
    assert!(rest.contains(" counted by flow"), "{rest}");
    assert!(!rest.contains(" + 0 counted by flow"), "{rest}");
    assert!(rest.contains("books balance"), "{rest}");
}
