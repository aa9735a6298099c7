//! From the first byte of a frame to its IP header: Ethernet, VLAN tags, PPPoE and MPLS.

use super::HeaderBytes;
use crate::loss::LossReason;
use crate::record::Marks;

/// VLAN tags (802.1Q or 802.1ad) walked; a frame with more is counted as
/// [`LossReason::VlanDepth`].
pub const VLAN_TAGS_MAX: usize = 3;

/// MPLS labels walked; a frame with more is counted as [`LossReason::MplsDepth`].
pub const MPLS_LABELS_MAX: usize = 6;

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER_BYTES: u32 = 14;

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_QINQ_OLD: u16 = 0x9100;
const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;

/// EtherTypes below this are lengths (IEEE 802.3 §3.2.6).
const ETHERTYPE_MIN: u16 = 0x0600;

const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// Where the IP header is.
#[derive(Clone, Copy)]
pub(super) struct Network {
    /// Bytes before it.
    pub(super) offset: u32,
    /// [`ETHERTYPE_IPV4`] or [`ETHERTYPE_IPV6`].
    pub(super) ethertype: u16,
    /// [`Marks::VLAN`] or none.
    pub(super) marks: u8,
}

/// From an Ethernet header at `offset`.
#[inline(always)]
pub(super) fn ethernet<B: HeaderBytes + ?Sized>(
    bytes: &B,
    offset: u32,
) -> Result<Network, LossReason> {
    let ethertype = bytes.u16_at(offset + 12).ok_or(LossReason::TruncatedLink)?;
    behind(bytes, offset + ETHERNET_HEADER_BYTES, ethertype)
}

/// From an IP header at `offset`, its version told by its first four bits; `other` where it is
/// neither.
#[inline(always)]
pub(super) fn raw_ip<B: HeaderBytes + ?Sized>(
    bytes: &B,
    offset: u32,
    other: LossReason,
) -> Result<Network, LossReason> {
    let ethertype = match bytes.u8_at(offset).ok_or(LossReason::TruncatedLink)? >> 4 {
        4 => ETHERTYPE_IPV4,
        6 => ETHERTYPE_IPV6,
        _ => return Err(other),
    };
    Ok(Network {
        offset,
        ethertype,
        marks: 0,
    })
}

/// From whatever `ethertype` says is at `offset`.
#[inline(always)]
pub(super) fn behind<B: HeaderBytes + ?Sized>(
    bytes: &B,
    mut offset: u32,
    mut ethertype: u16,
) -> Result<Network, LossReason> {
    let mut marks = 0;
    for _ in 0..VLAN_TAGS_MAX {
        if !is_vlan(ethertype) {
            break;
        }
        marks = Marks::VLAN;
        ethertype = bytes.u16_at(offset + 2).ok_or(LossReason::TruncatedLink)?;
        offset += 4;
    }
    let mut network = match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Network {
            offset,
            ethertype,
            marks,
        },
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_MULTICAST => mpls(bytes, offset)?,
        ETHERTYPE_PPPOE_SESSION => pppoe(bytes, offset)?,
        _ => return Err(without_ip(ethertype)),
    };
    network.marks = marks;
    Ok(network)
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    matches!(
        ethertype,
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD
    )
}

/// Why a frame of this EtherType has no record (IEEE's and IANA's EtherType lists).
#[inline(always)]
const fn without_ip(ethertype: u16) -> LossReason {
    match ethertype {
        ETHERTYPE_ARP => LossReason::Arp,
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD => LossReason::VlanDepth,
        0x88cc => LossReason::Lldp,
        0x888e => LossReason::Eapol,
        0x8863 => LossReason::PppoeDiscovery,
        0x88f7 => LossReason::Ptp,
        0x88e5 => LossReason::Macsec,
        0x9000 => LossReason::EthernetLoopback,
        0x8809 => LossReason::SlowProtocol,
        ..ETHERTYPE_MIN => LossReason::Llc,
        _ => LossReason::OtherEthertype,
    }
}

/// Down the label stack (RFC 3032 §2.1). Nothing in it says what follows: the first four bits of
/// the payload do (RFC 4928 §3).
#[inline(always)]
fn mpls<B: HeaderBytes + ?Sized>(bytes: &B, mut offset: u32) -> Result<Network, LossReason> {
    for _ in 0..MPLS_LABELS_MAX {
        let bottom = bytes.u8_at(offset + 2).ok_or(LossReason::TruncatedLink)? & 1 != 0;
        offset = bytes.forget(offset + 4);
        if bottom {
            return raw_ip(bytes, offset, LossReason::MplsPayload);
        }
    }
    Err(LossReason::MplsDepth)
}

/// Session stage (RFC 2516 §6): six bytes, then the PPP protocol.
#[inline(always)]
fn pppoe<B: HeaderBytes + ?Sized>(bytes: &B, offset: u32) -> Result<Network, LossReason> {
    let protocol = bytes.u16_at(offset + 6).ok_or(LossReason::TruncatedLink)?;
    let ethertype = match protocol {
        PPP_IPV4 => ETHERTYPE_IPV4,
        PPP_IPV6 => ETHERTYPE_IPV6,
        _ => return Err(LossReason::PppControl),
    };
    Ok(Network {
        offset: offset + 8,
        ethertype,
        marks: 0,
    })
}
