//! The far ends of the lab's conversations.
//!
//! One listener thread a namespace polls all TCP ports and gives each connection a thread. Most
//! services are scripted by their client: every message begins with its own length and the length
//! of the answer it wants, so that the client alone decides the shape of a conversation.

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::sys;

/// Most connections a namespace serves at once; one more is closed unserved.
const CONNECTIONS_MAX: usize = 600;
/// A connection that says nothing for this long is closed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes sent without a pause, and the pause, of long answers: about 12 MB/s.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNK_PAUSE: Duration = Duration::from_millis(5);
/// Longest answer and message of a scripted conversation.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Length and wanted answer, in front of every scripted message.
pub(crate) const SCRIPT_HEADER_BYTES: usize = 8;
/// Longest request head.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// A TCP service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// HTTP/1.1: `GET /<n>` answers n bytes; connections are kept alive.
    Http,
    /// Does what its client asks; sends `banner` first.
    Scripted {
        /// Sent when the connection opens; may be empty.
        banner: &'static [u8],
    },
}

/// Serves TCP ports on all addresses of the calling thread's namespace until `stop`.
///
/// # Errors
/// A port cannot be bound.
pub(crate) fn serve_tcp(
    ports: &[(u16, Service)],
    stop: &Arc<AtomicBool>,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let mut listeners = Vec::new();
    for (port, service) in ports {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot serve port {port}"))?;
        listener.set_nonblocking(true)?;
        listeners.push((listener, *service));
    }
    ready();
    let live = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::SeqCst) {
        let sockets: Vec<_> = listeners.iter().map(|(socket, _)| socket.as_fd()).collect();
        let ready = sys::readable(&sockets, Duration::from_millis(100))?;
        for ((listener, service), ready) in listeners.iter().zip(ready) {
            if ready {
                accept_all(listener, *service, stop, &live);
            }
        }
    }
    Ok(())
}

