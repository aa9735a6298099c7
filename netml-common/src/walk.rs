//! The header walk: from the first byte of a frame to the transport header.
//!
//! One source for the kernel programs, capture files and tests, over any [`HeaderBytes`]. It is
//! written for the verifier: no allocation, no slices, offsets that grow by bounded steps,
//! loops with a constant bound. A frame gives either headers or exactly one [`LossReason`].

use crate::counters::ProtocolClass;
use crate::loss::LossReason;
use crate::record::{
    Direction, KIND_PACKET, Marks, PACKET_RECORD_BYTES, PacketRecord, RECORD_VERSION,
};

/// VLAN tags (802.1Q or 802.1ad) walked; a frame with more is counted as
/// [`LossReason::VlanDepth`].
pub const VLAN_TAGS_MAX: usize = 2;

/// IPv6 extension headers walked; a packet with more is counted as
/// [`LossReason::Ipv6ExtensionDepth`].
pub const IPV6_EXTENSIONS_MAX: usize = 8;

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER_BYTES: u32 = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_QINQ_OLD: u16 = 0x9100;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const PROTO_HOP_BY_HOP: u8 = 0;
const PROTO_TCP: u8 = 6;
const PROTO_ICMP: u8 = 1;
const PROTO_UDP: u8 = 17;
const PROTO_ROUTING: u8 = 43;
const PROTO_FRAGMENT: u8 = 44;
const PROTO_AH: u8 = 51;
const PROTO_ICMPV6: u8 = 58;
const PROTO_DESTINATION: u8 = 60;
const PROTO_MOBILITY: u8 = 135;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Walked {
    /// Source address, IPv4 mapped.
    pub src: [u8; 16],
    /// Destination address, IPv4 mapped.
    pub dst: [u8; 16],
    /// Transport protocol.
    pub ip_protocol: u8,
    /// [`Marks::IPV6`], fragment, VLAN and cut marks; never the direction.
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

/// Walks the headers of one frame.
///
/// `frame_bytes` is the frame's whole length, of which `bytes` may hold only the beginning; it
/// stands in for an IP length field of zero (super-packets, jumbograms).
///
/// # Errors
/// The one reason for which the frame has no record.
#[inline(always)]
pub fn walk<B: HeaderBytes + ?Sized>(
    bytes: &B,
    frame_bytes: u32,
    link: Link,
) -> Result<Walked, LossReason> {
    let mut walked = Walked::EMPTY;
    walk_into(bytes, frame_bytes, link, &mut walked)?;
    Ok(walked)
}

/// [`walk`] into a place of the caller's: the kernel programs have 512 bytes of stack.
///
/// # Errors
/// The one reason for which the frame has no record; `walked` is then without meaning.
#[inline(always)]
pub fn walk_into<B: HeaderBytes + ?Sized>(
    bytes: &B,
    frame_bytes: u32,
    link: Link,
    walked: &mut Walked,
) -> Result<(), LossReason> {
    let (offset, ethertype, vlan) = match link {
        Link::Ethernet => ethernet(bytes)?,
        Link::RawIp => match bytes.u8_at(0).ok_or(LossReason::TruncatedLink)? >> 4 {
            4 => (0, ETHERTYPE_IPV4, 0),
            6 => (0, ETHERTYPE_IPV6, 0),
            _ => return Err(LossReason::OtherEthertype),
        },
        Link::Network { offset, ethertype } => vlan_tags(bytes, offset, ethertype)?,
    };
    let offset = bytes.forget(offset);
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(bytes, offset, frame_bytes, vlan, walked)?,
        ETHERTYPE_IPV6 => ipv6(bytes, offset, frame_bytes, vlan, walked)?,
        ETHERTYPE_ARP => return Err(LossReason::Arp),
        _ => return Err(LossReason::OtherEthertype),
    }
    transport(bytes, walked);
    Ok(())
}

#[inline(always)]
fn ethernet<B: HeaderBytes + ?Sized>(bytes: &B) -> Result<(u32, u16, u8), LossReason> {
    let ethertype = bytes.u16_at(12).ok_or(LossReason::TruncatedLink)?;
    vlan_tags(bytes, ETHERNET_HEADER_BYTES, ethertype)
}

