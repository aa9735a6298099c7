//! Captures as tshark dissects them: fields and layer names, and what follows from them alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use netml_common::TunnelKind;

use super::{ICMP, ICMPV6, Network, Packet, SCTP, TCP, UDP, with_icmp};

const IPV4: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const PORT_VXLAN: u16 = 4789;
const PORT_GENEVE: u16 = 6081;
const ETHERTYPE_ETHERNET: u32 = 0x6558;

const MTU_BYTES: u32 = 1500;
const ETHERNET_BYTES: u32 = 14;
/// MTU, Ethernet header and three tags. No capture here has such frames on another link.
const OVERSIZED_BYTES: u32 = MTU_BYTES + ETHERNET_BYTES + 12;

/// tshark's view of a frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: u32,
    pub(crate) captured_bytes: u32,
    pub(crate) protocols: String,
    /// Operation of an ARP frame; tshark has no name of its own for RARP (3 and 4).
    pub(crate) arp_operation: Option<u32>,
    /// The outermost IP packet.
    pub(crate) outer: Option<Layer>,
    /// The packet inside it where it is a tunnel's.
    pub(crate) inner: Option<(Tunnel, Layer)>,
}

/// An IP packet of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer {
    pub(crate) packet: Packet,
    /// Bytes by the IP length field, header included.
    total_bytes: u32,
    is_fragment: bool,
    /// Payload of TCP or UDP.
    payload_bytes: Option<u32>,
}

/// How a packet is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) kind: TunnelKind,
    pub(crate) network_id: Option<u32>,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) deeper: bool,
}

impl Tunnel {
    pub(crate) fn network(&self) -> Option<Network> {
        Some((self.kind.name(), self.network_id?))
    }
}

impl Layer {
    pub(crate) const fn packet(&self) -> Packet {
        self.packet
    }
}

impl Frame {
    /// The packet whose flow the frame belongs to.
    pub(crate) fn layer(&self, decapsulate: bool) -> Option<&Layer> {
        match &self.inner {
            Some((_, inner)) if decapsulate => Some(inner),
            _ => self.outer.as_ref(),
        }
    }

    /// Wire packets and their bytes: a frame over the MTU was as many as its payload needs, each with
    /// all headers.
    pub(crate) fn on_the_wire(&self, decapsulate: bool) -> (u32, u32) {
        let layer = self.layer(decapsulate);
        match layer.filter(|layer| !layer.is_fragment && self.bytes > OVERSIZED_BYTES) {
            Some(&Layer {
                payload_bytes: Some(payload_bytes),
                ..
            }) => {
                let header_bytes = self.bytes - payload_bytes;
                let room_bytes = MTU_BYTES - (header_bytes - ETHERNET_BYTES);
                let packets = payload_bytes.div_ceil(room_bytes);
                (packets, self.bytes + (packets - 1) * header_bytes)
            }
            _ => (1, self.bytes),
        }
    }

    /// True where the packet inside says that it is longer than the one outside, or where the
    /// capture cut the frame.
    pub(crate) fn is_inner_cut(&self) -> bool {
        let (Some(outer), Some((_, inner))) = (&self.outer, &self.inner) else {
            return false;
        };
        // Headers that stand between the two at least.
        let between_bytes = match (outer.packet.protocol, outer.packet.dst_port) {
            (UDP, PORT_VXLAN) => 8 + 8 + ETHERNET_BYTES,
            (UDP, _) => 8 + 8,
            (GRE, _) => 4,
            _ => 0,
        };
        let outer_header_bytes = if outer.packet.src.is_ipv6() { 40 } else { 20 };
        let room_bytes = outer.total_bytes - outer_header_bytes - between_bytes;
        self.captured_bytes < self.bytes || inner.total_bytes > room_bytes
    }
}

const FIELDS: [&str; 43] = [
    "frame.len",
    "frame.cap_len",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.len",
    "ip.flags.mf",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "ipv6.plen",
    "ipv6.hopopts.nxt",
    "ipv6.dstopts.nxt",
    "ipv6.routing.nxt",
    "ipv6.fraghdr.nxt",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "mip6.proto",
    "ah.next_header",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.len",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "sctp.srcport",
    "sctp.dstport",
    "icmp.type",
    "icmpv6.type",
    "arp.opcode",
    "eth.type",
    "vxlan.flags",
    "vxlan.vni",
    "geneve.version",
    "geneve.flags",
    "geneve.proto_type",
    "geneve.vni",
    "gre.flags_and_version",
    "gre.proto",
    "gre.key",
];

