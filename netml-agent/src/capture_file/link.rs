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
    /// family that is not IP, [`LossReason::CaptureRefused`] for a link type that is not read.
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
            Self::Other(_) => return Err(LossReason::CaptureRefused),
        };
        Ok((link, Direction::Ingress))
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
