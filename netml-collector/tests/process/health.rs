//! Metrics, life and readiness over HTTP; word to the service manager.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use netml_proto::daemon::exposition::parse::{Page, parse};
use netml_proto::v1;

use super::harness::{Answer, Collector, PATIENCE, Sensor, batch, command, hello, now_ns, packet};

fn get(collector: &Collector, path: &str) -> Answer {
    collector.request(&format!("GET {path} HTTP/1.1"), &[], "")
}

fn metrics(collector: &Collector) -> Page {
    let answer = get(collector, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    parse(&answer.body).unwrap()
}

fn of(page: &Page, name: &str) -> u64 {
    let value = page.count(&format!("netml_collector_{name}"), &[]);
    value.unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_the_api_tells_of_known_traffic() {
    let data = tempfile::tempdir().unwrap();
    let collector = Collector::start(data.path());
    let mut sensor = Sensor::connect(&collector, hello("edge-1", 5)).await;
    let batches = |first: u64| batch(5, first, (0..10).map(packet).collect());
    for first in [1, 11] {
        sensor.send(batches(first)).await;
        assert_eq!(sensor.ack().await, first + 9);
    }
    // Again what was stored, then one record that cannot be.
    sensor.send(batches(11)).await;
    assert_eq!(sensor.ack().await, 20);
    let impossible = v1::record::Record::Packet(v1::PacketSample::default());
    sensor.send(batch(5, 21, vec![impossible])).await;
    assert_eq!(sensor.ack().await, 21);
    // Damaged on its way: the stream ends.
    let mut damaged = batch(5, 22, vec![packet(1)]);
    damaged.crc32 ^= 1;
    sensor.send(damaged).await;
    assert_eq!(sensor.refusal().await.code(), tonic::Code::DataLoss);
    let _watching = collector.live();
    let other = Sensor::connect(&collector, hello("edge-2", 6)).await;
    collector.eventually("/api/status", |status| status["sensors_connected"] == 1);

    let page = metrics(&collector);
    let books = &collector.get("/api/status")["books"];
    for (metric, book, known) in [
        ("batches_in_total", "batches_in", 5),
        ("batches_failed_total", "batches_failed", 0),
        ("records_in_total", "records_in", 32),
        ("records_committed_total", "records_stored", 20),
        ("records_duplicate_total", "records_duplicate", 10),
        ("records_refused_total", "records_refused", 2),
        ("records_gap_total", "records_gap", 0),
        ("days_removed_total", "days_removed", 0),
    ] {
        assert_eq!(of(&page, metric), known, "{metric}");
        assert_eq!(books[book], known, "{book}");
    }
    let refused = "netml_collector_batches_refused_total";
    assert_eq!(page.value(refused, &[("reason", "checksum")]), Some(1.0));
    assert_eq!(page.sum(refused), books["batches_refused"]);
    // Each batch was acknowledged before the next was sent: a transaction each.
    assert_eq!(of(&page, "commit_seconds_count"), 4);
    assert_eq!(of(&page, "store_day_files"), 1);
    assert!(of(&page, "store_wal_bytes") > 0);
    assert!(of(&page, "store_bytes") > of(&page, "store_wal_bytes"));
    assert_eq!(of(&page, "live_watchers"), 1);
    assert_eq!(of(&page, "sensors_connected"), 1);
    for (sensor, connected) in [("edge-1", 0.0), ("edge-2", 1.0)] {
        let label = [("sensor", sensor)];
        let value = page.value("netml_collector_sensor_connected", &label);
        assert_eq!(value, Some(connected), "{sensor}");
        let heard = page.value("netml_collector_sensor_last_heard_time_seconds", &label);
        assert!(heard > Some(1e9), "{sensor}");
    }
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_a_sensor_is_measured_by_its_reports() {
    let data = tempfile::tempdir().unwrap();
    let collector = Collector::start(data.path());
    let mut ahead = Sensor::connect(&collector, hello("ahead", 5)).await;
    let replay = v1::Hello {
        source: v1::Source::Replay.into(),
        ..hello("replay", 6)
    };
    let mut replay = Sensor::connect(&collector, replay).await;
    let hour_ns = 3_600_000_000_000;
    for (sensor, stream) in [(&mut ahead, 5), (&mut replay, 6)] {
        let health = v1::record::Record::Health(v1::Health {
            unix_ns: now_ns() + hour_ns,
            ..v1::Health::default()
        });
        sensor.send(batch(stream, 1, vec![health])).await;
        assert_eq!(sensor.ack().await, 1);
    }
    let sensors = collector.items("/api/sensors");
    let hour_ms = 3_600_000;
    // The way here is what is missing; a minute would be a long one.
    let near = |ms: i64| (hour_ms - 60_000..=hour_ms).contains(&ms);
    assert!(near(sensors[0]["clock_offset_ms"].as_i64().unwrap()));
    let late_ms = sensors[0]["late_ms"].as_i64().unwrap();
    assert!((0..60_000).contains(&late_ms), "{late_ms}");
    for field in ["clock_offset_ms", "late_ms"] {
        assert!(sensors[1][field].is_null(), "{field} of a replay");
    }
    let page = metrics(&collector);
    let name = "netml_collector_sensor_clock_offset_seconds";
    assert_eq!(page.samples(name).count(), 1);
    let offset_s = page.value(name, &[("sensor", "ahead")]).unwrap();
    assert!((3_540.0..=3_600.0).contains(&offset_s), "{offset_s}");
}

#[test]
fn life_and_readiness_are_told_to_those_who_may_ask() {
    let data = tempfile::tempdir().unwrap();
    let collector = Collector::start(data.path());
    for path in ["/healthz", "/readyz"] {
        let answer = get(&collector, path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let head = format!("GET {path} HTTP/1.1");
        let foreign = collector.request(&head, &[("Host", "rebound.example")], "");
        assert_eq!(foreign.status, 403, "{path}");
    }
}

/// Asks until the answer has this status.
fn until(collector: &Collector, path: &str, status: u16) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(collector, path);
        if answer.status == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} stays {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_data_directory_that_takes_nothing_is_not_ready_but_alive() {
    let parent = tempfile::tempdir().unwrap();
    let (data, away) = (parent.path().join("data"), parent.path().join("away"));
    let collector = Collector::start(&data);
    std::fs::rename(&data, &away).unwrap();
    let answer = until(&collector, "/readyz", 503);
    assert!(answer.body.contains("takes no data"), "{}", answer.body);
    assert_eq!(get(&collector, "/healthz").status, 200);
    std::fs::rename(&away, &data).unwrap();
    until(&collector, "/readyz", 200);
    assert_eq!(collector.stop(), Some(0));
}

fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1_024];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn the_service_manager_is_told_of_start_progress_and_end() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = command(&data.path().join("data"));
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .stdout(Stdio::piped());
    let collector = Collector::start_by(command);
    let ready = message(&socket);
    assert!(ready.starts_with("READY=1\nSTATUS=0 sensors"), "{ready}");
    // Both ports are open by then.
    assert_eq!(get(&collector, "/readyz").status, 200);
    for _ in 0..3 {
        while message(&socket) != "WATCHDOG=1\n" {}
    }
    assert_eq!(collector.stop(), Some(0));
    while message(&socket) != "STOPPING=1\n" {}
}
