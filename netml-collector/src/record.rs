//! What sensors report, after the checks: past [`crate::ingest::check`] every value here is valid
//! by construction. Wire messages become these types there; these become rows in
//! [`crate::store`] and answers in [`crate::web`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use netml_common::LossReason;

/// Gives an enum with stable names and numbers: names for answers, numbers for columns.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Stable name, as in answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Stable number, as on the wire and in columns.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The value of a number.
            #[must_use]
            pub const fn of_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The value of a name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

named! {
    /// What the sensor says of a flow or packet.
    Verdict {
        /// No model ran. Never shown as normal.
        NoVerdict = 1, "NO_VERDICT";
        /// Below the model's lower threshold.
        Normal = 2, "NORMAL";
        /// Between the thresholds.
        Unsure = 3, "UNSURE";
        /// At or above the upper threshold.
        Suspicious = 4, "SUSPICIOUS";
    }
}

named! {
    /// Direction at the sensor's interface.
    Direction {
        /// Received by the host.
        Ingress = 1, "ingress";
        /// Sent by the host.
        Egress = 2, "egress";
    }
}

named! {
    /// Where a flow is in its life.
    FlowState {
        /// First report.
        Start = 1, "start";
        /// Changed since the last report.
        Update = 2, "update";
        /// Last report.
        End = 3, "end";
    }
}

named! {
    /// Where a sensor's packets come from.
    Source {
        /// Not said.
        Unspecified = 0, "none";
        /// The host's interfaces.
        Live = 1, "live";
        /// A capture file the user named.
        Replay = 2, "replay";
        /// The replay shown where no privilege is to be had.
        Bundled = 3, "bundled";
        /// The project's own namespaces.
        Lab = 4, "lab";
    }
}

/// Name of a sensor: `[A-Za-z0-9._-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SensorName(Arc<str>);

impl SensorName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The name if it matches the pattern.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=Self::BYTES_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SensorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a sensor says of itself when it connects.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Its name.
    pub sensor: SensorName,
    /// Version of the agent.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Boot id of the host.
    pub boot_id: String,
    /// Where its packets come from.
    pub source: Source,
    /// Stream id of this start of the agent.
    pub stream_id: u64,
    /// Interfaces watched.
    pub interfaces: Vec<Interface>,
    /// Model loaded; empty: none.
    pub model_id: String,
    /// Digest of the feature schema.
    pub schema_digest: String,
    /// Commands the sensor's own configuration accepts.
    pub accepted_commands: Vec<String>,
}

/// One watched interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Interface {
    /// Index into the sensor's counters.
    pub slot: u32,
    /// Name, such as `eth0`.
    pub name: String,
    /// How ingress is attached: `native-xdp`, `tcx`, `clsact`, `generic-xdp` or `replay`.
    pub ingress_mode: String,
    /// How egress is attached: `tcx`, `clsact` or `replay`.
    pub egress_mode: String,
    /// Totals are of aggregated frames, not of wire packets.
    pub aggregated_totals: bool,
}

/// A batch that passed the checks. Records keep their place: record `i` has sequence number
/// `first_seq + i`, and `None` stands for one that was refused.
#[derive(Clone, Debug)]
pub struct SensorBatch {
    /// Who sent it.
    pub sensor: SensorName,
    /// Stream the sequence numbers belong to.
    pub stream_id: u64,
    /// Sequence number of the first record, at least 1.
    pub first_seq: u64,
    /// Another collector has the stream up to here: numbers up to it that never came are no gap.
    pub elsewhere_seq: u64,
    /// The records.
    pub records: Vec<Option<Record>>,
}

impl SensorBatch {
    /// The stream's watermark as it counts for this batch, from what is stored here. It says what is
    /// missing, and never takes a record of the batch for one that is stored.
    #[must_use]
    pub fn watermark_from(&self, stored_seq: u64) -> u64 {
        stored_seq.max(self.elsewhere_seq.min(self.first_seq.saturating_sub(1)))
    }

    /// Sequence number of the last record. The checks made sure that it does not overflow.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq
            .saturating_add(self.records.len() as u64)
            .saturating_sub(1)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Exact kernel totals.
    Counters(Counters),
    /// A flow as it stands.
    Flow(Box<Flow>),
    /// A packet sample.
    Packet(Packet),
    /// Something that happened.
    Event(Event),
    /// How the sensor fares.
    Health(Health),
}

/// Exact totals of one interface and direction, cumulative since `attach_id`.
/// All values fit in an `i64`.
#[derive(Clone, Debug, PartialEq)]
pub struct Counters {
    /// When they were read.
    pub unix_ns: i64,
    /// Interface name.
    pub interface: String,
    /// Direction.
    pub direction: Direction,
    /// New at every attach; totals restart from zero.
    pub attach_id: u64,
    /// Cumulative totals.
    pub totals: CounterTotals,
}

