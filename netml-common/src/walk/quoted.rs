//! The packet an ICMP error quotes (RFC 792, RFC 4443 §2.4).

use super::transport::{PROTO_ICMP, PROTO_ICMPV6};
use super::{HeaderBytes, Walked, ip, mapped};
use crate::extras::{KIND_QUOTED, QuotedRecord};
use crate::record::Marks;

const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_SCTP: u8 = 132;

/// True for an ICMP or ICMPv6 error: unreachable, quench, redirect, time exceeded, parameter
/// problem, packet too big.
#[inline(always)]
pub(super) const fn is_error(walked: &Walked) -> bool {
    walked.marks & (Marks::FRAGMENT_LATER | Marks::L4_CUT) == 0
        && match walked.ip_protocol {
            PROTO_ICMP => matches!(walked.src_port, 3 | 4 | 5 | 11 | 12),
            PROTO_ICMPV6 => matches!(walked.src_port, 1..=4),
            _ => false,
        }
}

/// Reads it; without a mark of kind where its IP header is cut or none. Where its extension headers
/// are cut or more than are walked, the protocol is that of the last reached, without ports.
#[inline(always)]
pub(super) fn read<B: HeaderBytes + ?Sized>(
    bytes: &B,
    walked: &Walked,
    quoted: &mut QuotedRecord,
) -> Option<()> {
    let at = bytes.forget(walked.header_bytes);
    let (ports_at, is_fragment_later) = if walked.ip_protocol == PROTO_ICMP {
        let version_ihl = bytes.u8_at(at)?;
        let header_bytes = u32::from(version_ihl & 0x0f) * 4;
        if version_ihl >> 4 != 4 || header_bytes < 20 {
            return None;
        }
        let fragment = bytes.u16_at(at + 6)?;
        quoted.ip_protocol = bytes.u8_at(at + 9)?;
        quoted.src = mapped(bytes.ipv4_at(at + 12)?);
        quoted.dst = mapped(bytes.ipv4_at(at + 16)?);
        (at + header_bytes, fragment & 0x1fff != 0)
    } else {
        if bytes.u8_at(at)? >> 4 != 6 {
            return None;
        }
        quoted.ip_protocol = bytes.u8_at(at + 6)?;
        quoted.src = bytes.ipv6_at(at + 8)?;
        quoted.dst = bytes.ipv6_at(at + 24)?;
        (at + 40, false)
    };
    quoted.version = QuotedRecord::NONE.version;
    quoted.length_units = QuotedRecord::NONE.length_units;
    quoted.src_port = 0;
    quoted.dst_port = 0;
    quoted.kind = KIND_QUOTED;
    if is_fragment_later {
        return Some(());
    }
    let mut at = bytes.forget(ports_at);
    if walked.ip_protocol == PROTO_ICMPV6 {
        at = bytes.forget(ip::behind_extensions(bytes, at, &mut quoted.ip_protocol)?);
    }
    match quoted.ip_protocol {
        PROTO_TCP | PROTO_UDP | PROTO_SCTP => {
            let src_port = bytes.u16_at(at)?;
            quoted.dst_port = bytes.u16_at(at + 2)?;
            quoted.src_port = src_port;
        }
        PROTO_ICMP | PROTO_ICMPV6 => {
            let kind_and_code = bytes.u16_at(at)?;
            quoted.src_port = kind_and_code >> 8;
            quoted.dst_port = kind_and_code & 0xff;
        }
        _ => {}
    }
    Some(())
}
