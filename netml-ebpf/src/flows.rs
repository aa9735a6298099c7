//! Step-down: which frames still get a record while the ring fills, and where the others are
//! counted.
//!
//! Below the high mark nothing here but the mode is looked at. Above it a frame's flow is looked
//! up; the first records of each flow, those that show something new, and one in k are offered to
//! the ring, and what gets no record is added to the flow's entry.

use core::arch::asm;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use netml_common::flow_map::{Ends, FlowEntry, FlowKey, Keyed, StepDown, TURNING_FLAGS, WayTotals};
use netml_common::{Direction, Marks, Network, Parsed, Walked};

use crate::maps::{
    ESTABLISHED, FIRST_RECORDS, FLOW_SCRATCH, FlowScratch, HIGH_MARK_BYTES, LOW_MARK_BYTES,
    OPENING, SAMPLE_MASK, STEP_DOWN,
};

/// A frame's place between ring and flow map.
pub struct Flow {
    /// Its flow's entry; null: every packet is recorded, or the maps have no place for the flow.
    entry: *mut FlowEntry,
    /// The frame is offered to the ring.
    pub offered: bool,
    /// Packets are counted by flow.
    pub stepped_down: bool,
    from_low: bool,
}

impl Flow {
    /// Every packet is recorded.
    const FULL: Self = Self {
        entry: core::ptr::null_mut(),
        offered: true,
        stepped_down: false,
        from_low: false,
    };

    /// The place of a frame, by the fill of the ring.
    #[inline(always)]
    pub fn of(fill_bytes: u32, parsed: &Parsed, slot: u8, direction: Direction) -> Self {
        if is_stepped_down(fill_bytes) {
            find(parsed, slot, direction)
        } else {
            Self::FULL
        }
    }

    /// The frame got a record.
    #[inline(always)]
    pub fn recorded(&self, tcp_flags: u8) {
        if self.entry.is_null() {
            return;
        }
        // SAFETY: an entry of the map: shared memory that all programs change by these means only.
        unsafe {
            let way = way(self.entry, self.from_low);
            or(&raw mut (*way).flags, WayTotals::recorded_bits(tcp_flags));
            add(&raw mut (*self.entry).records, 1);
        }
    }

    /// Counts a frame without a record; false where its flow has no entry.
    #[inline(always)]
    pub fn add(&self, walked: &Walked, segments: u32, wire_bytes: u32) -> bool {
        let entry = self.entry;
        if entry.is_null() {
            return false;
        }
        // SAFETY: as in `recorded`; the helper has no preconditions.
        unsafe {
            let way = way(entry, self.from_low);
            add(&raw mut (*way).packets, u64::from(segments));
            add(&raw mut (*way).frames, 1);
            add(&raw mut (*way).wire_bytes, u64::from(wire_bytes));
            add(
                &raw mut (*way).payload_bytes,
                u64::from(walked.payload_bytes),
            );
            or(&raw mut (*way).flags, u64::from(walked.tcp_flags));
            let mono_ns = bpf_ktime_get_ns();
            if (*entry).first_mono_ns == 0 {
                (*entry).first_mono_ns = mono_ns;
            }
            (*entry).last_mono_ns = mono_ns;
        }
        true
    }
}

/// A frame was lost for want of room: told apart from the totals, so that it can be read cheaply
/// and often.
#[inline(always)]
pub fn lost() {
    count(|state| &raw mut state.lost);
}

/// Decides by the marks, and writes the mode down where it changes.
#[inline(always)]
fn is_stepped_down(fill_bytes: u32) -> bool {
    let Some(state) = STEP_DOWN.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: an entry of the array; concurrent changes are atomic.
    let changes = unsafe { (&raw const (*state).changes).read_volatile() };
    let is_down = changes & 1 != 0;
    let mark_bytes = if is_down {
        LOW_MARK_BYTES.load()
    } else {
        HIGH_MARK_BYTES.load()
    };
    let stays_down = fill_bytes >= mark_bytes;
    if stays_down != is_down {
        // SAFETY: as above. Of programs that see the same change one counts it.
        unsafe {
            if exchange(&raw mut (*state).changes, changes, changes + 1) {
                (*state).since_mono_ns = bpf_ktime_get_ns();
            }
        }
    }
    stays_down
}

/// Looks the frame's flow up, makes or moves its entry, and decides whether to offer the frame.
#[inline(always)]
fn find(parsed: &Parsed, slot: u8, direction: Direction) -> Flow {
    let walked = &parsed.walked;
    let keyed = FlowKey::of(&Ends {
        src: &walked.src,
        dst: &walked.dst,
        src_port: walked.src_port,
        dst_port: walked.dst_port,
        ip_protocol: walked.ip_protocol,
        tcp_flags: walked.tcp_flags,
        marks: Marks(walked.marks),
        slot,
        network: Network::of(&parsed.pieces.tunnel),
    });
    let mut flow = Flow {
        entry: core::ptr::null_mut(),
        offered: true,
        stepped_down: true,
        from_low: keyed.from_low,
    };
    let Some(scratch) = FLOW_SCRATCH.get_ptr_mut(0) else {
        return flow;
    };
    // SAFETY: this CPU's own memory; programs of a CPU do not nest between here and the end.
    let scratch = unsafe { &mut *scratch };
    scratch.key = keyed.key;
    if let Some(entry) = ESTABLISHED.get_ptr_mut(&scratch.key) {
        flow.entry = entry;
    } else if let Some(entry) = OPENING.get_ptr_mut(&scratch.key) {
        // SAFETY: as in `recorded`.
        let first_from_low = unsafe { (*entry).begun } & FlowEntry::FIRST_FROM_LOW != 0;
        flow.entry = entry;
        if first_from_low != keyed.from_low
            && let Some(established) = establish(scratch, entry)
        {
            flow.entry = established;
        }
    } else if let Some(entry) = open(scratch, &keyed, direction) {
        flow.entry = entry;
    } else {
        return flow;
    }
    // SAFETY: as in `recorded`.
    flow.offered = unsafe { is_offered(flow.entry, keyed.from_low, walked.tcp_flags) };
    flow
}