/// Cumulative values of [`Counters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterTotals {
    /// Wire packets.
    pub packets: u64,
    /// Wire bytes.
    pub bytes: u64,
    /// Frames the program saw: `frames == recorded + mapped + Σ lost`.
    pub frames: u64,
    /// Frames with a record.
    pub recorded: u64,
    /// Frames counted by flow instead of a record.
    pub mapped: u64,
    /// Frames with neither, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Wire packets by protocol class.
    pub protocol_packets: BTreeMap<String, u64>,
    /// Wire bytes by protocol class.
    pub protocol_bytes: BTreeMap<String, u64>,
}

impl CounterTotals {
    /// Adds the totals of another interface.
    pub fn add(&mut self, other: &Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.frames = self.frames.saturating_add(other.frames);
        self.recorded = self.recorded.saturating_add(other.recorded);
        self.mapped = self.mapped.saturating_add(other.mapped);
        for (sums, values) in [
            (&mut self.lost, &other.lost),
            (&mut self.protocol_packets, &other.protocol_packets),
            (&mut self.protocol_bytes, &other.protocol_bytes),
        ] {
            for (name, value) in values {
                let sum = sums.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*value);
            }
        }
    }

    /// Frames that gave neither a record nor a count by flow, over all reasons.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Those of them that are missing from the analysis: a frame without an IP packet inside, such
    /// as ARP, is not. A reason that is not known here counts as missing.
    #[must_use]
    pub fn missing_total(&self) -> u64 {
        let holds_no_ip = |name: &str| {
            LossReason::ALL
                .iter()
                .any(|reason| reason.is_not_ip() && reason.name() == name)
        };
        let missing = self.lost.iter().filter(|(name, _)| !holds_no_ip(name));
        missing.fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }
}

/// A bidirectional flow as it stands. Source is the initiator.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// Unique within its stream.
    pub flow_id: u64,
    /// Where it is in its life.
    pub state: FlowState,
    /// Why it ended; empty before.
    pub end_reason: String,
    /// First packet.
    pub first_unix_ns: i64,
    /// Last packet.
    pub last_unix_ns: i64,
    /// Initiator's address.
    pub src_ip: IpAddr,
    /// Responder's address.
    pub dst_ip: IpAddr,
    /// Initiator's port; ICMP: type.
    pub src_port: u16,
    /// Responder's port; ICMP: code.
    pub dst_port: u16,
    /// Transport protocol (IANA).
    pub ip_protocol: u8,
    /// Interface name.
    pub interface: String,
    /// Wire packets from the initiator.
    pub fwd_packets: u64,
    /// Wire packets to the initiator.
    pub rev_packets: u64,
    /// Wire bytes from the initiator.
    pub fwd_bytes: u64,
    /// Wire bytes to the initiator.
    pub rev_bytes: u64,
    /// OR of all TCP flags.
    pub tcp_flags: u8,
    /// Verdict so far.
    pub verdict: Verdict,
    /// Most probable attack kind; empty unless unsure or suspicious.
    pub kind: String,
    /// Calibrated probability of attack, 0 to 1.
    pub probability: f64,
    /// Combined score, 0 to 1.
    pub score: f64,
    /// What a rule found.
    pub rule: Option<RuleFinding>,
    /// The forest's own answer.
    pub forest: Verdict,
    /// The forest's own score, 0 to 1.
    pub forest_score: f64,
    /// What the hosts' own past says; `None`: not told.
    pub baseline: Option<Baseline>,
    /// What drove the forest's score.
    pub reasons: Vec<Reason>,
    /// Model that judged it; empty: none.
    pub model_id: String,
    /// Packets the sensor lost while the flow lived.
    pub lost_meanwhile: u64,
    /// Of its packets those the sensor only counted: no feature of single packets saw them.
    pub unrecorded_packets: u64,
    /// Expected false alarms a day at this score; `None` where not known.
    pub expected_false_alarms_per_day: Option<f64>,
    /// Direction of the initiator's packets at the interface.
    pub initiator_direction: Option<Direction>,
    /// Other interfaces of the sensor the same addresses, ports and protocol were seen on meanwhile.
    pub also_seen_on: Vec<String>,
    /// The tunnel that carries it.
    pub tunnel: Option<Tunnel>,
    /// ICMP errors that quote one of its packets; they are packets of flows of their own.
    pub icmp_errors: u32,
    /// The latest of them.
    pub icmp_last: Option<IcmpError>,
    /// Of its DNS messages.
    pub dns: Option<DnsNumbers>,
}

/// Ends of the tunnel that carries a flow.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Tunnel {
    /// `vxlan`, `geneve`, `gre`, `ipip`, `6in4`, `6in6` or `4in6`.
    pub kind: String,
    /// VXLAN or Geneve network identifier, GRE key; null: none on the wire.
    pub network_id: Option<u32>,
    /// Outer source of the initiator's packets.
    #[schema(value_type = String)]
    pub src_ip: IpAddr,
    /// Their outer destination.
    #[schema(value_type = String)]
    pub dst_ip: IpAddr,
    /// There is a tunnel inside as well, which the sensor does not open.
    pub deeper: bool,
}

