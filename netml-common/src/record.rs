//! The record of one packet: 64 bytes, written by the kernel programs and by capture readers.
//!
//! Byte order is the host's (records never leave it) but for addresses, which are in network
//! order. The first three bytes are the header common to all record kinds: kind, version, and
//! length in units of eight bytes; what a packet may have beside its record ([`crate::extras`])
//! stands behind the same header.

/// Size of a packet record, header included.
pub const PACKET_RECORD_BYTES: usize = 64;

/// Bytes a packet record takes in the ring, with the kernel's header before it.
pub const RECORD_RING_BYTES: u32 = PACKET_RECORD_BYTES as u32 + 8;

/// [`PacketRecord::kind`] of a packet record.
pub const KIND_PACKET: u8 = 1;

/// [`PacketRecord::version`] this build writes and reads.
pub const RECORD_VERSION: u8 = 1;

/// Way of a packet through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Received by the host.
    Ingress = 0,
    /// Sent by the host.
    Egress = 1,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// Bit set of [`PacketRecord::marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
#[repr(transparent)]
pub struct Marks(pub u8);

impl Marks {
    /// Sent by the host; unset: received.
    pub const EGRESS: u8 = 1;
    /// Addresses are IPv6; unset: IPv4-mapped (RFC 4291 §2.5.5.2).
    pub const IPV6: u8 = 2;
    /// First fragment: ports are known.
    pub const FRAGMENT_FIRST: u8 = 4;
    /// Later fragment: ports are zero.
    pub const FRAGMENT_LATER: u8 = 8;
    /// At least one VLAN tag.
    pub const VLAN: u8 = 16;
    /// The packet came out of a tunnel, whose ends stand beside the record.
    pub const TUNNEL: u8 = 32;
    /// The transport header is cut: ports and flags are zero.
    pub const L4_CUT: u8 = 64;
    /// Taken behind GRO: the segment count is not that of the wire.
    pub const AGGREGATED: u8 = 128;

    /// True when any of `bits` is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// One packet as the kernel saw it. Payload is never in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PacketRecord {
    /// [`KIND_PACKET`].
    pub kind: u8,
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Length of the whole record in units of eight bytes.
    pub length_units: u8,
    /// Protocol of the transport header (IANA), after IPv6 extension headers.
    pub ip_protocol: u8,
    /// See [`Marks`].
    pub marks: Marks,
    /// Interface slot, below [`crate::INTERFACES_MAX`].
    pub slot: u8,
    /// Wire packets this frame is or becomes, at least 1.
    pub segments: u16,
    /// Kernel monotonic clock (`bpf_ktime_get_ns`); of a capture file: its own time stamp.
    pub mono_ns: u64,
    /// Source address, IPv4 mapped into IPv6.
    pub src: [u8; 16],
    /// Destination address, IPv4 mapped into IPv6.
    pub dst: [u8; 16],
    /// Bytes on the wire from the link-layer header on, over all segments.
    pub wire_bytes: u32,
    /// Bytes behind the transport header by the IP length fields.
    pub payload_bytes: u32,
    /// Source port; of ICMP: type.
    pub src_port: u16,
    /// Destination port; of ICMP: code.
    pub dst_port: u16,
    /// TCP flags as on the wire (RFC 9293 §3.1): FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
    pub tcp_flags: u8,
    /// IPv4 time to live or IPv6 hop limit.
    pub hop_limit: u8,
    /// TCP window as on the wire, unscaled.
    pub tcp_window: u16,
}

const _: () = {
    assert!(size_of::<PacketRecord>() == PACKET_RECORD_BYTES);
    assert!(align_of::<PacketRecord>() == 8);
    assert!(core::mem::offset_of!(PacketRecord, marks) == 4);
    assert!(core::mem::offset_of!(PacketRecord, segments) == 6);
    assert!(core::mem::offset_of!(PacketRecord, mono_ns) == 8);
    assert!(core::mem::offset_of!(PacketRecord, src) == 16);
    assert!(core::mem::offset_of!(PacketRecord, dst) == 32);
    assert!(core::mem::offset_of!(PacketRecord, wire_bytes) == 48);
    assert!(core::mem::offset_of!(PacketRecord, payload_bytes) == 52);
    assert!(core::mem::offset_of!(PacketRecord, src_port) == 56);
    assert!(core::mem::offset_of!(PacketRecord, tcp_flags) == 60);
    assert!(core::mem::offset_of!(PacketRecord, tcp_window) == 62);
};

/// Why bytes are not a packet record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Not [`PACKET_RECORD_BYTES`] long; the length given.
    Length(usize),
    /// Unknown kind.
    Kind(u8),
    /// Another version than [`RECORD_VERSION`].
    Version(u8),
    /// A field contradicts the layout: its name.
    Field(&'static str),
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length(got) => write!(f, "a record of {got} bytes, not {PACKET_RECORD_BYTES}"),
            Self::Kind(got) => write!(f, "record kind {got} is not known"),
            Self::Version(got) => write!(f, "record version {got}, not {RECORD_VERSION}"),
            Self::Field(name) => write!(f, "record field {name} is out of range"),
        }
    }
}

