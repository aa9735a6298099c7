//! The kernel object: loaded, its maps filled and its globals set, before anything is attached.
#![expect(
    unsafe_code,
    reason = "map values as plain bytes; the limit of locked memory"
)]

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, Pod};
use netml_common::counters::UNKNOWN_SLOT;
use netml_common::knobs::{
    COUNTERS_MAP, DECAPSULATE_GLOBAL, ESTABLISHED_MAP, FIRST_RECORDS_GLOBAL, HIGH_MARK_GLOBAL,
    INTERFACES_MAP, InterfaceEntry, LAST_FILL_GLOBAL, LOW_MARK_GLOBAL, NEAR_MAP, NearEntry,
    OPENING_MAP, RING_MAP, SAMPLE_MASK_GLOBAL, STEP_DOWN_MAP, WAKE_FILL_GLOBAL,
};
use netml_common::record::RECORD_RING_BYTES;
use netml_common::{Direction, InterfaceCounters};

use super::error::{ProbeError, is_privilege, os_error};
use super::flow_map::{FlowMaps, State, StepDownSettings};
use super::ring::RingReader;

/// The kept kernel object; see `cargo xtask ebpf`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/netml.bpf.o"));

/// Times a CPU's totals are read again where they were caught between two additions.
const REREADS_MAX: usize = 4;

/// The object in the kernel, with nothing attached.
#[derive(Debug)]
pub struct Loaded {
    /// Programs, to be loaded and attached.
    pub bpf: Ebpf,
    /// Totals.
    pub counters: Counters,
    /// Reader of the ring.
    pub ring: RingReader,
    /// Reader of the flow maps.
    pub flows: FlowMaps,
}

/// What the kernel object is loaded with.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
    /// Fill in bytes at which the ring wakes its reader.
    pub wake_fill_bytes: u32,
    /// Opens tunnels: the flow is that of the packet inside.
    pub decapsulate: bool,
    /// Interface index and entry of every interface to be watched.
    pub interfaces: Vec<(u32, InterfaceEntry)>,
    /// When and how packets are counted by flow.
    pub step_down: StepDownSettings,
}

/// Puts maps and globals into the kernel.
///
/// # Errors
/// [`ProbeError`] where the kernel refuses for lack of privilege or memory, or the object is
/// damaged.
pub fn load(settings: &LoadSettings) -> Result<Loaded, ProbeError> {
    raise_memlock();
    let step_down = &settings.step_down;
    let last_fill_bytes = settings.ring_bytes.saturating_sub(RECORD_RING_BYTES + 1);
    let sample_mask = step_down.sample_one_in.next_power_of_two() - 1;
    let decapsulate = u32::from(settings.decapsulate);
    let mut bpf = EbpfLoader::new()
        .btf(None)
        .map_max_entries(RING_MAP, settings.ring_bytes)
        .map_max_entries(ESTABLISHED_MAP, step_down.established_entries)
        .map_max_entries(OPENING_MAP, step_down.opening_entries)
        .override_global(WAKE_FILL_GLOBAL, &settings.wake_fill_bytes, true)
        .override_global(LAST_FILL_GLOBAL, &last_fill_bytes, true)
        .override_global(HIGH_MARK_GLOBAL, &step_down.high_mark_bytes, true)
        .override_global(LOW_MARK_GLOBAL, &step_down.low_mark_bytes, true)
        .override_global(FIRST_RECORDS_GLOBAL, &step_down.first_records, true)
        .override_global(SAMPLE_MASK_GLOBAL, &sample_mask, true)
        .override_global(DECAPSULATE_GLOBAL, &decapsulate, true)
        .load(OBJECT)
        .map_err(|error| load_error(error, settings.ring_bytes))?;
    for (ifindex, entry) in &settings.interfaces {
        set_interface(&mut bpf, *ifindex, Some(*entry))?;
    }
    let Some(Map::RingBuf(ring)) = bpf.map(RING_MAP) else {
        return Err(ProbeError::ObjectStale { what: RING_MAP });
    };
    let ring = RingReader::new(
        std::os::fd::AsFd::as_fd(ring.fd()),
        settings.ring_bytes,
        settings.wake_fill_bytes,
    )?;
    // Taken, so that totals outlive the object.
    let counters = bpf
        .take_map(COUNTERS_MAP)
        .ok_or(ProbeError::ObjectStale { what: COUNTERS_MAP })?;
    let counters =
        PerCpuArray::try_from(counters).map_err(|source| map_error(COUNTERS_MAP, source))?;
    let flows = FlowMaps::new(
        flow_map(&mut bpf, ESTABLISHED_MAP)?,
        flow_map(&mut bpf, OPENING_MAP)?,
        State(
            Array::try_from(bpf.take_map(STEP_DOWN_MAP).ok_or(ProbeError::ObjectStale {
                what: STEP_DOWN_MAP,
            })?)
            .map_err(|source| map_error(STEP_DOWN_MAP, source))?,
        ),
        step_down.first_records,
    );
    Ok(Loaded {
        bpf,
        counters: Counters(counters),
        ring,
        flows,
    })
}

