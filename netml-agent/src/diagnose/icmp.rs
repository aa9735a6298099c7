//! Sending probes with a hop limit and matching what comes back: raw ICMP where that is allowed,
//! else an unprivileged ICMP or UDP socket with its error queue.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sys::error_queue;

/// First port of UDP probes, by old custom one where nobody listens.
const UDP_PORT_FIRST: u16 = 33_434;
const PAYLOAD_BYTES: usize = 32;
const ICMP_HEADER_BYTES: usize = 8;
/// Shortest time-out the kernel takes; zero would mean none.
const WAIT_MIN: Duration = Duration::from_millis(1);

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const ECHO_REQUEST_6: u8 = 128;
const ECHO_REPLY_6: u8 = 129;
const UNREACHABLE_6: u8 = 1;
const TIME_EXCEEDED_6: u8 = 3;

/// What came back for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Number of the probe.
    pub(super) seq: u16,
    /// Who answered.
    pub(super) from: IpAddr,
    /// What it means.
    pub(super) kind: AnswerKind,
}

/// Meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    /// The target itself.
    Reached,
    /// A router on the way.
    Hop,
    /// A router that knows no way on.
    Unreachable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// Raw ICMP: sees all ICMP of the host, picks its own.
    RawIcmp,
    /// ICMP socket of an ordinary user; the kernel picks and owns the identifier.
    DatagramIcmp,
    /// UDP to ports nobody listens on.
    Udp,
}

/// A socket that sends probes to one target.
pub(super) struct Prober {
    socket: UdpSocket,
    method: Method,
    target: IpAddr,
    id: u16,
}

impl Prober {
    /// The best socket this process may open. Without `allow_udp` only those that send ICMP.
    pub(super) fn open(target: IpAddr, id: u16, allow_udp: bool) -> io::Result<Self> {
        let raw = Self::with(Method::RawIcmp, target, id);
        let icmp = raw.or_else(|_| Self::with(Method::DatagramIcmp, target, id));
        if allow_udp {
            icmp.or_else(|_| Self::with(Method::Udp, target, id))
        } else {
            icmp
        }
    }

    fn with(method: Method, target: IpAddr, id: u16) -> io::Result<Self> {
        let (domain, icmp) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = match method {
            Method::RawIcmp => Socket::new(domain, Type::RAW, Some(icmp))?,
            Method::DatagramIcmp => Socket::new(domain, Type::DGRAM, Some(icmp))?,
            Method::Udp => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?,
        };
        // Sending and receiving is the same for all datagram sockets.
        let socket = UdpSocket::from(OwnedFd::from(socket));
        if method != Method::RawIcmp {
            error_queue::enable(&socket, target.is_ipv6())?;
        }
        Ok(Self {
            socket,
            method,
            target,
            id,
        })
    }

