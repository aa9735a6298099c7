//! Link types of captures: where the walk of a frame begins, and its direction.

use netml_common::walk::HeaderBytes;
use netml_common::{Direction, Link, LossReason};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// `PACKET_OUTGOING` of a Linux cooked header.
const PACKET_OUTGOING: u16 = 4;
const COOKED_BYTES: u32 = 16;
const COOKED2_BYTES: u32 = 20;
const NULL_BYTES: u32 = 4;
const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;
/// Address and control of PPP in HDLC-like framing (RFC 1662 §3.1).
const PPP_ADDRESS_CONTROL: u16 = 0xff03;
/// Addresses of Cisco's HDLC framing, unicast and multicast (RFC 1547 §4.3.1); a control byte and
/// an EtherType follow.
const CISCO_UNICAST: u8 = 0x0f;
const CISCO_MULTICAST: u8 = 0x8f;
const CISCO_BYTES: u32 = 4;

/// A link type of the pcap registry, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// 1.
    Ethernet,
    /// 12, 14, 101: IPv4 or IPv6 without a link header.
    RawIp,
    /// 228.
    RawIpv4,
    /// 229.
    RawIpv6,
    /// 113, the `any` device of Linux.
    LinuxCooked,
    /// 276, its second version.
    LinuxCooked2,
    /// 0 and 108: an address family of four bytes, in the byte order of whoever captured.
    Null,
    /// 9 and 50: PPP, with HDLC-like or Cisco's framing before it or none.
    Ppp,
    /// 51: a PPPoE header and what is behind it.
    Pppoe,
    /// Any other, by its number.
    Other(u32),
}

impl LinkType {
    /// By its number in the file.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        match number {
            0 | 108 => Self::Null,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            51 => Self::Pppoe,
            12 | 14 | 101 => Self::RawIp,
            113 => Self::LinuxCooked,
            228 => Self::RawIpv4,
            229 => Self::RawIpv6,
            276 => Self::LinuxCooked2,
            other => Self::Other(other),
        }
    }

    /// Where the walk begins and which way the packet went.
    ///
    /// # Errors
    /// [`LossReason::TruncatedLink`] inside the header, [`LossReason::OtherEthertype`] for a
    /// family that is not IP, [`LossReason::PppControl`] for a PPP protocol that is not,
    /// [`LossReason::PppoeDiscovery`] for a PPPoE packet outside a session,
    /// [`LossReason::CaptureRefused`] for a link type that is not read.
    pub fn start<B: HeaderBytes + ?Sized>(
        self,
        bytes: &B,
    ) -> Result<(Link, Direction), LossReason> {
        const CUT: LossReason = LossReason::TruncatedLink;
        let network = |offset, ethertype| Link::Network { offset, ethertype };
        let outgoing = |packet_type| {
            if packet_type == PACKET_OUTGOING {
                Direction::Egress
            } else {
                Direction::Ingress
            }
        };
        let link = match self {
            Self::Ethernet => Link::Ethernet,
            Self::RawIp => Link::RawIp,
            Self::RawIpv4 => network(0, ETHERTYPE_IPV4),
            Self::RawIpv6 => network(0, ETHERTYPE_IPV6),
            Self::LinuxCooked => {
                let direction = outgoing(bytes.u16_at(0).ok_or(CUT)?);
                let ethertype = bytes.u16_at(14).ok_or(CUT)?;
                return Ok((network(COOKED_BYTES, ethertype), direction));
            }
            Self::LinuxCooked2 => {
                let ethertype = bytes.u16_at(0).ok_or(CUT)?;
                let direction = outgoing(u16::from(bytes.u8_at(10).ok_or(CUT)?));
                return Ok((network(COOKED2_BYTES, ethertype), direction));
            }
            Self::Null => {
                let high = bytes.u16_at(0).ok_or(CUT)?;
                let low = bytes.u16_at(2).ok_or(CUT)?;
                network(NULL_BYTES, family_ethertype(high, low)?)
            }
            Self::Ppp => {
                let (offset, ethertype) = ppp(bytes)?;
                network(offset, ethertype)
            }
            Self::Pppoe => match bytes.u8_at(1).ok_or(CUT)? {
                0 => network(0, ETHERTYPE_PPPOE_SESSION),
                _ => return Err(LossReason::PppoeDiscovery),
            },
            Self::Other(_) => return Err(LossReason::CaptureRefused),
        };
        Ok((link, Direction::Ingress))
    }
}

/// Where the packet behind a PPP header begins, and its EtherType. The framing may be left out, and
/// so may the first byte of the protocol, which is then odd (RFC 1661 §6.5 and §6.6).
fn ppp<B: HeaderBytes + ?Sized>(bytes: &B) -> Result<(u32, u16), LossReason> {
    const CUT: LossReason = LossReason::TruncatedLink;
    let first = bytes.u8_at(0).ok_or(CUT)?;
    if matches!(first, CISCO_UNICAST | CISCO_MULTICAST) {
        return Ok((CISCO_BYTES, bytes.u16_at(2).ok_or(CUT)?));
    }
    let is_framed = bytes.u16_at(0) == Some(PPP_ADDRESS_CONTROL);
    let at = if is_framed { 2 } else { 0 };
    let first = bytes.u8_at(at).ok_or(CUT)?;
    let (protocol, offset) = if first & 1 != 0 {
        (u16::from(first), at + 1)
    } else {
        (bytes.u16_at(at).ok_or(CUT)?, at + 2)
    };
    match protocol {
        0x0021 => Ok((offset, ETHERTYPE_IPV4)),
        0x0057 => Ok((offset, ETHERTYPE_IPV6)),
        0x0281 => Ok((offset, ETHERTYPE_MPLS)),
        0x0283 => Ok((offset, ETHERTYPE_MPLS_MULTICAST)),
        _ => Err(LossReason::PppControl),
    }
}

/// EtherType of an address family; families are below 256, so the halves tell the byte order.
fn family_ethertype(high: u16, low: u16) -> Result<u16, LossReason> {
    let family = match (high, low) {
        (0, low) => low,
        (high, 0) => high.swap_bytes(),
        _ => return Err(LossReason::OtherEthertype),
    };
    match family {
        2 => Ok(ETHERTYPE_IPV4),
        // Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 24 | 28 | 30 => Ok(ETHERTYPE_IPV6),
        _ => Err(LossReason::OtherEthertype),
    }
}

/// Name of a link type for messages.
#[must_use]
pub const fn name(number: u32) -> &'static str {
    match number {
        0 => "null",
        1 => "Ethernet",
        12 | 14 | 101 => "raw IP",
        105 => "IEEE 802.11",
        108 => "loopback",
        113 => "Linux cooked",
        119 => "802.11 with Prism header",
        127 => "802.11 with radiotap header",
        163 => "802.11 with AVS header",
        6 => "token ring",
        7 => "ARCNET",
        8 => "SLIP",
        9 => "PPP",
        10 => "FDDI",
        50 => "PPP in HDLC framing",
        51 => "PPP over Ethernet",
        189 | 220 => "USB",
        187 | 201 => "Bluetooth",
        195 | 230 => "IEEE 802.15.4",
        228 => "raw IPv4",
        229 => "raw IPv6",
        249 => "USBPcap",
        252 => "Wireshark upper PDU",
        253 => "netlink",
        276 => "Linux cooked v2",
        _ => "unknown",
    }
}