/// A flow map, taken so that it outlives the object.
fn flow_map(bpf: &mut Ebpf, name: &'static str) -> Result<MapData, ProbeError> {
    match bpf.take_map(name) {
        Some(Map::HashMap(map)) => Ok(map),
        _ => Err(ProbeError::ObjectStale { what: name }),
    }
}

/// Tells the programs of an interface, or that it is gone.
///
/// # Errors
/// [`ProbeError::Map`] where the kernel refuses.
pub fn set_interface(
    bpf: &mut Ebpf,
    ifindex: u32,
    entry: Option<InterfaceEntry>,
) -> Result<(), ProbeError> {
    // The map stays with the object: a program holds it only once it is loaded.
    let map = bpf.map_mut(INTERFACES_MAP).ok_or(ProbeError::ObjectStale {
        what: INTERFACES_MAP,
    })?;
    let mut map: HashMap<_, u32, [u8; 4]> =
        HashMap::try_from(map).map_err(|source| map_error(INTERFACES_MAP, source))?;
    let set = match entry {
        Some(entry) => map.insert(ifindex, entry.to_bytes(), 0),
        None => match map.remove(&ifindex) {
            Err(MapError::KeyNotFound) => Ok(()),
            other => other,
        },
    };
    set.map_err(|source| map_error(INTERFACES_MAP, source))?;
    set_near(bpf, ifindex, entry)
}

/// The same in the array before the map: takes an empty place, gives up its own.
fn set_near(bpf: &mut Ebpf, ifindex: u32, entry: Option<InterfaceEntry>) -> Result<(), ProbeError> {
    let map = bpf
        .map_mut(NEAR_MAP)
        .ok_or(ProbeError::ObjectStale { what: NEAR_MAP })?;
    let mut map: Array<_, u64> =
        Array::try_from(map).map_err(|source| map_error(NEAR_MAP, source))?;
    let index = NearEntry::index(ifindex);
    let there = map
        .get(&index, 0)
        .map_err(|source| map_error(NEAR_MAP, source))?;
    let owner = NearEntry::from_word(there).ifindex;
    let word = match entry {
        Some(entry) if owner == 0 || owner == ifindex => NearEntry { ifindex, entry }.to_word(),
        None if owner == ifindex => NearEntry::NONE,
        _ => return Ok(()),
    };
    map.set(index, word, 0)
        .map_err(|source| map_error(NEAR_MAP, source))
}

/// Loads the XDP program into the kernel, unless it is there.
///
/// # Errors
/// [`ProbeError`] where the kernel refuses it.
pub fn xdp<'a>(bpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, ProbeError> {
    let program: &mut Xdp = program(bpf, name)?
        .try_into()
        .map_err(|_| ProbeError::ObjectStale { what: name })?;
    loaded(name, program.load())?;
    Ok(program)
}

/// Loads a TC program into the kernel, unless it is there.
///
/// # Errors
/// [`ProbeError`] where the kernel refuses it.
pub fn classifier<'a>(
    bpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, ProbeError> {
    let program: &mut SchedClassifier = program(bpf, name)?
        .try_into()
        .map_err(|_| ProbeError::ObjectStale { what: name })?;
    loaded(name, program.load())?;
    Ok(program)
}

