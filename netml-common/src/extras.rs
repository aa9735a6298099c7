//! What some packets have beside their record: the ends of a tunnel, the flow an ICMP error
//! quotes, the numbers of a DNS message.
//!
//! Each stands in a piece of its own behind the same three bytes as a packet record (kind, version,
//! length in units of eight bytes), contiguous behind the 64 bytes of the record in one entry of
//! the ring. Most packets have none. Byte order is the host's, of addresses the network's.

use crate::record::{PACKET_RECORD_BYTES, PacketRecord, RECORD_VERSION, RecordError};

/// [`TunnelRecord::kind`].
pub const KIND_TUNNEL: u8 = 2;
/// [`QuotedRecord::kind`].
pub const KIND_QUOTED: u8 = 3;
/// [`DnsRecord::kind`].
pub const KIND_DNS: u8 = 4;

/// Longest entry of the ring: a record with a tunnel's ends and a quoted flow.
pub const ENTRY_BYTES_MAX: usize =
    PACKET_RECORD_BYTES + size_of::<TunnelRecord>() + size_of::<QuotedRecord>();

/// How a packet was carried inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TunnelKind {
    /// VXLAN, UDP port 4789 (RFC 7348).
    Vxlan = 1,
    /// Geneve, UDP port 6081 (RFC 8926).
    Geneve = 2,
    /// GRE version 0, protocol 47 (RFC 2784, RFC 2890).
    Gre = 3,
    /// IPv4 in IPv4, protocol 4 (RFC 2003).
    Ipip = 4,
    /// IPv6 in IPv4, protocol 41 (RFC 4213).
    SixInFour = 5,
    /// IPv6 in IPv6, protocol 41 (RFC 2473).
    SixInSix = 6,
    /// IPv4 in IPv6, protocol 4 (RFC 2473).
    FourInSix = 7,
}

impl TunnelKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Vxlan,
        Self::Geneve,
        Self::Gre,
        Self::Ipip,
        Self::SixInFour,
        Self::SixInSix,
        Self::FourInSix,
    ];

    /// Stable name, on the wire and on the dashboard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Ipip => "ipip",
            Self::SixInFour => "6in4",
            Self::SixInSix => "6in6",
            Self::FourInSix => "4in6",
        }
    }
}

/// Ends of the tunnel a packet came out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct TunnelRecord {
    /// [`KIND_TUNNEL`].
    pub kind: u8,
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Length in units of eight bytes.
    pub length_units: u8,
    /// Number of a [`TunnelKind`], and the bits [`Self::HAS_NETWORK_ID`] and [`Self::DEEPER`].
    pub tunnel: u8,
    /// VXLAN or Geneve network identifier, GRE key; 0 where there is none.
    pub network_id: u32,
    /// Outer source address, IPv4 mapped.
    pub src: [u8; 16],
    /// Outer destination address, IPv4 mapped.
    pub dst: [u8; 16],
}

impl TunnelRecord {
    /// No tunnel: the kind is 0.
    pub const NONE: Self = Self {
        kind: 0,
        version: RECORD_VERSION,
        length_units: (size_of::<Self>() / 8) as u8,
        tunnel: 0,
        network_id: 0,
        src: [0; 16],
        dst: [0; 16],
    };
    /// Bits of [`Self::tunnel`] that are the number of a [`TunnelKind`].
    pub const KIND_BITS: u8 = !(Self::HAS_NETWORK_ID | Self::DEEPER);
    /// Bit of [`Self::tunnel`]: [`Self::network_id`] was on the wire.
    pub const HAS_NETWORK_ID: u8 = 0x40;
    /// Bit of [`Self::tunnel`]: the packet inside is a tunnel's as well, which was not opened.
    pub const DEEPER: u8 = 0x80;

    /// How the packet was carried; `None` for a number that is none.
    #[must_use]
    pub fn tunnel_kind(&self) -> Option<TunnelKind> {
        let number = self.tunnel & Self::KIND_BITS;
        TunnelKind::ALL
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    fn from_bytes(b: &[u8; size_of::<Self>()]) -> Result<Self, RecordError> {
        let record = Self {
            kind: b[0],
            version: b[1],
            length_units: b[2],
            tunnel: b[3],
            network_id: u32::from_ne_bytes(field(b, 4)),
            src: field(b, 8),
            dst: field(b, 24),
        };
        if record.tunnel_kind().is_none() {
            return Err(RecordError::Field("tunnel"));
        }
        Ok(record)
    }

    fn to_bytes(self) -> [u8; size_of::<Self>()] {
        let mut b = [0; size_of::<Self>()];
        b[..4].copy_from_slice(&[self.kind, self.version, self.length_units, self.tunnel]);
        b[4..8].copy_from_slice(&self.network_id.to_ne_bytes());
        b[8..24].copy_from_slice(&self.src);
        b[24..40].copy_from_slice(&self.dst);
        b
    }
}

/// The packet an ICMP or ICMPv6 error is about, as its sender sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct QuotedRecord {
    /// [`KIND_QUOTED`].
    pub kind: u8,
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Length in units of eight bytes.
    pub length_units: u8,
    /// Its transport protocol.
    pub ip_protocol: u8,
    /// Its source port; of ICMP: type; 0 where the quote is too short.
    pub src_port: u16,
    /// Its destination port; of ICMP: code; 0 where the quote is too short.
    pub dst_port: u16,
    /// Its source address, IPv4 mapped.
    pub src: [u8; 16],
    /// Its destination address, IPv4 mapped.
    pub dst: [u8; 16],
}

