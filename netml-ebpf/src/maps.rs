//! Every map and global of the programs.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use netml_common::counters::COUNTER_ENTRIES;
use netml_common::extras::{DnsRecord, ENTRY_BYTES_MAX};
use netml_common::knobs::{
    ESTABLISHED_ENTRIES, FIRST_RECORDS_DEFAULT, InterfaceEntry, NEAR_ENTRIES, OPENING_ENTRIES,
    SAMPLE_ONE_IN_DEFAULT,
};
use netml_common::record::RECORD_RING_BYTES;
use netml_common::{
    FlowEntry, FlowKey, INTERFACES_MAX, InterfaceCounters, PACKET_RECORD_BYTES, PacketRecord,
    Parsed, StepDown,
};

/// Ring size in bytes where the loader sets none.
const RING_BYTES_DEFAULT: u32 = 16 << 20;

/// One entry per packet: a [`PacketRecord`] and, for some, what stands behind it. Written by
/// all programs, read by the agent's ring thread. Full: the record is counted as lost.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES_DEFAULT, 0);

/// Totals by slot and direction ([`InterfaceCounters::entry`]). Written by all programs, each CPU
/// its own; read and summed by the agent.
#[map]
pub static COUNTERS: PerCpuArray<InterfaceCounters> =
    PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);

/// Interface index to slot and link kind. Written by the loader before it attaches, then only read.
#[map]
pub static INTERFACES: HashMap<u32, InterfaceEntry> = HashMap::with_max_entries(INTERFACES_MAX, 0);

/// [`netml_common::knobs::NearEntry`] of most interfaces, looked at before the map. Written by the
/// loader with it.
#[map]
pub static NEAR: Array<u64> = Array::with_max_entries(NEAR_ENTRIES, 0);

/// Totals of flows seen both ways, of frames without a record. Written by all programs while
/// stepped down, filled by the agent with flows it knows; read and cleaned by the agent. Full: the
/// flow stays in [`OPENING`].
#[map]
pub static ESTABLISHED: HashMap<FlowKey, FlowEntry> =
    HashMap::with_max_entries(ESTABLISHED_ENTRIES, 0);

/// The same of flows seen one way only. Full: the frame goes into the ring or is lost.
#[map]
pub static OPENING: HashMap<FlowKey, FlowEntry> = HashMap::with_max_entries(OPENING_ENTRIES, 0);

/// The mode. Written by all programs, read by the agent.
#[map]
pub static STEP_DOWN: Array<StepDown> = Array::with_max_entries(1, 0);

/// Working memory of a lookup in the flow maps.
#[repr(C)]
pub struct FlowScratch {
    /// The frame's flow.
    pub key: FlowKey,
    /// What a new entry begins with.
    pub entry: FlowEntry,
}

/// One per CPU, as [`SCRATCH`].
#[map]
pub static FLOW_SCRATCH: PerCpuArray<FlowScratch> = PerCpuArray::with_max_entries(1, 0);

/// A record with what stands behind it.
#[repr(C)]
pub struct Entry {
    /// The record.
    pub record: PacketRecord,
    /// The pieces, contiguous.
    pub pieces: [u64; (ENTRY_BYTES_MAX - PACKET_RECORD_BYTES) / 8],
}

const _: () = assert!(size_of::<DnsRecord>() <= size_of::<netml_common::QuotedRecord>());

/// Working memory for the frame at hand.
#[repr(C)]
pub struct Scratch {
    /// Its headers: the stack is too small for them.
    pub parsed: Parsed,
    /// Its entry of the ring, where that is more than a record.
    pub entry: Entry,
    /// See [`netml_common::HeaderBytes::forget`].
    pub cell: u32,
}

/// One per CPU: programs of a CPU do not nest between walk and submit.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Fill of the ring, in bytes, at which a submit wakes the reader. Set by the loader.
#[unsafe(no_mangle)]
pub static WAKE_FILL_BYTES: Global<u32> = Global::new(64 * 1024);

/// Largest fill of the ring, in bytes, at which a record can find room. Set by the loader.
#[unsafe(no_mangle)]
pub static LAST_FILL_BYTES: Global<u32> = Global::new(RING_BYTES_DEFAULT - RECORD_RING_BYTES - 1);

/// Fill of the ring, in bytes, from which packets are counted by flow. Set by the loader.
#[unsafe(no_mangle)]
pub static HIGH_MARK_BYTES: Global<u32> = Global::new(RING_BYTES_DEFAULT / 2);

/// Fill of the ring, in bytes, below which every packet is recorded again. Set by the loader.
#[unsafe(no_mangle)]
pub static LOW_MARK_BYTES: Global<u32> = Global::new(RING_BYTES_DEFAULT / 4);

/// Records each flow gets before it is sampled. Set by the loader.
#[unsafe(no_mangle)]
pub static FIRST_RECORDS: Global<u32> = Global::new(FIRST_RECORDS_DEFAULT);

/// Zero in the frame count of a flow where its frame is offered to the ring. Set by the loader.
#[unsafe(no_mangle)]
pub static SAMPLE_MASK: Global<u32> = Global::new(SAMPLE_ONE_IN_DEFAULT - 1);

/// 1: tunnels are opened; 0: a tunnel's own packet is the flow's. Set by the loader.
#[unsafe(no_mangle)]
pub static DECAPSULATE: Global<u32> = Global::new(1);