impl core::error::Error for RecordError {}

impl PacketRecord {
    /// Decodes one record and checks it: past this point every field is in its range.
    ///
    /// # Errors
    /// [`RecordError`] for another length, kind or version, a slot out of range, or no segment.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let b: &[u8; PACKET_RECORD_BYTES] = bytes
            .try_into()
            .map_err(|_| RecordError::Length(bytes.len()))?;
        if b[0] != KIND_PACKET {
            return Err(RecordError::Kind(b[0]));
        }
        if b[1] != RECORD_VERSION {
            return Err(RecordError::Version(b[1]));
        }
        let record = Self {
            kind: b[0],
            version: b[1],
            length_units: b[2],
            ip_protocol: b[3],
            marks: Marks(b[4]),
            slot: b[5],
            segments: u16::from_ne_bytes(field(b, 6)),
            mono_ns: u64::from_ne_bytes(field(b, 8)),
            src: field(b, 16),
            dst: field(b, 32),
            wire_bytes: u32::from_ne_bytes(field(b, 48)),
            payload_bytes: u32::from_ne_bytes(field(b, 52)),
            src_port: u16::from_ne_bytes(field(b, 56)),
            dst_port: u16::from_ne_bytes(field(b, 58)),
            tcp_flags: b[60],
            hop_limit: b[61],
            tcp_window: u16::from_ne_bytes(field(b, 62)),
        };
        if usize::from(record.length_units) * 8 != PACKET_RECORD_BYTES {
            return Err(RecordError::Field("length_units"));
        }
        if u32::from(record.slot) >= crate::INTERFACES_MAX {
            return Err(RecordError::Field("slot"));
        }
        if record.segments == 0 {
            return Err(RecordError::Field("segments"));
        }
        Ok(record)
    }

    /// Encodes the record; the inverse of [`Self::from_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PACKET_RECORD_BYTES] {
        let mut b = [0; PACKET_RECORD_BYTES];
        b[0] = self.kind;
        b[1] = self.version;
        b[2] = self.length_units;
        b[3] = self.ip_protocol;
        b[4] = self.marks.0;
        b[5] = self.slot;
        b[6..8].copy_from_slice(&self.segments.to_ne_bytes());
        b[8..16].copy_from_slice(&self.mono_ns.to_ne_bytes());
        b[16..32].copy_from_slice(&self.src);
        b[32..48].copy_from_slice(&self.dst);
        b[48..52].copy_from_slice(&self.wire_bytes.to_ne_bytes());
        b[52..56].copy_from_slice(&self.payload_bytes.to_ne_bytes());
        b[56..58].copy_from_slice(&self.src_port.to_ne_bytes());
        b[58..60].copy_from_slice(&self.dst_port.to_ne_bytes());
        b[60] = self.tcp_flags;
        b[61] = self.hop_limit;
        b[62..64].copy_from_slice(&self.tcp_window.to_ne_bytes());
        b
    }

    /// Way through the interface.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        if self.marks.has(Marks::EGRESS) {
            Direction::Egress
        } else {
            Direction::Ingress
        }
    }
}

/// `N` bytes at a constant offset of a record.
fn field<const N: usize>(b: &[u8; PACKET_RECORD_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused_and_round_trip(mut b: [u8; 64], valid: bool) {
            if valid {
                b[0] = KIND_PACKET;
                b[1] = RECORD_VERSION;
                b[2] = 8;
                b[5] &= 63;
                b[6] |= 1;
            }
            match PacketRecord::from_bytes(&b) {
                Ok(record) => prop_assert_eq!(record.to_bytes(), b),
                Err(_) => prop_assert!(!valid),
            }
        }
    }

    #[test]
    fn another_length_kind_version_slot_or_segment_count_is_refused() {
        let mut b = [0; 64];
        assert_eq!(
            PacketRecord::from_bytes(&b[..63]),
            Err(RecordError::Length(63))
        );
        assert_eq!(PacketRecord::from_bytes(&b), Err(RecordError::Kind(0)));
        b[0] = KIND_PACKET;
        assert_eq!(PacketRecord::from_bytes(&b), Err(RecordError::Version(0)));
        b[1] = RECORD_VERSION;
        assert_eq!(
            PacketRecord::from_bytes(&b),
            Err(RecordError::Field("length_units"))
        );
        b[2] = 8;
        assert_eq!(
            PacketRecord::from_bytes(&b),
            Err(RecordError::Field("segments"))
        );
        b[6] = 1;
        b[5] = 64;
        assert_eq!(
            PacketRecord::from_bytes(&b),
            Err(RecordError::Field("slot"))
        );
    }
}