impl QuotedRecord {
    /// Nothing quoted: the kind is 0.
    pub const NONE: Self = Self {
        kind: 0,
        version: RECORD_VERSION,
        length_units: (size_of::<Self>() / 8) as u8,
        ip_protocol: 0,
        src_port: 0,
        dst_port: 0,
        src: [0; 16],
        dst: [0; 16],
    };

    fn from_bytes(b: &[u8; size_of::<Self>()]) -> Self {
        Self {
            kind: b[0],
            version: b[1],
            length_units: b[2],
            ip_protocol: b[3],
            src_port: u16::from_ne_bytes(field(b, 4)),
            dst_port: u16::from_ne_bytes(field(b, 6)),
            src: field(b, 8),
            dst: field(b, 24),
        }
    }

    fn to_bytes(self) -> [u8; size_of::<Self>()] {
        let mut b = [0; size_of::<Self>()];
        b[..4].copy_from_slice(&[self.kind, self.version, self.length_units, self.ip_protocol]);
        b[4..6].copy_from_slice(&self.src_port.to_ne_bytes());
        b[6..8].copy_from_slice(&self.dst_port.to_ne_bytes());
        b[8..24].copy_from_slice(&self.src);
        b[24..40].copy_from_slice(&self.dst);
        b
    }
}

/// Numbers of one DNS message (RFC 1035 §4.1). No name is among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct DnsRecord {
    /// [`KIND_DNS`].
    pub kind: u8,
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Length in units of eight bytes.
    pub length_units: u8,
    /// [`Self::RESPONSE`] and [`Self::NAMED`].
    pub flags: u8,
    /// Length of the first question's name as text, its dots included.
    pub name_bytes: u8,
    /// Labels of that name.
    pub labels: u8,
    /// Decimal digits in it.
    pub digits: u8,
    /// Result code; 0 is success, 3 "no such name".
    pub response_code: u8,
    /// Type the first question asks for.
    pub query_type: u16,
    /// Answer records by the header's count.
    pub answers: u16,
    /// Zero.
    pub reserved: u32,
}

impl DnsRecord {
    /// No DNS message: the kind is 0.
    pub const NONE: Self = Self {
        kind: 0,
        version: RECORD_VERSION,
        length_units: (size_of::<Self>() / 8) as u8,
        flags: 0,
        name_bytes: 0,
        labels: 0,
        digits: 0,
        response_code: 0,
        query_type: 0,
        answers: 0,
        reserved: 0,
    };
    /// Bit of [`Self::flags`]: an answer; unset: a question.
    pub const RESPONSE: u8 = 1;
    /// Bit of [`Self::flags`]: the first question was read to its end. Unset: there is none, or
    /// its name is cut, compressed or too long; name, labels, digits and type are then zero.
    pub const NAMED: u8 = 2;

    fn from_bytes(b: &[u8; size_of::<Self>()]) -> Self {
        Self {
            kind: b[0],
            version: b[1],
            length_units: b[2],
            flags: b[3],
            name_bytes: b[4],
            labels: b[5],
            digits: b[6],
            response_code: b[7],
            query_type: u16::from_ne_bytes(field(b, 8)),
            answers: u16::from_ne_bytes(field(b, 10)),
            reserved: u32::from_ne_bytes(field(b, 12)),
        }
    }

    fn to_bytes(self) -> [u8; size_of::<Self>()] {
        let mut b = [0; size_of::<Self>()];
        b[..4].copy_from_slice(&[self.kind, self.version, self.length_units, self.flags]);
        b[4..8].copy_from_slice(&[
            self.name_bytes,
            self.labels,
            self.digits,
            self.response_code,
        ]);
        b[8..10].copy_from_slice(&self.query_type.to_ne_bytes());
        b[10..12].copy_from_slice(&self.answers.to_ne_bytes());
        b[12..16].copy_from_slice(&self.reserved.to_ne_bytes());
        b
    }
}

