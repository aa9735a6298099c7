//! Packet records to judged flows: the pure core that live capture, replay, dataset building and
//! evaluation all run.
//!
//! The engine owns the flow table and the host windows, computes the features at the evaluation
//! points, judges them in batches and reports to a [`Sink`]. Its clock is the packets' own
//! (monotonic, never backwards) and what [`Engine::advance`] is told.

#[cfg(test)]
mod baseline_tests;
mod core;
mod judging;
mod path;

use netml_common::{Direction, PacketRecord};

use crate::baseline::WarmUp;
use crate::flow::FEATURES;
use crate::flow::beside::{Beside, Tunnel};
use crate::flow::key::FlowKey;
use crate::rules::Finding;
use crate::verdict::{FlowVerdict, Verdict};

pub use self::core::Engine;
pub use self::path::Path;

/// Bounds and time-outs of the engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most live flows; one more evicts the oldest, which is counted.
    pub flows_max: usize,
    /// Most hosts, and most pairs, with windows of their own; one more evicts the longest unseen.
    pub hosts_max: usize,
    /// Most hosts in one role whose usual behaviour is known, and as many of which it is not known
    /// yet; one more takes the place of the longest unseen of its sort, where that was not seen within
    /// a minute while it is learned. Both are counted.
    pub baselines_max: usize,
    /// Watching before anything is said of what is usual for a host.
    pub warm_up: WarmUp,
    /// A flow that lives this long is ended and begun anew.
    pub active_timeout_ns: u64,
    /// A TCP flow without a packet for this long ends.
    pub idle_timeout_ns: u64,
    /// The same for every other protocol.
    pub datagram_idle_timeout_ns: u64,
    /// A TCP flow with a SYN and no answer ends after this.
    pub half_open_timeout_ns: u64,
    /// A TCP flow ends this long after FIN or RST.
    pub closed_timeout_ns: u64,
    /// A live flow is reported anew at this interval when it changed.
    pub report_interval_ns: u64,
}

impl Default for Settings {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            flows_max: 65_536,
            hosts_max: 32_768,
            baselines_max: 4_096,
            warm_up: WarmUp::default(),
            active_timeout_ns: 120 * SECOND,
            idle_timeout_ns: 60 * SECOND,
            datagram_idle_timeout_ns: 30 * SECOND,
            half_open_timeout_ns: 10 * SECOND,
            closed_timeout_ns: 5 * SECOND,
            report_interval_ns: 5 * SECOND,
        }
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// No packet for the idle time-out.
    Idle,
    /// Lived for the active time-out.
    ActiveTimeout,
    /// Closed by FIN.
    Fin,
    /// Closed by RST.
    Rst,
    /// A SYN without an answer.
    HalfOpen,
    /// Its place was needed.
    Evicted,
    /// The sensor stops or the file ends.
    Shutdown,
}

impl EndReason {
    /// Stable name, as on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::ActiveTimeout => "active-timeout",
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::HalfOpen => "half-open",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where a reported flow is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// First report.
    Start,
    /// Changed since the last report.
    Update,
    /// Last report.
    End(EndReason),
}

/// Addresses and ports of a flow, source being its initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowEnds {
    /// Initiator's address, IPv4 mapped.
    pub src: [u8; 16],
    /// Responder's address, IPv4 mapped.
    pub dst: [u8; 16],
    /// Initiator's port; ICMP: type.
    pub src_port: u16,
    /// Responder's port; ICMP: code.
    pub dst_port: u16,
    /// Transport protocol (IANA).
    pub ip_protocol: u8,
    /// Interface slot.
    pub slot: u8,
}

/// A flow as it stands.
#[derive(Clone, Debug)]
pub struct FlowReport {
    /// Unique within one engine.
    pub flow_id: u64,
    /// Where it is in its life.
    pub state: FlowState,
    /// Who with whom.
    pub ends: FlowEnds,
    /// Direction at the interface of the initiator's packets.
    pub initiator_direction: Direction,
    /// First packet.
    pub first_mono_ns: u64,
    /// Last packet.
    pub last_mono_ns: u64,
    /// Wire packets from the initiator.
    pub fwd_packets: u64,
    /// Wire packets to the initiator.
    pub rev_packets: u64,
    /// Wire bytes from the initiator.
    pub fwd_bytes: u64,
    /// Wire bytes to the initiator.
    pub rev_bytes: u64,
    /// Of all these packets, those the kernel only counted: no record tells of them.
    pub unrecorded_packets: u64,
    /// Other slots on which the same addresses, ports and protocol were seen meanwhile, a bit each.
    pub also_seen_on: u64,
    /// OR of all TCP flags.
    pub tcp_flags: u8,
    /// Its verdict so far.
    pub verdict: FlowVerdict,
    /// What it has beside its totals.
    pub beside: Beside,
}

