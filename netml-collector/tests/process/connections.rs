//! No program of the host can take all connections for long by opening them and saying nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use netml_collector::ingest::connections::SOCKETS_MAX;
use netml_collector::web::connections::CONNECTIONS_MAX;

use super::harness::{Collector, PATIENCE, Sensor, batch, command, hello, packet};
use super::tls;

fn open(address: &str, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    (0..count).map(connect).collect()
}

/// True once the other end has closed; an answer before that is read and dropped.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn book(collector: &Collector, name: &str) -> u64 {
    collector.get("/api/status")["books"][name]
        .as_u64()
        .unwrap()
}

#[test]
fn one_web_connection_too_many_is_closed_and_counted_and_silent_ones_give_their_places_back() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut silent = open(&collector.web, CONNECTIONS_MAX);
    assert!(is_closed(&mut open(&collector.web, 1)[0]));
    // Half a head does not hold a place for longer than nothing does.
    silent[0].write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    for stream in &mut silent {
        assert!(is_closed(stream));
    }
    assert!(book(&collector, "connections_refused") >= 1);
    assert!(book(&collector, "connections_timed_out") >= CONNECTIONS_MAX as u64);
    assert_eq!(collector.stop(), Some(0));
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut stream = open(&collector.web, 1).remove(0);
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut byte = [0];
    loop {
        assert!(Instant::now() < deadline, "it may go on for ever");
        if stream.write_all(b"x: y\r\n").is_err() {
            break;
        }
        match stream.read(&mut byte) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            _ => {}
        }
    }
    assert_eq!(book(&collector, "connections_timed_out"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_sensors_port_give_their_places_back() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let address = collector.grpc.strip_prefix("http://").unwrap().to_owned();
    let mut silent = open(&address, SOCKETS_MAX);
    assert!(is_closed(&mut open(&address, 1)[0]));
    // Part of a preface is none.
    silent[0].write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    for stream in &mut silent {
        assert!(is_closed(stream));
    }
    assert!(book(&collector, "connections_refused") >= 1);
    assert_eq!(
        book(&collector, "connections_timed_out"),
        SOCKETS_MAX as u64
    );
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(batch(1, 1, vec![packet(1)])).await;
    assert_eq!(sensor.ack().await, 1);
}

/// Those who open so many files do it one after the other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Idle connections that are tried; fewer where this process may not open as many files.
const IDLE: usize = 10_000;

/// Resident memory of the collector meanwhile.
const RESIDENT_KIB_MAX: u64 = 64 * 1_024;

/// Files this process may open.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

fn resident_kib(collector: &Collector) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", collector.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Opens idle connections while a sensor that was there before goes on; those without a place are
/// turned away at once, the others (counted under `late`) when they have said nothing for 10 s.
async fn idle_connections(collector: &Collector, mut sensor: Sensor, late: &str) {
    let _turn = TURN.lock().await;
    // Some stay free for the other tests of this process.
    let count = IDLE.min(files_max().saturating_sub(1_000));
    println!("{count} idle connections");
    assert!(count > 2 * SOCKETS_MAX, "too few open files are allowed");
    let (_, address) = collector.grpc.split_once("://").unwrap();
    let mut idle = Vec::new();
    let mut seq = 0;
    while idle.len() < count {
        idle.extend(open(address, 250.min(count - idle.len())));
        seq += 1;
        sensor.send(batch(1, seq, vec![packet(1)])).await;
        assert_eq!(sensor.ack().await, seq, "the live sensor is held up");
        assert!(resident_kib(collector) < RESIDENT_KIB_MAX);
    }
    let books = collector.eventually("/api/status", |status| {
        let of = |name: &str| status["books"][name].as_u64().unwrap();
        of("connections_refused") + of(late) >= count as u64
    })["books"]
        .clone();
    assert!(books[late].as_u64().unwrap() >= SOCKETS_MAX as u64 - 1);
    let turned_away =
        books["connections_refused"].as_u64().unwrap() + books[late].as_u64().unwrap();
    assert_eq!(turned_away, count as u64, "each is counted once");
    sensor.send(batch(1, seq + 1, vec![packet(1)])).await;
    assert_eq!(sensor.ack().await, seq + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_turned_away_and_counted_and_a_sensor_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    idle_connections(&collector, sensor, "connections_timed_out").await;
    let mut another = Sensor::connect(&collector, hello("host-b", 2)).await;
    another.send(batch(2, 1, vec![packet(1)])).await;
    assert_eq!(another.ack().await, 1, "the places are free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_those_that_do_not_begin_a_handshake_where_it_is_tls() {
    let (data, collector) = tls::with_authority();
    let (path, _) = tls::enrolled(data.path(), &collector, "edge-1").await;
    let way = tls::way(&collector, &path);
    let sensor = tls::stream(&way, hello("edge-1", 1)).await.unwrap();
    idle_connections(&collector, sensor, "tls_failed").await;
}

/// With fewer open files than places the bound is that of the system.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_system_gives_no_more_sockets_a_sensor_goes_on_and_taking_does_once_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let plain = command(directory.path());
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args())
        .stdout(Stdio::piped());
    let collector = Collector::start_by(limited);
    let (_, address) = collector.grpc.split_once("://").unwrap();
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    // The day's file is open then.
    sensor.send(batch(1, 1, vec![packet(1)])).await;
    assert_eq!(sensor.ack().await, 1);
    let idle = open(address, 256);
    for seq in 2..=20 {
        sensor.send(batch(1, seq, vec![packet(1)])).await;
        assert_eq!(sensor.ack().await, seq);
    }
    let before = cpu_ticks(&collector);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ticks = cpu_ticks(&collector) - before;
    assert!(ticks < 100, "it asks without end: {ticks} of 200 ticks");
    drop(idle);
    let mut another = Sensor::connect(&collector, hello("host-b", 2)).await;
    another.send(batch(2, 1, vec![packet(1)])).await;
    assert_eq!(another.ack().await, 1);
}

/// Processor time so far, in ticks of 10 ms.
fn cpu_ticks(collector: &Collector) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", collector.child.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
