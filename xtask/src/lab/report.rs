//! What a scenario sent, for tests to compare with what the sensor saw.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Most flows listed one by one; the rest is in the counts only.
const FLOWS_LISTED_MAX: usize = 2_000;

/// Truth about a scenario's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Label {
    /// Ordinary.
    Benign,
    /// An attack, or what an infected host does.
    Malicious,
}

/// One flow a scenario made. Packets and bytes are those on the wire; they are given where the
/// generator knows them exactly, which it does not for what the kernel's TCP makes of a stream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FlowSent {
    /// Initiator.
    pub(crate) src: SocketAddr,
    /// Responder.
    pub(crate) dst: SocketAddr,
    /// `tcp`, `udp` or `icmp`.
    pub(crate) protocol: &'static str,
    /// Exact counts, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<Exact>,
}

/// Exact counts of a flow, bytes from the Ethernet header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Exact {
    /// Packets of the initiator.
    pub(crate) fwd_packets: u64,
    /// Bytes of the initiator.
    pub(crate) fwd_bytes: u64,
    /// Packets to the initiator.
    pub(crate) rev_packets: u64,
    /// Bytes to the initiator.
    pub(crate) rev_bytes: u64,
}

/// What one run of a scenario sent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Name of the scenario.
    pub(crate) scenario: &'static str,
    /// Truth about it.
    pub(crate) label: Label,
    /// Kind of attack or traffic.
    pub(crate) kind: &'static str,
    /// Addresses that take part in this scenario and, besides the server, in no other.
    pub(crate) peers: Vec<IpAddr>,
    /// First moment, unix milliseconds.
    pub(crate) started_unix_ms: u64,
    /// Last moment, unix milliseconds.
    pub(crate) ended_unix_ms: u64,
    /// Flows made, listed or not.
    pub(crate) flows_total: u64,
    /// Packets put on the wire by hand; 0 where the kernel made them.
    pub(crate) crafted_packets: u64,
    /// Up to [`FLOWS_LISTED_MAX`] of the flows.
    pub(crate) flows: Vec<FlowSent>,
    /// Connections that failed; expected of scans, a fault of the lab elsewhere.
    pub(crate) failures: u64,
}

impl Report {
    /// An empty report that starts now.
    pub(crate) fn new(scenario: &'static str, label: Label, kind: &'static str) -> Self {
        Self {
            scenario,
            label,
            kind,
            peers: Vec::new(),
            started_unix_ms: unix_ms(),
            ended_unix_ms: 0,
            flows_total: 0,
            crafted_packets: 0,
            flows: Vec::new(),
            failures: 0,
        }
    }

    /// Adds a flow.
    pub(crate) fn flow(&mut self, flow: FlowSent) {
        self.flows_total += 1;
        if self.flows.len() < FLOWS_LISTED_MAX {
            self.flows.push(flow);
        }
    }

    /// Adds a TCP flow.
    pub(crate) fn tcp(&mut self, src: SocketAddr, dst: SocketAddr) {
        self.flow(FlowSent {
            src,
            dst,
            protocol: "tcp",
            exact: None,
        });
    }

    /// Adds what a second worker of the same scenario sent.
    pub(crate) fn merge(&mut self, other: Self) {
        for peer in other.peers {
            if !self.peers.contains(&peer) {
                self.peers.push(peer);
            }
        }
        let room = FLOWS_LISTED_MAX.saturating_sub(self.flows.len());
        self.flows.extend(other.flows.into_iter().take(room));
        self.flows_total += other.flows_total;
        self.crafted_packets += other.crafted_packets;
        self.failures += other.failures;
    }
}

/// The wall clock, unix milliseconds.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
