//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, each interface with its own link type
//! and clock.

use netml_common::INTERFACES_MAX;

use super::link::LinkType;
use super::source::Input;
use super::{FRAME_BYTES_MAX, Frame, Order, Stop, be_u32};

/// Block type of a section header, the same in both byte orders: the file's first four bytes.
pub(crate) const SECTION_HEADER: u32 = 0x0a0d_0d0a;

/// Interfaces kept of one section; packets of further ones are counted as refused.
pub const INTERFACES_PER_SECTION_MAX: usize = 4_096;

/// Longest name of an interface, in characters; what is longer is cut.
const INTERFACE_NAME_CHARS_MAX: usize = 64;

/// Bytes of an interface block read for its options; what lies behind is skipped.
const INTERFACE_BLOCK_BYTES_MAX: u64 = 65_536;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const BLOCK_INTERFACE: u32 = 1;
const BLOCK_PACKET_OLD: u32 = 2;
const BLOCK_PACKET_SIMPLE: u32 = 3;
const BLOCK_PACKET: u32 = 6;
const OPTION_END: u16 = 0;
const OPTION_NAME: u16 = 2;
const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;
/// Type and two lengths around every block.
const BLOCK_FRAME_BYTES: u64 = 12;
/// Fixed part of a section header's body: magic, version, section length.
const SECTION_BODY_BYTES: u64 = 16;
/// Fixed part of an enhanced or old packet block's body.
const PACKET_BODY_BYTES: u64 = 20;

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: LinkType,
    snap_bytes: u32,
    clock: Clock,
}

/// Resolution and offset of an interface's time stamps.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// `if_tsresol`: a negative power of ten, or of two with the high bit set.
    resolution: u8,
    offset_s: i64,
}

impl Clock {
    const MICROSECONDS: Self = Self {
        resolution: 6,
        offset_s: 0,
    };

    /// Unix nanoseconds of a time stamp, held within the range of the type.
    fn unix_ns(self, ticks: u64) -> u64 {
        const NS_PER_S: u128 = 1_000_000_000;
        let exponent = u32::from(self.resolution & 0x7f);
        let ticks = u128::from(ticks);
        let ns = if self.resolution & 0x80 != 0 {
            (ticks * NS_PER_S).checked_shr(exponent).unwrap_or(0)
        } else if exponent <= 9 {
            ticks * 10_u128.pow(9 - exponent)
        } else {
            10_u128
                .checked_pow(exponent - 9)
                .map_or(0, |divisor| ticks / divisor)
        };
        let ns = i128::try_from(ns).unwrap_or(i128::MAX / 2)
            + i128::from(self.offset_s) * NS_PER_S as i128;
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// An open pcapng file.
pub(crate) struct Pcapng {
    order: Order,
    interfaces: Vec<Interface>,
    /// Names by slot; kept when a section begins, since flows of the one before live on.
    names: Vec<String>,
    name_changes: u64,
    last_time_ns: u64,
    /// Bytes of the last packet's block not taken yet, and the block's length.
    pending: Option<(u64, u32)>,
}

impl Pcapng {
    /// Reads the first section header behind its block type.
    pub(crate) fn open(input: &mut Input) -> Result<Self, Stop> {
        let mut file = Self {
            order: Order::Little,
            interfaces: Vec::new(),
            names: Vec::new(),
            name_changes: 0,
            last_time_ns: 0,
            pending: None,
        };
        file.section(input)?;
        Ok(file)
    }

    /// Names of the interfaces by slot; empty: the file tells none.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// How often one was added or changed.
    pub(crate) const fn name_changes(&self) -> u64 {
        self.name_changes
    }

    /// The next packet, `None` at the end.
    pub(crate) fn next_frame<'a>(
        &mut self,
        input: &'a mut Input,
    ) -> Result<Option<Frame<'a>>, Stop> {
        if let Some((rest_bytes, block_bytes)) = self.pending.take() {
            self.close(input, rest_bytes, block_bytes)?;
        }
        loop {
            if input.at_end()? {
                return Ok(None);
            }
            let head = input.take(4)?;
            if be_u32(head, 0) == SECTION_HEADER {
                self.section(input)?;
                continue;
            }
            let block_type = self.order.u32(head, 0);
            let block_bytes = self.order.u32(input.take(4)?, 0);
            let body_bytes = body(block_bytes)?;
            match block_type {
                BLOCK_INTERFACE => self.interface(input, body_bytes, block_bytes)?,
                BLOCK_PACKET | BLOCK_PACKET_OLD => {
                    let old = block_type == BLOCK_PACKET_OLD;
                    return self.packet(input, body_bytes, block_bytes, old).map(Some);
                }
                BLOCK_PACKET_SIMPLE => {
                    return self.simple_packet(input, body_bytes, block_bytes).map(Some);
                }
                _ => self.close(input, body_bytes, block_bytes)?,
            }
        }
    }

    /// Skips the rest of a block's body and checks the length repeated behind it.
    fn close(&self, input: &mut Input, rest_bytes: u64, block_bytes: u32) -> Result<(), Stop> {
        input.skip(rest_bytes)?;
        if self.order.u32(input.take(4)?, 0) == block_bytes {
            Ok(())
        } else {
            Err(Stop::Damaged("a block's two lengths differ"))
        }
    }

    /// A section begins: its byte order, and no interfaces yet.
    fn section(&mut self, input: &mut Input) -> Result<(), Stop> {
        let head = input.take(8)?;
        self.order = match be_u32(head, 4) {
            BYTE_ORDER_MAGIC => Order::Big,
            magic if magic.swap_bytes() == BYTE_ORDER_MAGIC => Order::Little,
            _ => return Err(Stop::Damaged("a section without a byte order")),
        };
        let block_bytes = self.order.u32(head, 0);
        let body_bytes = body(block_bytes)?;
        if body_bytes < SECTION_BODY_BYTES {
            return Err(Stop::Damaged("a section header that is too short"));
        }
        self.interfaces.clear();
        self.close(input, body_bytes - 4, block_bytes)
    }

