//! The kernel's flow map: where packets are counted by flow while the ring fills.
//!
//! Two hash maps of [`FlowKey`] to [`FlowEntry`]: one of flows seen both ways, one of flows seen
//! one way only, so that half-open flows never take the place of established ones. Entries only
//! grow; user space takes the differences between its reads and removes what has long been idle.
//! [`StepDown`] is the one value that says which mode the programs are in.

use crate::extras::{Extras, QuotedRecord, TunnelRecord};
use crate::record::{Direction, Marks, PacketRecord};

const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_ICMPV6: u8 = 58;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// TCP flags whose packets are always offered to the ring: they open or end a flow.
pub const TURNING_FLAGS: u8 = SYN | FIN | RST;

/// The network that a tunnel says its packets belong to: addresses mean something within it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Network {
    /// VXLAN or Geneve network identifier, GRE key.
    pub id: u32,
    /// Number of the [`crate::TunnelKind`] that says so; 0: none does.
    pub kind: u32,
}

impl Network {
    /// That of packets outside tunnels, and out of tunnels without an identifier.
    pub const NONE: Self = Self { id: 0, kind: 0 };

    /// That of a packet out of this tunnel, or of one whose place for a tunnel is empty.
    #[must_use]
    #[inline(always)]
    pub const fn of(tunnel: &TunnelRecord) -> Self {
        if tunnel.kind == 0 || tunnel.tunnel & TunnelRecord::HAS_NETWORK_ID == 0 {
            return Self::NONE;
        }
        Self {
            id: tunnel.network_id,
            kind: (tunnel.tunnel & TunnelRecord::KIND_BITS) as u32,
        }
    }

    /// That of a packet with this beside it.
    #[must_use]
    pub fn of_extras(extras: &Extras) -> Self {
        extras.tunnel.as_ref().map_or(Self::NONE, Self::of)
    }
}

/// Key of a bidirectional flow: the same for both directions.
///
/// The lower (address, port) stands first. Equal ends in two networks are two flows. ICMP has no ports: an echo and its reply share the
/// request's type, so that they meet in one flow; any other type is a flow of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// Lower address, IPv4 mapped.
    pub low: [u8; 16],
    /// Higher address, IPv4 mapped.
    pub high: [u8; 16],
    /// Port of the lower address; ICMP: the request's type.
    pub low_port: u16,
    /// Port of the higher address; ICMP: the request's type.
    pub high_port: u16,
    /// Transport protocol (IANA).
    pub ip_protocol: u8,
    /// Interface slot.
    pub slot: u8,
    /// Zero: the kernel hashes every byte.
    pub reserved: [u8; 2],
    /// The network of these addresses.
    pub network: Network,
}

/// A packet's flow and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The flow.
    pub key: FlowKey,
    /// True: the packet's source is the key's lower end.
    pub from_low: bool,
    /// True: the packet shows that its *destination* began the flow (SYN-ACK, echo reply).
    pub answers: bool,
}

/// What of a packet decides on its flow.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// Source address, IPv4 mapped.
    pub src: &'a [u8; 16],
    /// Destination address, IPv4 mapped.
    pub dst: &'a [u8; 16],
    /// Source port; ICMP: type.
    pub src_port: u16,
    /// Destination port; ICMP: code.
    pub dst_port: u16,
    /// Transport protocol (IANA).
    pub ip_protocol: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Fragment and cut marks.
    pub marks: Marks,
    /// Interface slot.
    pub slot: u8,
    /// The network of the addresses.
    pub network: Network,
}

