//! Reader of the kernel's flow maps: what was counted by flow while the ring filled.
//!
//! Entries of the maps only grow. [`Deltas`] (pure) remembers what was read and tells the
//! difference; [`FlowMaps`] reads whole maps in batches, puts known flows into the map of
//! established ones before they are needed, and removes what has long been idle with a final read.
//! Every counted frame is told exactly once.
//!
//! Bounds: the entries of the two maps; as many are remembered here at most.
#![expect(
    unsafe_code,
    reason = "map operations that aya has no call for: batches, look up and delete"
)]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::maps::{Array, MapData};
use netml_common::flow_map::{FlowEntry, FlowKey, StepDown, WayTotals};
use netml_common::knobs::{
    ESTABLISHED_ENTRIES, ESTABLISHED_MAP, FIRST_RECORDS_DEFAULT, OPENING_ENTRIES, OPENING_MAP,
    SAMPLE_ONE_IN_DEFAULT, STEP_DOWN_MAP,
};

use super::error::ProbeError;
use crate::engine::{FlowTotals, HalfTotals};

/// Entries read by one call into the kernel.
const BATCH_ENTRIES: usize = 1024;

/// An entry of a flow seen one way that counted nothing for this long is removed.
const OPENING_IDLE_NS: u64 = 10_000_000_000;

/// The same of a flow seen both ways that the engine does not know (any more). Long, since an
/// entry is removed while programs run: a packet of the flow in that very moment would be lost to
/// the books.
const ESTABLISHED_IDLE_NS: u64 = 30_000_000_000;

const KEY_BYTES: usize = size_of::<FlowKey>();
const ENTRY_BYTES: usize = size_of::<FlowEntry>();

/// When and how the kernel programs count by flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDownSettings {
    /// Fill of the ring, in bytes, from which packets are counted by flow; `u32::MAX`: never.
    pub high_mark_bytes: u32,
    /// Fill, in bytes, below which every packet is recorded again.
    pub low_mark_bytes: u32,
    /// Records each flow gets before it is sampled.
    pub first_records: u32,
    /// One frame in this many of a known flow is recorded; a power of two.
    pub sample_one_in: u32,
    /// Most flows in the map of flows seen both ways.
    pub established_entries: u32,
    /// Most flows in the map of flows seen one way.
    pub opening_entries: u32,
}

impl StepDownSettings {
    /// From half of the ring down to a quarter of it.
    #[must_use]
    pub const fn of_ring(ring_bytes: u32) -> Self {
        Self {
            high_mark_bytes: ring_bytes / 2,
            low_mark_bytes: ring_bytes / 4,
            first_records: FIRST_RECORDS_DEFAULT,
            sample_one_in: SAMPLE_ONE_IN_DEFAULT,
            established_entries: ESTABLISHED_ENTRIES,
            opening_entries: OPENING_ENTRIES,
        }
    }

    /// Never: what finds no room in the ring is lost.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            high_mark_bytes: u32::MAX,
            low_mark_bytes: u32::MAX,
            ..Self::of_ring(0)
        }
    }
}

/// One of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Established,
    Opening,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Self::Established => ESTABLISHED_MAP,
            Self::Opening => OPENING_MAP,
        }
    }
}

/// Cumulative counts of what the reader did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowMapBooks {
    /// Frames told, over all flows.
    pub frames: u64,
    /// Entries that held a counted frame at the latest read.
    pub entries: u64,
    /// Entries in the map of flows seen one way at the latest read.
    pub opening: u64,
    /// Known flows that found no place in the map of established ones.
    pub seeds_refused: u64,
    /// Entries removed for having been idle, or with the end of their flow.
    pub removed: u64,
}

/// Differences between reads of cumulative entries.
#[derive(Debug, Default)]
struct Deltas(HashMap<(Which, FlowKey), FlowEntry>);