    fn interface(
        &mut self,
        input: &mut Input,
        body_bytes: u64,
        block_bytes: u32,
    ) -> Result<(), Stop> {
        if body_bytes < 8 {
            return Err(Stop::Damaged("an interface block that is too short"));
        }
        let read_bytes = body_bytes.min(INTERFACE_BLOCK_BYTES_MAX);
        let order = self.order;
        let body = input.take(read_bytes as usize)?;
        let (clock, name) = options(order, body.get(8..).unwrap_or_default());
        let interface = Interface {
            link_type: LinkType::of(u32::from(order.u16(body, 0))),
            snap_bytes: order.u32(body, 4),
            clock,
        };
        let slot = self.interfaces.len();
        // Those past the last slot share it: it has the name of none.
        if slot < INTERFACES_MAX as usize - 1 {
            if self.names.len() <= slot {
                self.names.resize(slot + 1, String::new());
            }
            if self.names[slot] != name {
                self.names[slot] = name;
                self.name_changes += 1;
            }
        }
        if self.interfaces.len() < INTERFACES_PER_SECTION_MAX {
            self.interfaces.push(interface);
        }
        self.close(input, body_bytes - read_bytes, block_bytes)
    }

    fn packet<'a>(
        &mut self,
        input: &'a mut Input,
        body_bytes: u64,
        block_bytes: u32,
        old: bool,
    ) -> Result<Frame<'a>, Stop> {
        if body_bytes < PACKET_BODY_BYTES {
            return Err(Stop::Damaged("a packet block that is too short"));
        }
        let order = self.order;
        let head = input.take(PACKET_BODY_BYTES as usize)?;
        let interface = if old {
            u32::from(order.u16(head, 0))
        } else {
            order.u32(head, 0)
        };
        let ticks = u64::from(order.u32(head, 4)) << 32 | u64::from(order.u32(head, 8));
        let captured_bytes = order.u32(head, 12);
        let wire_bytes = order.u32(head, 16);
        let known = self.interfaces.get(interface as usize).copied();
        let clock = known.map_or(Clock::MICROSECONDS, |interface| interface.clock);
        self.last_time_ns = clock.unix_ns(ticks);
        self.frame(
            input,
            body_bytes - PACKET_BODY_BYTES,
            block_bytes,
            (interface, known, captured_bytes, wire_bytes),
        )
    }

    fn simple_packet<'a>(
        &mut self,
        input: &'a mut Input,
        body_bytes: u64,
        block_bytes: u32,
    ) -> Result<Frame<'a>, Stop> {
        if body_bytes < 4 {
            return Err(Stop::Damaged("a packet block that is too short"));
        }
        let wire_bytes = self.order.u32(input.take(4)?, 0);
        let known = self.interfaces.first().copied();
        let snap_bytes = match known.map_or(0, |interface| interface.snap_bytes) {
            0 => u32::MAX,
            given => given,
        };
        let room_bytes = u32::try_from(body_bytes - 4).unwrap_or(u32::MAX);
        let captured_bytes = wire_bytes.min(snap_bytes).min(room_bytes);
        self.frame(
            input,
            body_bytes - 4,
            block_bytes,
            (0, known, captured_bytes, wire_bytes),
        )
    }

    /// Takes the packet's bytes; options and padding wait for the next call.
    fn frame<'a>(
        &mut self,
        input: &'a mut Input,
        rest_bytes: u64,
        block_bytes: u32,
        (interface, known, captured_bytes, wire_bytes): (u32, Option<Interface>, u32, u32),
    ) -> Result<Frame<'a>, Stop> {
        if captured_bytes > FRAME_BYTES_MAX {
            return Err(Stop::Damaged("a packet longer than any capture holds"));
        }
        if u64::from(captured_bytes) > rest_bytes {
            return Err(Stop::Damaged("a packet longer than its block"));
        }
        self.pending = Some((rest_bytes - u64::from(captured_bytes), block_bytes));
        Ok(Frame {
            link_type: known.map(|interface| interface.link_type),
            interface,
            time_ns: self.last_time_ns,
            wire_bytes: wire_bytes.max(captured_bytes),
            bytes: input.take(captured_bytes as usize)?,
        })
    }
}

/// Length of a block's body out of the whole block's.
fn body(block_bytes: u32) -> Result<u64, Stop> {
    if !block_bytes.is_multiple_of(4) {
        return Err(Stop::Damaged("a block length that is no multiple of four"));
    }
    u64::from(block_bytes)
        .checked_sub(BLOCK_FRAME_BYTES)
        .ok_or(Stop::Damaged("a block shorter than its own frame"))
}

/// Time options and name of an interface.
fn options(order: Order, mut options: &[u8]) -> (Clock, String) {
    let mut clock = Clock::MICROSECONDS;
    let mut name = String::new();
    while options.len() >= 4 {
        let code = order.u16(options, 0);
        let bytes = usize::from(order.u16(options, 2));
        let Some(value) = options.get(4..4 + bytes) else {
            break;
        };
        match (code, bytes) {
            (OPTION_END, _) => break,
            (OPTION_NAME, _) => {
                name = String::from_utf8_lossy(value)
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(INTERFACE_NAME_CHARS_MAX)
                    .collect();
            }
            (OPTION_TSRESOL, 1) => clock.resolution = value[0],
            (OPTION_TSOFFSET, 8) => clock.offset_s = order.u64(value, 0) as i64,
            _ => {}
        }
        options = options
            .get(4 + bytes.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    (clock, name)
}
