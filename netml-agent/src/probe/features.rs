//! What this kernel can do, found by trying: versions say little of kernels that distributions
//! patch. Links are tried on the loopback device of a network namespace made for it, so that no
//! traffic of the host is touched.

use std::io;

use aya::maps::MapType;
use aya::programs::TcAttachType;
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpMode;
use aya::sys::is_map_supported;
use netml_common::knobs::{EGRESS_PROGRAM, INGRESS_PROGRAM, XDP_PROGRAM};

use super::error::{ProbeError, os_error};
use super::netlink::{attributes, generic, push_attribute, u16_at};
use super::{StepDownSettings, WAKE_FILL_BYTES_DEFAULT, object, ring};
use crate::sys::netns;

const LOOPBACK: &str = "lo";
const LOOPBACK_IFINDEX: u32 = 1;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;
const GENL_HEADER_BYTES: usize = 4;

/// Something the kernel has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The BPF ring buffer, which carries the records.
    RingBuffer,
    /// Arrays with a value for each processor, which hold the totals.
    PerCpuArray,
    /// The program for native and generic XDP passes the verifier, frames over a page included.
    XdpProgram,
    /// The programs for TC pass the verifier.
    TcPrograms,
    /// XDP attached by a BPF link, which goes with its process.
    XdpLink,
    /// TC programs attached by a BPF link (TCX).
    TcxLink,
}

impl Feature {
    /// All, in the order of how much depends on them.
    pub const ALL: [Self; 6] = [
        Self::RingBuffer,
        Self::PerCpuArray,
        Self::TcPrograms,
        Self::XdpProgram,
        Self::XdpLink,
        Self::TcxLink,
    ];

    /// Stable name.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::RingBuffer => "ring-buffer",
            Self::PerCpuArray => "per-cpu-array",
            Self::XdpProgram => "xdp-program",
            Self::TcPrograms => "tc-programs",
            Self::XdpLink => "xdp-link",
            Self::TcxLink => "tcx-link",
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingBuffer => "BPF ring buffer",
            Self::PerCpuArray => "BPF per-CPU array",
            Self::XdpProgram => "XDP with frames over a page",
            Self::TcPrograms => "TC programs in BPF",
            Self::XdpLink => "BPF link for XDP",
            Self::TcxLink => "BPF link for TC (TCX)",
        }
    }

    /// The mainline kernel that brought it.
    #[must_use]
    pub const fn since(self) -> &'static str {
        match self {
            Self::PerCpuArray => "4.6",
            Self::RingBuffer | Self::TcPrograms => "5.8",
            Self::XdpLink => "5.9",
            Self::XdpProgram => "5.18",
            Self::TcxLink => "6.6",
        }
    }
}

/// Whether a feature is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It worked.
    Present,
    /// The kernel refused it; its answer.
    Absent(String),
    /// It could not be tried, and why.
    Unknown(String),
}

/// What nothing works without; to be asked before loading.
pub(super) fn require() -> Result<(), ProbeError> {
    for (feature, map) in [
        (Feature::RingBuffer, MapType::RingBuf),
        (Feature::PerCpuArray, MapType::PerCpuArray),
    ] {
        // For want of privilege nothing is known; loading will say so.
        if matches!(is_map_supported(map), Ok(false)) {
            return Err(ProbeError::KernelLacks {
                feature: feature.name(),
                since: feature.since(),
            });
        }
    }
    Ok(())
}

/// Tries everything, in the order of [`Feature::ALL`].
#[must_use]
pub fn probe() -> Vec<(Feature, Support)> {
    let tried = netns::in_a_new_one(try_all);
    let tried = tried.unwrap_or_else(|error| {
        // Maps and programs need no namespace.
        let mut found = try_load().1;
        for link in [Feature::XdpLink, Feature::TcxLink] {
            let why = format!("no network namespace to try it in ({error})");
            found.push((link, Support::Unknown(why)));
        }
        found
    });
    Feature::ALL
        .into_iter()
        .map(|feature| {
            let found = tried.iter().find(|(of, _)| *of == feature);
            let support = found.map_or_else(
                || Support::Unknown("what it needs is missing".into()),
                |(_, support)| support.clone(),
            );
            (feature, support)
        })
        .collect()
}

fn try_all() -> Vec<(Feature, Support)> {
    let (loaded, mut found) = try_load();
    let Some(mut loaded) = loaded else {
        return found;
    };
    if let Ok(program) = object::xdp(&mut loaded.bpf, XDP_PROGRAM) {
        let linked = program
            .attach_to_if_index(LOOPBACK_IFINDEX, XdpMode::Skb)
            .and_then(|id| program.take_link(id))
            .map_err(os_error);
        found.push((
            Feature::XdpLink,
            match linked.map(FdLink::try_from) {
                Ok(Ok(_link)) => Support::Present,
                Ok(Err(_)) => Support::Absent("only attaching by netlink works".into()),
                Err(error) => support(Err(error)),
            },
        ));
    }
    if let Ok(program) = object::classifier(&mut loaded.bpf, INGRESS_PROGRAM) {
        let linked = program
            .attach_with_options(
                LOOPBACK,
                TcAttachType::Ingress,
                TcAttachOptions::TcxOrder(LinkOrder::first()),
            )
            .map_err(os_error);
        found.push((Feature::TcxLink, support(linked.map(drop))));
    }
    found
}