/// What the kernel counted of one flow instead of recording it, since it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTotals {
    /// The flow.
    pub key: FlowKey,
    /// The key's lower end began it, as far as the kernel knows.
    pub initiator_is_low: bool,
    /// Packets of the lower end leave through the interface.
    pub low_is_egress: bool,
    /// First packet the kernel counted; 0: not known.
    pub first_mono_ns: u64,
    /// Latest packet.
    pub last_mono_ns: u64,
    /// Sent by the key's lower end.
    pub low: HalfTotals,
    /// Sent by the key's higher end.
    pub high: HalfTotals,
}

/// Sums of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfTotals {
    /// Wire packets.
    pub packets: u64,
    /// Frames.
    pub frames: u64,
    /// Wire bytes.
    pub bytes: u64,
    /// Payload bytes.
    pub payload_bytes: u64,
    /// TCP flags among them that were not told before.
    pub tcp_flags: u8,
}

impl FlowTotals {
    /// Frames, both ways.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.low.frames + self.high.frames
    }

    /// Wire packets, both ways.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.low.packets + self.high.packets
    }
}

/// A packet after its flow was judged.
#[derive(Clone, Copy, Debug)]
pub struct JudgedPacket {
    /// The packet.
    pub record: PacketRecord,
    /// Its flow.
    pub flow_id: u64,
    /// True: sent by the flow's initiator.
    pub forward: bool,
    /// The flow's verdict so far.
    pub verdict: Verdict,
    /// Index of the kind into the model's classes; 0 is normal.
    pub class: u8,
    /// The flow's highest calibrated probability so far.
    pub probability: f32,
    /// The flow's highest score so far.
    pub score: f32,
    /// The tunnel that carries the flow.
    pub tunnel: Option<Tunnel>,
}

/// Features of a flow at an evaluation point, before they are judged.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationRow<'a> {
    /// Its flow.
    pub flow_id: u64,
    /// Who with whom.
    pub ends: FlowEnds,
    /// Packets of the flow so far.
    pub packets: u64,
    /// Time of the point.
    pub mono_ns: u64,
    /// The tunnel that carries the flow.
    pub tunnel: Option<Tunnel>,
    /// In the order of the schema; finite.
    pub features: &'a [f32; FEATURES],
    /// What the rules say.
    pub finding: Option<Finding>,
}

/// Takes what the engine reports. Calls come in the order of events within one flow.
pub trait Sink {
    /// A flow started, changed or ended.
    fn flow(&mut self, report: &FlowReport);
    /// A packet, after its flow was judged. Called once for every packet.
    fn packet(&mut self, packet: &JudgedPacket);
    /// A row at an evaluation point; wanted by dataset building only.
    fn row(&mut self, _row: &EvaluationRow<'_>) {}
}

/// Books of the engine, cumulative: `in == in ended flows + in live flows`, of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Records taken.
    pub packets_in: u64,
    /// Records in flows that have ended.
    pub packets_ended: u64,
    /// Records in live flows.
    pub packets_live: u64,
    /// Frames the kernel counted by flow, taken.
    pub unrecorded_in: u64,
    /// Of these in flows that have ended.
    pub unrecorded_ended: u64,
    /// Flows begun.
    pub flows_started: u64,
    /// Flows ended.
    pub flows_ended: u64,
    /// Flows ended because their place was needed; a part of `flows_ended`.
    pub flows_evicted: u64,
    /// Hosts and pairs whose windows were given up.
    pub hosts_evicted: u64,
    /// Hosts in one role of which what is usual was given up, known or not yet, and points of hosts
    /// that found no room.
    pub baselines_evicted: u64,
    /// Rows judged, or seen at evaluation points where no model is loaded.
    pub rows: u64,
    /// ICMP errors counted on the live flow they are about, beside being packets of their own.
    pub icmp_errors: u64,
    /// Records whose time stamp lay before that of an earlier one.
    pub out_of_order: u64,
}