impl Deltas {
    /// What an entry counted since it was read last; `None`: nothing.
    fn take(&mut self, which: Which, key: &FlowKey, entry: &FlowEntry) -> Option<FlowTotals> {
        if entry.low.frames + entry.high.frames == 0 {
            return None;
        }
        let before = self.0.insert((which, *key), *entry).unwrap_or_default();
        if before.low == entry.low && before.high == entry.high {
            return None;
        }
        let half = |now: &WayTotals, before: &WayTotals| HalfTotals {
            packets: now.packets.saturating_sub(before.packets),
            frames: now.frames.saturating_sub(before.frames),
            bytes: now.wire_bytes.saturating_sub(before.wire_bytes),
            payload_bytes: now.payload_bytes.saturating_sub(before.payload_bytes),
            // Flags told before may be those of an earlier flow of the same key.
            tcp_flags: now.tcp_flags() & !before.tcp_flags(),
        };
        Some(FlowTotals {
            key: *key,
            initiator_is_low: entry.begun & FlowEntry::INITIATOR_IS_LOW != 0,
            low_is_egress: entry.begun & FlowEntry::LOW_IS_EGRESS != 0,
            first_mono_ns: entry.first_mono_ns,
            last_mono_ns: entry.last_mono_ns,
            low: half(&entry.low, &before.low),
            high: half(&entry.high, &before.high),
        })
    }

    fn forget(&mut self, which: Which, key: &FlowKey) {
        self.0.remove(&(which, *key));
    }
}

/// A flow to be known to the kernel before it has to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFlow {
    /// Its key.
    pub key: FlowKey,
    /// The key's lower end began it.
    pub initiator_is_low: bool,
    /// Packets of the lower end leave through the interface.
    pub low_is_egress: bool,
    /// TCP flags seen so far, either way.
    pub tcp_flags: u8,
}

/// The only reader of the flow maps; may move to a thread of its own.
#[derive(Debug)]
pub struct FlowMaps {
    established: MapData,
    opening: MapData,
    state: State,
    first_records: u32,
    deltas: Deltas,
    buffers: Buffers,
    books: FlowMapBooks,
}

/// The map of [`StepDown`].
pub(super) struct State(pub(super) Array<MapData, Words>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(STEP_DOWN_MAP)
    }
}

/// [`StepDown`] as words.
pub(super) type Words = [u64; size_of::<StepDown>() / 8];

/// Room for one batch.
struct Buffers {
    keys: Box<[[u8; KEY_BYTES]; BATCH_ENTRIES]>,
    entries: Box<[[u8; ENTRY_BYTES]; BATCH_ENTRIES]>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buffers")
    }
}

impl FlowMaps {
    pub(super) fn new(
        established: MapData,
        opening: MapData,
        state: State,
        first_records: u32,
    ) -> Self {
        Self {
            established,
            opening,
            state,
            first_records,
            deltas: Deltas::default(),
            buffers: Buffers {
                keys: Box::new([[0; KEY_BYTES]; BATCH_ENTRIES]),
                entries: Box::new([[0; ENTRY_BYTES]; BATCH_ENTRIES]),
            },
            books: FlowMapBooks::default(),
        }
    }

    /// The mode of the programs, and what was lost.
    ///
    /// # Errors
    /// [`ProbeError::Map`] where the kernel refuses to read.
    pub fn state(&self) -> Result<StepDown, ProbeError> {
        let [changes, since_mono_ns, lost, opening_full, established_full] =
            self.state.0.get(&0, 0).map_err(|source| ProbeError::Map {
                map: STEP_DOWN_MAP,
                source: Box::new(source),
            })?;
        Ok(StepDown {
            changes,
            since_mono_ns,
            lost,
            opening_full,
            established_full,
        })
    }