    /// Sends one probe.
    pub(super) fn send(&self, seq: u16, hop_limit: u32) -> io::Result<()> {
        let reference = SockRef::from(&self.socket);
        match self.target {
            IpAddr::V4(_) => reference.set_ttl_v4(hop_limit)?,
            IpAddr::V6(_) => reference.set_unicast_hops_v6(hop_limit)?,
        }
        let port = match self.method {
            Method::Udp => self.udp_port(seq),
            Method::RawIcmp | Method::DatagramIcmp => 0,
        };
        let mut probe = [0; ICMP_HEADER_BYTES + PAYLOAD_BYTES];
        if self.method != Method::Udp {
            probe[0] = self.types().0;
            probe[4..6].copy_from_slice(&self.id.to_be_bytes());
            probe[6..8].copy_from_slice(&seq.to_be_bytes());
            // Of ICMPv6 the kernel fills it in itself.
            let sum = checksum(&probe);
            probe[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let to = SocketAddr::new(self.target, port);
        match self.socket.send_to(&probe, to) {
            Ok(_) => Ok(()),
            // An error that came back for an earlier probe: it waits in the queue; try once more.
            Err(_) if self.method != Method::RawIcmp => self.socket.send_to(&probe, to).map(drop),
            Err(error) => Err(error),
        }
    }

    /// Waits for an answer to any probe until `deadline`.
    pub(super) fn receive(&self, deadline: Instant) -> io::Result<Option<Answer>> {
        let mut buffer = [0; 1500];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if let Some(answer) = self.queued()? {
                return Ok(Some(answer));
            }
            self.socket.set_read_timeout(Some(left.max(WAIT_MIN)))?;
            let answer = match self.socket.recv_from(&mut buffer) {
                Ok((bytes, from)) => self.answer(&buffer[..bytes], from.ip()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // The error itself tells that the queue has something.
                Err(_) if self.method != Method::RawIcmp => None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                Err(error) => return Err(error),
            };
            if answer.is_some() {
                return Ok(answer);
            }
        }
    }

    /// Types of request, reply, time exceeded and unreachable.
    fn types(&self) -> (u8, u8, u8, u8) {
        match self.target {
            IpAddr::V4(_) => (ECHO_REQUEST, ECHO_REPLY, TIME_EXCEEDED, UNREACHABLE),
            IpAddr::V6(_) => (ECHO_REQUEST_6, ECHO_REPLY_6, TIME_EXCEEDED_6, UNREACHABLE_6),
        }
    }

    fn udp_port(&self, seq: u16) -> u16 {
        UDP_PORT_FIRST.wrapping_add(seq % (u16::MAX - UDP_PORT_FIRST))
    }

    /// An ICMP error out of the queue of an unprivileged socket.
    fn queued(&self) -> io::Result<Option<Answer>> {
        if self.method == Method::RawIcmp {
            return Ok(None);
        }
        let Some(error) = error_queue::take(&self.socket)? else {
            return Ok(None);
        };
        let (_, _, exceeded, _) = self.types();
        let seq = match self.method {
            Method::Udp => error.sent_to_port.wrapping_sub(UDP_PORT_FIRST),
            Method::RawIcmp | Method::DatagramIcmp => be_u16(&error.quoted, 6).unwrap_or_default(),
        };
        let kind = if error.icmp_type == exceeded {
            AnswerKind::Hop
        } else if error.offender == self.target {
            AnswerKind::Reached
        } else {
            AnswerKind::Unreachable
        };
        Ok(Some(Answer {
            seq,
            from: error.offender,
            kind,
        }))
    }

    /// What a received message means, `None` where it is not for this prober.
    fn answer(&self, message: &[u8], from: IpAddr) -> Option<Answer> {
        let icmp = match (self.method, self.target) {
            (Method::RawIcmp, IpAddr::V4(_)) => message.get(header_bytes_v4(message)?..)?,
            // A UDP answer: somebody listens there after all.
            (Method::Udp, _) => return None,
            _ => message,
        };
        let (request, reply, exceeded, unreachable) = self.types();
        let kind = *icmp.first()?;
        if kind == reply {
            let own = self.method == Method::DatagramIcmp || be_u16(icmp, 4)? == self.id;
            let seq = be_u16(icmp, 6)?;
            return (own && from == self.target).then_some(Answer {
                seq,
                from,
                kind: AnswerKind::Reached,
            });
        }
        if kind != exceeded && kind != unreachable {
            return None;
        }
        let quoted = icmp.get(ICMP_HEADER_BYTES..)?;
        let (sent_to, inner) = quoted_packet(quoted, self.target)?;
        let own = *inner.first()? == request && be_u16(inner, 4)? == self.id;
        let seq = be_u16(inner, 6)?;
        let kind = if kind == exceeded {
            AnswerKind::Hop
        } else if from == self.target {
            AnswerKind::Reached
        } else {
            AnswerKind::Unreachable
        };
        (own && sent_to == self.target).then_some(Answer { seq, from, kind })
    }
}

/// Destination and ICMP part of the packet an error quotes.
fn quoted_packet(quoted: &[u8], target: IpAddr) -> Option<(IpAddr, &[u8])> {
    match target {
        IpAddr::V4(_) => {
            let to: [u8; 4] = quoted.get(16..20)?.try_into().ok()?;
            let inner = quoted.get(header_bytes_v4(quoted)?..)?;
            Some((Ipv4Addr::from(to).into(), inner))
        }
        IpAddr::V6(_) => {
            let to: [u8; 16] = quoted.get(24..40)?.try_into().ok()?;
            Some((Ipv6Addr::from(to).into(), quoted.get(40..)?))
        }
    }
}

fn header_bytes_v4(packet: &[u8]) -> Option<usize> {
    let bytes = usize::from(packet.first()? & 0x0f) * 4;
    (bytes >= 20).then_some(bytes)
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));

    /// The first answer within a few seconds.
    fn one(method: Method, target: IpAddr) -> Option<Answer> {
        let prober = match Prober::with(method, target, 0x1234) {
            Ok(prober) => prober,
            Err(error) => {
                eprintln!("skipped: {method:?} is not allowed here: {error}");
                return None;
            }
        };
        prober.send(7, 8).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        Some(prober.receive(deadline).unwrap().unwrap())
    }

    #[test]
    fn each_method_reaches_loopback() {
        for target in [TARGET, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            for method in [Method::RawIcmp, Method::DatagramIcmp, Method::Udp] {
                if let Some(answer) = one(method, target) {
                    let expected = Answer {
                        seq: 7,
                        from: target,
                        kind: AnswerKind::Reached,
                    };
                    assert_eq!(answer, expected, "{method:?} {target}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_the_matching_panic(message: Vec<u8>, v6: bool) {
            let target = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { TARGET };
            if let Ok(prober) = Prober::with(Method::Udp, target, 1) {
                let prober = Prober { method: Method::RawIcmp, ..prober };
                prober.answer(&message, target);
            }
        }
    }

    #[test]
    fn the_checksum_of_a_message_that_holds_its_checksum_is_zero() {
        let mut message = [8, 0, 0, 0, 1, 2, 3, 4, 5];
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&message), 0);
    }
}
