//! What the doctor looks at. Made by [`super::gather`], or by a test.

use std::path::PathBuf;

use crate::probe::features::{DriverXdp, Feature, Support};
use crate::sys::host::ClockState;

/// Facts about a host. What could not be learned is `None`.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Release of the running kernel.
    pub kernel: String,
    /// What the kernel can do.
    pub features: Vec<(Feature, Support)>,
    /// The kernel describes its types.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<u32>,
    /// Effective capabilities of this process, a bit each.
    pub capabilities: u64,
    /// Bytes this process may lock in memory; `Some(None)`: no limit.
    pub memlock_bytes: Option<Option<u64>>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// Lockdown mode in force; `None`: the kernel has no lockdown.
    pub lockdown: Option<String>,
    /// A BPF file system is mounted.
    pub bpffs: bool,
    /// Interfaces looked at.
    pub interfaces: Vec<InterfaceFacts>,
    /// The wall clock, in unix nanoseconds.
    pub unix_ns: u64,
    /// How it is kept.
    pub clock: Option<ClockState>,
    /// Where data goes.
    pub disk: DiskFacts,
    /// Where the collector is said to be, and why it was not reached (`Ok`: it was).
    pub collector: Option<(String, Result<(), String>)>,
    /// Processors online.
    pub processors: usize,
}

/// Facts about one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Its driver.
    pub driver: Option<String>,
    /// What the driver says of native XDP; kernels before 6.3 cannot be asked.
    pub xdp: Option<DriverXdp>,
    /// Largest packet in bytes.
    pub mtu_bytes: u32,
    /// Large receive offload is on.
    pub lro: Option<bool>,
    /// Generic receive offload is on.
    pub gro: Option<bool>,
    /// Queues in use for receiving.
    pub receive_queues: Option<u32>,
    /// Name of the XDP program there.
    pub xdp_program: Option<String>,
    /// Names of the TC programs there, TCX and clsact.
    pub tc_programs: Vec<String>,
    /// Those of them that are clsact filters with our tag.
    pub own_filters: usize,
    /// A living sensor holds them.
    pub held: bool,
}

/// Facts about the directory for data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// The directory, or the nearest one above it that exists.
    pub path: PathBuf,
    /// Bytes free for this user.
    pub free_bytes: Option<u64>,
    /// Files can be made there.
    pub writable: bool,
}
