//! What scenarios are made of: connections from a chosen address, scripted exchanges, pauses.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::random::Random;
use super::report::{Exact, FlowSent, Report};
use super::services::SCRIPT_HEADER_BYTES;
use crate::sys;

/// Longest wait for a connection or an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Longest single sleep, so that a stop is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Ethernet, IPv4 and UDP headers.
const UDP4_HEADERS_BYTES: u64 = 14 + 20 + 8;
/// Ethernet, IPv6 and UDP headers.
const UDP6_HEADERS_BYTES: u64 = 14 + 40 + 8;

/// What a worker of a scenario has at hand.
pub(crate) struct Worker {
    /// Its own random numbers.
    pub(crate) random: Random,
    /// What it sent so far.
    pub(crate) report: Report,
    /// When it should be done.
    pub(crate) deadline: Instant,
    /// Set to end all workers early.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Worker {
    /// True while there is time for more.
    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.deadline && !self.stopped()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || sys::stop_requested()
    }

    /// Sleeps, not beyond the deadline.
    pub(crate) fn pause(&self, pause: Duration) {
        let until = (Instant::now() + pause).min(self.deadline);
        while !self.stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(SLEEP_MAX));
        }
    }

    /// Sleeps for a long-tailed time.
    pub(crate) fn think(&mut self, typical_ms: u64) {
        let pause = self.random.pause(typical_ms);
        self.pause(pause);
    }

    /// Opens a connection from `src`; a failure is counted in the report.
    pub(crate) fn connect(&mut self, src: IpAddr, dst: SocketAddr) -> Option<TcpStream> {
        match connect(src, dst, PATIENCE) {
            Ok((stream, local)) => {
                self.report.tcp(local, dst);
                Some(stream)
            }
            Err(_) => {
                self.report.failures += 1;
                None
            }
        }
    }

    /// Sends one UDP question and waits for the answer; both are exact in the report.
    pub(crate) fn ask(&mut self, socket: &UdpSocket, dst: SocketAddr, question: &[u8]) {
        let headers = match dst {
            SocketAddr::V4(_) => UDP4_HEADERS_BYTES,
            SocketAddr::V6(_) => UDP6_HEADERS_BYTES,
        };
        let mut buffer = [0_u8; 2_048];
        let sent = socket.send_to(question, dst);
        let answered = sent.and_then(|_| socket.recv(&mut buffer));
        let Ok(src) = socket.local_addr() else {
            self.report.failures += 1;
            return;
        };
        let mut exact = Exact {
            fwd_packets: 1,
            fwd_bytes: headers + question.len() as u64,
            ..Exact::default()
        };
        match answered {
            Ok(length) => {
                exact.rev_packets = 1;
                exact.rev_bytes = headers + length as u64;
            }
            Err(_) => self.report.failures += 1,
        }
        let known = self
            .report
            .flows
            .iter_mut()
            .find(|flow| flow.src == src && flow.dst == dst && flow.protocol == "udp");
        match known.and_then(|flow| flow.exact.as_mut()) {
            Some(sum) => {
                sum.fwd_packets += exact.fwd_packets;
                sum.fwd_bytes += exact.fwd_bytes;
                sum.rev_packets += exact.rev_packets;
                sum.rev_bytes += exact.rev_bytes;
            }
            None => self.report.flow(FlowSent {
                src,
                dst,
                protocol: "udp",
                exact: Some(exact),
            }),
        }
    }
}

/// A connection from `src`, and its local end.
///
/// # Errors
/// Refused, unreachable or not answered in time.
pub(crate) fn connect(
    src: IpAddr,
    dst: SocketAddr,
    patience: Duration,
) -> io::Result<(TcpStream, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(dst), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(src, 0).into())?;
    socket.connect_timeout(&dst.into(), patience)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, local))
}

/// A UDP socket of `src` on a port the kernel chooses.
///
/// # Errors
/// No such address.
pub(crate) fn datagram_socket(src: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((src, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// Sends a message of `send` bytes to a scripted service and reads its answer of `wanted` bytes.
///
/// # Errors
/// The connection broke or timed out.
pub(crate) fn exchange(stream: &mut TcpStream, send: usize, wanted: usize) -> io::Result<()> {
    let send = send.max(SCRIPT_HEADER_BYTES);
    let mut message = vec![b'.'; send];
    message[..4].copy_from_slice(&(send as u32).to_le_bytes());
    message[4..8].copy_from_slice(&(wanted as u32).to_le_bytes());
    stream.write_all(&message)?;
    read_away(stream, wanted)
}

/// One HTTP request on a kept-alive connection and its whole answer.
///
/// # Errors
/// The connection broke or timed out, or the answer is no HTTP.
pub(crate) fn get(stream: &mut TcpStream, wanted: usize) -> io::Result<()> {
    let request = format!(
        "GET /{wanted} HTTP/1.1\r\nHost: lab.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nConnection: keep-alive\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut buffer = [0_u8; 4_096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..length]);
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = head.len() - (at + 4);
            return read_away(stream, wanted.saturating_sub(body));
        }
    }
}

/// Reads and forgets `wanted` bytes.
///
/// # Errors
/// The connection broke or timed out.
pub(crate) fn read_away(stream: &mut TcpStream, wanted: usize) -> io::Result<()> {
    let mut buffer = vec![0_u8; wanted.clamp(1, 64 * 1024)];
    let mut left = wanted;
    while left > 0 {
        let part = left.min(buffer.len());
        stream.read_exact(&mut buffer[..part])?;
        left -= part;
    }
    Ok(())
}
