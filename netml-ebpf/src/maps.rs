//! Every map and global of the programs.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, PerCpuArray, RingBuf};
use netml_common::counters::COUNTER_ENTRIES;
use netml_common::knobs::InterfaceEntry;
use netml_common::{INTERFACES_MAX, InterfaceCounters, Walked};

/// Ring size in bytes where the loader sets none.
const RING_BYTES_DEFAULT: u32 = 16 << 20;

/// One [`netml_common::PacketRecord`] per packet. Written by all programs, read by the agent's
/// ring thread. Full: the record is counted as lost.
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

/// Working memory for the frame at hand.
#[repr(C)]
pub struct Scratch {
    /// Its headers: the stack is too small for them.
    pub walked: Walked,
    /// See [`netml_common::HeaderBytes::forget`].
    pub cell: u32,
}

/// One per CPU: programs of a CPU do not nest between walk and submit.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Fill of the ring, in bytes, at which a submit wakes the reader. Set by the loader.
#[unsafe(no_mangle)]
pub static WAKE_FILL_BYTES: Global<u32> = Global::new(64 * 1024);
