//! IPv4 and IPv6 headers with what stands between them and the transport header.

use super::{HeaderBytes, Walked, mapped};
use crate::loss::LossReason;
use crate::record::Marks;

/// IPv6 extension headers walked; a packet with more is counted as
/// [`LossReason::Ipv6ExtensionDepth`].
pub const IPV6_EXTENSIONS_MAX: usize = 8;

const PROTO_HOP_BY_HOP: u8 = 0;
const PROTO_ROUTING: u8 = 43;
const PROTO_FRAGMENT: u8 = 44;
const PROTO_AH: u8 = 51;
const PROTO_DESTINATION: u8 = 60;
const PROTO_MOBILITY: u8 = 135;

/// RFC 791 §3.1.
#[inline(always)]
pub(super) fn ipv4<B: HeaderBytes + ?Sized>(
    bytes: &B,
    offset: u32,
    frame_bytes: u32,
    marks: u8,
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
    let mut marks = marks;
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
    if ip_protocol == PROTO_AH && marks & Marks::FRAGMENT_LATER == 0 {
        ipv4_authentication(bytes, walked);
    }
    Ok(())
}

/// Steps over an authentication header (RFC 4302 §2). One that is cut stays the flow's protocol,
/// and the packet is marked: it still belongs to its addresses.
#[inline(always)]
fn ipv4_authentication<B: HeaderBytes + ?Sized>(bytes: &B, walked: &mut Walked) {
    let at = bytes.forget(walked.header_bytes);
    let Some(next_and_length) = bytes.u16_at(at) else {
        walked.marks |= Marks::L4_CUT;
        return;
    };
    let header_bytes = 8 + u32::from(next_and_length & 0xff) * 4;
    walked.ip_protocol = (next_and_length >> 8) as u8;
    walked.header_bytes = at + header_bytes;
    walked.payload_bytes = walked.payload_bytes.saturating_sub(header_bytes);
}

/// Bytes of a unit in the length field of an extension header; `None` for another protocol.
#[inline(always)]
const fn extension_unit_bytes(next: u8) -> Option<u32> {
    match next {
        PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_DESTINATION | PROTO_MOBILITY => Some(8),
        PROTO_AH => Some(4),
        PROTO_FRAGMENT => Some(0),
        _ => None,
    }
}

/// Steps over the extension headers of a quoted packet, the first of them at `at`, and leaves the
/// protocol behind them in `protocol`: where they are cut or too many, that of the last reached.
/// Gives where its header begins; `None` where that is not in the quote.
#[inline(always)]
pub(super) fn behind_extensions<B: HeaderBytes + ?Sized>(
    bytes: &B,
    mut at: u32,
    protocol: &mut u8,
) -> Option<u32> {
    for _ in 0..IPV6_EXTENSIONS_MAX {
        at = bytes.forget(at);
        let next = bytes.forget(u32::from(*protocol)) as u8;
        let Some(unit_bytes) = extension_unit_bytes(next) else {
            break;
        };
        let next_and_length = bytes.u16_at(at)?;
        let is_later = next == PROTO_FRAGMENT && bytes.u16_at(at + 2)? & 0xfff8 != 0;
        *protocol = (next_and_length >> 8) as u8;
        if is_later {
            return None;
        }
        at += 8 + u32::from(next_and_length & 0xff) * unit_bytes;
    }
    Some(at)
}

/// RFC 8200 §3 and §4.
#[inline(always)]
pub(super) fn ipv6<B: HeaderBytes + ?Sized>(
    bytes: &B,
    offset: u32,
    frame_bytes: u32,
    marks: u8,
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
    let mut marks = marks | Marks::IPV6;
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
        let Some(unit_bytes) = extension_unit_bytes(next) else {
            break;
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
