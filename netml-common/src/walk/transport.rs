//! Transport headers: ports, flags and where the payload begins.

use super::{HeaderBytes, Walked};
use crate::record::Marks;

pub(super) const PROTO_ICMP: u8 = 1;
pub(super) const PROTO_TCP: u8 = 6;
pub(super) const PROTO_UDP: u8 = 17;
pub(super) const PROTO_ICMPV6: u8 = 58;
const PROTO_SCTP: u8 = 132;

/// Fills ports, flags and window, and moves the payload behind the transport header. A cut header
/// is marked and not an error: the packet still belongs to its addresses.
#[inline(always)]
pub(super) fn transport<B: HeaderBytes + ?Sized>(bytes: &B, walked: &mut Walked) {
    walked.src_port = 0;
    walked.dst_port = 0;
    walked.tcp_flags = 0;
    walked.tcp_window = 0;
    if walked.marks & (Marks::FRAGMENT_LATER | Marks::L4_CUT) != 0 {
        return;
    }
    let at = bytes.forget(walked.header_bytes);
    let header_bytes = match walked.ip_protocol {
        PROTO_TCP => tcp(bytes, at, walked),
        PROTO_UDP => ports(bytes, at, walked).map(|()| 8),
        // The common header; RFC 9260 §3.1.
        PROTO_SCTP => ports(bytes, at, walked).map(|()| 12),
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
