//! Hand-made frames for what no ordinary socket sends: single SYNs and invented sources.

use std::net::Ipv4Addr;

/// TCP flag bits (RFC 9293 §3.1).
pub(crate) const SYN: u8 = 2;

/// Ends of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Source MAC address.
    pub(crate) src_mac: [u8; 6],
    /// Destination MAC address.
    pub(crate) dst_mac: [u8; 6],
    /// Source address.
    pub(crate) src: Ipv4Addr,
    /// Destination address.
    pub(crate) dst: Ipv4Addr,
    /// Source port.
    pub(crate) src_port: u16,
    /// Destination port.
    pub(crate) dst_port: u16,
}

/// An Ethernet frame with a TCP segment without payload, with an MSS option as stacks send it.
#[must_use]
pub(crate) fn tcp(ends: &Ends, flags: u8, sequence: u32) -> Vec<u8> {
    let mut segment = Vec::with_capacity(24);
    segment.extend(ends.src_port.to_be_bytes());
    segment.extend(ends.dst_port.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([6 << 4, flags, 4, 0, 0, 0, 0, 0]);
    segment.extend([2, 4, 5, 0xb4]);
    let sum = transport_checksum(ends, 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(ends, 6, &segment)
}

/// An Ethernet frame with a UDP datagram.
#[must_use]
pub(crate) fn udp(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend(ends.src_port.to_be_bytes());
    datagram.extend(ends.dst_port.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0; 2]);
    datagram.extend(payload);
    // Zero means "no checksum" (RFC 768), so a sum of zero is sent as its complement.
    let sum = match transport_checksum(ends, 17, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(ends, 17, &datagram)
}

fn ipv4(ends: &Ends, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&ends.src.octets());
    header[16..20].copy_from_slice(&ends.dst.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(34 + payload.len());
    frame.extend(ends.dst_mac);
    frame.extend(ends.src_mac);
    frame.extend([8, 0]);
    frame.extend(header);
    frame.extend(payload);
    frame
}

fn transport_checksum(ends: &Ends, protocol: u8, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    checksum(&[
        &ends.src.octets(),
        &ends.dst.octets(),
        &[0, protocol],
        &length,
        segment,
    ])
}

/// RFC 1071 over parts, of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::{Ends, SYN, checksum, tcp, udp};
    use std::net::Ipv4Addr;

    const ENDS: Ends = Ends {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        src: Ipv4Addr::new(198, 18, 66, 1),
        dst: Ipv4Addr::new(198, 18, 0, 1),
        src_port: 40_000,
        dst_port: 80,
    };

    /// A receiver sums header and checksum to zero.
    fn transport_sums_to_zero(frame: &[u8], protocol: u8) -> bool {
        let segment = &frame[34..];
        let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
        checksum(&[&frame[26..34], &[0, protocol], &length, segment]) == 0
    }

    #[test]
    fn a_syn_is_well_formed() {
        let frame = tcp(&ENDS, SYN, 7);
        assert_eq!(frame.len(), 58);
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        assert!(transport_sums_to_zero(&frame, 6));
        assert_eq!(frame[34 + 13], SYN);
    }

    #[test]
    fn a_datagram_is_well_formed() {
        let frame = udp(&ENDS, b"abc");
        assert_eq!(frame.len(), 45);
        assert!(transport_sums_to_zero(&frame, 17));
    }
}