    /// Reads both maps and tells what each flow counted since the last read. Removes entries long
    /// idle, those of flows that `is_live` knows excepted.
    ///
    /// # Errors
    /// [`ProbeError::FlowMap`] where the kernel refuses.
    pub fn read(
        &mut self,
        now_mono_ns: u64,
        is_live: impl Fn(&FlowKey) -> bool,
        mut take: impl FnMut(&FlowTotals),
    ) -> Result<(), ProbeError> {
        self.books.entries = 0;
        for which in [Which::Established, Which::Opening] {
            let mut idle = Vec::new();
            let mut seen = 0;
            let Self {
                deltas,
                buffers,
                books,
                established,
                opening,
                ..
            } = self;
            let map = match which {
                Which::Established => &*established,
                Which::Opening => &*opening,
            };
            each_entry(map.fd().as_fd(), which, buffers, |key, entry| {
                seen += 1;
                books.entries += u64::from(entry.low.frames + entry.high.frames > 0);
                if let Some(totals) = deltas.take(which, &key, &entry) {
                    books.frames += totals.frames();
                    take(&totals);
                }
                let (limit_ns, keeps) = match which {
                    Which::Established => (ESTABLISHED_IDLE_NS, is_live(&key)),
                    Which::Opening => (OPENING_IDLE_NS, false),
                };
                let used_ns = entry.last_mono_ns.max(entry.first_mono_ns);
                if !keeps && now_mono_ns.saturating_sub(used_ns) > limit_ns {
                    idle.push(key);
                }
            })?;
            if which == Which::Opening {
                books.opening = seen;
            }
            for key in idle {
                self.remove(which, &key, &mut take)?;
            }
        }
        Ok(())
    }

