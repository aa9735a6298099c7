//! Numbers of a DNS message (RFC 1035 §4): of its name only length, labels and digits.

use super::transport::{PROTO_TCP, PROTO_UDP};
use super::{HeaderBytes, Walked};
use crate::extras::{DnsRecord, KIND_DNS};
use crate::record::Marks;

/// Bytes of a name on the wire, the closing zero included (RFC 1035 §2.3.4); a longer one is not
/// read.
pub const DNS_NAME_BYTES_MAX: u32 = 255;

const PORT_DNS: u16 = 53;
/// Multicast DNS (RFC 6762).
const PORT_MDNS: u16 = 5353;
const HEADER_BYTES: u32 = 12;
/// Highest operation code in use (RFC 8490); a message with more is none.
const OPCODE_MAX: u16 = 6;
/// A length byte from here on is a compression pointer or reserved.
const LABEL_BYTES_LIMIT: u32 = 64;

/// True where the ports say DNS and there is payload. Over TCP port 53 only: there is no multicast.
#[inline(always)]
pub(super) const fn may_be_dns(walked: &Walked) -> bool {
    const NOT: u8 = Marks::FRAGMENT_LATER | Marks::L4_CUT;
    let (src, dst) = (walked.src_port, walked.dst_port);
    let ports = match walked.ip_protocol {
        PROTO_TCP => src == PORT_DNS || dst == PORT_DNS,
        PROTO_UDP => src == PORT_DNS || dst == PORT_DNS || src == PORT_MDNS || dst == PORT_MDNS,
        _ => false,
    };
    ports && walked.marks & NOT == 0 && walked.payload_bytes >= HEADER_BYTES
}

/// Reads them; without a mark of kind where the header is cut or not one of DNS. Over TCP a message
/// is read where it fills its segment (RFC 1035 §4.2.2); one over several segments is not.
#[inline(always)]
pub(super) fn read<B: HeaderBytes + ?Sized>(
    bytes: &B,
    walked: &Walked,
    dns: &mut DnsRecord,
) -> Option<()> {
    let mut at = bytes.forget(walked.header_bytes);
    if walked.ip_protocol == PROTO_TCP {
        if u32::from(bytes.u16_at(at)?) + 2 != walked.payload_bytes {
            return None;
        }
        at = bytes.forget(at + 2);
    }
    let flags = bytes.u16_at(at + 2)?;
    let questions = bytes.u16_at(at + 4)?;
    let answers = bytes.u16_at(at + 6)?;
    if flags >> 11 & 0x0f > OPCODE_MAX {
        return None;
    }
    *dns = DnsRecord {
        kind: KIND_DNS,
        flags: if flags & 0x8000 != 0 {
            DnsRecord::RESPONSE
        } else {
            0
        },
        response_code: (flags & 0x0f) as u8,
        answers,
        ..DnsRecord::NONE
    };
    if questions != 0 {
        question(bytes, at + HEADER_BYTES, dns)?;
    }
    Some(())
}

/// The first question. One number holds where the loop stands (bytes left of the label, labels,
/// digits), so that the kernel's verifier need not tell ways through a name apart.
#[inline(always)]
fn question<B: HeaderBytes + ?Sized>(bytes: &B, at: u32, dns: &mut DnsRecord) -> Option<()> {
    const LABEL: u32 = 1 << 8;
    const DIGIT: u32 = 1 << 16;
    let mut state = 0;
    let mut wire_bytes = 0;
    for i in 0..DNS_NAME_BYTES_MAX {
        state = bytes.forget(state);
        let byte = u32::from(bytes.u8_at(bytes.forget(at + i))?);
        if state & 0xff != 0 {
            state -= 1;
            if byte.wrapping_sub(0x30) < 10 {
                state += DIGIT;
            }
        } else if byte == 0 {
            wire_bytes = i + 1;
            break;
        } else if byte >= LABEL_BYTES_LIMIT {
            break;
        } else {
            state += LABEL + byte;
        }
    }
    let wire_bytes = bytes.forget(wire_bytes);
    if wire_bytes == 0 {
        return None;
    }
    dns.query_type = bytes.u16_at(bytes.forget(at + wire_bytes))?;
    // As text a name is without its first length byte and the closing zero.
    dns.name_bytes = wire_bytes.saturating_sub(2) as u8;
    dns.labels = (state >> 8 & 0xff) as u8;
    dns.digits = (state >> 16 & 0xff) as u8;
    dns.flags |= DnsRecord::NAMED;
    Some(())
}