/// Every frame, in order. A field that occurs in several layers is a list.
pub(crate) fn frames(capture: &Path) -> Vec<Frame> {
    let settings = tempfile::tempdir().unwrap();
    let mut command = Command::new("tshark");
    // No settings of whoever runs this, no names, and every frame for itself.
    command.env("WIRESHARK_CONFIG_DIR", settings.path());
    command.env("HOME", settings.path());
    command.args([
        "-n",
        "-T",
        "fields",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=;",
    ]);
    for preference in [
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "ip.tso_support:TRUE",
    ] {
        command.args(["-o", preference]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    // A cut file ends with an error behind its last whole frame (status 2).
    let output = command.arg("-r").arg(capture).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("aren't valid"), "{log}");
    assert!(matches!(output.status.code(), Some(0 | 2)), "{log}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| frame(line, capture)).collect()
}

/// The values of one field, taken one after the other, outermost first.
struct Values<'a>(BTreeMap<&'static str, std::str::Split<'a, char>>);

impl<'a> Values<'a> {
    fn next(&mut self, field: &str) -> Option<&'a str> {
        self.0
            .get_mut(field)?
            .next()
            .filter(|value| !value.is_empty())
    }

    fn number(&mut self, field: &str) -> Option<u32> {
        let value = self.next(field)?;
        match value.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }
}

type Layers<'a> = std::iter::Peekable<std::str::Split<'a, char>>;

fn frame(line: &str, capture: &Path) -> Frame {
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!(columns.len(), FIELDS.len(), "{}: {line}", capture.display());
    let mut values = Values(
        FIELDS
            .into_iter()
            .zip(columns.iter().map(|column| column.split(';')))
            .collect(),
    );
    let bytes = values.number("frame.len").unwrap();
    let captured_bytes = values.number("frame.cap_len").unwrap();
    let protocols = values.next("frame.protocols").unwrap_or_default();
    let mut layers = protocols.split(':').peekable();
    while layers
        .next_if(|layer| !matches!(*layer, "ip" | "ipv6"))
        .is_some()
    {}
    let outer = ip_packet(&mut layers, &mut values);
    let inner = outer.and_then(|outer| {
        let (kind, network_id) = tunnel(&outer, &mut layers, &mut values)?;
        let mut inner = ip_packet(&mut layers, &mut values)?;
        let tunnel = Tunnel {
            kind,
            network_id,
            src: outer.packet.src,
            dst: outer.packet.dst,
            deeper: is_tunnel(&inner),
        };
        inner.packet.network = tunnel.network();
        Some((tunnel, inner))
    });
    Frame {
        bytes,
        captured_bytes,
        protocols: protocols.to_owned(),
        arp_operation: values.number("arp.opcode"),
        outer,
        inner,
    }
}

/// True for protocols and ports of the tunnels that are opened.
fn is_tunnel(layer: &Layer) -> bool {
    !layer.is_fragment
        && match layer.packet.protocol {
            IPV4 | IPV6 | GRE => true,
            UDP => matches!(layer.packet.dst_port, PORT_VXLAN | PORT_GENEVE),
            _ => false,
        }
}

/// The tunnel whose packet this is, its own layers passed, so that an IP packet comes next.
fn tunnel(
    outer: &Layer,
    layers: &mut Layers<'_>,
    values: &mut Values<'_>,
) -> Option<(TunnelKind, Option<u32>)> {
    if !is_tunnel(outer) {
        return None;
    }
    let is_v6 = outer.packet.src.is_ipv6();
    let (kind, network_id, ethertype) = match *layers.peek()? {
        "ip" => {
            let kind = if is_v6 {
                TunnelKind::FourInSix
            } else {
                TunnelKind::Ipip
            };
            return (outer.packet.protocol == IPV4).then_some((kind, None));
        }
        "ipv6" => {
            let kind = if is_v6 {
                TunnelKind::SixInSix
            } else {
                TunnelKind::SixInFour
            };
            return (outer.packet.protocol == IPV6).then_some((kind, None));
        }
        "gre" => {
            const ROUTING_AND_VERSION: u32 = 0x4007;
            const KEY: u32 = 0x2000;
            let flags = values.number("gre.flags_and_version")?;
            let ethertype = values.number("gre.proto")?;
            if flags & ROUTING_AND_VERSION != 0 {
                return None;
            }
            let key = match flags & KEY {
                0 => None,
                _ => Some(values.number("gre.key")?),
            };
            (TunnelKind::Gre, key, ethertype)
        }
        "vxlan" => {
            const HAS_ID: u32 = 0x0800;
            if values.number("vxlan.flags")? & HAS_ID == 0 {
                return None;
            }
            let id = values.number("vxlan.vni")?;
            (TunnelKind::Vxlan, Some(id), ETHERTYPE_ETHERNET)
        }
        "geneve" => {
            const CONTROL: u32 = 0x80;
            if values.number("geneve.version")? != 0
                || values.number("geneve.flags")? & CONTROL != 0
            {
                return None;
            }
            let id = values.number("geneve.vni")?;
            (
                TunnelKind::Geneve,
                Some(id),
                values.number("geneve.proto_type")?,
            )
        }
        _ => return None,
    };
    layers.next();
    // Ethernet, IP, tags, labels, a PPPoE session.
    if !matches!(
        ethertype,
        ETHERTYPE_ETHERNET | 0x0800 | 0x86dd | 0x8100 | 0x88a8 | 0x9100 | 0x8847 | 0x8848 | 0x8864
    ) {
        return None;
    }
    const BETWEEN: [&str; 7] = [
        "eth",
        "ethertype",
        "vlan",
        "ieee8021ad",
        "mpls",
        "pppoes",
        "ppp",
    ];
    while layers.next_if(|layer| BETWEEN.contains(layer)).is_some() {}
    matches!(layers.peek(), Some(&("ip" | "ipv6"))).then_some((kind, network_id))
}

/// An IP packet: its addresses, the protocol behind all extension headers, and the ports of what
/// follows them directly.
fn ip_packet(layers: &mut Layers<'_>, values: &mut Values<'_>) -> Option<Layer> {
    const IPV6_BYTES: u32 = 40;
    let is_v6 = layers.next()? == "ipv6";
    let mut is_later_fragment = false;
    let mut is_fragment = false;
    let (src, dst, mut protocol, total_bytes) = if is_v6 {
        (
            values.next("ipv6.src")?,
            values.next("ipv6.dst")?,
            values.number("ipv6.nxt")?,
            values.number("ipv6.plen")? + IPV6_BYTES,
        )
    } else {
        is_later_fragment = values.number("ip.frag_offset")? != 0;
        is_fragment = values.number("ip.flags.mf")? != 0 || is_later_fragment;
        (
            values.next("ip.src")?,
            values.next("ip.dst")?,
            values.number("ip.proto")?,
            values.number("ip.len")?,
        )
    };
    while let Some(field) = layers.peek().and_then(|layer| match *layer {
        "ipv6.hopopts" => Some("ipv6.hopopts.nxt"),
        "ipv6.dstopts" => Some("ipv6.dstopts.nxt"),
        "ipv6.routing" => Some("ipv6.routing.nxt"),
        "ipv6.fraghdr" => Some("ipv6.fraghdr.nxt"),
        "mipv6" => Some("mip6.proto"),
        "ah" => Some("ah.next_header"),
        _ => None,
    }) {
        protocol = values.number(field)?;
        layers.next();
        if field == "ipv6.fraghdr.nxt" {
            is_fragment |= values.number("ipv6.fraghdr.more")? != 0;
            if values.number("ipv6.fraghdr.offset")? != 0 {
                (is_fragment, is_later_fragment) = (true, true);
                break;
            }
        }
    }
    let protocol = u8::try_from(protocol).ok()?;
    let mut layer = Layer {
        packet: Packet {
            src: src.parse().ok()?,
            dst: dst.parse().ok()?,
            protocol,
            src_port: 0,
            dst_port: 0,
            tcp_flags: 0,
            network: None,
        },
        total_bytes,
        is_fragment,
        payload_bytes: None,
    };
    if is_later_fragment {
        return Some(layer);
    }
    let packet = &mut layer.packet;
    let mut port = |field| values.number(field).unwrap_or(0) as u16;
    match (protocol, layers.peek().copied()) {
        (TCP, Some("tcp")) => {
            (packet.src_port, packet.dst_port) = (port("tcp.srcport"), port("tcp.dstport"));
            packet.tcp_flags = port("tcp.flags") as u8;
            layer.payload_bytes = values.number("tcp.len");
        }
        (UDP, Some("udp")) => {
            const UDP_BYTES: u32 = 8;
            (packet.src_port, packet.dst_port) = (port("udp.srcport"), port("udp.dstport"));
            layer.payload_bytes = values
                .number("udp.length")
                .and_then(|bytes| bytes.checked_sub(UDP_BYTES));
            layers.next();
        }
        (SCTP, Some("sctp")) => {
            (packet.src_port, packet.dst_port) = (port("sctp.srcport"), port("sctp.dstport"));
        }
        (ICMP, Some("icmp")) => *packet = with_icmp(*packet, port("icmp.type")),
        (ICMPV6, Some("icmpv6")) => *packet = with_icmp(*packet, port("icmpv6.type")),
        _ => {}
    }
    Some(layer)
}