    /// Makes flows known to the kernel, so that they are counted whatever else comes. A flow that
    /// finds no place is counted in [`FlowMapBooks::seeds_refused`].
    ///
    /// # Errors
    /// [`ProbeError::FlowMap`] where the kernel refuses for another reason.
    pub fn seed(&mut self, flows: &[KnownFlow]) -> Result<(), ProbeError> {
        for flow in flows {
            let mut entry = FlowEntry {
                records: u64::from(self.first_records),
                ..FlowEntry::default()
            };
            entry.low.flags = WayTotals::recorded_bits(flow.tcp_flags);
            entry.high.flags = entry.low.flags;
            if flow.initiator_is_low {
                entry.begun |= FlowEntry::INITIATOR_IS_LOW;
            }
            if flow.low_is_egress {
                entry.begun |= FlowEntry::LOW_IS_EGRESS;
            }
            let made = insert_new(
                self.established.fd().as_fd(),
                &flow.key.to_bytes(),
                &entry.to_bytes(),
            );
            match made {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
                    self.books.seeds_refused += 1;
                }
                Err(source) => {
                    return Err(ProbeError::FlowMap {
                        map: ESTABLISHED_MAP,
                        action: "filled",
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Removes the entries of flows that have ended, with a final read.
    ///
    /// # Errors
    /// [`ProbeError::FlowMap`] where the kernel refuses.
    pub fn forget(
        &mut self,
        keys: &[FlowKey],
        mut take: impl FnMut(&FlowTotals),
    ) -> Result<(), ProbeError> {
        for key in keys {
            self.remove(Which::Established, key, &mut take)?;
        }
        Ok(())
    }

    /// Counts so far.
    #[must_use]
    pub fn books(&self) -> FlowMapBooks {
        self.books
    }

    fn remove(
        &mut self,
        which: Which,
        key: &FlowKey,
        take: &mut impl FnMut(&FlowTotals),
    ) -> Result<(), ProbeError> {
        let map = match which {
            Which::Established => &self.established,
            Which::Opening => &self.opening,
        };
        match look_up_and_delete(map.fd().as_fd(), &key.to_bytes()) {
            Ok(bytes) => {
                let entry = FlowEntry::from_bytes(&bytes);
                if let Some(totals) = self.deltas.take(which, key, &entry) {
                    self.books.frames += totals.frames();
                    take(&totals);
                }
                self.deltas.forget(which, key);
                self.books.removed += 1;
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(source) => Err(ProbeError::FlowMap {
                map: which.name(),
                action: "cleaned",
                source,
            }),
        }
    }
}

/// Gives every entry of a map, each bucket of the kernel's hash as it stands when it is read.
fn each_entry(
    map: BorrowedFd<'_>,
    which: Which,
    buffers: &mut Buffers,
    mut take: impl FnMut(FlowKey, FlowEntry),
) -> Result<(), ProbeError> {
    let mut position: Option<u32> = None;
    loop {
        let batch =
            look_up_batch(map, position, buffers).map_err(|source| ProbeError::FlowMap {
                map: which.name(),
                action: "read",
                source,
            })?;
        for (key, entry) in buffers
            .keys
            .iter()
            .zip(buffers.entries.iter())
            .take(batch.count)
        {
            take(FlowKey::from_bytes(key), FlowEntry::from_bytes(entry));
        }
        match batch.next {
            Some(next) => position = Some(next),
            None => return Ok(()),
        }
    }
}

/// What one batch gave.
struct Batch {
    count: usize,
    /// Where the next begins; `None`: this was the last.
    next: Option<u32>,
}

// Commands of bpf(2), include/uapi/linux/bpf.h.
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_int = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_NOEXIST: u64 = 1;

/// `union bpf_attr` of an operation on one entry.
#[repr(C)]
struct EntryAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` of an operation on many.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// # Safety
/// `attr` is of the layout of the command, and its addresses have room for what the command reads
/// and writes there.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<()> {
    // SAFETY: the caller's contract; the attribute outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn look_up_batch(
    map: BorrowedFd<'_>,
    position: Option<u32>,
    buffers: &mut Buffers,
) -> io::Result<Batch> {
    let mut next = 0_u32;
    let mut attr = BatchAttr {
        in_batch: position
            .as_ref()
            .map_or(0, |position| std::ptr::from_ref(position) as u64),
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: buffers.keys.as_mut_ptr() as u64,
        values: buffers.entries.as_mut_ptr() as u64,
        count: BATCH_ENTRIES as u32,
        map_fd: map.as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the buffers hold `count` keys and values of the map's sizes, the positions four
    // bytes each, as a hash map's batch asks for; all outlive the call.
    let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
    let count = (attr.count as usize).min(BATCH_ENTRIES);
    match result {
        Ok(()) => Ok(Batch {
            count,
            next: Some(next),
        }),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch { count, next: None }),
        Err(error) => Err(error),
    }
}

fn insert_new(
    map: BorrowedFd<'_>,
    key: &[u8; KEY_BYTES],
    value: &[u8; ENTRY_BYTES],
) -> io::Result<()> {
    let mut attr = EntryAttr {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: BPF_NOEXIST,
    };
    // SAFETY: key and value are of the map's sizes, are only read, and outlive the call.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }
}

fn look_up_and_delete(map: BorrowedFd<'_>, key: &[u8; KEY_BYTES]) -> io::Result<[u8; ENTRY_BYTES]> {
    let mut value = [0; ENTRY_BYTES];
    let mut attr = EntryAttr {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: key and value are of the map's sizes and outlive the call.
    unsafe { bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) }?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FlowKey {
        FlowKey::from_bytes(&[7; KEY_BYTES])
    }

    fn entry(frames: u64, tcp_flags: u64) -> FlowEntry {
        FlowEntry {
            low: WayTotals {
                packets: frames * 2,
                frames,
                wire_bytes: frames * 100,
                payload_bytes: frames * 10,
                flags: tcp_flags,
            },
            last_mono_ns: frames,
            begun: FlowEntry::INITIATOR_IS_LOW,
            ..FlowEntry::default()
        }
    }

    #[test]
    fn every_counted_frame_is_told_once_and_flags_only_when_new() {
        let mut deltas = Deltas::default();
        assert!(
            deltas
                .take(Which::Opening, &key(), &FlowEntry::default())
                .is_none()
        );
        let first = deltas.take(Which::Opening, &key(), &entry(3, 2)).unwrap();
        assert_eq!((first.low.packets, first.low.frames), (6, 3));
        assert_eq!((first.low.bytes, first.low.payload_bytes), (300, 30));
        assert_eq!((first.low.tcp_flags, first.frames()), (2, 3));
        assert!(first.initiator_is_low && !first.low_is_egress);
        assert!(deltas.take(Which::Opening, &key(), &entry(3, 2)).is_none());
        let second = deltas.take(Which::Opening, &key(), &entry(5, 18)).unwrap();
        assert_eq!((second.low.frames, second.low.tcp_flags), (2, 16));
        // The same flow in the other map counts from zero there.
        let moved = deltas
            .take(Which::Established, &key(), &entry(4, 2))
            .unwrap();
        assert_eq!(moved.low.frames, 4);
        // An entry that was removed and made anew begins anew.
        deltas.forget(Which::Opening, &key());
        let again = deltas.take(Which::Opening, &key(), &entry(1, 2)).unwrap();
        assert_eq!((again.low.frames, again.low.tcp_flags), (1, 2));
    }
}