impl FlowKey {
    /// Flow of a packet.
    #[must_use]
    #[inline(always)]
    pub fn of(ends: &Ends<'_>) -> Keyed {
        let is_icmp = matches!(ends.ip_protocol, PROTO_ICMP | PROTO_ICMPV6);
        let (src_port, dst_port, answers) = if is_icmp {
            let (kind, answers) = icmp_request_type(ends);
            (kind, kind, answers)
        } else {
            let syn_ack =
                ends.ip_protocol == PROTO_TCP && ends.tcp_flags & (SYN | ACK) == SYN | ACK;
            (ends.src_port, ends.dst_port, syn_ack)
        };
        // Numbers in network order compare as their bytes do, and the programs have no memcmp.
        let (src, dst) = (
            u128::from_be_bytes(*ends.src),
            u128::from_be_bytes(*ends.dst),
        );
        let from_low = src < dst || (src == dst && src_port <= dst_port);
        let (low, high, low_port, high_port) = if from_low {
            (ends.src, ends.dst, src_port, dst_port)
        } else {
            (ends.dst, ends.src, dst_port, src_port)
        };
        Keyed {
            key: Self {
                low: *low,
                high: *high,
                low_port,
                high_port,
                ip_protocol: ends.ip_protocol,
                slot: ends.slot,
                reserved: [0; 2],
                network: ends.network,
            },
            from_low,
            answers,
        }
    }

    /// Flow of a recorded packet that has nothing beside its record.
    #[must_use]
    pub fn of_record(record: &PacketRecord) -> Keyed {
        Self::of_packet(record, Network::NONE)
    }

    /// Flow of a recorded packet in this network.
    #[must_use]
    pub fn of_packet(record: &PacketRecord, network: Network) -> Keyed {
        Self::of(&Ends {
            src: &record.src,
            dst: &record.dst,
            src_port: record.src_port,
            dst_port: record.dst_port,
            ip_protocol: record.ip_protocol,
            tcp_flags: record.tcp_flags,
            marks: record.marks,
            slot: record.slot,
            network,
        })
    }

    /// Flow of the packet that an ICMP error on interface `slot`, in this network, quotes.
    #[must_use]
    pub fn of_quoted(quoted: &QuotedRecord, slot: u8, network: Network) -> Self {
        let quoted = Self::of(&Ends {
            src: &quoted.src,
            dst: &quoted.dst,
            src_port: quoted.src_port,
            dst_port: quoted.dst_port,
            ip_protocol: quoted.ip_protocol,
            tcp_flags: 0,
            marks: Marks::default(),
            slot,
            network,
        });
        quoted.key
    }
}

/// Type under which an ICMP packet is keyed, and whether it is a reply (RFC 792, RFC 4443 §4).
#[inline(always)]
fn icmp_request_type(ends: &Ends<'_>) -> (u16, bool) {
    if ends.marks.has(Marks::FRAGMENT_LATER | Marks::L4_CUT) {
        return (0, false);
    }
    match (ends.ip_protocol, ends.src_port) {
        (PROTO_ICMP, 0) => (8, true),
        (PROTO_ICMP, 14) => (13, true),
        (PROTO_ICMP, 16) => (15, true),
        (PROTO_ICMP, 18) => (17, true),
        (PROTO_ICMPV6, 129) => (128, true),
        (PROTO_ICMPV6, 136) => (135, true),
        (_, kind) => (kind, false),
    }
}

/// What one end of a flow sent and no record tells, cumulative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct WayTotals {
    /// Wire packets.
    pub packets: u64,
    /// Frames: program runs.
    pub frames: u64,
    /// Wire bytes.
    pub wire_bytes: u64,
    /// Bytes behind the transport header.
    pub payload_bytes: u64,
    /// OR of the TCP flags, and eight bits up, of those of records.
    pub flags: u64,
}

impl WayTotals {
    /// Bits of [`Self::flags`] of a record with these TCP flags. A packet with others is offered to
    /// the ring.
    #[must_use]
    #[inline(always)]
    pub const fn recorded_bits(tcp_flags: u8) -> u64 {
        (tcp_flags as u64) << 8
    }

    /// [`Self::flags`] of records alone.
    #[must_use]
    #[inline(always)]
    pub const fn recorded_only(&self) -> u64 {
        self.flags & 0xff00
    }

    /// OR of the TCP flags of what was counted.
    #[must_use]
    #[inline(always)]
    pub const fn tcp_flags(&self) -> u8 {
        (self.flags & 0xff) as u8
    }
}