fn program<'a>(bpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, ProbeError> {
    bpf.program_mut(name)
        .ok_or(ProbeError::ObjectStale { what: name })
}

fn loaded(name: &'static str, result: Result<(), ProgramError>) -> Result<(), ProbeError> {
    match result {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        // The verifier's own answer may be EACCES.
        Err(ProgramError::LoadError { io_error, .. })
            if io_error.raw_os_error() == Some(libc::EPERM) =>
        {
            Err(ProbeError::NoPrivilege {
                action: "load a kernel program",
                source: io_error,
            })
        }
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            let log = verifier_log.to_string();
            let last = log.lines().rev().find(|line| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("processed ")
            });
            Err(ProbeError::ProgramRefused {
                program: name,
                verdict: last
                    .unwrap_or("the verifier said nothing")
                    .trim()
                    .to_owned(),
                source: io_error,
            })
        }
        Err(other) => Err(ProbeError::ProgramRefused {
            program: name,
            verdict: "not a verdict of the verifier".to_owned(),
            source: os_error(other),
        }),
    }
}

/// The kernel's exact totals.
pub struct Counters(PerCpuArray<MapData, Totals>);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(COUNTERS_MAP)
    }
}

/// [`InterfaceCounters`] as map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Totals(InterfaceCounters);

// SAFETY: integers without padding (asserted beside the type); any bytes are valid.
unsafe impl Pod for Totals {}

impl Counters {
    /// Totals of one slot and direction over all CPUs.
    ///
    /// Exact and balanced where no packet is on its way; else each CPU may be caught between two
    /// additions of one packet, which is tried to be avoided by reading again.
    ///
    /// # Errors
    /// [`ProbeError::Map`] where the kernel refuses to read.
    pub fn read(&self, slot: u32, direction: Direction) -> Result<InterfaceCounters, ProbeError> {
        let mut sum = InterfaceCounters::ZERO;
        for _ in 0..REREADS_MAX {
            sum = InterfaceCounters::ZERO;
            let values = self
                .0
                .get(&InterfaceCounters::entry(slot, direction), 0)
                .map_err(|source| map_error(COUNTERS_MAP, source))?;
            for Totals(cpu) in values.iter() {
                sum.add(cpu);
            }
            if sum.balanced() {
                break;
            }
        }
        Ok(sum)
    }

    /// Sets the totals of a slot and direction to zero. No program may be counting there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn clear(&mut self, slot: u32, direction: Direction) -> Result<(), ProbeError> {
        let entry = InterfaceCounters::entry(slot, direction);
        let values = self
            .0
            .get(&entry, 0)
            .map_err(|source| map_error(COUNTERS_MAP, source))?;
        let zeros = vec![Totals(InterfaceCounters::ZERO); values.len()];
        PerCpuValues::try_from(zeros)
            .map_err(MapError::IoError)
            .and_then(|zeros| self.0.set(entry, zeros, 0))
            .map_err(|source| map_error(COUNTERS_MAP, source))
    }

    /// Totals of frames from interfaces without a slot.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn unknown(&self, direction: Direction) -> Result<InterfaceCounters, ProbeError> {
        self.read(UNKNOWN_SLOT, direction)
    }
}

fn map_error(map: &'static str, source: MapError) -> ProbeError {
    ProbeError::Map {
        map,
        source: Box::new(source),
    }
}

fn load_error(error: EbpfError, ring_bytes: u32) -> ProbeError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            if is_privilege(&io_error) {
                ProbeError::NoPrivilege {
                    action: "make a kernel map",
                    source: io_error,
                }
            } else if name == RING_MAP {
                ProbeError::RingTooLarge {
                    bytes: ring_bytes,
                    source: io_error,
                }
            } else {
                ProbeError::Object(Box::new(EbpfError::MapError(MapError::CreateError {
                    name,
                    io_error,
                })))
            }
        }
        other => ProbeError::Object(Box::new(other)),
    }
}

/// Kernels before 5.11 charge maps to the limit of locked memory. Where it may not be raised, the
/// kernel's refusal of the map says so.
fn raise_memlock() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` outlives the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        tracing::debug!(
            error = %std::io::Error::last_os_error(),
            "the limit of locked memory stays"
        );
    }
}