/// Makes the entry of a flow seen for the first time.
#[inline(always)]
fn open(scratch: &mut FlowScratch, keyed: &Keyed, direction: Direction) -> Option<*mut FlowEntry> {
    scratch.entry = FlowEntry {
        // The reader removes what was not used for long: this one is in use, whether its packets
        // are counted or recorded.
        // SAFETY: the helper has no preconditions.
        first_mono_ns: unsafe { bpf_ktime_get_ns() },
        begun: FlowEntry::begun_by(keyed, direction),
        ..EMPTY
    };
    // Where another CPU was first, its entry is found below.
    let _ = OPENING.insert(&scratch.key, &scratch.entry, u64::from(BPF_NOEXIST));
    let entry = OPENING.get_ptr_mut(&scratch.key);
    if entry.is_none() {
        count(|state| &raw mut state.opening_full);
    }
    entry
}

/// Makes the entry of a flow that was now seen both ways. What the old entry counted stays there;
/// user space adds the two.
#[inline(always)]
fn establish(scratch: &mut FlowScratch, opened: *mut FlowEntry) -> Option<*mut FlowEntry> {
    // SAFETY: as in `recorded`.
    scratch.entry = unsafe {
        FlowEntry {
            low: WayTotals {
                flags: (*opened).low.recorded_only(),
                ..EMPTY.low
            },
            high: WayTotals {
                flags: (*opened).high.recorded_only(),
                ..EMPTY.high
            },
            // As in `open`.
            first_mono_ns: bpf_ktime_get_ns(),
            records: (*opened).records,
            begun: (*opened).begun,
            ..EMPTY
        }
    };
    let _ = ESTABLISHED.insert(&scratch.key, &scratch.entry, u64::from(BPF_NOEXIST));
    let entry = ESTABLISHED.get_ptr_mut(&scratch.key);
    if entry.is_none() {
        count(|state| &raw mut state.established_full);
    }
    entry
}

const EMPTY_WAY: WayTotals = WayTotals {
    packets: 0,
    frames: 0,
    wire_bytes: 0,
    payload_bytes: 0,
    flags: 0,
};

const EMPTY: FlowEntry = FlowEntry {
    low: EMPTY_WAY,
    high: EMPTY_WAY,
    first_mono_ns: 0,
    last_mono_ns: 0,
    records: 0,
    begun: 0,
};

/// True for what features need: the beginning of a flow, flags not seen before, what opens or
/// ends a flow, and one frame in k.
///
/// # Safety
/// `entry` is an entry of one of the maps.
#[inline(always)]
unsafe fn is_offered(entry: *mut FlowEntry, from_low: bool, tcp_flags: u8) -> bool {
    // SAFETY: the caller's contract.
    let (known, records, frames) = unsafe {
        (
            (*way(entry, from_low)).flags,
            (*entry).records,
            (*entry).low.frames + (*entry).high.frames,
        )
    };
    tcp_flags & TURNING_FLAGS != 0
        || WayTotals::recorded_bits(tcp_flags) & !known != 0
        || records < u64::from(FIRST_RECORDS.load())
        || (records + frames) & u64::from(SAMPLE_MASK.load()) == 0
}

/// # Safety
/// `entry` is an entry of one of the maps.
#[inline(always)]
unsafe fn way(entry: *mut FlowEntry, from_low: bool) -> *mut WayTotals {
    // SAFETY: the caller's contract.
    unsafe {
        if from_low {
            &raw mut (*entry).low
        } else {
            &raw mut (*entry).high
        }
    }
}

#[inline(always)]
fn count(cell: impl FnOnce(&mut StepDown) -> *mut u64) {
    if let Some(state) = STEP_DOWN.get_ptr_mut(0) {
        // SAFETY: an entry of the array; the cell is one of its fields, changed atomically.
        unsafe { add(cell(&mut *state), 1) }
    }
}

// The target offers atomic loads and stores only; the machine has more (Linux 5.12).

/// # Safety
/// `cell` is a field of a map's value.
#[inline(always)]
unsafe fn add(cell: *mut u64, value: u64) {
    // SAFETY: the caller's contract; aligned, since the values are.
    unsafe {
        asm!("lock *(u64 *)({cell} + 0) += {value}", cell = in(reg) cell, value = in(reg) value)
    }
}

/// # Safety
/// `cell` is a field of a map's value.
#[inline(always)]
unsafe fn or(cell: *mut u64, bits: u64) {
    // Mostly there already: a read is cheaper.
    // SAFETY: the caller's contract; aligned, since the values are.
    unsafe {
        if cell.read_volatile() & bits != bits {
            asm!("lock *(u64 *)({cell} + 0) |= {bits}", cell = in(reg) cell, bits = in(reg) bits);
        }
    }
}

/// Replaces `old`; false where something else was there.
///
/// # Safety
/// `cell` is a field of a map's value.
#[inline(always)]
unsafe fn exchange(cell: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    // SAFETY: the caller's contract; aligned, since the values are.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({cell} + 0, r0, {new})",
            cell = in(reg) cell,
            new = in(reg) new,
            inout("r0") found,
        );
    }
    found == old
}