/// Value of the flow map. The programs add to it, atomically.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FlowEntry {
    /// Sent by the lower end of the key.
    pub low: WayTotals,
    /// Sent by the higher end of the key.
    pub high: WayTotals,
    /// Kernel monotonic time of the packet that made the entry; 0: made by user space.
    pub first_mono_ns: u64,
    /// Kernel monotonic time of the packet counted last; 0: none.
    pub last_mono_ns: u64,
    /// Records of the flow that went into the ring since the entry was made.
    pub records: u64,
    /// See the constants.
    pub begun: u64,
}

const _: () = {
    assert!(size_of::<FlowKey>() == 48);
    assert!(core::mem::offset_of!(FlowKey, low_port) == 32);
    assert!(core::mem::offset_of!(FlowKey, ip_protocol) == 36);
    assert!(core::mem::offset_of!(FlowKey, network) == 40);
    assert!(size_of::<WayTotals>() == 40);
    assert!(core::mem::offset_of!(WayTotals, flags) == 32);
    assert!(size_of::<FlowEntry>() == 112);
    assert!(align_of::<FlowEntry>() == 8);
    assert!(core::mem::offset_of!(FlowEntry, first_mono_ns) == 80);
    assert!(core::mem::offset_of!(FlowEntry, begun) == 104);
    assert!(size_of::<StepDown>() == 40);
};

impl FlowEntry {
    /// Bit of [`Self::begun`]: the packet that made the entry came from the lower end.
    pub const FIRST_FROM_LOW: u64 = 1;
    /// Bit of [`Self::begun`]: the lower end began the flow.
    pub const INITIATOR_IS_LOW: u64 = 2;
    /// Bit of [`Self::begun`]: packets of the lower end leave through the interface.
    pub const LOW_IS_EGRESS: u64 = 4;

    /// [`Self::begun`] of an entry made by this packet.
    #[must_use]
    #[inline(always)]
    pub const fn begun_by(keyed: &Keyed, direction: Direction) -> u64 {
        let is_egress = matches!(direction, Direction::Egress);
        let mut begun = 0;
        if keyed.from_low {
            begun |= Self::FIRST_FROM_LOW;
        }
        if keyed.from_low != keyed.answers {
            begun |= Self::INITIATOR_IS_LOW;
        }
        if keyed.from_low == is_egress {
            begun |= Self::LOW_IS_EGRESS;
        }
        begun
    }

    /// The bytes of the map value.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        let ways = [&self.low, &self.high].into_iter().flat_map(|way| {
            [
                way.packets,
                way.frames,
                way.wire_bytes,
                way.payload_bytes,
                way.flags,
            ]
        });
        let rest = [
            self.first_mono_ns,
            self.last_mono_ns,
            self.records,
            self.begun,
        ];
        for (place, word) in bytes.chunks_exact_mut(8).zip(ways.chain(rest)) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Decodes a map value; any bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        let mut words = [0_u64; size_of::<Self>() / 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            *word = u64::from_ne_bytes(eight);
        }
        let way = |at: usize| WayTotals {
            packets: words[at],
            frames: words[at + 1],
            wire_bytes: words[at + 2],
            payload_bytes: words[at + 3],
            flags: words[at + 4],
        };
        Self {
            low: way(0),
            high: way(5),
            first_mono_ns: words[10],
            last_mono_ns: words[11],
            records: words[12],
            begun: words[13],
        }
    }
}

impl FlowKey {
    /// The bytes of the map key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        bytes[..16].copy_from_slice(&self.low);
        bytes[16..32].copy_from_slice(&self.high);
        bytes[32..34].copy_from_slice(&self.low_port.to_ne_bytes());
        bytes[34..36].copy_from_slice(&self.high_port.to_ne_bytes());
        bytes[36] = self.ip_protocol;
        bytes[37] = self.slot;
        bytes[40..44].copy_from_slice(&self.network.id.to_ne_bytes());
        bytes[44..].copy_from_slice(&self.network.kind.to_ne_bytes());
        bytes
    }

    /// Decodes a map key; any bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        let (mut low, mut high) = ([0; 16], [0; 16]);
        low.copy_from_slice(&bytes[..16]);
        high.copy_from_slice(&bytes[16..32]);
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            low,
            high,
            low_port: u16::from_ne_bytes([bytes[32], bytes[33]]),
            high_port: u16::from_ne_bytes([bytes[34], bytes[35]]),
            ip_protocol: bytes[36],
            slot: bytes[37],
            reserved: [0; 2],
            network: Network {
                id: word(40),
                kind: word(44),
            },
        }
    }
}

