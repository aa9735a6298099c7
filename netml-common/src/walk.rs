//! The header walk: from the first byte of a frame to the transport header.
//!
//! One source for the kernel programs, capture files and tests, over any [`HeaderBytes`]. It is
//! written for the verifier: no allocation, no slices, offsets that grow by bounded steps,
//! loops with a constant bound. A frame gives either headers or exactly one [`LossReason`].

use crate::counters::ProtocolClass;
use crate::extras::{Extras, KIND_TUNNEL, Pieces, TunnelRecord};
use crate::loss::LossReason;
use crate::record::{
    Direction, KIND_PACKET, Marks, PACKET_RECORD_BYTES, PacketRecord, RECORD_VERSION,
};

mod dns;
mod ip;
mod link;
mod quoted;
mod transport;
mod tunnel;

pub use dns::DNS_NAME_BYTES_MAX;
pub use ip::IPV6_EXTENSIONS_MAX;
pub use link::{ETHERNET_HEADER_BYTES, MPLS_LABELS_MAX, VLAN_TAGS_MAX};
pub use tunnel::TUNNELS_MAX;

/// Bytes of a frame, readable at an offset. Each read checks its own bounds.
pub trait HeaderBytes {
    /// One byte at `offset`, `None` past the end.
    fn u8_at(&self, offset: u32) -> Option<u8>;
    /// Two bytes in network order at `offset`, `None` past the end.
    fn u16_at(&self, offset: u32) -> Option<u16>;
    /// An IPv4 address at `offset`, `None` past the end.
    fn ipv4_at(&self, offset: u32) -> Option<[u8; 4]>;
    /// An IPv6 address at `offset`, `None` past the end.
    fn ipv6_at(&self, offset: u32) -> Option<[u8; 16]>;
    /// Gives `number` back. The kernel programs do so in a way that makes the verifier forget how
    /// it came about: else it follows every chain of headers that leads to an offset by itself,
    /// and gives up.
    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        number
    }
}

impl HeaderBytes for [u8] {
    fn u8_at(&self, offset: u32) -> Option<u8> {
        self.get(offset as usize).copied()
    }
    fn u16_at(&self, offset: u32) -> Option<u16> {
        array_at(self, offset).map(u16::from_be_bytes)
    }
    fn ipv4_at(&self, offset: u32) -> Option<[u8; 4]> {
        array_at(self, offset)
    }
    fn ipv6_at(&self, offset: u32) -> Option<[u8; 16]> {
        array_at(self, offset)
    }
}

fn array_at<const N: usize>(bytes: &[u8], offset: u32) -> Option<[u8; N]> {
    let start = offset as usize;
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}

/// Where the walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header at offset 0.
    Ethernet,
    /// An IP header at offset 0; its version nibble tells which.
    RawIp,
    /// Any other link layer (Linux cooked, null): the network header at `offset`, of `ethertype`.
    Network {
        /// Bytes before the network header.
        offset: u32,
        /// Its EtherType.
        ethertype: u16,
    },
}

/// What a frame's headers say.
///
/// Aligned, so that the kernel programs store addresses eight bytes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Walked {
    /// Source address, IPv4 mapped.
    pub src: [u8; 16],
    /// Destination address, IPv4 mapped.
    pub dst: [u8; 16],
    /// Transport protocol.
    pub ip_protocol: u8,
    /// [`Marks::IPV6`], fragment, VLAN, tunnel and cut marks; never the direction.
    pub marks: u8,
    /// Source port, or ICMP type.
    pub src_port: u16,
    /// Destination port, or ICMP code.
    pub dst_port: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TCP window.
    pub tcp_window: u16,
    /// Bytes behind the transport header by the IP length fields.
    pub payload_bytes: u32,
    /// Bytes from the start of the frame to the end of the transport header.
    pub header_bytes: u32,
}

impl Walked {
    /// All zero: where a walk begins.
    pub const EMPTY: Self = Self {
        src: [0; 16],
        dst: [0; 16],
        ip_protocol: 0,
        marks: 0,
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
        hop_limit: 0,
        tcp_window: 0,
        payload_bytes: 0,
        header_bytes: 0,
    };

    /// The record of this packet.
    #[must_use]
    #[inline(always)]
    pub fn record(
        &self,
        mono_ns: u64,
        slot: u8,
        direction: Direction,
        segments: u16,
        wire_bytes: u32,
    ) -> PacketRecord {
        PacketRecord {
            kind: KIND_PACKET,
            version: RECORD_VERSION,
            length_units: (PACKET_RECORD_BYTES / 8) as u8,
            ip_protocol: self.ip_protocol,
            marks: Marks(
                self.marks
                    | if matches!(direction, Direction::Egress) {
                        Marks::EGRESS
                    } else {
                        0
                    },
            ),
            slot,
            segments,
            mono_ns,
            src: self.src,
            dst: self.dst,
            wire_bytes,
            payload_bytes: self.payload_bytes,
            src_port: self.src_port,
            dst_port: self.dst_port,
            tcp_flags: self.tcp_flags,
            hop_limit: self.hop_limit,
            tcp_window: self.tcp_window,
        }
    }
}

impl LossReason {
    /// Protocol class under which a frame without headers is counted.
    #[must_use]
    #[inline(always)]
    pub const fn protocol_class(self) -> ProtocolClass {
        match self {
            Self::Arp => ProtocolClass::Arp,
            _ => ProtocolClass::Other,
        }
    }
}