const _: () = {
    assert!(size_of::<TunnelRecord>() == 40);
    assert!(size_of::<QuotedRecord>() == 40);
    assert!(size_of::<DnsRecord>() == 16);
    assert!(core::mem::offset_of!(TunnelRecord, network_id) == 4);
    assert!(core::mem::offset_of!(TunnelRecord, dst) == 24);
    assert!(core::mem::offset_of!(QuotedRecord, dst_port) == 6);
    assert!(core::mem::offset_of!(QuotedRecord, dst) == 24);
    assert!(core::mem::offset_of!(DnsRecord, query_type) == 8);
    assert!(core::mem::offset_of!(DnsRecord, reserved) == 12);
};

/// The pieces of one packet as the walk leaves them: those of kind 0 are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pieces {
    /// See [`TunnelRecord`].
    pub tunnel: TunnelRecord,
    /// See [`QuotedRecord`].
    pub quoted: QuotedRecord,
    /// See [`DnsRecord`]; never together with a quoted flow.
    pub dns: DnsRecord,
}

impl Pieces {
    /// None of them.
    pub const NONE: Self = Self {
        tunnel: TunnelRecord::NONE,
        quoted: QuotedRecord::NONE,
        dns: DnsRecord::NONE,
    };

    /// Takes all of them away.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.tunnel.kind = 0;
        self.quoted.kind = 0;
        self.dns.kind = 0;
    }

    /// True where the packet's record says all.
    #[must_use]
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.tunnel.kind | self.quoted.kind | self.dns.kind == 0
    }

    /// Those that are there.
    #[must_use]
    pub fn extras(&self) -> Extras {
        Extras {
            tunnel: (self.tunnel.kind != 0).then_some(self.tunnel),
            quoted: (self.quoted.kind != 0).then_some(self.quoted),
            dns: (self.dns.kind != 0).then_some(self.dns),
        }
    }
}

/// What a packet has beside its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Ends of the tunnel it came out of.
    pub tunnel: Option<TunnelRecord>,
    /// The flow it is an error about.
    pub quoted: Option<QuotedRecord>,
    /// Its DNS numbers.
    pub dns: Option<DnsRecord>,
}

impl Extras {
    /// Nothing.
    pub const NONE: Self = Self {
        tunnel: None,
        quoted: None,
        dns: None,
    };

    /// True where there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tunnel.is_none() && self.quoted.is_none() && self.dns.is_none()
    }

    /// Decodes what stands behind a packet record in its entry.
    ///
    /// # Errors
    /// [`RecordError`] for a piece that is cut, of an unknown kind or version, of another length
    /// than its kind has, or there twice.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, RecordError> {
        let mut extras = Self::NONE;
        while let Some(&[kind, version, length_units]) = bytes.first_chunk::<3>() {
            if version != RECORD_VERSION {
                return Err(RecordError::Version(version));
            }
            let taken = match kind {
                KIND_TUNNEL => {
                    let record = TunnelRecord::from_bytes(piece(bytes, length_units)?)?;
                    put(&mut extras.tunnel, record)?;
                    size_of::<TunnelRecord>()
                }
                KIND_QUOTED => {
                    let record = QuotedRecord::from_bytes(piece(bytes, length_units)?);
                    put(&mut extras.quoted, record)?;
                    size_of::<QuotedRecord>()
                }
                KIND_DNS => {
                    let record = DnsRecord::from_bytes(piece(bytes, length_units)?);
                    put(&mut extras.dns, record)?;
                    size_of::<DnsRecord>()
                }
                other => return Err(RecordError::Kind(other)),
            };
            bytes = &bytes[taken..];
        }
        if !bytes.is_empty() {
            return Err(RecordError::Length(bytes.len()));
        }
        Ok(extras)
    }
}

/// Decodes one entry of the ring: a packet record and what stands behind it.
///
/// # Errors
/// [`RecordError`] where any part of it is refused: the packet is then without a record.
#[inline]
pub fn decode_entry(bytes: &[u8]) -> Result<(PacketRecord, Extras), RecordError> {
    let Some((base, rest)) = bytes.split_at_checked(PACKET_RECORD_BYTES) else {
        return Err(RecordError::Length(bytes.len()));
    };
    let record = PacketRecord::from_bytes(base)?;
    if rest.is_empty() {
        return Ok((record, Extras::NONE));
    }
    Ok((record, Extras::from_bytes(rest)?))
}

