use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netml_agent::engine::{Engine, FlowReport, JudgedPacket, Settings, Sink};
use netml_agent::model::{Model, embedded_bytes};
use netml_agent::verdict::Verdict;
use netml_common::{Marks, PacketRecord};
use netml_proto::v1;
use v1::record::Record;

use super::collector::{Fake, Manner, PATIENCE, Seen, records};
use super::model::changed;
use super::watching_lo;

#[derive(Default)]
struct Reports(Vec<FlowReport>);

impl Sink for Reports {
    fn flow(&mut self, report: &FlowReport) {
        self.0.push(report.clone());
    }
    fn packet(&mut self, _packet: &JudgedPacket) {}
}

/// A datagram of client `host`, at a millisecond.
fn datagram(host: u8, ms: u64) -> PacketRecord {
    let mapped = netml_common::walk::mapped;
    PacketRecord {
        kind: 1,
        version: 1,
        length_units: 8,
        ip_protocol: 17,
        marks: Marks(0),
        slot: 0,
        segments: 1,
        mono_ns: 1_000_000_000 + ms * 1_000_000,
        src: mapped([10, 0, 0, host]),
        dst: mapped([10, 0, 1, 1]),
        wire_bytes: 100,
        payload_bytes: 58,
        src_port: 4000,
        dst_port: 53,
        tcp_flags: 0,
        hop_limit: 64,
        tcp_window: 0,
    }
}

fn model(bytes: &[u8]) -> Arc<Model> {
    Arc::new(Model::from_bytes(bytes).unwrap())
}

/// The built-in model that calls everything SUSPICIOUS.
fn wary() -> Vec<u8> {
    changed(|parts| {
        parts.suspicious = f32::MIN_POSITIVE;
        parts.unsure = f32::MIN_POSITIVE;
        for knot in &mut parts.false_alarms {
            knot.value = 7.0;
        }
    })
}

#[test]
fn each_verdict_names_the_model_that_gave_it_across_a_swap() {
    let (first, second) = (model(embedded_bytes()), model(&wary()));
    assert_ne!(first.id(), second.id());
    let mut engine = Engine::new(Settings::default(), Some(Arc::clone(&first)));
    let mut reports = Reports::default();
    for (host, ms) in [(1, 0), (2, 1)] {
        engine.packet(&datagram(host, ms), &mut reports);
    }
    engine.flush(&mut reports);
    engine.set_model(Some(Arc::clone(&second)));
    // Only the first flow goes on, and a third begins.
    for (host, ms) in [(1, 2), (3, 3)] {
        engine.packet(&datagram(host, ms), &mut reports);
    }
    engine.flush(&mut reports);
    engine.finish(&mut reports);
    let last = |host: u8| {
        let of_host = |report: &&FlowReport| report.ends.src[15] == host;
        &reports.0.iter().rfind(of_host).unwrap().verdict
    };
    for (host, by, verdict) in [
        (1, &second, Verdict::Suspicious),
        (2, &first, Verdict::Normal),
        (3, &second, Verdict::Suspicious),
    ] {
        let told = last(host);
        assert_eq!(told.model_id.as_deref(), Some(by.id()), "host {host}");
        assert_eq!(told.verdict, verdict, "host {host}");
        let expected = by.expected_false_alarms_per_host_day(told.score);
        assert!((told.false_alarms_per_host_day - expected).abs() < 1e-6);
    }
    assert!(engine.books().packets_in == engine.books().packets_ended);
}

#[test]
fn a_model_that_calls_nothing_suspicious_takes_an_old_verdict_back() {
    let (wary, calm) = (model(&wary()), model(embedded_bytes()));
    let mut engine = Engine::new(Settings::default(), Some(wary));
    let mut reports = Reports::default();
    engine.packet(&datagram(1, 0), &mut reports);
    engine.flush(&mut reports);
    assert_eq!(reports.0[0].verdict.verdict, Verdict::Suspicious);
    engine.set_model(Some(Arc::clone(&calm)));
    engine.packet(&datagram(1, 1), &mut reports);
    engine.flush(&mut reports);
    let told = &reports.0.last().unwrap().verdict;
    assert_eq!(told.verdict, Verdict::Normal);
    assert_eq!(told.model_id.as_deref(), Some(calm.id()));
    assert!(told.kind.is_none() && told.reasons.is_empty());
}

