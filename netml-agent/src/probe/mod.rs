//! The probe: loads the kernel programs, attaches them, reads the ring and the exact totals.
//!
//! Data in: names of interfaces, or patterns of them; those that come later are taken in by
//! [`Probe::follow`]. Data out: packet records, in the order the kernel took them, and
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
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use netml_common::knobs::InterfaceEntry;
use netml_common::{Direction, INTERFACES_MAX, InterfaceCounters, Link, Marks};

pub use attach::{Leftover, MODE_CLSACT, MODE_GENERIC_XDP, MODE_NATIVE_XDP, MODE_TCX};
pub use error::ProbeError;
pub use flow_map::{FlowMapBooks, FlowMaps, KnownFlow, StepDownSettings};
pub use interfaces::{Interface, default_route_interfaces, list_interfaces};
pub use ring::RingReader;
pub use selection::Selection;
pub use watch::{LinkEvent, LinkListener, LinkNews};

use crate::sys::netns;
use watch::Change;

/// Ring size where none is set: 16 MiB, 233,000 records.
pub const RING_BYTES_DEFAULT: u32 = 16 << 20;

/// Largest ring the probe asks for.
pub const RING_BYTES_MAX: u32 = 1 << 30;

/// Fill that wakes the reader where none is set: 64 KiB, 910 records.
pub const WAKE_FILL_BYTES_DEFAULT: u32 = 64 << 10;

/// Where network namespaces have their names (`ip netns`).
const NETNS_DIRECTORY: &str = "/run/netns";

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
    /// Names or patterns of the interfaces, see [`Selection`]; none: those with a default route, also
    /// when it moves.
    pub interfaces: Vec<String>,
    /// All interfaces but the loopback.
    pub all: bool,
    /// Name or path of the network namespace they are in; `None`: that of this process.
    pub netns: Option<String>,
    /// For what is received.
    pub capture: CaptureMode,
    /// For TC programs.
    pub tc: TcMode,
    /// Size of the ring in bytes: a power of two from a page to [`RING_BYTES_MAX`].
    pub ring_bytes: u32,
    /// Fill of the ring, in bytes, that wakes the reader; at most half of the ring is used.
    pub wake_fill_bytes: u32,
    /// Opens tunnels: the flow is that of the packet inside.
    pub decapsulate: bool,
    /// Time a slot rests after its interface went. Shorter than a minute, and flows of one interface
    /// may be told under the name of the next: for tests.
    pub slot_rest_ns: u64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            all: false,
            netns: None,
            capture: CaptureMode::Auto,
            tc: TcMode::Auto,
            ring_bytes: RING_BYTES_DEFAULT,
            wake_fill_bytes: WAKE_FILL_BYTES_DEFAULT,
            decapsulate: true,
            slot_rest_ns: watch::SLOT_REST_NS,
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
    /// Its name now.
    pub name: String,
    /// What its frames begin with.
    pub link: Link,
    /// [`MODE_NATIVE_XDP`], [`MODE_TCX`], [`MODE_CLSACT`] or [`MODE_GENERIC_XDP`].
    pub ingress_mode: &'static str,
    /// [`MODE_TCX`] or [`MODE_CLSACT`].
    pub egress_mode: &'static str,
    /// What is received is counted behind GRO: not the packets of the wire.
    pub aggregated: bool,
    /// Random number of this attachment: its totals began at zero with it.
    pub attach_id: u64,
}

/// What holds the programs on one interface; detaches at drop, filters before their guard.
#[derive(Debug)]
struct Held {
    _ingress: attach::Attachment,
    _egress: attach::Attachment,
    _guard: Option<attach::ClsactGuard>,
}

/// Kernel programs at work. Detaches at drop.
#[derive(Debug)]
pub struct Probe {
    /// By slot; empty after [`Probe::detach`].
    held: BTreeMap<u32, Held>,
    /// `None` after [`Probe::detach`].
    attached: Option<Ebpf>,
    counters: object::Counters,
    /// `None` once taken.
    flows: Option<FlowMaps>,
    interfaces: Vec<AttachedInterface>,
    slots: watch::Slots,
    /// Totals of interfaces that went and whose slot another one has.
    retired: [InterfaceCounters; 2],
    selection: Selection,
    /// Nothing was asked for: the selection is that of the default routes.
    follows_routes: bool,
    /// Interfaces asked for and not watched, by index; true: for want of a slot.
    refused: BTreeMap<u32, bool>,
    refusals: u64,
    events: Vec<LinkEvent>,
    listener: Option<LinkListener>,
    netns: Option<File>,
    capture: CaptureMode,
    tc: TcMode,
    ring_bytes: u32,
}