#[inline(always)]
fn vlan_tags<B: HeaderBytes + ?Sized>(
    bytes: &B,
    mut offset: u32,
    mut ethertype: u16,
) -> Result<(u32, u16, u8), LossReason> {
    let mut vlan = 0;
    for _ in 0..VLAN_TAGS_MAX {
        if !is_vlan(ethertype) {
            return Ok((offset, ethertype, vlan));
        }
        vlan = Marks::VLAN;
        ethertype = bytes.u16_at(offset + 2).ok_or(LossReason::TruncatedLink)?;
        offset += 4;
    }
    if is_vlan(ethertype) {
        return Err(LossReason::VlanDepth);
    }
    Ok((offset, ethertype, vlan))
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    matches!(
        ethertype,
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD
    )
}

/// RFC 791 §3.1.
#[inline(always)]
fn ipv4<B: HeaderBytes + ?Sized>(
    bytes: &B,
    offset: u32,
    frame_bytes: u32,
    vlan: u8,
    walked: &mut Walked,
) -> Result<(), LossReason> {
    const BAD: LossReason = LossReason::BadIpv4Header;
    let version_ihl = bytes.u8_at(offset).ok_or(BAD)?;
    let header_bytes = u32::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_bytes < 20 {
        return Err(BAD);
    }
    let total_bytes = match u32::from(bytes.u16_at(offset + 2).ok_or(BAD)?) {
        0 => frame_bytes.saturating_sub(offset),
        given => given,
    };
    if total_bytes < header_bytes {
        return Err(BAD);
    }
    let fragment = bytes.u16_at(offset + 6).ok_or(BAD)?;
    let hop_limit = bytes.u8_at(offset + 8).ok_or(BAD)?;
    let ip_protocol = bytes.u8_at(offset + 9).ok_or(BAD)?;
    walked.src = mapped(bytes.ipv4_at(offset + 12).ok_or(BAD)?);
    walked.dst = mapped(bytes.ipv4_at(offset + 16).ok_or(BAD)?);
    let mut marks = vlan;
    if fragment & 0x1fff != 0 {
        marks |= Marks::FRAGMENT_LATER;
    } else if fragment & 0x2000 != 0 {
        marks |= Marks::FRAGMENT_FIRST;
    }
    walked.ip_protocol = ip_protocol;
    walked.marks = marks;
    walked.hop_limit = hop_limit;
    walked.payload_bytes = total_bytes - header_bytes;
    walked.header_bytes = offset + header_bytes;
    Ok(())
}

