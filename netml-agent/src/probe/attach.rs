//! The ladder of attach modes: native XDP, else TC ingress, generic XDP only when asked; TCX, else
//! clsact filters.
//!
//! XDP and TCX links end with the process that holds them. clsact filters outlive it: they carry
//! the programs' names and are removed at the next start, unless the sensor that made them lives.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, TcAttachType};
use netml_common::Direction;
use netml_common::knobs::{EGRESS_PROGRAM, INGRESS_PROGRAM, XDP_PROGRAM};

use super::error::{ProbeError, is_privilege, os_error};
use super::filters;
use super::interfaces::Interface;
use super::object;
use super::{CaptureMode, TcMode};

/// Name of native XDP, as on the wire and on the dashboard.
pub const MODE_NATIVE_XDP: &str = "native-xdp";
/// Name of generic XDP.
pub const MODE_GENERIC_XDP: &str = "generic-xdp";
/// Name of a TC program attached by TCX.
pub const MODE_TCX: &str = "tcx";
/// Name of a TC program attached as a clsact filter.
pub const MODE_CLSACT: &str = "clsact";

/// Priority of our filter among those of others: before the ones the kernel numbers by itself.
const CLSACT_PRIORITY: u16 = 49_000;

/// A program on an interface; detaches at drop, which for clsact must happen in the network
/// namespace of the interface.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their drop")]
pub(super) enum Attachment {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
}

/// The mode obtained, and what holds it.
type Obtained = (&'static str, Attachment);

/// Attaches to what the interface receives.
pub(super) fn ingress(
    bpf: &mut Ebpf,
    interface: &Interface,
    capture: CaptureMode,
    tc: TcMode,
    guard: &mut Option<ClsactGuard>,
) -> Result<Obtained, ProbeError> {
    match capture {
        CaptureMode::Native => native(bpf, interface),
        CaptureMode::Generic => generic(bpf, interface),
        CaptureMode::Tc => classify(bpf, interface, Direction::Ingress, tc, guard),
        CaptureMode::Auto => match native(bpf, interface) {
            Ok(mode) => Ok(mode),
            Err(error @ ProbeError::NoPrivilege { .. }) => Err(error),
            Err(error) => {
                tracing::info!(
                    interface = interface.name,
                    reason = %error,
                    "no native XDP, taking TC ingress"
                );
                classify(bpf, interface, Direction::Ingress, tc, guard)
            }
        },
    }
}

/// Attaches to what the interface sends.
pub(super) fn egress(
    bpf: &mut Ebpf,
    interface: &Interface,
    tc: TcMode,
    guard: &mut Option<ClsactGuard>,
) -> Result<Obtained, ProbeError> {
    classify(bpf, interface, Direction::Egress, tc, guard)
}

fn native(bpf: &mut Ebpf, interface: &Interface) -> Result<Obtained, ProbeError> {
    let link = attach_xdp(bpf, interface, XdpMode::Driver).map_err(|error| {
        xdp_error(error, interface, |interface, source| {
            ProbeError::NativeRefused { interface, source }
        })
    })?;
    Ok((MODE_NATIVE_XDP, Attachment::Xdp(link)))
}

fn generic(bpf: &mut Ebpf, interface: &Interface) -> Result<Obtained, ProbeError> {
    let link = attach_xdp(bpf, interface, XdpMode::Skb).map_err(|error| {
        xdp_error(error, interface, |interface, source| {
            ProbeError::GenericRefused { interface, source }
        })
    })?;
    Ok((MODE_GENERIC_XDP, Attachment::Xdp(link)))
}

/// Why XDP could not be attached.
enum XdpRefusal {
    Load(ProbeError),
    Attach(io::Error),
}

fn attach_xdp(bpf: &mut Ebpf, interface: &Interface, mode: XdpMode) -> Result<XdpLink, XdpRefusal> {
    if interface.xdp_program_id.is_some() {
        return Err(XdpRefusal::Attach(io::Error::from_raw_os_error(
            libc::EBUSY,
        )));
    }
    let program = object::xdp(bpf, XDP_PROGRAM).map_err(XdpRefusal::Load)?;
    program
        .attach_to_if_index(interface.ifindex, mode)
        .and_then(|id| program.take_link(id))
        .map_err(|error| XdpRefusal::Attach(os_error(error)))
}

fn xdp_error(
    refusal: XdpRefusal,
    interface: &Interface,
    refused: impl FnOnce(String, io::Error) -> ProbeError,
) -> ProbeError {
    match refusal {
        XdpRefusal::Load(error) => error,
        XdpRefusal::Attach(source) if is_privilege(&source) => ProbeError::NoPrivilege {
            action: "attach an XDP program",
            source,
        },
        XdpRefusal::Attach(source) => match interface.xdp_program_id {
            Some(program_id) => ProbeError::ForeignXdp {
                interface: interface.name.clone(),
                program_id,
                program: filters::program_name(program_id).unwrap_or_else(|| "?".into()),
            },
            None => refused(interface.name.clone(), source),
        },
    }
}

/// Attaches a TC program; the flavour obtained.
fn classify(
    bpf: &mut Ebpf,
    interface: &Interface,
    direction: Direction,
    tc: TcMode,
    guard: &mut Option<ClsactGuard>,
) -> Result<Obtained, ProbeError> {
    let refused = |flavour, other| {
        move |source: io::Error| {
            if is_privilege(&source) {
                ProbeError::NoPrivilege {
                    action: "attach a TC program",
                    source,
                }
            } else {
                ProbeError::TcRefused {
                    interface: interface.name.clone(),
                    flavour,
                    other,
                    source,
                }
            }
        }
    };
    if tc != TcMode::Clsact {
        match attach_tcx(bpf, interface, direction)? {
            Ok(link) => return Ok((MODE_TCX, Attachment::Tc(link))),
            // Kernels before 6.6 do not know the attach type.
            Err(source) if tc == TcMode::Auto && source.raw_os_error() == Some(libc::EINVAL) => {}
            Err(source) => return Err(refused(MODE_TCX, MODE_CLSACT)(source)),
        }
    }
    if guard.is_none() {
        *guard = ClsactGuard::take(interface.ifindex);
    }
    if guard.is_none() {
        return Err(ProbeError::ClsactHeld {
            interface: interface.name.clone(),
        });
    }
    let link = attach_clsact(bpf, interface, direction)?.map_err(refused(MODE_CLSACT, MODE_TCX))?;
    Ok((MODE_CLSACT, Attachment::Tc(link)))
}

const fn program_of(direction: Direction) -> (&'static str, TcAttachType) {
    match direction {
        Direction::Ingress => (INGRESS_PROGRAM, TcAttachType::Ingress),
        Direction::Egress => (EGRESS_PROGRAM, TcAttachType::Egress),
    }
}

/// The outer error is of the program, the inner one of the attachment.
fn attach_tcx(
    bpf: &mut Ebpf,
    interface: &Interface,
    direction: Direction,
) -> Result<io::Result<SchedClassifierLink>, ProbeError> {
    let (name, attach_type) = program_of(direction);
    // First of what is received, last of what is sent: nearest to the wire.
    let order = match direction {
        Direction::Ingress => LinkOrder::first(),
        Direction::Egress => LinkOrder::last(),
    };
    let program = object::classifier(bpf, name)?;
    let attached = program
        .attach_with_options(
            &interface.name,
            attach_type,
            TcAttachOptions::TcxOrder(order),
        )
        .and_then(|id| program.take_link(id));
    Ok(attached.map_err(os_error))
}

fn attach_clsact(
    bpf: &mut Ebpf,
    interface: &Interface,
    direction: Direction,
) -> Result<io::Result<SchedClassifierLink>, ProbeError> {
    let (name, attach_type) = program_of(direction);
    let program = object::classifier(bpf, name)?;
    if let Err(error) = tc::qdisc_add_clsact(&interface.name) {
        let error = os_error(ProgramError::TcError(error));
        // There already, made by someone else or by an earlier sensor.
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Ok(Err(error));
        }
    }
    let options = NlOptions {
        priority: CLSACT_PRIORITY,
        ..NlOptions::default()
    };
    let attached = program
        .attach_with_options(
            &interface.name,
            attach_type,
            TcAttachOptions::Netlink(options),
        )
        .and_then(|id| program.take_link(id));
    Ok(attached.map_err(os_error))
}

