//! Frames taken where a network card had yet to cut them, or had put them together already.
//!
//! A capture on a host with segmentation or receive offload holds frames larger than any on its
//! wire. Live, the kernel says of how many segments such a frame is (`gso_segs`); a file does not, so
//! it follows from the link's MTU, the headers repeating in each segment as a card repeats them.

use netml_common::{Link, Marks, Walked};

/// MTU of Ethernet (RFC 894), which nearly every link has.
pub const MTU_BYTES: u32 = 1500;

/// Bytes that tags may add between link header and packet: three of four (802.1ad within 802.1Q).
const TAGS_BYTES: u32 = 12;

/// Wire packets a frame became, and their bytes, headers of each included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnTheWire {
    /// At least one.
    pub segments: u16,
    /// From the link header on, over all segments.
    pub wire_bytes: u32,
}

/// What a frame of `frame_bytes` was on a link whose packets have `mtu_bytes` at most. A frame that
/// fits, one of another protocol than TCP and UDP, and a fragment are what they are.
///
/// The segments are as many as the payload needs; tags count to the headers of each, so that a tagged
/// segment is taken for up to twelve bytes shorter than a card would make it.
#[must_use]
pub fn on_the_wire(walked: &Walked, link: Link, frame_bytes: u32, mtu_bytes: u32) -> OnTheWire {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let whole = OnTheWire {
        segments: 1,
        wire_bytes: frame_bytes,
    };
    let link_bytes = match link {
        Link::Ethernet => 14,
        Link::RawIp => 0,
        Link::Network { offset, .. } => offset,
    };
    let is_cut = matches!(walked.ip_protocol, TCP | UDP)
        && !Marks(walked.marks).has(Marks::FRAGMENT_FIRST | Marks::FRAGMENT_LATER)
        && frame_bytes > link_bytes + mtu_bytes.saturating_add(TAGS_BYTES);
    let segment_bytes = mtu_bytes.saturating_sub(walked.header_bytes.saturating_sub(link_bytes));
    if !is_cut || segment_bytes == 0 {
        return whole;
    }
    let segments = walked.payload_bytes.div_ceil(segment_bytes).max(1);
    let segments = u16::try_from(segments).unwrap_or(u16::MAX);
    OnTheWire {
        segments,
        wire_bytes: frame_bytes
            .saturating_add(walked.header_bytes.saturating_mul(u32::from(segments) - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(ip_protocol: u8, header_bytes: u32, payload_bytes: u32) -> Walked {
        Walked {
            ip_protocol,
            header_bytes,
            payload_bytes,
            ..Walked::EMPTY
        }
    }

    #[test]
    fn a_frame_of_many_segments_is_as_many_packets_with_headers_each() {
        let frame = walked(6, 14 + 20 + 32, 3 * 1448 + 10);
        let frame_bytes = frame.header_bytes + frame.payload_bytes;
        let cut = on_the_wire(&frame, Link::Ethernet, frame_bytes, MTU_BYTES);
        assert_eq!((cut.segments, cut.wire_bytes), (4, frame_bytes + 3 * 66));
        let raw = walked(17, 40 + 8, 2 * 1452);
        let cut = on_the_wire(&raw, Link::RawIp, 48 + 2904, MTU_BYTES);
        assert_eq!((cut.segments, cut.wire_bytes), (2, 48 + 2904 + 48));
    }

    #[test]
    fn what_fits_the_link_is_one_packet() {
        for (frame, mtu_bytes) in [
            (walked(6, 66, 1448), MTU_BYTES),
            // Three tags.
            (walked(6, 78, 1448), MTU_BYTES),
            (walked(6, 66, 8948), 9000),
            (walked(47, 38, 9000), MTU_BYTES),
        ] {
            let frame_bytes = frame.header_bytes + frame.payload_bytes;
            let cut = on_the_wire(&frame, Link::Ethernet, frame_bytes, mtu_bytes);
            assert_eq!((cut.segments, cut.wire_bytes), (1, frame_bytes));
        }
    }

    #[test]
    fn contradictions_stay_one_packet() {
        for frame in [walked(6, 3000, 5), walked(6, 66, 0), walked(6, u32::MAX, 9)] {
            let cut = on_the_wire(&frame, Link::Ethernet, 5000, MTU_BYTES);
            assert_eq!((cut.segments, cut.wire_bytes), (1, 5000));
        }
        let most = walked(6, 1513, u32::MAX);
        assert_eq!(
            on_the_wire(&most, Link::Ethernet, u32::MAX, MTU_BYTES).segments,
            u16::MAX
        );
    }
}