/// The mode of the programs and what became of packets in it. One value, written by the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct StepDown {
    /// Changes of mode so far: even is full, odd is stepped down.
    pub changes: u64,
    /// Kernel monotonic time of the latest change; 0: none yet.
    pub since_mono_ns: u64,
    /// Frames lost for want of room in the ring, in either mode.
    pub lost: u64,
    /// Flows that found no place in the map of flows seen one way.
    pub opening_full: u64,
    /// Flows that found no place in the map of flows seen both ways.
    pub established_full: u64,
}

impl StepDown {
    /// True while packets are counted by flow.
    #[must_use]
    pub const fn is_stepped_down(&self) -> bool {
        self.changes & 1 != 0
    }

    /// Times the programs stepped down.
    #[must_use]
    pub const fn step_downs(&self) -> u64 {
        self.changes.div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_entries_round_trip_through_their_bytes() {
        let entry_bytes: [u8; 112] = core::array::from_fn(|i| i as u8);
        let entry = FlowEntry::from_bytes(&entry_bytes);
        assert_eq!(entry.to_bytes(), entry_bytes);
        assert_eq!(
            entry.low.packets,
            u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7])
        );
        assert_eq!(
            entry.begun,
            u64::from_ne_bytes([104, 105, 106, 107, 108, 109, 110, 111])
        );
        let mut key_bytes: [u8; 48] = core::array::from_fn(|i| i as u8);
        key_bytes[38..40].fill(0);
        assert_eq!(FlowKey::from_bytes(&key_bytes).to_bytes(), key_bytes);
    }

    proptest! {
        /// The order of the ends is that of their bytes, whoever sent the packet.
        #[test]
        fn both_directions_share_one_key(
            src: [u8; 16], dst: [u8; 16], src_port: u16, dst_port: u16, tcp_flags: u8,
        ) {
            let ends = Ends {
                src: &src, dst: &dst, src_port, dst_port, ip_protocol: PROTO_TCP, tcp_flags,
                marks: Marks(0), slot: 3, network: Network::NONE,
            };
            let back = Ends { src: &dst, dst: &src, src_port: dst_port, dst_port: src_port, ..ends };
            let (there, back) = (FlowKey::of(&ends), FlowKey::of(&back));
            prop_assert_eq!(there.key, back.key);
            prop_assert_eq!(there.from_low, (src, src_port) <= (dst, dst_port));
            if (src, src_port) != (dst, dst_port) {
                prop_assert_ne!(there.from_low, back.from_low);
            }
        }
    }

    #[test]
    fn only_a_tunnel_with_an_identifier_names_a_network() {
        let vxlan = TunnelRecord {
            kind: crate::extras::KIND_TUNNEL,
            tunnel: crate::TunnelKind::Vxlan as u8
                | TunnelRecord::HAS_NETWORK_ID
                | TunnelRecord::DEEPER,
            network_id: 7,
            ..TunnelRecord::NONE
        };
        assert_eq!(Network::of(&vxlan), Network { id: 7, kind: 1 });
        // Identifier 0 is one; a place that is empty, or still holds an earlier packet's, is none.
        let zero = TunnelRecord {
            network_id: 0,
            ..vxlan
        };
        assert_ne!(Network::of(&zero), Network::NONE);
        assert_eq!(
            Network::of(&TunnelRecord { kind: 0, ..vxlan }),
            Network::NONE
        );
        let without = TunnelRecord {
            tunnel: crate::TunnelKind::Gre as u8,
            ..vxlan
        };
        assert_eq!(Network::of(&without), Network::NONE);
    }

    #[test]
    fn an_odd_number_of_changes_is_stepped_down() {
        let of = |changes| StepDown {
            changes,
            ..StepDown::default()
        };
        assert_eq!(
            [0, 1, 2, 3].map(|n| (of(n).is_stepped_down(), of(n).step_downs())),
            [(false, 0), (true, 1), (false, 1), (true, 2)]
        );
    }
}