/// Encodes one entry into `out`, the inverse of [`decode_entry`]; returns its length.
pub fn encode_entry(
    record: &PacketRecord,
    extras: &Extras,
    out: &mut [u8; ENTRY_BYTES_MAX + size_of::<DnsRecord>()],
) -> usize {
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        out[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    put(&record.to_bytes());
    if let Some(tunnel) = &extras.tunnel {
        put(&tunnel.to_bytes());
    }
    if let Some(quoted) = &extras.quoted {
        put(&quoted.to_bytes());
    }
    if let Some(dns) = &extras.dns {
        put(&dns.to_bytes());
    }
    length
}

/// The piece at the beginning of `bytes`, whose kind is `N` bytes long.
fn piece<const N: usize>(bytes: &[u8], length_units: u8) -> Result<&[u8; N], RecordError> {
    if usize::from(length_units) * 8 != N {
        return Err(RecordError::Field("length_units"));
    }
    bytes.first_chunk().ok_or(RecordError::Length(bytes.len()))
}

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), RecordError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(RecordError::Field("kind")),
    }
}

/// `N` bytes at a constant offset of a piece.
fn field<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const BUFFER: [u8; ENTRY_BYTES_MAX + 16] = [0; ENTRY_BYTES_MAX + 16];

    fn base() -> [u8; PACKET_RECORD_BYTES] {
        let mut b = [0; PACKET_RECORD_BYTES];
        b[0] = crate::record::KIND_PACKET;
        b[1] = RECORD_VERSION;
        b[2] = 8;
        b[6] = 1;
        b
    }

    fn piece_of(kind: u8, units: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = std::vec![kind, RECORD_VERSION, units];
        bytes.extend(&body[..usize::from(units) * 8 - 3]);
        bytes
    }

    proptest! {
        #[test]
        fn entries_of_known_pieces_round_trip(
            body: [u8; 40], tunnel in 0_u8..=8, bits: u8, parts in 0_u8..8,
        ) {
            let mut entry = base().to_vec();
            if parts & 1 != 0 {
                let mut piece = piece_of(KIND_TUNNEL, 5, &body);
                piece[3] = tunnel | bits & 0xc0;
                entry.extend(piece);
            }
            if parts & 2 != 0 {
                entry.extend(piece_of(KIND_QUOTED, 5, &body));
            }
            if parts & 4 != 0 {
                entry.extend(piece_of(KIND_DNS, 2, &body));
            }
            match decode_entry(&entry) {
                Ok((record, extras)) => {
                    let mut out = BUFFER;
                    let length = encode_entry(&record, &extras, &mut out);
                    prop_assert_eq!(&out[..length], &entry[..]);
                }
                Err(error) => {
                    prop_assert_eq!(error, RecordError::Field("tunnel"));
                    prop_assert!(parts & 1 != 0 && !(1..=7).contains(&tunnel));
                }
            }
        }

        #[test]
        fn any_bytes_behind_a_record_decode_or_are_refused(
            rest in proptest::collection::vec(any::<u8>(), 0..120),
            headers in proptest::collection::vec((0_u8..6, 0_u8..7), 0..4),
        ) {
            let mut entry = base().to_vec();
            for (kind, units) in headers {
                entry.extend([kind, RECORD_VERSION, units]);
                entry.extend(std::vec![1; (usize::from(units) * 8).saturating_sub(3)]);
            }
            entry.extend(rest);
            if let Ok((record, extras)) = decode_entry(&entry) {
                let mut out = BUFFER;
                let length = encode_entry(&record, &extras, &mut out);
                prop_assert_eq!(length, entry.len());
            }
        }
    }

    #[test]
    fn a_plain_record_is_an_entry_of_its_own() {
        let (record, extras) = decode_entry(&base()).unwrap();
        assert_eq!(record.to_bytes(), base());
        assert!(extras.is_empty());
        assert_eq!(decode_entry(&base()[..63]), Err(RecordError::Length(63)));
    }

    #[test]
    fn unknown_cut_and_repeated_pieces_refuse_the_entry() {
        let with = |pieces: &[Vec<u8>]| {
            let mut entry = base().to_vec();
            entry.extend(pieces.concat());
            decode_entry(&entry)
        };
        let dns = piece_of(KIND_DNS, 2, &[0; 40]);
        assert!(with(std::slice::from_ref(&dns)).unwrap().1.dns.is_some());
        assert_eq!(with(&[piece_of(9, 1, &[0; 40])]), Err(RecordError::Kind(9)));
        assert_eq!(
            with(&[dns.clone(), dns.clone()]),
            Err(RecordError::Field("kind"))
        );
        assert_eq!(
            with(&[piece_of(KIND_DNS, 1, &[0; 40])]),
            Err(RecordError::Field("length_units"))
        );
        assert_eq!(with(&[dns[..10].to_vec()]), Err(RecordError::Length(10)));
        assert_eq!(with(&[std::vec![4, 1]]), Err(RecordError::Length(2)));
        assert_eq!(with(&[std::vec![4, 2, 2, 0]]), Err(RecordError::Version(2)));
    }
}
