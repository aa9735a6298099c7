//! One frame into the books: counted, and recorded, counted by flow, or lost for one reason.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use netml_common::counters::{PROTOCOL_CLASSES, UNKNOWN_SLOT};
use netml_common::extras::{ENTRY_BYTES_MAX, Pieces};
use netml_common::knobs::{InterfaceEntry, NearEntry, WAKE_WINDOW_BYTES};
use netml_common::record::RECORD_RING_BYTES;
use netml_common::{
    Direction, HeaderBytes as _, InterfaceCounters, KERNEL_LOSS_REASONS, Link, LossReason, Marks,
    PACKET_RECORD_BYTES, PacketRecord, Parsed, ProtocolClass, walk_into,
};

use crate::flows::{self, Flow};
use crate::maps::{
    COUNTERS, DECAPSULATE, Entry, INTERFACES, LAST_FILL_BYTES, NEAR, RING, Scratch, WAKE_FILL_BYTES,
};
use crate::packet::{Load, Packet, SkbFacts};

pub const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;

/// Bytes of one VLAN tag.
const VLAN_TAG_BYTES: u32 = 4;

/// Most segments a record can state.
const SEGMENTS_MAX: u32 = u16::MAX as u32;

/// A frame on its way.
pub struct Frame<L> {
    /// Its headers.
    pub packet: Packet<L>,
    /// Interface index.
    pub ifindex: u32,
    /// Way through the interface.
    pub direction: Direction,
    /// Of a socket buffer.
    pub skb: Option<SkbFacts>,
}

/// Wire packets and bytes of a frame.
struct Wire {
    segments: u32,
    bytes: u32,
}

/// Counts the frame and puts its record into the ring, or counts it in its flow.
#[inline(always)]
pub fn account<L: Load>(frame: &Frame<L>, scratch: *mut Scratch) {
    let Some(entry) = interface(frame.ifindex) else {
        unknown(frame);
        return;
    };
    let slot = u32::from(entry.slot);
    let Some(counters) = COUNTERS.get_ptr_mut(InterfaceCounters::entry(slot, frame.direction))
    else {
        return;
    };
    // SAFETY: both are this CPU's own, and programs of one direction do not nest on one CPU.
    let (counters, parsed, entry_place) = unsafe {
        (
            &mut *counters,
            &mut (*scratch).parsed,
            &mut (*scratch).entry,
        )
    };
    let link = if entry.link == InterfaceEntry::RAW_IP {
        Link::RawIp
    } else {
        Link::Ethernet
    };
    let frame_bytes = frame.packet.frame_bytes;
    let decapsulate = DECAPSULATE.load() != 0;
    match walk_into(&frame.packet, frame_bytes, link, decapsulate, parsed) {
        Ok(()) => {
            let wire = wire(frame, parsed.walked.header_bytes);
            let class = ProtocolClass::of_ip_protocol(parsed.walked.ip_protocol);
            count(frame, counters, &wire, class);
            let fill_bytes = RING.query(0) as u32;
            let walked = &parsed.walked;
            let flow = Flow::of(fill_bytes, parsed, entry.slot, frame.direction);
            if flow.offered && record(frame, parsed, entry, &wire, fill_bytes, entry_place) {
                counters.recorded += 1;
                flow.recorded(walked.tcp_flags);
            } else if flow.add(walked, wire.segments, wire.bytes) {
                counters.mapped += 1;
            } else {
                let reason = if flow.stepped_down {
                    LossReason::FlowMapFull
                } else {
                    LossReason::RingFull
                };
                flows::lost();
                lost(frame, counters, reason);
            }
        }
        Err(reason) => {
            let wire = wire(frame, 0);
            count(frame, counters, &wire, reason.protocol_class());
            lost(frame, counters, reason);
        }
    }
}

/// What the loader said of an interface.
#[inline(always)]
fn interface(ifindex: u32) -> Option<InterfaceEntry> {
    if let Some(word) = NEAR.get_ptr(NearEntry::index(ifindex)) {
        // SAFETY: an aligned number of the map, which the loader writes as a whole.
        let near = NearEntry::from_word(unsafe { word.read_volatile() });
        if near.ifindex == ifindex {
            return Some(near.entry);
        }
    }
    // SAFETY: the loader writes the map before it attaches; entries never change afterwards.
    unsafe { INTERFACES.get(&ifindex) }.copied()
}

/// A frame of an interface without a slot: counted in a slot of its own, so that it is not hidden.
#[inline(always)]
fn unknown<L: Load>(frame: &Frame<L>) {
    let wire = wire(frame, 0);
    if let Some(counters) =
        COUNTERS.get_ptr_mut(InterfaceCounters::entry(UNKNOWN_SLOT, frame.direction))
    {
        // SAFETY: as in `account`.
        let counters = unsafe { &mut *counters };
        count(frame, counters, &wire, ProtocolClass::Other);
        counters.lost[LossReason::UnknownInterface.index()] += 1;
    }
}

#[inline(always)]
fn count<L: Load>(
    frame: &Frame<L>,
    counters: &mut InterfaceCounters,
    wire: &Wire,
    class: ProtocolClass,
) {
    counters.frames += 1;
    counters.packets += u64::from(wire.segments);
    counters.bytes += u64::from(wire.bytes);
    let class = frame.packet.forget(class.index() as u32) as usize;
    if class < PROTOCOL_CLASSES {
        counters.protocol_packets[class] += u64::from(wire.segments);
        counters.protocol_bytes[class] += u64::from(wire.bytes);
    }
}

