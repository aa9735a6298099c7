//! Which packets belong together.

pub use netml_common::flow_map::{FlowKey, Keyed};

use crate::engine::FlowEnds;

const PROTO_ICMP: u8 = 1;
const PROTO_ICMPV6: u8 = 58;

/// Ends of a key with the initiator as source. Of ICMP the ports are type and code 0.
#[must_use]
pub fn ends(key: &FlowKey, initiator_is_low: bool) -> FlowEnds {
    let (src, dst, src_port, dst_port) = if initiator_is_low {
        (key.low, key.high, key.low_port, key.high_port)
    } else {
        (key.high, key.low, key.high_port, key.low_port)
    };
    let is_icmp = matches!(key.ip_protocol, PROTO_ICMP | PROTO_ICMPV6);
    let dst_port = if is_icmp { 0 } else { dst_port };
    FlowEnds {
        src,
        dst,
        src_port,
        dst_port,
        ip_protocol: key.ip_protocol,
        slot: key.slot,
    }
}

/// An address as one number, for sketches.
#[must_use]
pub fn fold(address: &[u8; 16]) -> u64 {
    let value = u128::from_be_bytes(*address);
    super::decay::mix((value >> 64) as u64) ^ value as u64
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
