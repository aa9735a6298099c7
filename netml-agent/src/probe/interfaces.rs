//! Which interfaces there are, what their frames begin with, and which have a default route.

use std::collections::BTreeMap;

use netml_common::Link;

use super::error::ProbeError;
use super::netlink::{attributes, dump, text, u16_at, u32_at};

const RTM_GETLINK: u16 = 18;
const RTM_GETROUTE: u16 = 26;
const IFINFO_BYTES: usize = 16;
const RTMSG_BYTES: usize = 12;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTNEXTHOP_BYTES: usize = 8;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_MAIN: u8 = 254;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

/// A network interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index, above 0.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// What its frames begin with: Ethernet for Ethernet and loopback devices, else an IP header.
    pub link: Link,
    /// Administratively up.
    pub up: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Largest packet, in bytes, without the link's header.
    pub mtu_bytes: u32,
    /// Id of the XDP program attached there, if any.
    pub xdp_program_id: Option<u32>,
}

/// All interfaces, in the order of their indices.
///
/// # Errors
/// [`ProbeError::Netlink`] where the kernel does not answer.
pub fn list_interfaces() -> Result<Vec<Interface>, ProbeError> {
    let mut found = Vec::new();
    dump(RTM_GETLINK, &[0; IFINFO_BYTES], |body| {
        found.extend(interface(body));
    })
    .map_err(|source| ProbeError::Netlink {
        what: "interfaces",
        source,
    })?;
    found.sort_by_key(|interface| interface.ifindex);
    Ok(found)
}

/// Interfaces that a default route of the main table leads through, loopback excluded, in the
/// order of their indices.
///
/// # Errors
/// [`ProbeError::Netlink`] where the kernel does not answer.
pub fn default_route_interfaces() -> Result<Vec<Interface>, ProbeError> {
    let mut all: BTreeMap<u32, Interface> = list_interfaces()?
        .into_iter()
        .map(|interface| (interface.ifindex, interface))
        .collect();
    let mut indices = Vec::new();
    dump(RTM_GETROUTE, &[0; RTMSG_BYTES], |body| {
        default_route(body, &mut indices);
    })
    .map_err(|source| ProbeError::Netlink {
        what: "routes",
        source,
    })?;
    indices.sort_unstable();
    Ok(indices
        .into_iter()
        .filter_map(|index| all.remove(&index))
        .filter(|interface| !interface.loopback)
        .collect())
}

/// Names, comma-separated, for messages.
pub(super) fn names(interfaces: &[Interface]) -> String {
    let names: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
    names.join(", ")
}

/// The body of an RTM_NEWLINK message.
fn interface(body: &[u8]) -> Option<Interface> {
    let device_type = u16_at(body, 2)?;
    let ifindex = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let mut name = None;
    let mut mtu_bytes = 0;
    let mut xdp_program_id = None;
    for (kind, value) in attributes(body, IFINFO_BYTES) {
        match kind {
            IFLA_IFNAME => name = Some(text(value)),
            IFLA_MTU => mtu_bytes = u32_at(value, 0).unwrap_or_default(),
            IFLA_XDP => {
                xdp_program_id = attributes(value, 0)
                    .find(|(kind, _)| *kind == IFLA_XDP_PROG_ID)
                    .and_then(|(_, value)| u32_at(value, 0))
                    .filter(|id| *id != 0);
            }
            _ => {}
        }
    }
    Some(Interface {
        ifindex,
        name: name?,
        link: match device_type {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Link::Ethernet,
            _ => Link::RawIp,
        },
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        mtu_bytes,
        xdp_program_id,
    })
}

/// True where the body of an RTM_NEWROUTE or RTM_DELROUTE message is about a default route of the
/// main table.
pub(super) fn is_default_route(body: &[u8]) -> bool {
    let (dst_bits, table, kind) = (body.get(1), body.get(4), body.get(7));
    dst_bits == Some(&0) && table == Some(&RT_TABLE_MAIN) && kind == Some(&RTN_UNICAST)
}

/// The body of an RTM_NEWROUTE message: adds the interfaces of a default route.
fn default_route(body: &[u8], indices: &mut Vec<u32>) {
    if !is_default_route(body) {
        return;
    }
    for (kind, value) in attributes(body, RTMSG_BYTES) {
        match kind {
            RTA_OIF => indices.extend(u32_at(value, 0)),
            RTA_MULTIPATH => {
                let mut hops = value;
                while let (Some(length), Some(index)) = (u16_at(hops, 0), u32_at(hops, 4)) {
                    indices.push(index);
                    let length = usize::from(length).max(RTNEXTHOP_BYTES);
                    hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_with_an_ethernet_header() {
        let all = list_interfaces().unwrap();
        let lo = all.iter().find(|i| i.name == "lo").unwrap();
        assert!(lo.loopback);
        assert_eq!(lo.link, Link::Ethernet);
        assert!(all.windows(2).all(|w| w[0].ifindex < w[1].ifindex));
    }

    #[test]
    fn a_multipath_default_route_names_all_its_interfaces() {
        let mut body = vec![2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        let mut hops = Vec::new();
        for index in [3_u32, 5] {
            hops.extend(8_u16.to_ne_bytes());
            hops.extend([0, 0]);
            hops.extend(index.to_ne_bytes());
        }
        body.extend(((4 + hops.len()) as u16).to_ne_bytes());
        body.extend(RTA_MULTIPATH.to_ne_bytes());
        body.extend(hops);
        let mut indices = Vec::new();
        default_route(&body, &mut indices);
        assert_eq!(indices, [3, 5]);
        body[1] = 24;
        default_route(&body, &mut indices);
        assert_eq!(indices, [3, 5], "not a default route");
    }
}
