//! Metrics, life and readiness of a live sensor; word to the service manager.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use netml_proto::daemon::exposition::parse::{Page, parse};
use netml_proto::v1;
use v1::record::Record;

use super::collector::{Fake, Manner, PATIENCE, Seen};
use super::misuse::{expect, text};
use super::{Running, watching_lo_with};

/// Body of an answer, and its status.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// A sensor on the loopback that tells metrics, and where.
fn sensor(arguments: &[&str], environment: &[(&str, &str)]) -> Option<(Running, String)> {
    let listen = ["--metrics-listen", "127.0.0.1:0", "--no-model"];
    let arguments: Vec<_> = arguments.iter().chain(&listen).copied().collect();
    let (child, mut lines) = watching_lo_with(&arguments, environment)?;
    let line = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("metrics are told"))
        .unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    let address = address.trim().to_owned();
    // What it says further is not of interest, but must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some((child, address))
}

fn terminate(child: &mut Running) {
    let id = child.0.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

fn packets(page: &Page) -> u64 {
    page.sum("netml_agent_packets_total")
}

/// Asks for metrics until they fit.
fn until(address: &str, fits: impl Fn(&Page) -> bool) -> Page {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, body) = get(address, "/metrics");
        if status == 200 {
            let page = parse(&body).unwrap();
            if fits(&page) {
                return page;
            }
        }
        assert!(Instant::now() < deadline, "{body}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn metrics_tell_what_the_collector_is_told_of_known_traffic() {
    let fake = Fake::start(Manner::default());
    let spool = tempfile::tempdir().unwrap();
    let arguments = ["--collector", &fake.url, "--spool", text(spool.path())];
    let Some((mut child, address)) = sensor(&arguments, &[]) else {
        return;
    };
    let before = packets(&until(&address, |_| true));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sent = 500;
    for _ in 0..sent {
        socket
            .send_to(b"netml", socket.local_addr().unwrap())
            .unwrap();
    }
    // Each passes the loopback twice. Others use it as well.
    let page = until(&address, |page| {
        packets(page) >= before + 2 * sent && page.sum("netml_agent_acked_records_total") > 0
    });
    let of = |name: &str| page.count(&format!("netml_agent_{name}"), &[]).unwrap();
    let lost: u64 = netml_common::LossReason::ALL
        .iter()
        .filter(|reason| reason.index() < netml_common::KERNEL_LOSS_REASONS)
        .map(|reason| {
            let label = [("reason", reason.name())];
            page.count("netml_agent_lost_total", &label).unwrap()
        })
        .sum();
    // Counters are read one after another while packets pass: what came between is off by little.
    let sum = of("recorded_frames_total") + of("mapped_frames_total") + lost;
    assert!(sum >= 2 * sent && of("frames_total") >= 2 * sent);
    let watched = page.samples("netml_agent_interface_info").next().unwrap();
    assert_eq!(watched.labels["interface"], "lo");
    let connected = [("collector", fake.url.as_str())];
    let connected = page.value("netml_agent_collector_connected", &connected);
    assert_eq!(connected, Some(1.0));
    assert!(of("spool_bytes") > 0 && of("spool_bytes") < of("spool_max_bytes"));
    assert!(of("ring_bytes") > of("ring_backlog_bytes"));
    assert_eq!(page.samples("netml_agent_model_info").count(), 0);
    let stages: Vec<_> = page
        .samples("netml_agent_stage_progress_age_seconds")
        .map(|sample| sample.labels["stage"].as_str())
        .collect();
    assert_eq!(stages, ["capture", "spool", "send"]);
    assert_eq!(get(&address, "/healthz"), (200, "ok\n".into()));
    assert_eq!(get(&address, "/readyz"), (200, "ok\n".into()));

    // The health record tells the same counts, later.
    let (frames, rows) = (of("frames_total"), of("ring_records_total"));
    let deadline = Instant::now() + PATIENCE;
    let health = loop {
        assert!(Instant::now() < deadline);
        if let Seen::Batch(batch) = fake.next() {
            let payload: v1::Payload = prost::Message::decode(&batch.payload[..]).unwrap();
            let told = payload.records.into_iter().find_map(|record| {
                let Some(Record::Health(health)) = record.record else {
                    return None;
                };
                (health.books["kernel_frames"] >= frames).then_some(health)
            });
            if let Some(health) = told {
                break health;
            }
        }
    };
    assert!(health.books["ring_out"] >= rows);
    assert_eq!(health.ring_bytes, of("ring_bytes"));
    assert_eq!(health.flows_max, of("flows_max"));
    terminate(&mut child);
}

fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1_024];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn the_watchdog_is_fed_by_progress_and_not_while_a_stage_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // No collector listens there: that is no stall. The reader rests once, after the first records.
    let arguments = [
        "--collector",
        "http://127.0.0.1:9",
        "--test-reader-pause-s",
        "3",
    ];
    let environment = [("NOTIFY_SOCKET", text(&path)), ("WATCHDOG_USEC", "900000")];
    let Some((mut child, address)) = sensor(&arguments, &environment) else {
        return;
    };
    let ready = message(&socket);
    assert!(ready.starts_with("READY=1\nSTATUS=watches lo"), "{ready}");
    // Asking is traffic on the loopback; other traffic may have come before.
    get(&address, "/healthz");
    let stalled = loop {
        let said = message(&socket);
        if said.contains("no progress") {
            break said;
        }
    };
    assert!(stalled.starts_with("STATUS=capture has"), "{stalled}");
    // While it is held nothing comes; then the state first, and food behind it.
    let next = message(&socket);
    assert!(next.starts_with("STATUS=watches lo"), "{next}");
    for _ in 0..3 {
        while message(&socket) != "WATCHDOG=1\n" {}
    }
    terminate(&mut child);
    while message(&socket) != "STOPPING=1\n" {}
}

#[test]
fn an_address_that_others_reach_must_be_asked_for() {
    expect(
        &["run", "--metrics-listen", "0.0.0.0:0"],
        2,
        &["0.0.0.0:0", "--metrics-remote", "127.0.0.1"],
    );
    expect(
        &["run", "--metrics-listen", "here"],
        2,
        &["--metrics-listen"],
    );
    expect(&["run", "--metrics-remote"], 2, &["--metrics-listen"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    expect(
        &["run", "--metrics-listen", &taken],
        1,
        &["cannot listen", &taken, "--metrics-listen"],
    );
}