impl Probe {
    /// Loads and attaches; removes what a killed sensor left. On an error nothing stays attached.
    /// An interface that was not named, but only matches, is left out where it cannot be had.
    ///
    /// # Errors
    /// [`ProbeError`], which names the cause and the way out.
    pub fn attach(settings: &ProbeSettings) -> Result<(Self, RingReader), ProbeError> {
        check_ring(settings.ring_bytes)?;
        let netns = settings.netns.as_deref().map(open_netns).transpose()?;
        let asked = Selection::new(&settings.interfaces, settings.all);
        let (chosen, listener) = in_netns(netns.as_ref(), || {
            // Before the list is read, so that nothing falls between.
            let listener = LinkListener::open(asked.is_empty());
            let existing = list_interfaces()?;
            let chosen = choose(&asked, &existing)?;
            attach::remove_stale(&existing)?;
            Ok::<_, ProbeError>((chosen, listener))
        })?;
        let listener = listener.map_err(|source| ProbeError::Netlink {
            what: "changes of interfaces",
            source,
        })?;
        let follows_routes = asked.is_empty();
        let selection = if follows_routes {
            Selection::of_names(&chosen)
        } else {
            asked
        };
        features::require()?;
        let object::Loaded {
            bpf,
            counters,
            ring,
            flows,
        } = object::load(&object::LoadSettings {
            ring_bytes: settings.ring_bytes,
            wake_fill_bytes: settings.wake_fill_bytes.min(settings.ring_bytes / 2),
            decapsulate: settings.decapsulate,
            interfaces: Vec::new(),
            step_down: StepDownSettings::of_ring(settings.ring_bytes),
        })?;
        let mut probe = Self {
            held: BTreeMap::new(),
            attached: Some(bpf),
            counters,
            flows: Some(flows),
            interfaces: Vec::new(),
            slots: watch::Slots::new(settings.slot_rest_ns),
            retired: [InterfaceCounters::ZERO; 2],
            selection,
            follows_routes,
            refused: BTreeMap::new(),
            refusals: 0,
            events: Vec::new(),
            listener: Some(listener),
            netns,
            capture: settings.capture,
            tc: settings.tc,
            ring_bytes: settings.ring_bytes,
        };
        for interface in chosen {
            if let Err(error) = probe.take_in(&interface) {
                if probe.selection.names(&interface) || is_fatal(&error) {
                    return Err(error);
                }
                probe.refuse(&interface, error);
            }
        }
        Ok((probe, ring))
    }

    /// What is watched, in the order in which it came.
    #[must_use]
    pub fn interfaces(&self) -> &[AttachedInterface] {
        &self.interfaces
    }

    /// What is asked for.
    #[must_use]
    pub const fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Size of the ring in bytes.
    #[must_use]
    pub const fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Interfaces asked for that could not be watched, cumulative.
    #[must_use]
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The socket that becomes readable when links change, for the first who asks.
    pub fn take_listener(&mut self) -> Option<LinkListener> {
        self.listener.take()
    }

    /// What became of interfaces since the last call.
    pub fn take_events(&mut self) -> Vec<LinkEvent> {
        std::mem::take(&mut self.events)
    }

