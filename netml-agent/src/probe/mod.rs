//! The probe: loads the kernel programs, attaches them, reads the ring and the exact totals.
//!
//! Data in: names of interfaces. Data out: packet records, in the order the kernel took them, and
//! cumulative totals per interface and direction. Maps and globals are written before anything is
//! attached. What is attached goes with the [`Probe`]; the [`RingReader`] and the totals outlive
//! it, so that the rest of the ring can be drained and the books closed.
//!
//! Bounds: [`netml_common::INTERFACES_MAX`] interfaces; the ring's size is a setting, and what
//! finds no room in it is counted as [`netml_common::LossReason::RingFull`].

mod attach;
mod error;
pub mod features;
pub mod filters;
mod flow_map;
mod interfaces;
mod netlink;
pub mod object;
mod ring;
mod selection;

use aya::Ebpf;
use netml_common::knobs::InterfaceEntry;
use netml_common::{Direction, INTERFACES_MAX, InterfaceCounters, Link, Marks};

pub use attach::{Leftover, MODE_CLSACT, MODE_GENERIC_XDP, MODE_NATIVE_XDP, MODE_TCX};
pub use error::ProbeError;
pub use flow_map::{FlowMapBooks, FlowMaps, KnownFlow, StepDownSettings};
pub use interfaces::{Interface, default_route_interfaces, list_interfaces};
pub use ring::RingReader;
pub use selection::Selection;

/// Ring size where none is set: 16 MiB, 233,000 records.
pub const RING_BYTES_DEFAULT: u32 = 16 << 20;

/// Largest ring the probe asks for.
pub const RING_BYTES_MAX: u32 = 1 << 30;

/// Fill that wakes the reader where none is set: 64 KiB, 910 records.
pub const WAKE_FILL_BYTES_DEFAULT: u32 = 64 << 10;

/// How to see what an interface receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureMode {
    /// Native XDP, else TC ingress.
    #[default]
    Auto,
    /// Native XDP or nothing.
    Native,
    /// TC ingress.
    Tc,
    /// Generic XDP: behind GRO, totals are those of aggregated packets.
    Generic,
}

/// How to attach TC programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcMode {
    /// TCX, else clsact filters.
    #[default]
    Auto,
    /// TCX (Linux 6.6) or nothing.
    Tcx,
    /// clsact filters.
    Clsact,
}

/// What to attach, and how.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Names or patterns of the interfaces, see [`Selection`]; none: those with a default route.
    pub interfaces: Vec<String>,
    /// All interfaces but the loopback.
    pub all: bool,
    /// For what is received.
    pub capture: CaptureMode,
    /// For TC programs.
    pub tc: TcMode,
    /// Size of the ring in bytes: a power of two from a page to [`RING_BYTES_MAX`].
    pub ring_bytes: u32,
    /// Fill of the ring, in bytes, that wakes the reader; at most half of the ring is used.
    pub wake_fill_bytes: u32,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            all: false,
            capture: CaptureMode::Auto,
            tc: TcMode::Auto,
            ring_bytes: RING_BYTES_DEFAULT,
            wake_fill_bytes: WAKE_FILL_BYTES_DEFAULT,
        }
    }
}

/// An interface that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Slot in records and totals.
    pub slot: u32,
    /// The kernel's index.
    pub ifindex: u32,
    /// Name at the time of attaching.
    pub name: String,
    /// What its frames begin with.
    pub link: Link,
    /// [`MODE_NATIVE_XDP`], [`MODE_TCX`], [`MODE_CLSACT`] or [`MODE_GENERIC_XDP`].
    pub ingress_mode: &'static str,
    /// [`MODE_TCX`] or [`MODE_CLSACT`].
    pub egress_mode: &'static str,
    /// What is received is counted behind GRO: not the packets of the wire.
    pub aggregated: bool,
}

/// Kernel programs at work. Detaches at drop.
#[derive(Debug)]
pub struct Probe {
    /// `None` after [`Probe::detach`].
    attached: Option<Ebpf>,
    counters: object::Counters,
    /// `None` once taken.
    flows: Option<FlowMaps>,
    interfaces: Vec<AttachedInterface>,
    attach_id: u64,
    ring_bytes: u32,
    // Dropped last: filters are gone by then.
    _guards: Vec<attach::ClsactGuard>,
}

impl Probe {
    /// Loads and attaches; removes what a killed sensor left. On an error nothing stays attached.
    ///
    /// # Errors
    /// [`ProbeError`], which names the cause and the way out.
    pub fn attach(settings: &ProbeSettings) -> Result<(Self, RingReader), ProbeError> {
        check_ring(settings.ring_bytes)?;
        let existing = list_interfaces()?;
        let selection = Selection::new(&settings.interfaces, settings.all);
        let chosen = choose(&selection, &existing)?;
        features::require()?;
        let aggregated = settings.capture == CaptureMode::Generic;
        let entries = (0_u8..).zip(&chosen).map(|(slot, interface)| {
            let entry = InterfaceEntry {
                slot,
                link: match interface.link {
                    Link::Ethernet => InterfaceEntry::ETHERNET,
                    Link::RawIp | Link::Network { .. } => InterfaceEntry::RAW_IP,
                },
                ingress_marks: if aggregated { Marks::AGGREGATED } else { 0 },
                reserved: 0,
            };
            (interface.ifindex, entry)
        });
        let object::Loaded {
            mut bpf,
            counters,
            ring,
            flows,
        } = object::load(&object::LoadSettings {
            ring_bytes: settings.ring_bytes,
            wake_fill_bytes: settings.wake_fill_bytes.min(settings.ring_bytes / 2),
            interfaces: entries.collect(),
            step_down: StepDownSettings::of_ring(settings.ring_bytes),
        })?;
        let attach_id = random_id()?;
        attach::remove_stale(&existing)?;
        let mut guards = Vec::new();
        let mut attached = Vec::with_capacity(chosen.len());
        for (slot, interface) in (0_u32..).zip(chosen) {
            let ingress_mode = attach::ingress(
                &mut bpf,
                &interface,
                settings.capture,
                settings.tc,
                &mut guards,
            )?;
            let egress_mode = attach::egress(&mut bpf, &interface, settings.tc, &mut guards)?;
            attached.push(AttachedInterface {
                slot,
                ifindex: interface.ifindex,
                name: interface.name,
                link: interface.link,
                ingress_mode,
                egress_mode,
                aggregated,
            });
        }
        let probe = Self {
            attached: Some(bpf),
            counters,
            flows: Some(flows),
            interfaces: attached,
            attach_id,
            ring_bytes: settings.ring_bytes,
            _guards: guards,
        };
        Ok((probe, ring))
    }

