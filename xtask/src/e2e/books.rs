//! The sensor's totals against the link counters of the other end of the wire.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use super::system::System;
use crate::lab::space::LinkCounters;
use crate::lab::{self, Offloads};

/// Traffic of both kinds, TCP, UDP, ICMP, both IP versions, large and small packets.
const SCENARIOS: &str =
    "web,tls,dns,bulk,ssh,ping,outbound,syn-scan,udp-flood,brute-force,dns-tunnel";
/// Counters travel once a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// With offloads off, packets and bytes of each direction are those of the peer exactly, and every
/// frame is a record or a counted loss. With TC ingress both ends count the same bytes.
pub(super) fn exact_with_tc() -> anyhow::Result<String> {
    exact(&["--capture", "tc"])
}

/// The same with native XDP.
pub(super) fn exact_with_native_xdp() -> anyhow::Result<String> {
    exact(&["--capture", "native"])
}

fn exact(mode: &[&str]) -> anyhow::Result<String> {
    let mut system = System::start_with(Offloads::Off, mode)?;
    let baseline = Baseline::take(&mut system)?;
    lab::play(
        &system.lab,
        &lab::choose(SCENARIOS)?,
        Duration::from_secs(12),
        3,
    )?;
    system.quiet()?;
    let sensor = system.eventually(PATIENCE, |system| baseline.agreement(system))?;
    ensure!(
        sensor.rx_packets > 1_000,
        "too little traffic to prove anything: {sensor:?}"
    );
    let balance = balanced(&system)?;
    Ok(format!(
        "{} packets out, {} in, equal to the peer's; {balance}",
        sensor.rx_packets, sensor.tx_packets
    ))
}

/// Counters of both ends at one quiet moment, so that later ones can be compared.
pub(super) struct Baseline {
    peer: LinkCounters,
    sensor: LinkCounters,
    /// What the link counts less than is on the wire, for each packet to the server.
    uncounted_bytes: u64,
}

impl Baseline {
    /// Waits for a quiet wire and settled counters.
    pub(super) fn take(system: &mut System) -> anyhow::Result<Self> {
        /// With native XDP at its other end, veth counts a packet where that end takes it from its
        /// queue, which is behind the Ethernet header (drivers/net/veth.c, veth_xdp_rcv_skb).
        const ETHERNET_HEADER_BYTES: u64 = 14;
        let peer = system.quiet()?;
        let sensor = settled(system)?;
        let mode = system.sensor()?["interfaces"][0]["ingress_mode"].clone();
        Ok(Self {
            peer,
            sensor,
            uncounted_bytes: if mode == "native-xdp" {
                ETHERNET_HEADER_BYTES
            } else {
                0
            },
        })
    }

    /// What passed since, once both ends say the same; otherwise what each says.
    pub(super) fn agreement(
        &self,
        system: &System,
    ) -> anyhow::Result<Result<LinkCounters, String>> {
        let mut peer = difference(&system.lab.peer_counters()?, &self.peer);
        peer.tx_bytes += peer.tx_packets * self.uncounted_bytes;
        let sensor = difference(&sensor_counters(&system.sensor_totals()?), &self.sensor);
        Ok(if peer == sensor {
            Ok(sensor)
        } else {
            Err(format!("the peer counted {peer:?}, the sensor {sensor:?}"))
        })
    }
}

/// With offloads on, the sensor counts wire segments and the link counts super-packets: frames are
/// equal, and the extra bytes are those of the headers the segments get.
pub(super) fn segments_with_offloads() -> anyhow::Result<String> {
    /// Ethernet, IPv4 and TCP headers without options, and the same of IPv6 with all options.
    const SEGMENT_HEADERS_BYTES: (u64, u64) = (14 + 20 + 20, 14 + 40 + 60);
    let mut system = System::start(Offloads::On)?;
    let before = system.quiet()?;
    let totals_before = settled(&mut system)?;
    let frames_before = frames(&system.sensor()?);
    lab::play(
        &system.lab,
        &lab::choose("bulk,web")?,
        Duration::from_secs(8),
        5,
    )?;
    system.quiet()?;
    system.eventually(PATIENCE, |system| {
        let peer = difference(&system.lab.peer_counters()?, &before);
        let sensor = difference(&sensor_counters(&system.sensor_totals()?), &totals_before);
        let frames = frames(&system.sensor()?) - frames_before;
        let extra_packets = (sensor.rx_packets + sensor.tx_packets).saturating_sub(frames);
        let extra_bytes =
            (sensor.rx_bytes + sensor.tx_bytes).saturating_sub(peer.rx_bytes + peer.tx_bytes);
        let (least, most) = SEGMENT_HEADERS_BYTES;
        let reconciled = frames == peer.rx_packets + peer.tx_packets
            && (extra_packets * least..=extra_packets * most).contains(&extra_bytes);
        Ok(if reconciled {
            Ok(format!(
                "{frames} frames on both sides, {extra_packets} further segments with \
                 {extra_bytes} bytes of headers"
            ))
        } else {
            Err(format!(
                "the peer counted {peer:?}; the sensor {frames} frames, {sensor:?}"
            ))
        })
    })
}

/// The sensor's counters once they have stopped moving.
fn settled(system: &mut System) -> anyhow::Result<LinkCounters> {
    let mut last = sensor_counters(&system.sensor_totals()?);
    let mut same = 0;
    system.eventually(PATIENCE, |system| {
        let now = sensor_counters(&system.sensor_totals()?);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        // Twenty looks are two seconds: two reports of the sensor.
        Ok(if same >= 20 {
            Ok(now)
        } else {
            Err("the sensor's counters never settle".to_owned())
        })
    })
}

/// `frames == recorded + mapped + Σ lost` as the API has it.
fn balanced(system: &System) -> anyhow::Result<String> {
    let sensor = system.sensor()?;
    let frames = frames(&sensor);
    let recorded = sensor["recorded"].as_u64().unwrap_or_default();
    let mapped = sensor["mapped"].as_u64().unwrap_or_default();
    let lost: u64 = sensor["lost"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, packets)| packets.as_u64())
        .sum();
    ensure!(
        frames == recorded + mapped + lost && frames > 0,
        "{frames} frames, but {recorded} recorded, {mapped} counted by flow and {lost} lost"
    );
    Ok(format!(
        "{frames} frames = {recorded} recorded + {mapped} counted by flow + {lost} without either"
    ))
}

fn frames(sensor: &Value) -> u64 {
    sensor["frames"].as_u64().unwrap_or_default()
}

/// The sensor's totals, seen from the peer: what the server sent, the peer received.
fn sensor_counters(totals: &Value) -> LinkCounters {
    let number = |name: &str| totals[name].as_u64().unwrap_or_default();
    LinkCounters {
        rx_packets: number("tx_packets"),
        rx_bytes: number("tx_bytes"),
        tx_packets: number("rx_packets"),
        tx_bytes: number("rx_bytes"),
    }
}

fn difference(now: &LinkCounters, before: &LinkCounters) -> LinkCounters {
    LinkCounters {
        rx_packets: now.rx_packets - before.rx_packets,
        rx_bytes: now.rx_bytes - before.rx_bytes,
        tx_packets: now.tx_packets - before.tx_packets,
        tx_bytes: now.tx_bytes - before.tx_bytes,
    }
}

impl System {
    fn sensor_totals(&self) -> anyhow::Result<Value> {
        self.api.json("/api/totals")
    }
}