/// RFC 8200 §3 and §4.
#[inline(always)]
fn ipv6<B: HeaderBytes + ?Sized>(
    bytes: &B,
    offset: u32,
    frame_bytes: u32,
    vlan: u8,
    walked: &mut Walked,
) -> Result<(), LossReason> {
    const BAD: LossReason = LossReason::BadIpv6Header;
    const BAD_EXTENSION: LossReason = LossReason::BadIpv6Extension;
    if bytes.u8_at(offset).ok_or(BAD)? >> 4 != 6 {
        return Err(BAD);
    }
    let payload_field = bytes.u16_at(offset + 4).ok_or(BAD)?;
    let mut next = bytes.u8_at(offset + 6).ok_or(BAD)?;
    walked.hop_limit = bytes.u8_at(offset + 7).ok_or(BAD)?;
    walked.src = bytes.ipv6_at(offset + 8).ok_or(BAD)?;
    walked.dst = bytes.ipv6_at(offset + 24).ok_or(BAD)?;
    let mut marks = vlan | Marks::IPV6;
    let mut at = offset + 40;
    let mut left_bytes = match payload_field {
        0 => frame_bytes.saturating_sub(at),
        given => u32::from(given),
    };
    for walked_extensions in 0..=IPV6_EXTENSIONS_MAX {
        at = bytes.forget(at);
        left_bytes = bytes.forget(left_bytes);
        let next_and_marks = bytes.forget(u32::from(next) << 8 | u32::from(marks));
        next = (next_and_marks >> 8) as u8;
        marks = (next_and_marks & 0xff) as u8;
        let unit_bytes = match next {
            PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_DESTINATION | PROTO_MOBILITY => 8,
            PROTO_AH => 4,
            PROTO_FRAGMENT => 0,
            _ => break,
        };
        if walked_extensions == IPV6_EXTENSIONS_MAX {
            return Err(LossReason::Ipv6ExtensionDepth);
        }
        let next_and_length = bytes.u16_at(at).ok_or(BAD_EXTENSION)?;
        let extension_bytes = 8 + u32::from(next_and_length & 0xff) * unit_bytes;
        let mut is_fragment_later = false;
        if next == PROTO_FRAGMENT {
            let fragment = bytes.u16_at(at + 2).ok_or(BAD_EXTENSION)?;
            if fragment & 0xfff8 != 0 {
                marks |= Marks::FRAGMENT_LATER;
                is_fragment_later = true;
            } else if fragment & 1 != 0 {
                marks |= Marks::FRAGMENT_FIRST;
            }
        }
        next = (next_and_length >> 8) as u8;
        at += extension_bytes;
        left_bytes = left_bytes.saturating_sub(extension_bytes);
        if is_fragment_later {
            // What follows is the middle of a packet: any "extension" there is payload.
            break;
        }
    }
    walked.ip_protocol = next;
    walked.marks = marks;
    walked.payload_bytes = left_bytes;
    walked.header_bytes = at;
    Ok(())
}

/// Fills ports, flags and window, and moves the payload behind the transport header. A cut header
/// is marked and not an error: the packet still belongs to its addresses.
#[inline(always)]
fn transport<B: HeaderBytes + ?Sized>(bytes: &B, walked: &mut Walked) {
    walked.src_port = 0;
    walked.dst_port = 0;
    walked.tcp_flags = 0;
    walked.tcp_window = 0;
    if walked.marks & Marks::FRAGMENT_LATER != 0 {
        return;
    }
    let at = bytes.forget(walked.header_bytes);
    let header_bytes = match walked.ip_protocol {
        PROTO_TCP => tcp(bytes, at, walked),
        PROTO_UDP => ports(bytes, at, walked).map(|()| 8),
        PROTO_ICMP | PROTO_ICMPV6 => icmp(bytes, at, walked),
        _ => Some(0),
    };
    match header_bytes {
        Some(header_bytes) => {
            walked.header_bytes = at + header_bytes;
            walked.payload_bytes = walked.payload_bytes.saturating_sub(header_bytes);
        }
        None => {
            walked.marks |= Marks::L4_CUT;
            walked.src_port = 0;
            walked.dst_port = 0;
        }
    }
}

#[inline(always)]
fn ports<B: HeaderBytes + ?Sized>(bytes: &B, at: u32, walked: &mut Walked) -> Option<()> {
    walked.src_port = bytes.u16_at(at)?;
    walked.dst_port = bytes.u16_at(at + 2)?;
    Some(())
}

/// RFC 9293 §3.1.
#[inline(always)]
fn tcp<B: HeaderBytes + ?Sized>(bytes: &B, at: u32, walked: &mut Walked) -> Option<u32> {
    ports(bytes, at, walked)?;
    let offset_and_flags = bytes.u16_at(at + 12)?;
    let header_bytes = u32::from(offset_and_flags >> 12) * 4;
    let tcp_window = bytes.u16_at(at + 14)?;
    if header_bytes < 20 {
        return None;
    }
    walked.tcp_flags = (offset_and_flags & 0xff) as u8;
    walked.tcp_window = tcp_window;
    Some(header_bytes)
}

#[inline(always)]
fn icmp<B: HeaderBytes + ?Sized>(bytes: &B, at: u32, walked: &mut Walked) -> Option<u32> {
    walked.src_port = u16::from(bytes.u8_at(at)?);
    walked.dst_port = u16::from(bytes.u8_at(at + 1)?);
    Some(8)
}

/// IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2).
#[must_use]
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}

#[cfg(test)]
mod tests;