/// Puts a file in the place of another at once.
fn put(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// What the sensor tells, in order.
struct Told {
    fake: Fake,
    batches: Vec<v1::Batch>,
    /// Records looked at.
    at: usize,
}

impl Told {
    /// Sends datagrams over loopback until a record not looked at yet is as wanted.
    fn until(&mut self, what: &str, wanted: impl Fn(&Record) -> bool) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = records(&self.batches);
            if let Some(found) = all[self.at..].iter().position(&wanted) {
                self.at += found + 1;
                return;
            }
            self.at = all.len();
            assert!(Instant::now() < deadline, "never told: {what}");
            // Each from a port of its own: a flow of its own.
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = receiver.local_addr().unwrap();
            sender.send_to(b"netml", to).unwrap();
            let next = self.fake.seen.recv_timeout(Duration::from_millis(100));
            if let Ok(Seen::Batch(batch)) = next {
                self.batches.push(batch);
            }
        }
    }
}

/// Needs root: watches loopback while its model file is replaced, damaged, and taken away.
#[test]
fn a_running_sensor_takes_a_new_model_and_keeps_the_old_one_where_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("netml.model");
    put(&path, embedded_bytes());
    let (first, second) = (model(embedded_bytes()), model(&wary()));
    let fake = Fake::start(Manner::default());
    let Some((mut child, lines)) =
        watching_lo(&["--collector", &fake.url, "--model", path.to_str().unwrap()])
    else {
        return;
    };
    let lines = lines.map(Result::unwrap);
    let reader = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
    let mut told = Told {
        fake,
        batches: Vec::new(),
        at: 0,
    };
    let judged_by = |model: &Arc<Model>| {
        let id = model.id().to_string();
        move |record: &Record| matches!(record, Record::Flow(flow) if flow.model_id == id)
    };
    let refused = |reason: &'static str| {
        let id = first.id().to_string();
        move |record: &Record| {
            matches!(record, Record::Event(event) if event.kind == "model-refused"
                && event.fields["model_id"] == id && event.fields["reason"].contains(reason))
        }
    };
    let hang_up = |pid: u32| {
        let sent = Command::new("kill")
            .args(["-HUP", &pid.to_string()])
            .status();
        assert!(sent.unwrap().success());
    };
    told.until("the first model", judged_by(&first));

    // Damaged, and noticed by itself: the old one goes on.
    put(&path, &embedded_bytes()[..5_000]);
    told.until("refusal", refused("cut or lengthened"));
    told.until("the first model on", judged_by(&first));

    // Gone, and asked for by the signal.
    std::fs::remove_file(&path).unwrap();
    hang_up(child.0.id());
    told.until("refusal", refused("cannot read the model"));

    // Whole again, and another: noticed by itself.
    put(&path, &wary());
    let loaded = |id: String, before: String| {
        move |record: &Record| {
            matches!(record, Record::Event(event) if event.kind == "model-loaded"
                && event.fields["model_id"] == id
                && event.fields.get("previous_model_id") == Some(&before))
        }
    };
    let [a, b] = [first.id(), second.id()].map(str::to_string);
    told.until("the load", loaded(b.clone(), a.clone()));
    told.until("the second model", |record| {
        matches!(record, Record::Flow(flow) if flow.model_id == b
            && flow.verdict() == v1::Verdict::Suspicious)
    });

    // And back by the signal.
    put(&path, embedded_bytes());
    hang_up(child.0.id());
    told.until("the load", loaded(a, b.clone()));
    told.until("the first model again", judged_by(&first));

    let ended = Command::new("kill")
        .args(["-TERM", &child.0.id().to_string()])
        .status();
    assert!(ended.unwrap().success());
    let code = child.0.wait().unwrap().code();
    let log = reader.join().unwrap();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("books balance"), "{log}");
}