/// Removes the clsact filters that a killed sensor left behind, on all interfaces of this network
/// namespace. Those of a sensor that lives are left alone.
pub(super) fn remove_stale(interfaces: &[Interface]) -> Result<Vec<Leftover>, ProbeError> {
    let mut removed = Vec::new();
    for interface in interfaces {
        let Some(_guard) = ClsactGuard::take(interface.ifindex) else {
            continue;
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            let (name, attach_type) = program_of(direction);
            match tc::qdisc_detach_program(&interface.name, attach_type, name) {
                Ok(()) => {
                    tracing::info!(
                        interface = interface.name,
                        program = name,
                        "removed the filter of an earlier sensor"
                    );
                    removed.push(Leftover {
                        interface: interface.name.clone(),
                        program: name,
                    });
                }
                Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let source = os_error(ProgramError::TcError(error));
                    // The interface went away meanwhile.
                    if source.raw_os_error() == Some(libc::ENODEV) {
                        continue;
                    }
                    if is_privilege(&source) {
                        return Err(ProbeError::NoPrivilege {
                            action: "remove TC filters",
                            source,
                        });
                    }
                    return Err(ProbeError::StaleFilters {
                        interface: interface.name.clone(),
                        source,
                    });
                }
            }
        }
    }
    Ok(removed)
}

/// A filter that a killed sensor left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Interface.
    pub interface: String,
    /// Name of the program, which is the filter's tag.
    pub program: &'static str,
}

/// Shows that a living sensor owns the clsact filters of an interface: a name in the abstract
/// socket namespace, which is per network namespace and goes with the process, however it ends.
#[derive(Debug)]
pub(super) struct ClsactGuard {
    _name: UnixDatagram,
}

impl ClsactGuard {
    /// Takes it; `None` where another sensor holds it.
    pub(super) fn take(ifindex: u32) -> Option<Self> {
        let name = format!("netml-clsact-{ifindex}");
        let address = SocketAddr::from_abstract_name(name).ok()?;
        let name = UnixDatagram::bind_addr(&address).ok()?;
        Some(Self { _name: name })
    }
}