    /// What is watched, in the order of slots.
    #[must_use]
    pub fn interfaces(&self) -> &[AttachedInterface] {
        &self.interfaces
    }

    /// Random number of this attachment: totals began at zero with it.
    #[must_use]
    pub const fn attach_id(&self) -> u64 {
        self.attach_id
    }

    /// Size of the ring in bytes.
    #[must_use]
    pub const fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Exact totals since attaching, by slot and direction, summed over CPUs. Frames of an
    /// interface without a slot come last, under [`netml_common::counters::UNKNOWN_SLOT`], and
    /// only if there were any. Still readable after [`Self::detach`].
    ///
    /// # Errors
    /// [`ProbeError::Map`] where the kernel refuses to read.
    pub fn counters(&self) -> Result<Vec<(u32, Direction, InterfaceCounters)>, ProbeError> {
        let mut all = Vec::with_capacity(self.interfaces.len() * 2);
        for interface in &self.interfaces {
            for direction in [Direction::Ingress, Direction::Egress] {
                let totals = self.counters.read(interface.slot, direction)?;
                all.push((interface.slot, direction, totals));
            }
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let totals = self.counters.unknown(direction)?;
            if totals.frames > 0 {
                all.push((netml_common::counters::UNKNOWN_SLOT, direction, totals));
            }
        }
        Ok(all)
    }

    /// The reader of the flow maps, for the first who asks. Like the ring it outlives the programs.
    pub fn take_flow_maps(&mut self) -> Option<FlowMaps> {
        self.flows.take()
    }

    /// Takes the programs off all interfaces. Totals and ring stay readable.
    pub fn detach(&mut self) {
        self.attached = None;
    }
}

/// Removes the filters that killed sensors left on these interfaces; those of living ones stay.
///
/// # Errors
/// [`ProbeError`] where the kernel refuses.
pub fn clean(interfaces: &[Interface]) -> Result<Vec<Leftover>, ProbeError> {
    attach::remove_stale(interfaces)
}

/// True where a living sensor holds the clsact filters of the interface.
#[must_use]
pub fn is_held(ifindex: u32) -> bool {
    attach::ClsactGuard::take(ifindex).is_none()
}

fn check_ring(bytes: u32) -> Result<(), ProbeError> {
    let page_bytes = u32::try_from(ring::page_bytes()).unwrap_or(4096);
    if bytes.is_power_of_two() && (page_bytes..=RING_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(ProbeError::RingSize {
        bytes,
        page_bytes,
        max_bytes: RING_BYTES_MAX,
    })
}

/// The interfaces asked for; nothing asked for: those with a default route.
///
/// # Errors
/// [`ProbeError`] where a name is none of an interface, none is left, or there are too many.
pub fn choose(selection: &Selection, existing: &[Interface]) -> Result<Vec<Interface>, ProbeError> {
    if let Some(name) = selection.missing(existing).next() {
        return Err(ProbeError::UnknownInterface {
            name: name.clone(),
            existing: interfaces::names(existing),
        });
    }
    let chosen = if selection.is_empty() {
        default_route_interfaces()?
    } else {
        selection.of(existing)
    };
    let limit = INTERFACES_MAX as usize;
    if chosen.len() > limit {
        return Err(ProbeError::TooManyInterfaces {
            got: chosen.len(),
            limit,
        });
    }
    if chosen.is_empty() {
        return Err(ProbeError::NoInterface {
            existing: interfaces::names(existing),
        });
    }
    Ok(chosen)
}

fn random_id() -> Result<u64, ProbeError> {
    getrandom::u64().map_err(|error| ProbeError::Netlink {
        what: "random numbers",
        source: std::io::Error::other(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_that_the_kernel_refuses_are_refused_with_the_range() {
        check_ring(RING_BYTES_DEFAULT).unwrap();
        for bytes in [0, 1000, 4095, 5 << 20, 1 << 31] {
            let error = check_ring(bytes).unwrap_err();
            assert!(error.is_misuse(), "{error}");
            assert!(error.to_string().contains("power of two"));
        }
    }

    #[test]
    fn an_unknown_interface_is_refused_with_those_that_exist() {
        let existing = list_interfaces().unwrap();
        let error =
            choose(&Selection::new(&["no-such0".to_owned()], false), &existing).unwrap_err();
        assert!(error.to_string().contains("no-such0"));
        assert!(error.to_string().contains("lo"));
    }

    #[test]
    fn an_interface_named_twice_is_watched_once() {
        let existing = list_interfaces().unwrap();
        let named = Selection::new(&["lo".to_owned(), "lo".to_owned()], false);
        let chosen = choose(&named, &existing).unwrap();
        assert_eq!(chosen.len(), 1);
    }
}