/// Maps and programs.
fn try_load() -> (Option<object::Loaded>, Vec<(Feature, Support)>) {
    let mut found = Vec::new();
    for (feature, map) in [
        (Feature::RingBuffer, MapType::RingBuf),
        (Feature::PerCpuArray, MapType::PerCpuArray),
    ] {
        found.push((
            feature,
            match is_map_supported(map) {
                Ok(true) => Support::Present,
                Ok(false) => Support::Absent("the kernel does not know this kind of map".into()),
                Err(error) => support(Err(error.io_error)),
            },
        ));
    }
    let ring_bytes = u32::try_from(ring::page_bytes()).unwrap_or(4096);
    let loaded = object::load(&object::LoadSettings {
        ring_bytes,
        wake_fill_bytes: WAKE_FILL_BYTES_DEFAULT.min(ring_bytes / 2),
        decapsulate: true,
        interfaces: Vec::new(),
        step_down: StepDownSettings::off(),
    });
    let mut loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            for feature in [Feature::TcPrograms, Feature::XdpProgram] {
                found.push((feature, refusal(&error)));
            }
            return (None, found);
        }
    };
    let of = |result: Result<(), ProbeError>| match result {
        Ok(()) => Support::Present,
        Err(error) => refusal(&error),
    };
    let tc = [INGRESS_PROGRAM, EGRESS_PROGRAM]
        .into_iter()
        .try_for_each(|name| object::classifier(&mut loaded.bpf, name).map(drop));
    found.push((Feature::TcPrograms, of(tc)));
    let xdp = object::xdp(&mut loaded.bpf, XDP_PROGRAM).map(drop);
    found.push((Feature::XdpProgram, of(xdp)));
    (Some(loaded), found)
}

fn refusal(error: &ProbeError) -> Support {
    match error {
        ProbeError::NoPrivilege { .. } => Support::Unknown("no privilege to try it".into()),
        other => Support::Absent(other.to_string()),
    }
}

fn support(tried: io::Result<()>) -> Support {
    match tried {
        Ok(()) => Support::Present,
        Err(error) if super::error::is_privilege(&error) => {
            Support::Unknown("no privilege to try it".into())
        }
        Err(error) => Support::Absent(error.to_string()),
    }
}

/// What a driver says of its native XDP (kernels from 6.3 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverXdp {
    /// It has native XDP.
    pub native: bool,
    /// It takes frames over a page there.
    pub frames_over_a_page: bool,
}

/// Asks the kernel's `netdev` family for the XDP features of an interface's driver.
///
/// # Errors
/// Where the kernel has no such family, or does not answer.
pub fn driver_xdp(ifindex: u32) -> io::Result<DriverXdp> {
    let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
    push_attribute(&mut body, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let mut family = None;
    generic(GENL_ID_CTRL, &body, |answer| {
        let id = attributes(answer, GENL_HEADER_BYTES).find(|(k, _)| *k == CTRL_ATTR_FAMILY_ID);
        family = family.or(id.and_then(|(_, value)| u16_at(value, 0)));
    })?;
    let family = family.ok_or(io::ErrorKind::NotFound)?;
    let mut body = vec![NETDEV_CMD_DEV_GET, 1, 0, 0];
    push_attribute(&mut body, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let mut features = None;
    generic(family, &body, |answer| {
        features = features.or_else(|| xdp_bits(answer));
    })?;
    let features: u64 = features.ok_or(io::ErrorKind::NotFound)?;
    Ok(DriverXdp {
        native: features & NETDEV_XDP_ACT_BASIC != 0,
        frames_over_a_page: features & NETDEV_XDP_ACT_RX_SG != 0,
    })
}

fn xdp_bits(answer: &[u8]) -> Option<u64> {
    let (_, value) =
        attributes(answer, GENL_HEADER_BYTES).find(|(k, _)| *k == NETDEV_A_DEV_XDP_FEATURES)?;
    Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_driver_are_found_behind_the_generic_header() {
        let mut answer = vec![1, 1, 0, 0];
        push_attribute(&mut answer, NETDEV_A_DEV_IFINDEX, &7_u32.to_ne_bytes());
        assert_eq!(xdp_bits(&answer), None);
        push_attribute(
            &mut answer,
            NETDEV_A_DEV_XDP_FEATURES,
            &33_u64.to_ne_bytes(),
        );
        assert_eq!(xdp_bits(&answer), Some(33));
        assert_eq!(xdp_bits(&answer[..answer.len() - 1]), None);
    }
}
