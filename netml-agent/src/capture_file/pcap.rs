//! Classic pcap (draft-ietf-opsawg-pcap): a header of 24 bytes, then packets of 16 and their own.

use super::link::LinkType;
use super::source::Input;
use super::{FRAME_BYTES_MAX, Frame, Order, Stop};

const FILE_HEADER_REST_BYTES: usize = 20;
const PACKET_HEADER_BYTES: usize = 16;
/// Low bits of the link type field; above it flags of the frame check sequence.
const LINK_TYPE_MASK: u32 = 0x03ff_ffff;

/// What the magic number says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    order: Order,
    fraction_ns: u64,
}

impl Shape {
    /// Byte order and resolution by the first four bytes, read in network order.
    pub(crate) fn of_magic(magic: u32) -> Option<Self> {
        let (order, fraction_ns) = match magic {
            0xa1b2_c3d4 => (Order::Big, 1_000),
            0xd4c3_b2a1 => (Order::Little, 1_000),
            0xa1b2_3c4d => (Order::Big, 1),
            0x4d3c_b2a1 => (Order::Little, 1),
            _ => return None,
        };
        Some(Self { order, fraction_ns })
    }
}

/// An open pcap file.
pub(crate) struct Pcap {
    shape: Shape,
    link_type: LinkType,
}

impl Pcap {
    /// Reads the file header behind its magic number.
    pub(crate) fn open(shape: Shape, input: &mut Input) -> Result<Self, Stop> {
        let header = input.take(FILE_HEADER_REST_BYTES)?;
        let link_type = LinkType::of(shape.order.u32(header, 16) & LINK_TYPE_MASK);
        Ok(Self { shape, link_type })
    }

    /// The next packet, `None` at the end.
    pub(crate) fn next_frame<'a>(
        &mut self,
        input: &'a mut Input,
    ) -> Result<Option<Frame<'a>>, Stop> {
        if input.at_end()? {
            return Ok(None);
        }
        let header = input.take(PACKET_HEADER_BYTES)?;
        let order = self.shape.order;
        let seconds = u64::from(order.u32(header, 0));
        let fraction = u64::from(order.u32(header, 4));
        let captured_bytes = order.u32(header, 8);
        let wire_bytes = order.u32(header, 12);
        if captured_bytes > FRAME_BYTES_MAX {
            return Err(Stop::Damaged("a packet longer than any capture holds"));
        }
        let bytes = input.take(captured_bytes as usize)?;
        Ok(Some(Frame {
            link_type: Some(self.link_type),
            interface: 0,
            time_ns: seconds * 1_000_000_000 + fraction * self.shape.fraction_ns,
            // A length below what was captured is a lie of the writer.
            wire_bytes: wire_bytes.max(captured_bytes),
            bytes,
        }))
    }
}
