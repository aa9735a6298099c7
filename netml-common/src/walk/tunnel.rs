//! Tunnels: where the packet inside begins, by the headers of the packet outside.

use super::link::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::transport::PROTO_UDP;
use super::{HeaderBytes, Walked};
use crate::extras::{TunnelKind, TunnelRecord};
use crate::record::Marks;

/// Tunnels opened around a flow. One inside the last is marked ([`TunnelRecord::DEEPER`]) and left
/// closed: what was reached is the flow.
pub const TUNNELS_MAX: usize = 1;

/// A packet that begins farther into its frame is not looked for. It keeps every offset of the
/// walk, with all extension headers of both packets, below what the kernel programs can read.
const INNER_OFFSET_MAX: u32 = 8192;

const PROTO_IPV4: u8 = 4;
const PROTO_IPV6: u8 = 41;
const PROTO_GRE: u8 = 47;
const PORT_VXLAN: u16 = 4789;
const PORT_GENEVE: u16 = 6081;

/// Transparent Ethernet bridging: an Ethernet frame inside.
pub(super) const ETHERTYPE_ETHERNET: u16 = 0x6558;

/// A packet inside another.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    /// Where it begins.
    pub(super) offset: u32,
    /// What it begins with; [`ETHERTYPE_ETHERNET`] for an Ethernet header.
    pub(super) ethertype: u16,
    /// As in [`TunnelRecord::tunnel`].
    pub(super) tunnel: u8,
    /// As in [`TunnelRecord::network_id`].
    pub(super) network_id: u32,
}

/// True where the headers are those of a tunnel. Of fragments only the first could be opened, and
/// its packet would be cut: none is.
#[inline(always)]
pub(super) const fn is_tunnel(walked: &Walked) -> bool {
    const NOT: u8 = Marks::FRAGMENT_FIRST | Marks::FRAGMENT_LATER | Marks::L4_CUT;
    walked.marks & NOT == 0
        && match walked.ip_protocol {
            PROTO_IPV4 | PROTO_IPV6 | PROTO_GRE => true,
            PROTO_UDP => matches!(walked.dst_port, PORT_VXLAN | PORT_GENEVE),
            _ => false,
        }
}

/// The packet inside; `None` where the tunnel's header is cut or says something unknown.
#[inline(always)]
pub(super) fn inner<B: HeaderBytes + ?Sized>(bytes: &B, walked: &Walked) -> Option<Inner> {
    let at = bytes.forget(walked.header_bytes);
    let is_ipv6 = walked.marks & Marks::IPV6 != 0;
    let inner = match walked.ip_protocol {
        PROTO_IPV4 => Inner {
            offset: at,
            ethertype: ETHERTYPE_IPV4,
            tunnel: if is_ipv6 {
                TunnelKind::FourInSix as u8
            } else {
                TunnelKind::Ipip as u8
            },
            network_id: 0,
        },
        PROTO_IPV6 => Inner {
            offset: at,
            ethertype: ETHERTYPE_IPV6,
            tunnel: if is_ipv6 {
                TunnelKind::SixInSix as u8
            } else {
                TunnelKind::SixInFour as u8
            },
            network_id: 0,
        },
        PROTO_GRE => gre(bytes, at)?,
        _ if walked.dst_port == PORT_VXLAN => vxlan(bytes, at)?,
        _ => geneve(bytes, at)?,
    };
    (inner.offset <= INNER_OFFSET_MAX).then_some(inner)
}

/// RFC 7348 §5: a flag says that the identifier is valid.
#[inline(always)]
fn vxlan<B: HeaderBytes + ?Sized>(bytes: &B, at: u32) -> Option<Inner> {
    if bytes.u8_at(at)? & 0x08 == 0 {
        return None;
    }
    Some(Inner {
        offset: at + 8,
        ethertype: ETHERTYPE_ETHERNET,
        tunnel: TunnelKind::Vxlan as u8 | TunnelRecord::HAS_NETWORK_ID,
        network_id: network_id(bytes, at + 4)?,
    })
}

/// RFC 8926 §3.4: version 0, options of four bytes each, no control message.
#[inline(always)]
fn geneve<B: HeaderBytes + ?Sized>(bytes: &B, at: u32) -> Option<Inner> {
    const CONTROL: u16 = 0x0080;
    let head = bytes.u16_at(at)?;
    if head >> 14 != 0 || head & CONTROL != 0 {
        return None;
    }
    Some(Inner {
        offset: at + 8 + u32::from(head >> 8 & 0x3f) * 4,
        ethertype: bytes.u16_at(at + 2)?,
        tunnel: TunnelKind::Geneve as u8 | TunnelRecord::HAS_NETWORK_ID,
        network_id: network_id(bytes, at + 4)?,
    })
}

/// 24 bits.
#[inline(always)]
fn network_id<B: HeaderBytes + ?Sized>(bytes: &B, at: u32) -> Option<u32> {
    Some(u32::from(bytes.u16_at(at)?) << 8 | u32::from(bytes.u8_at(at + 2)?))
}

/// RFC 2784 §2 and RFC 2890 §2: version 0 without routing; checksum, key and sequence number are
/// four bytes each where their flag is set.
#[inline(always)]
fn gre<B: HeaderBytes + ?Sized>(bytes: &B, at: u32) -> Option<Inner> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const VERSION: u16 = 0x0007;
    let flags = bytes.u16_at(at)?;
    if flags & (ROUTING | VERSION) != 0 {
        return None;
    }
    let ethertype = bytes.u16_at(at + 2)?;
    let mut offset = at + 4;
    if flags & CHECKSUM != 0 {
        offset += 4;
    }
    let mut tunnel = TunnelKind::Gre as u8;
    let mut network_id = 0;
    if flags & KEY != 0 {
        offset = bytes.forget(offset);
        tunnel |= TunnelRecord::HAS_NETWORK_ID;
        network_id = u32::from(bytes.u16_at(offset)?) << 16 | u32::from(bytes.u16_at(offset + 2)?);
        offset += 4;
    }
    if flags & SEQUENCE != 0 {
        offset += 4;
    }
    Some(Inner {
        offset: bytes.forget(offset),
        ethertype,
        tunnel,
        network_id,
    })
}