/// What a walk finds, and its working memory: the kernel programs have 512 bytes of stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Parsed {
    /// Headers of the flow's packet.
    pub walked: Walked,
    /// What it has beside them.
    pub pieces: Pieces,
    /// Headers inside a tunnel, until they are known to be good.
    inner: Walked,
}

impl Parsed {
    /// Where a walk begins.
    pub const EMPTY: Self = Self {
        walked: Walked::EMPTY,
        pieces: Pieces::NONE,
        inner: Walked::EMPTY,
    };
}

/// Walks the headers of one frame, through tunnels, and gives those of its flow.
///
/// `frame_bytes` is the frame's whole length, of which `bytes` may hold only the beginning; it
/// stands in for an IP length field of zero (super-packets, jumbograms).
///
/// # Errors
/// The one reason for which the frame has no record.
pub fn walk<B: HeaderBytes + ?Sized>(
    bytes: &B,
    frame_bytes: u32,
    link: Link,
) -> Result<Walked, LossReason> {
    walk_with_extras(bytes, frame_bytes, link, true).map(|(walked, _)| walked)
}

/// [`walk`], with what the packet has beside its headers. Without `decapsulate` a tunnel's own
/// packet is the flow's.
///
/// # Errors
/// The one reason for which the frame has no record.
pub fn walk_with_extras<B: HeaderBytes + ?Sized>(
    bytes: &B,
    frame_bytes: u32,
    link: Link,
    decapsulate: bool,
) -> Result<(Walked, Extras), LossReason> {
    let mut parsed = Parsed::EMPTY;
    walk_into(bytes, frame_bytes, link, decapsulate, &mut parsed)?;
    Ok((parsed.walked, parsed.pieces.extras()))
}

/// [`walk_with_extras`] into a place of the caller's.
///
/// # Errors
/// The one reason for which the frame has no record; `parsed` is then without meaning.
#[inline(always)]
pub fn walk_into<B: HeaderBytes + ?Sized>(
    bytes: &B,
    frame_bytes: u32,
    link: Link,
    decapsulate: bool,
    parsed: &mut Parsed,
) -> Result<(), LossReason> {
    parsed.pieces.clear();
    let start = match link {
        Link::Ethernet => link::ethernet(bytes, 0)?,
        Link::RawIp => link::raw_ip(bytes, 0, LossReason::OtherEthertype)?,
        Link::Network { offset, ethertype } => link::behind(bytes, offset, ethertype)?,
    };
    network(bytes, start, frame_bytes, &mut parsed.walked)?;
    transport::transport(bytes, &mut parsed.walked);
    if decapsulate && tunnel::is_tunnel(&parsed.walked) {
        // A packet inside that cannot be read leaves the one outside: it is never a loss.
        let _closed = open_tunnel(bytes, frame_bytes, parsed);
    }
    let Parsed { walked, pieces, .. } = parsed;
    if quoted::is_error(walked) {
        let _cut = quoted::read(bytes, walked, &mut pieces.quoted);
    } else if dns::may_be_dns(walked) {
        let _cut = dns::read(bytes, walked, &mut pieces.dns);
    }
    Ok(())
}

/// Makes the packet inside a tunnel the flow's and keeps the outer addresses. `None`: it is cut or
/// contradicts the packet outside, and nothing changes.
#[inline(always)]
fn open_tunnel<B: HeaderBytes + ?Sized>(
    bytes: &B,
    frame_bytes: u32,
    parsed: &mut Parsed,
) -> Option<()> {
    let Parsed {
        walked,
        pieces,
        inner,
    } = parsed;
    let found = tunnel::inner(bytes, walked)?;
    let mut offset = bytes.forget(found.offset);
    let mut ethertype = found.ethertype;
    if ethertype == tunnel::ETHERTYPE_ETHERNET {
        ethertype = bytes.u16_at(offset + 12)?;
        offset = bytes.forget(offset + ETHERNET_HEADER_BYTES);
    }
    let start = link::behind(bytes, offset, ethertype).ok()?;
    network(bytes, start, frame_bytes, inner).ok()?;
    transport::transport(bytes, inner);
    let outer_end = walked.header_bytes + walked.payload_bytes;
    if inner.marks & Marks::L4_CUT != 0 || inner.header_bytes + inner.payload_bytes > outer_end {
        return None;
    }
    let deeper = if tunnel::is_tunnel(inner) {
        TunnelRecord::DEEPER
    } else {
        0
    };
    pieces.tunnel = TunnelRecord {
        kind: KIND_TUNNEL,
        tunnel: found.tunnel | deeper,
        network_id: found.network_id,
        src: walked.src,
        dst: walked.dst,
        ..TunnelRecord::NONE
    };
    inner.marks |= Marks::TUNNEL | walked.marks & Marks::VLAN;
    *walked = *inner;
    Some(())
}

#[inline(always)]
fn network<B: HeaderBytes + ?Sized>(
    bytes: &B,
    start: link::Network,
    frame_bytes: u32,
    walked: &mut Walked,
) -> Result<(), LossReason> {
    let offset = bytes.forget(start.offset);
    if start.ethertype == link::ETHERTYPE_IPV4 {
        ip::ipv4(bytes, offset, frame_bytes, start.marks, walked)
    } else {
        ip::ipv6(bytes, offset, frame_bytes, start.marks, walked)
    }
}

/// IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2).
#[must_use]
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    // As one number: of single bytes the kernel programs make a loop.
    (0xffff_0000_0000 | u32::from_be_bytes(v4) as u128).to_be_bytes()
}

#[cfg(test)]
mod tests;