    /// True while an interface asked for waits for a slot.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.refused.values().any(|for_slot| *for_slot)
    }

    /// Looks at the interfaces anew: takes in what came, gives up what went, follows names, and where
    /// nothing was asked for the default route: what it left is given up once what it leads through
    /// now is watched. `gone` are indices of links that went meanwhile ([`LinkListener::drain`]).
    ///
    /// # Errors
    /// [`ProbeError::Netlink`] where interfaces or routes cannot be listed.
    pub fn follow(&mut self, gone: &[u32]) -> Result<(), ProbeError> {
        if self.attached.is_none() {
            return Ok(());
        }
        let existing = in_netns(self.netns.as_ref(), list_interfaces)?;
        let routed = if self.follows_routes {
            in_netns(self.netns.as_ref(), default_route_interfaces)?
        } else {
            Vec::new()
        };
        // Without any default route, as between two leases, all stays as it was.
        if !routed.is_empty() {
            self.selection = Selection::of_names(&routed);
        }
        self.refused.retain(|ifindex, _| {
            !gone.contains(ifindex) && existing.iter().any(|now| now.ifindex == *ifindex)
        });
        for change in watch::changes(&self.selection, &self.interfaces, &existing, gone) {
            match change {
                Change::Gone(slot) => self.give_up(slot, LinkEvent::Gone),
                Change::Renamed(slot, name) => {
                    for interface in &mut self.interfaces {
                        if interface.slot == slot {
                            let from = std::mem::replace(&mut interface.name, name.clone());
                            let interface = interface.clone();
                            self.events.push(LinkEvent::Renamed { interface, from });
                        }
                    }
                }
                // Refused for another reason than a slot: it would be again.
                Change::New(new) if self.refused.get(&new.ifindex) == Some(&false) => {}
                Change::New(new) => match self.take_in(&new) {
                    Ok(()) => {
                        self.refused.remove(&new.ifindex);
                        let attached = self.interfaces.last().cloned();
                        self.events.extend(attached.map(LinkEvent::Attached));
                    }
                    Err(error) => self.refuse(&new, error),
                },
            }
        }
        self.leave(&routed);
        Ok(())
    }

    /// Gives up what no default route leads through any more, once one of those it leads through is
    /// watched.
    fn leave(&mut self, routed: &[Interface]) {
        let is_routed = |watched: &AttachedInterface| {
            routed
                .iter()
                .any(|routed| routed.ifindex == watched.ifindex)
        };
        let (kept, left): (Vec<_>, Vec<_>) = self.interfaces.iter().partition(|i| is_routed(i));
        if kept.is_empty() {
            return;
        }
        let left: Vec<u32> = left.iter().map(|interface| interface.slot).collect();
        for slot in left {
            self.give_up(slot, LinkEvent::Left);
        }
    }

    /// Gives the interface a slot, tells the programs, then attaches them.
    fn take_in(&mut self, interface: &Interface) -> Result<(), ProbeError> {
        let now_ns = crate::sys::monotonic_ns();
        let free = self.slots.take(now_ns).ok_or(ProbeError::SlotsFull {
            interface: interface.name.clone(),
            limit: INTERFACES_MAX,
        })?;
        let taken = self.take_in_at(free, interface);
        if taken.is_err() {
            self.slots.give(free.slot, now_ns);
        }
        taken
    }

    fn take_in_at(&mut self, free: watch::Free, interface: &Interface) -> Result<(), ProbeError> {
        let Some(bpf) = &mut self.attached else {
            return Ok(());
        };
        if free.used_before {
            for (direction, retired) in DIRECTIONS.into_iter().zip(&mut self.retired) {
                retired.add(&self.counters.read(free.slot, direction)?);
                self.counters.clear(free.slot, direction)?;
            }
        }
        let aggregated = self.capture == CaptureMode::Generic;
        let entry = InterfaceEntry {
            slot: u8::try_from(free.slot).unwrap_or(u8::MAX),
            link: match interface.link {
                Link::Ethernet => InterfaceEntry::ETHERNET,
                Link::RawIp | Link::Network { .. } => InterfaceEntry::RAW_IP,
            },
            ingress_marks: if aggregated { Marks::AGGREGATED } else { 0 },
            reserved: 0,
        };
        let attach_id = random_id()?;
        object::set_interface(bpf, interface.ifindex, Some(entry))?;
        let (capture, tc) = (self.capture, self.tc);
        let attached = in_netns(self.netns.as_ref(), || {
            let mut guard = None;
            let ingress = attach::ingress(bpf, interface, capture, tc, &mut guard)?;
            let egress = attach::egress(bpf, interface, tc, &mut guard)?;
            Ok::<_, ProbeError>((ingress, egress, guard))
        });
        let ((ingress_mode, ingress), (egress_mode, egress), guard) = match attached {
            Ok(attached) => attached,
            Err(error) => {
                object::set_interface(bpf, interface.ifindex, None)?;
                return Err(error);
            }
        };
        let held = Held {
            _ingress: ingress,
            _egress: egress,
            _guard: guard,
        };
        self.held.insert(free.slot, held);
        self.interfaces.push(AttachedInterface {
            slot: free.slot,
            ifindex: interface.ifindex,
            name: interface.name.clone(),
            link: interface.link,
            ingress_mode,
            egress_mode,
            aggregated,
            attach_id,
        });
        Ok(())
    }

    /// Takes the programs off an interface, as far as the kernel has not, and lets its slot rest.
    fn give_up(&mut self, slot: u32, event: impl Fn(AttachedInterface) -> LinkEvent) {
        let Some(at) = self.interfaces.iter().position(|i| i.slot == slot) else {
            return;
        };
        let interface = self.interfaces.remove(at);
        let held = self.held.remove(&slot);
        release(self.netns.as_ref(), held);
        if let Some(bpf) = &mut self.attached
            && let Err(error) = object::set_interface(bpf, interface.ifindex, None)
        {
            tracing::warn!(interface = interface.name, %error, "its slot is not cleared");
        }
        self.slots.give(slot, crate::sys::monotonic_ns());
        self.events.push(event(interface));
    }

    /// Notes that an interface is not watched, and says it once.
    fn refuse(&mut self, interface: &Interface, error: ProbeError) {
        let for_slot = matches!(error, ProbeError::SlotsFull { .. });
        if self.refused.insert(interface.ifindex, for_slot).is_none() {
            self.refusals += 1;
            let name = interface.name.clone();
            self.events.push(LinkEvent::Refused { name, error });
        }
    }

    /// Exact totals by slot and direction, summed over CPUs, each since its interface was attached.
    /// Slots of interfaces that went are among them. Frames that belong to no slot now (those of an
    /// interface whose slot another one has, and those without one) come last, under
    /// [`netml_common::counters::UNKNOWN_SLOT`], and only if there were any. Still readable after
    /// [`Self::detach`].
    ///
    /// # Errors
    /// [`ProbeError::Map`] where the kernel refuses to read.
    pub fn counters(&self) -> Result<Vec<(u32, Direction, InterfaceCounters)>, ProbeError> {
        let mut all = Vec::with_capacity(self.interfaces.len() * 2);
        let watched = self.interfaces.iter().map(|interface| interface.slot);
        for slot in watched.chain(self.slots.resting()) {
            for direction in DIRECTIONS {
                all.push((slot, direction, self.counters.read(slot, direction)?));
            }
        }
        for (direction, retired) in DIRECTIONS.into_iter().zip(&self.retired) {
            let mut totals = self.counters.unknown(direction)?;
            totals.add(retired);
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
        let held = std::mem::take(&mut self.held);
        release(self.netns.as_ref(), held);
        self.attached = None;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.detach();
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Drops what is held in the network namespace it is in: filters are removed by name there.
fn release<T: Send>(netns: Option<&File>, held: T) {
    if let Err(error) = netns::within(netns, || drop(held)) {
        tracing::warn!(%error, "cannot enter the network namespace to detach");
    }
}

fn in_netns<T: Send>(
    netns: Option<&File>,
    work: impl FnOnce() -> Result<T, ProbeError> + Send,
) -> Result<T, ProbeError> {
    netns::within(netns, work).map_err(|source| {
        if error::is_privilege(&source) {
            ProbeError::NoPrivilege {
                action: "enter a network namespace (it asks CAP_SYS_ADMIN)",
                source,
            }
        } else {
            ProbeError::Netlink {
                what: "interfaces of the network namespace",
                source,
            }
        }
    })?
}

/// The namespace of a name, as `ip netns` keeps them, or of a path.
fn open_netns(name: &str) -> Result<File, ProbeError> {
    let path = if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new(NETNS_DIRECTORY).join(name)
    };
    File::open(&path).map_err(|source| ProbeError::Netns { path, source })
}

/// True where every other interface would fail as well.
fn is_fatal(error: &ProbeError) -> bool {
    matches!(
        error,
        ProbeError::NoPrivilege { .. }
            | ProbeError::ObjectStale { .. }
            | ProbeError::Object(_)
            | ProbeError::Map { .. }
    )
}

/// Does something in the network namespace of a name or path, on a thread of its own; in that of this
/// process where there is none.
///
/// # Errors
/// What `work` gives; [`ProbeError`] where the namespace cannot be opened or entered.
pub fn within<T: Send>(
    netns: Option<&str>,
    work: impl FnOnce() -> Result<T, ProbeError> + Send,
) -> Result<T, ProbeError> {
    let netns = netns.map(open_netns).transpose()?;
    in_netns(netns.as_ref(), work)
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
/// [`ProbeError`] where a name is none of an interface, more are named than there are slots, or
/// there is none and none may come.
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
    if chosen.len() > limit && !selection.is_open() {
        return Err(ProbeError::TooManyInterfaces {
            got: chosen.len(),
            limit,
        });
    }
    if chosen.is_empty() && !selection.is_open() {
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
