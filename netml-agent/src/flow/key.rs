//! Which packets belong together.

use netml_common::{Marks, PacketRecord};

use crate::engine::FlowEnds;

const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_ICMPV6: u8 = 58;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// Key of a bidirectional flow: the same for both directions.
///
/// The lower (address, port) stands first. ICMP has no ports: an echo and its reply share the
/// request's type, so that they meet in one flow; any other type is a flow of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    low: [u8; 16],
    high: [u8; 16],
    low_port: u16,
    high_port: u16,
    ip_protocol: u8,
    slot: u8,
}

/// A packet's flow and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The flow.
    pub key: FlowKey,
    /// True: the packet's source is the key's lower end.
    pub from_low: bool,
    /// True: the packet shows that its *destination* began the flow (SYN-ACK, echo reply).
    pub answers: bool,
}

impl FlowKey {
    /// Flow of a packet.
    #[must_use]
    pub fn of(record: &PacketRecord) -> Keyed {
        let is_icmp = matches!(record.ip_protocol, PROTO_ICMP | PROTO_ICMPV6);
        let (src_port, dst_port, answers) = if is_icmp {
            let (kind, answers) = icmp_request_type(record);
            (kind, kind, answers)
        } else {
            let syn_ack =
                record.ip_protocol == PROTO_TCP && record.tcp_flags & (SYN | ACK) == SYN | ACK;
            (record.src_port, record.dst_port, syn_ack)
        };
        let from_low = (record.src, src_port) <= (record.dst, dst_port);
        let (low, high, low_port, high_port) = if from_low {
            (record.src, record.dst, src_port, dst_port)
        } else {
            (record.dst, record.src, dst_port, src_port)
        };
        let key = Self {
            low,
            high,
            low_port,
            high_port,
            ip_protocol: record.ip_protocol,
            slot: record.slot,
        };
        Keyed {
            key,
            from_low,
            answers,
        }
    }

    /// Ends with the initiator as source. Of ICMP the ports are type and code 0.
    #[must_use]
    pub fn ends(&self, initiator_is_low: bool) -> FlowEnds {
        let (src, dst, src_port, dst_port) = if initiator_is_low {
            (self.low, self.high, self.low_port, self.high_port)
        } else {
            (self.high, self.low, self.high_port, self.low_port)
        };
        let is_icmp = matches!(self.ip_protocol, PROTO_ICMP | PROTO_ICMPV6);
        let dst_port = if is_icmp { 0 } else { dst_port };
        FlowEnds {
            src,
            dst,
            src_port,
            dst_port,
            ip_protocol: self.ip_protocol,
            slot: self.slot,
        }
    }
}

/// IPv4 224.0.0.0/4 (RFC 5771) and 255.255.255.255, IPv6 ff00::/8 (RFC 4291 §2.7): nobody answers
/// for such an address.
#[must_use]
pub fn is_multicast(address: &[u8; 16]) -> bool {
    match std::net::Ipv6Addr::from(*address).to_ipv4_mapped() {
        Some(v4) => v4.is_multicast() || v4.is_broadcast(),
        None => address[0] == 0xff,
    }
}

/// Type under which an ICMP packet is keyed, and whether it is a reply (RFC 792, RFC 4443 §4).
fn icmp_request_type(record: &PacketRecord) -> (u16, bool) {
    if record.marks.has(Marks::FRAGMENT_LATER | Marks::L4_CUT) {
        return (0, false);
    }
    match (record.ip_protocol, record.src_port) {
        (PROTO_ICMP, 0) => (8, true),
        (PROTO_ICMP, 14) => (13, true),
        (PROTO_ICMP, 16) => (15, true),
        (PROTO_ICMP, 18) => (17, true),
        (PROTO_ICMPV6, 129) => (128, true),
        (PROTO_ICMPV6, 136) => (135, true),
        (_, kind) => (kind, false),
    }
}
