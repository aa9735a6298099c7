//! No program of the host can take all connections for long by opening them and saying nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use netml_collector::ingest::connections::SOCKETS_MAX;
use netml_collector::web::connections::CONNECTIONS_MAX;

use super::harness::{Collector, PATIENCE, Sensor, batch, hello, packet};

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