/// What an ICMP error says; of ICMPv6 where the flow is of IPv6.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct IcmpError {
    /// Its type.
    #[serde(rename = "type")]
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
}

/// Numbers of a flow's DNS messages; of the name those of the last question.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct DnsNumbers {
    /// Questions seen.
    pub questions: u32,
    /// Answers seen.
    pub answers: u32,
    /// Answers with another result code than 0.
    pub failures: u32,
    /// Length of the name as text, dots included.
    pub name_bytes: u8,
    /// Its labels.
    pub labels: u8,
    /// Decimal digits in it.
    pub digits: u8,
    /// Type asked for, by its number.
    pub query_type: u16,
    /// Result code of the last answer.
    pub response_code: u8,
    /// Records in the last answer, by its header.
    pub answer_records: u16,
}

/// A count that reached the fixed limit of a rule.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct RuleFinding {
    /// The rule.
    pub rule: String,
    /// The count.
    pub value: f64,
    /// The limit it reached.
    pub limit: f64,
}

/// One feature's part in a verdict.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// Name of the feature, or `others`.
    pub feature: String,
    /// Its value.
    pub value: f64,
    /// Its part of the uncalibrated margin.
    pub contribution: f64,
    /// Least that is usual for the host; null: not known yet, or the feature is of no host.
    pub usual_low: Option<f64>,
    /// Most that is usual for the host; null where `usual_low` is.
    pub usual_high: Option<f64>,
}

/// What the hosts' own past says of a flow; without weight in the verdict.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Baseline {
    /// What is usual for the initiator is known.
    pub initiator_known: bool,
    /// What is usual for the responder is known.
    pub responder_known: bool,
    /// How far outside of the usual, highest so far; 0 where nothing is known.
    pub score: f64,
    /// From this score on a flow is called unusual.
    pub limit: f64,
    /// A known responder answered on a port on which it was not seen answering before.
    #[serde(default)]
    pub new_port: bool,
    /// A known initiator was not seen in touch with this responder before.
    #[serde(default)]
    pub first_contact: bool,
    /// The feature farthest outside at that score; null: all lay within.
    pub farthest: Option<Deviation>,
}

/// A feature outside of its usual range.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Deviation {
    /// Name of the feature.
    pub feature: String,
    /// Its value.
    pub value: f64,
    /// Least that is usual.
    pub usual_low: f64,
    /// Most that is usual.
    pub usual_high: f64,
}

/// A packet sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// When it passed.
    pub unix_ns: i64,
    /// Source address.
    pub src_ip: IpAddr,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Source port; ICMP: type.
    pub src_port: u16,
    /// Destination port; ICMP: code.
    pub dst_port: u16,
    /// Transport protocol (IANA).
    pub ip_protocol: u8,
    /// Bytes on the wire.
    pub wire_bytes: u32,
    /// Wire packets in it.
    pub segments: u32,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Direction.
    pub direction: Direction,
    /// Interface name.
    pub interface: String,
    /// Verdict of its flow as known then.
    pub verdict: Verdict,
    /// Attack kind; empty: none.
    pub kind: String,
    /// Calibrated probability, 0 to 1.
    pub probability: f64,
    /// Its flow, within the same stream.
    pub flow_id: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub unix_ns: i64,
    /// What, from a small set of names.
    pub kind: String,
    /// `info`, `warning` or `alarm`.
    pub severity: String,
    /// One line for people.
    pub message: String,
    /// Details.
    pub fields: BTreeMap<String, String>,
}

/// How a sensor fares.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// When, in unix milliseconds.
    pub unix_ms: i64,
    /// Resident memory of the agent.
    pub resident_bytes: u64,
    /// Share of one core over the last interval.
    pub cpu_share: f64,
    /// Size of the ring.
    pub ring_bytes: u64,
    /// Bytes waiting in the ring.
    pub ring_backlog_bytes: u64,
    /// Live flows.
    pub flows_live: u64,
    /// Bound of live flows.
    pub flows_max: u64,
    /// Records not yet acknowledged.
    pub backlog_records: u64,
    /// The ring fills: known flows are counted in the kernel and sampled.
    #[serde(default)]
    pub stepped_down: bool,
    /// Latest change of that, in unix milliseconds; null: none since attaching.
    #[serde(default)]
    pub mode_since_unix_ms: Option<i64>,
    /// Times the sensor stepped down since attaching.
    #[serde(default)]
    pub step_downs: u64,
    /// Books of the agent, cumulative since its start.
    pub books: BTreeMap<String, u64>,
}