fn accept_all(
    listener: &TcpListener,
    service: Service,
    stop: &Arc<AtomicBool>,
    live: &Arc<AtomicUsize>,
) {
    while let Ok((stream, _)) = listener.accept() {
        if live.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            live.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (stop, live_here) = (Arc::clone(stop), Arc::clone(live));
        let started = std::thread::Builder::new()
            .stack_size(192 * 1024)
            .spawn(move || {
                // A client that goes away in the middle is ordinary: scans and floods do.
                let ended = stream
                    .set_nonblocking(false)
                    .and_then(|()| converse(stream, service, &stop));
                live_here.fetch_sub(1, Ordering::SeqCst);
                ended
            });
        if started.is_err() {
            live.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn converse(stream: TcpStream, service: Service, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    match service {
        Service::Http => serve_http(stream, stop),
        Service::Scripted { banner } => serve_script(stream, banner, stop),
    }
}

fn serve_http(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0_u8; 2_048];
    while !stop.load(Ordering::SeqCst) {
        let end = loop {
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let length = stream.read(&mut buffer)?;
            if length == 0 || head.len() + length > REQUEST_BYTES_MAX {
                return Ok(());
            }
            head.extend_from_slice(&buffer[..length]);
        };
        let wanted = String::from_utf8_lossy(&head[..end])
            .split(' ')
            .nth(1)
            .and_then(|path| path.trim_start_matches('/').parse().ok())
            .unwrap_or(0)
            .min(MESSAGE_BYTES_MAX);
        head.drain(..end);
        std::thread::sleep(thinking_time(wanted));
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: lab\r\nContent-Type: text/html\r\n\
             Cache-Control: max-age=60\r\nContent-Length: {wanted}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes())?;
        write_paced(&mut stream, wanted)?;
    }
    Ok(())
}

fn serve_script(mut stream: TcpStream, banner: &[u8], stop: &AtomicBool) -> io::Result<()> {
    stream.write_all(banner)?;
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    while !stop.load(Ordering::SeqCst) {
        let mut header = [0_u8; SCRIPT_HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let [a, b, c, d, e, f, g, h] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let wanted = u32::from_le_bytes([e, f, g, h]) as usize;
        if !(SCRIPT_HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length)
            || wanted > MESSAGE_BYTES_MAX
        {
            return Ok(());
        }
        let mut left = length - SCRIPT_HEADER_BYTES;
        while left > 0 {
            let part = left.min(buffer.len());
            stream.read_exact(&mut buffer[..part])?;
            left -= part;
        }
        std::thread::sleep(thinking_time(wanted));
        write_paced(&mut stream, wanted)?;
    }
    Ok(())
}

/// A server takes some milliseconds for an answer, more for some than for others.
fn thinking_time(wanted: usize) -> Duration {
    Duration::from_millis((wanted % 23) as u64)
}

fn write_paced(stream: &mut TcpStream, length: usize) -> io::Result<()> {
    let chunk = vec![b'.'; length.min(CHUNK_BYTES)];
    let mut left = length;
    while left > 0 {
        let part = left.min(chunk.len());
        stream.write_all(&chunk[..part])?;
        left -= part;
        if left > 0 {
            std::thread::sleep(CHUNK_PAUSE);
        }
    }
    Ok(())
}

/// A UDP service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Datagrams {
    /// Answers DNS questions: TXT with as many bytes as the name says, any other with one address.
    Dns,
    /// Answers 48 bytes with 48 bytes.
    Ntp,
}

/// Serves one UDP port of one address until `stop`.
///
/// # Errors
/// The port cannot be bound or the socket fails.
pub(crate) fn serve_udp(
    address: IpAddr,
    service: Datagrams,
    stop: &AtomicBool,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let port = match service {
        Datagrams::Dns => 53,
        Datagrams::Ntp => 123,
    };
    let socket = UdpSocket::bind((address, port))
        .with_context(|| format!("cannot serve UDP {address} port {port}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    ready();
    let mut buffer = [0_u8; 2_048];
    while !stop.load(Ordering::SeqCst) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(_) => continue, // The time-out, or an ICMP error of an earlier answer.
        };
        let answer = match service {
            Datagrams::Dns => dns::answer(&buffer[..length]),
            Datagrams::Ntp => Some(buffer[..length].to_vec()),
        };
        if let Some(answer) = answer
            && let Err(error) = socket.send_to(&answer, from)
        {
            eprintln!("lab: cannot answer {from}: {error}");
        }
    }
    Ok(())
}

/// Just enough DNS (RFC 1035 §4) for questions and answers of the right size.
pub(crate) mod dns {
    /// Type of an address.
    pub(crate) const A: u16 = 1;
    /// Type of an IPv6 address.
    pub(crate) const AAAA: u16 = 28;
    /// Type of free text; a tunnel's favourite.
    pub(crate) const TXT: u16 = 16;

    /// A question for a name of dot-separated labels, each of at most 63 bytes.
    pub(crate) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(18 + name.len());
        message.extend(id.to_be_bytes());
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            let label = &label.as_bytes()[..label.len().min(63)];
            message.push(label.len() as u8);
            message.extend(label);
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    /// The answer to a question; `None` for what is none.
    pub(super) fn answer(question: &[u8]) -> Option<Vec<u8>> {
        let kind_at = question.len().checked_sub(4)?;
        if question.len() < 17 {
            return None;
        }
        let kind = u16::from_be_bytes([question[kind_at], question[kind_at + 1]]);
        let data = match kind {
            A => vec![198, 18, 1, 20],
            AAAA => vec![0xfd; 16],
            _ => {
                let text = 40 + usize::from(question[0]) % 180;
                let mut data = vec![b'x'; text + 1];
                data[0] = text as u8;
                data
            }
        };
        let mut message = question.to_vec();
        message[2] = 0x81;
        message[3] = 0x80;
        message[7] = 1;
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
        Some(message)
    }
}
