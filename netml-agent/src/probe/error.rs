//! Why the probe could not be had: each error names the cause and the way out.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why attaching or reading the kernel programs failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No interface was named and none has a default route.
    #[error("no interface to watch: name one with --interface; there are: {existing}")]
    NoInterface {
        /// Names that exist, comma-separated.
        existing: String,
    },
    /// An interface of that name does not exist in this network namespace.
    #[error("there is no interface \"{name}\" here; there are: {existing}")]
    UnknownInterface {
        /// The name given.
        name: String,
        /// Names that exist, comma-separated.
        existing: String,
    },
    /// More interfaces than slots.
    #[error("{got} interfaces are more than the {limit} one sensor can watch: name fewer")]
    TooManyInterfaces {
        /// Interfaces named.
        got: usize,
        /// Slots.
        limit: usize,
    },
    /// No slot is free for one more interface.
    #[error(
        "no slot for {interface}: one sensor watches at most {limit} interfaces, those that went in the last minute included; name fewer"
    )]
    SlotsFull {
        /// Interface.
        interface: String,
        /// Slots.
        limit: u32,
    },
    /// There is no such network namespace, or it may not be looked at.
    #[error(
        "cannot open the network namespace {} ({source}): give a name that `ip netns` lists, or a path such as /proc/PID/ns/net",
        path.display()
    )]
    Netns {
        /// Where it was looked for.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ring's size is not one the kernel takes.
    #[error(
        "a ring of {bytes} bytes is not possible: give a power of two from {page_bytes} to {max_bytes}"
    )]
    RingSize {
        /// Size given.
        bytes: u32,
        /// Page size, the smallest ring.
        page_bytes: u32,
        /// The largest ring.
        max_bytes: u32,
    },
    /// The kernel had no memory for the ring, or the limit for locked memory is too low.
    #[error(
        "the kernel refused a ring of {bytes} bytes: give a smaller one, or raise the limit of locked memory (ulimit -l) or of the container"
    )]
    RingTooLarge {
        /// Size asked for.
        bytes: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process may not use BPF.
    #[error(
        "no privilege to {action}: run as root (sudo), or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    NoPrivilege {
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel lacks what nothing works without.
    #[error(
        "this kernel has no {feature}: mainline has it since {since}; take a newer kernel, and run `netml-agent doctor` for the rest"
    )]
    KernelLacks {
        /// What it lacks.
        feature: &'static str,
        /// The mainline version that brought it.
        since: &'static str,
    },
    /// Another XDP program holds the interface.
    #[error(
        "interface {interface} has an XDP program of someone else ({program}, id {program_id}): use --capture tc, or detach it with `ip link set {interface} xdp off`"
    )]
    ForeignXdp {
        /// Interface.
        interface: String,
        /// The kernel's id of the program there.
        program_id: u32,
        /// Its name, `?` where it has none.
        program: String,
    },
    /// The driver has no native XDP, or not with its present settings.
    #[error(
        "the driver of {interface} refused native XDP ({source}): use --capture auto or --capture tc"
    )]
    NativeRefused {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Generic XDP could not be attached.
    #[error("interface {interface} refused generic XDP ({source}): use --capture tc")]
    GenericRefused {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A TC program could not be attached.
    #[error(
        "interface {interface} refused the TC program by {flavour} ({source}): try --tc {other}, and see that the kernel has CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS"
    )]
    TcRefused {
        /// Interface.
        interface: String,
        /// `tcx` or `clsact`.
        flavour: &'static str,
        /// The other one.
        other: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another live sensor holds the clsact filters of the interface.
    #[error(
        "another netml sensor holds the clsact filters of {interface}: stop it, or watch another interface"
    )]
    ClsactHeld {
        /// Interface.
        interface: String,
    },
    /// The verifier refused a program.
    #[error(
        "the kernel refused the program {program} ({source}; {verdict}): please report it with the kernel's version"
    )]
    ProgramRefused {
        /// Program.
        program: &'static str,
        /// Last line of the verifier's log.
        verdict: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The embedded object has no such program or map: it is not of this version.
    #[error("the kernel object has no {what}: rebuild it with `cargo xtask ebpf`")]
    ObjectStale {
        /// What was looked for.
        what: &'static str,
    },
    /// The embedded object could not be loaded.
    #[error("the kernel object could not be loaded: rebuild it with `cargo xtask ebpf`")]
    Object(#[source] Box<EbpfError>),
    /// A map could not be written or read.
    #[error("the kernel map {map} could not be used")]
    Map {
        /// Map.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// The kernel's list of interfaces or routes could not be read.
    #[error("the kernel's list of {what} could not be read: {source}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ring could not be mapped or waited on.
    #[error("the ring could not be {action}: {source}")]
    Ring {
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A map of flows could not be read, filled or cleaned.
    #[error("the kernel map {map} could not be {action}: {source}")]
    FlowMap {
        /// Map.
        map: &'static str,
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Filters of a killed sensor could not be removed.
    #[error(
        "filters of an earlier sensor on {interface} could not be removed ({source}): `tc qdisc del dev {interface} clsact` removes all filters there"
    )]
    StaleFilters {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl ProbeError {
    /// True where what was asked for is wrong, not the machine.
    #[must_use]
    pub const fn is_misuse(&self) -> bool {
        matches!(
            self,
            Self::NoInterface { .. }
                | Self::UnknownInterface { .. }
                | Self::TooManyInterfaces { .. }
                | Self::RingSize { .. }
                | Self::Netns { .. }
        )
    }
}

/// The operating system's error inside one of a program's, if there is one.
pub(super) fn os_error(error: ProgramError) -> io::Error {
    use aya::programs::tc::TcError;
    use aya::programs::xdp::XdpError;
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        ProgramError::LoadError { io_error, .. } => io_error,
        ProgramError::XdpError(XdpError::NetlinkError(error))
        | ProgramError::TcError(TcError::NetlinkError(error))
        | ProgramError::NetlinkError(error) => match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(error),
        },
        ProgramError::TcError(TcError::IoError(error)) | ProgramError::IOError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// True for the answers the kernel gives to the unprivileged.
pub(super) fn is_privilege(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM) | Some(libc::EACCES))
}
