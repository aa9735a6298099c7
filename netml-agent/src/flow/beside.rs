//! What some flows have beside their totals: tunnel ends, ICMP errors about them, DNS numbers.

use netml_common::{DnsRecord, Extras, TunnelKind, TunnelRecord};

/// What a flow has beside its totals. Most have none of it, and no memory for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The tunnel its first packet came out of.
    pub tunnel: Option<Tunnel>,
    /// ICMP and ICMPv6 errors that quote one of its packets. They are packets of flows of their own
    /// and in none of this flow's totals.
    pub icmp_errors: u32,
    /// The latest of them.
    pub icmp_last: Option<IcmpError>,
    /// Of its DNS messages.
    pub dns: Option<DnsNumbers>,
}

/// What an ICMP or ICMPv6 error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Its type.
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
}

/// Ends of the tunnel that carries a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// How it is carried.
    pub kind: TunnelKind,
    /// VXLAN or Geneve network identifier, or GRE key.
    pub network_id: Option<u32>,
    /// Outer source address of the initiator's packets, IPv4 mapped.
    pub src: [u8; 16],
    /// Their outer destination address.
    pub dst: [u8; 16],
    /// The packets inside are a tunnel's as well, which is not opened.
    pub deeper: bool,
}

/// Numbers of a flow's DNS messages; those of the name are the last question's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsNumbers {
    /// Questions seen.
    pub questions: u32,
    /// Answers seen.
    pub answers: u32,
    /// Answers whose result code is not 0.
    pub failures: u32,
    /// Records the last answer holds, by its header.
    pub answer_records: u16,
    /// Type the last question asks for.
    pub query_type: u16,
    /// Length of its name as text, dots included.
    pub name_bytes: u8,
    /// Labels of its name.
    pub labels: u8,
    /// Decimal digits in its name.
    pub digits: u8,
    /// Result code of the last answer.
    pub response_code: u8,
}

impl Beside {
    /// Adds what a packet of the flow has beside its record.
    pub fn add(&mut self, extras: &Extras, forward: bool) {
        if self.tunnel.is_none()
            && let Some(record) = &extras.tunnel
        {
            self.tunnel = Tunnel::of(record, forward);
        }
        if let Some(record) = &extras.dns {
            self.dns.get_or_insert_default().add(record);
        }
    }
}

impl Tunnel {
    fn of(record: &TunnelRecord, forward: bool) -> Option<Self> {
        let (src, dst) = if forward {
            (record.src, record.dst)
        } else {
            (record.dst, record.src)
        };
        Some(Self {
            kind: record.tunnel_kind()?,
            network_id: (record.tunnel & TunnelRecord::HAS_NETWORK_ID != 0)
                .then_some(record.network_id),
            src,
            dst,
            deeper: record.tunnel & TunnelRecord::DEEPER != 0,
        })
    }
}

impl DnsNumbers {
    fn add(&mut self, record: &DnsRecord) {
        if record.flags & DnsRecord::RESPONSE == 0 {
            self.questions = self.questions.saturating_add(1);
        } else {
            self.answers = self.answers.saturating_add(1);
            self.failures = self
                .failures
                .saturating_add(u32::from(record.response_code != 0));
            self.response_code = record.response_code;
            self.answer_records = record.answers;
        }
        // An answer repeats its question.
        if record.flags & DnsRecord::NAMED != 0 {
            self.query_type = record.query_type;
            self.name_bytes = record.name_bytes;
            self.labels = record.labels;
            self.digits = record.digits;
        }
    }
}
