//! Which XDP and TC programs of whom are on an interface.

use std::io;

use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use netml_common::Direction;
use netml_common::knobs::{EGRESS_PROGRAM, INGRESS_PROGRAM, XDP_PROGRAM};

use super::netlink::{attributes, dump, text, u32_at};

const RTM_GETTFILTER: u16 = 46;
const TCMSG_BYTES: usize = 20;
const TC_H_CLSACT: u32 = 0xffff_0000;
const TC_H_MIN_INGRESS: u32 = 0xfff2;
const TC_H_MIN_EGRESS: u32 = 0xfff3;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;

/// True for the name of one of our programs, which is the tag of our filters.
#[must_use]
pub fn is_ours(program: &str) -> bool {
    [XDP_PROGRAM, INGRESS_PROGRAM, EGRESS_PROGRAM].contains(&program)
}

/// Names of the BPF filters on an interface's clsact queueing discipline, with their directions.
///
/// # Errors
/// Where the kernel does not answer; an interface without the discipline has no filters.
pub fn clsact_filters(ifindex: u32) -> io::Result<Vec<(Direction, String)>> {
    let mut found = Vec::new();
    for (direction, minor) in [
        (Direction::Ingress, TC_H_MIN_INGRESS),
        (Direction::Egress, TC_H_MIN_EGRESS),
    ] {
        let mut body = vec![0; 4];
        body.extend(ifindex.to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        body.extend((TC_H_CLSACT | minor).to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        let dumped = dump(RTM_GETTFILTER, &body, |body| {
            // Kernels that know no such parent answer with the filters of another one.
            if u32_at(body, 12) == Some(TC_H_CLSACT | minor) {
                found.extend(bpf_name(body).map(|name| (direction, name)));
            }
        });
        match dumped {
            Ok(()) => {}
            // No such discipline there.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Name of the BPF program of a filter message. Filters of a chain are told once more without
/// options, and other kinds have none of that name.
fn bpf_name(body: &[u8]) -> Option<String> {
    let (_, options) = attributes(body, TCMSG_BYTES).find(|(kind, _)| *kind == TCA_OPTIONS)?;
    let (_, name) = attributes(options, 0).find(|(kind, _)| *kind == TCA_BPF_NAME)?;
    Some(text(name))
}

/// Names of the TCX programs on an interface, with their directions.
///
/// # Errors
/// Where the kernel does not answer, as before 6.6, or privilege is missing.
pub fn tcx_programs(interface: &str) -> io::Result<Vec<(Direction, String)>> {
    let mut found = Vec::new();
    for (direction, attach_type) in [
        (Direction::Ingress, TcAttachType::Ingress),
        (Direction::Egress, TcAttachType::Egress),
    ] {
        let (_, programs) =
            SchedClassifier::query_tcx(interface, attach_type).map_err(super::error::os_error)?;
        found.extend(programs.iter().map(|program| {
            let name = program.name_as_str().unwrap_or("?").to_owned();
            (direction, name)
        }));
    }
    Ok(found)
}

/// Name of a loaded program; `None` where it is gone, has none, or privilege is missing.
#[must_use]
pub fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::netlink::push_attribute;
    use super::*;

    #[test]
    fn a_filter_is_told_by_its_programs_name() {
        let mut options = Vec::new();
        push_attribute(&mut options, 6, &[1, 2, 3, 4]);
        push_attribute(&mut options, TCA_BPF_NAME, b"netml_egress\0");
        let mut body = vec![0; TCMSG_BYTES];
        push_attribute(&mut body, 1, b"bpf\0");
        assert_eq!(bpf_name(&body), None, "the message of the chain");
        push_attribute(&mut body, TCA_OPTIONS, &options);
        assert_eq!(bpf_name(&body).as_deref(), Some("netml_egress"));
        assert!(is_ours("netml_egress") && !is_ours("cil_from_netdev"));
    }

    #[test]
    fn loopback_can_be_asked_for_its_filters() {
        assert!(clsact_filters(1).is_ok());
    }
}