#[inline(always)]
fn lost<L: Load>(frame: &Frame<L>, counters: &mut InterfaceCounters, reason: LossReason) {
    let index = frame.packet.forget(reason.index() as u32) as usize;
    if index < KERNEL_LOSS_REASONS {
        counters.lost[index] += 1;
    }
}

/// Wire packets and bytes: each segment of a super-packet repeats all headers.
#[inline(always)]
fn wire<L: Load>(frame: &Frame<L>, header_bytes: u32) -> Wire {
    let frame_bytes = frame.packet.frame_bytes;
    let Some(skb) = &frame.skb else {
        return Wire {
            segments: 1,
            bytes: frame_bytes,
        };
    };
    let mut segments = 1;
    let mut bytes = frame_bytes;
    if skb.gso_size > 0 {
        segments = if skb.gso_segs > 0 {
            skb.gso_segs
        } else {
            // From an untrusted source: the kernel counts when it cuts.
            frame_bytes
                .saturating_sub(header_bytes)
                .div_ceil(skb.gso_size)
                .max(1)
        };
        if segments > SEGMENTS_MAX {
            segments = SEGMENTS_MAX;
        }
        bytes += (segments - 1) * header_bytes;
        // Which headers of a tunnel repeat, the queueing layer knows best.
        if matches!(frame.direction, Direction::Egress) && skb.wire_len > frame_bytes {
            bytes = skb.wire_len;
        }
    }
    if skb.vlan_present {
        bytes += segments * VLAN_TAG_BYTES;
    }
    // Forgotten ways: the verifier would follow each of them through all that comes behind.
    Wire {
        segments: frame.packet.forget(segments),
        bytes: frame.packet.forget(bytes),
    }
}

/// Submits the entry of one packet; false where the ring is full. One that is a record and no more,
/// as most are, is written where it lies.
#[inline(always)]
fn record<L: Load>(
    frame: &Frame<L>,
    parsed: &Parsed,
    interface: InterfaceEntry,
    wire: &Wire,
    fill_bytes: u32,
    entry: &mut Entry,
) -> bool {
    // A reservation that must fail costs as much as one that does not.
    if fill_bytes > LAST_FILL_BYTES.load() {
        return false;
    }
    if !parsed.pieces.is_empty() {
        entry.record = record_of(frame, parsed, interface, wire);
        let bytes = frame.packet.forget(put_pieces(entry, &parsed.pieces)) as usize;
        if bytes > ENTRY_BYTES_MAX {
            return false;
        }
        // SAFETY: the entry is plain bytes, at least as many.
        let bytes = unsafe { core::slice::from_raw_parts((&raw const *entry).cast::<u8>(), bytes) };
        return RING.output::<[u8]>(bytes, wake_flag(fill_bytes)).is_ok();
    }
    let Some(mut place) = RING.reserve::<PacketRecord>(0) else {
        return false;
    };
    place.write(record_of(frame, parsed, interface, wire));
    place.submit(wake_flag(fill_bytes));
    true
}

/// Writes the pieces behind the record; gives the length of the whole.
#[inline(always)]
fn put_pieces(entry: &mut Entry, pieces: &Pieces) -> u32 {
    let start = (&raw mut entry.pieces).cast::<u8>();
    let mut at = 0;
    // SAFETY: the pieces of an entry have room for a tunnel and a quoted flow, a quoted flow and
    // DNS numbers exclude each other, and all begin at multiples of eight.
    unsafe {
        if pieces.tunnel.kind != 0 {
            start
                .cast::<netml_common::TunnelRecord>()
                .write(pieces.tunnel);
            at = size_of::<netml_common::TunnelRecord>();
        }
        if pieces.quoted.kind != 0 {
            let place = start.add(at).cast::<netml_common::QuotedRecord>();
            place.write(pieces.quoted);
            at += size_of::<netml_common::QuotedRecord>();
        } else if pieces.dns.kind != 0 {
            let place = start.add(at).cast::<netml_common::DnsRecord>();
            place.write(pieces.dns);
            at += size_of::<netml_common::DnsRecord>();
        }
    }
    (PACKET_RECORD_BYTES + at) as u32
}

#[inline(always)]
fn record_of<L: Load>(
    frame: &Frame<L>,
    parsed: &Parsed,
    interface: InterfaceEntry,
    wire: &Wire,
) -> PacketRecord {
    // SAFETY: the helper has no preconditions.
    let mono_ns = unsafe { bpf_ktime_get_ns() };
    let mut record = parsed.walked.record(
        mono_ns,
        interface.slot,
        frame.direction,
        wire.segments as u16,
        wire.bytes,
    );
    if matches!(frame.direction, Direction::Ingress) {
        record.marks.0 |= interface.ingress_marks;
    }
    if let Some(skb) = &frame.skb
        && skb.vlan_present
    {
        record.marks.0 |= Marks::VLAN;
    }
    record
}

/// Wakes the reader where the fill before this record crosses the mark, and never otherwise.
#[inline(always)]
fn wake_flag(fill_bytes: u32) -> u64 {
    let past_mark_bytes = fill_bytes
        .wrapping_add(RECORD_RING_BYTES)
        .wrapping_sub(WAKE_FILL_BYTES.load());
    if past_mark_bytes < WAKE_WINDOW_BYTES {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}
