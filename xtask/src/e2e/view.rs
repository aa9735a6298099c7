//! What the dashboard's API shows against what the lab sent.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::books::Baseline;
use super::system::System;
use crate::lab::report::{Exact, FlowSent, Label};
use crate::lab::{self, Offloads, Space, space};

/// Time a packet has to appear in.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// Flows are reported every five seconds, and rolled up a little later.
const PATIENCE: Duration = Duration::from_secs(40);

/// A packet on the wire is in the recent-packets table within two seconds.
pub(super) fn packet_shown_within_two_seconds() -> anyhow::Result<String> {
    let mut system = System::start(Offloads::Off)?;
    system.quiet()?;
    let mut slowest = Duration::ZERO;
    for port in 20_001..=20_005_u16 {
        let sent = Instant::now();
        system.lab.within(Space::Client, move || {
            let socket = UdpSocket::bind((space::client(1), 0))?;
            socket.send_to(b"look at me", (space::SERVER, port))?;
            Ok(())
        })?;
        let shown = system.eventually(SHOWN_WITHIN, |system| {
            let path = format!("/api/packets?limit=10&port={port}");
            let page = system.api.json(&path)?;
            let packets = page["items"].as_array().context("no items")?;
            let ours = packets.iter().any(|packet| {
                packet["dst_port"] == port
                    && packet["src_ip"] == "198.18.1.1"
                    && packet["dst_ip"] == "198.18.0.1"
                    && packet["protocol"] == "udp"
                    && packet["direction"] == "ingress"
                    && packet["bytes"] == 14 + 20 + 8 + 10
            });
            Ok(ours
                .then(|| sent.elapsed())
                .ok_or_else(|| format!("the packet to port {port} is not shown")))
        })?;
        slowest = slowest.max(shown);
    }
    Ok(format!(
        "five packets, the slowest shown after {} ms",
        slowest.as_millis()
    ))
}

/// Flows, totals and top destinations are those of the lab's reports.
pub(super) fn tables_agree_with_the_lab() -> anyhow::Result<String> {
    let mut system = System::start(Offloads::Off)?;
    let baseline = Baseline::take(&mut system)?;
    let started_unix_ms = lab::report::unix_ms();
    let chosen = lab::choose("dns,ping,outbound,web")?;
    let reports = lab::play(&system.lab, &chosen, Duration::from_secs(10), 11)?;
    for report in &reports {
        ensure!(
            report.label == Label::Benign && report.failures == 0,
            "the lab itself failed: {} failures in {}",
            report.failures,
            report.scenario
        );
    }
    system.quiet()?;
    let sent: Vec<&FlowSent> = reports.iter().flat_map(|report| &report.flows).collect();
    let flows = system.eventually(PATIENCE, |system| {
        let flows = system.api.items("/api/flows?limit=1000")?;
        let wrong = sent.iter().find_map(|sent| disagreement(sent, &flows));
        Ok(wrong.map_or(Ok(flows), Err))
    })?;
    system.eventually(PATIENCE, |system| baseline.agreement(system))?;
    let top = system.eventually(PATIENCE, |system| {
        let path = format!(
            "/api/talkers?by=destination&order=packets&limit=100&from_unix_ms={started_unix_ms}"
        );
        let talkers = system.api.json(&path)?;
        let talkers = talkers["items"].as_array().context("no items")?.clone();
        let missing = sent.iter().find(|sent| {
            let key = sent.dst.ip().to_string();
            !talkers.iter().any(|talker| talker["key"] == key.as_str())
        });
        Ok(match missing {
            None => Ok(talkers),
            Some(flow) => Err(format!("{} is no top destination", flow.dst.ip())),
        })
    })?;
    ensure!(
        top.first()
            .is_some_and(|first| first["key"] == "198.18.0.1" || first["key"] == "fd00:6e6d:6c::1"),
        "most packets went to the server, but the first destination is {:?}",
        top.first()
    );
    Ok(format!(
        "{} flows of the lab among {} shown",
        sent.len(),
        flows.len()
    ))
}

/// What is wrong with the API's view of a flow the lab made; `None` where it agrees.
fn disagreement(sent: &FlowSent, flows: &[Value]) -> Option<String> {
    let (src, dst) = (sent.src.ip().to_string(), sent.dst.ip().to_string());
    let ours: Vec<&Value> = flows
        .iter()
        .filter(|flow| {
            let ports = sent.protocol == "icmp"
                || (flow["src_port"] == sent.src.port() && flow["dst_port"] == sent.dst.port());
            ports
                && flow["src_ip"] == src.as_str()
                && flow["dst_ip"] == dst.as_str()
                && flow["protocol"] == sent.protocol
        })
        .collect();
    if ours.is_empty() {
        return Some(format!(
            "{} {} → {} is not shown",
            sent.protocol, sent.src, sent.dst
        ));
    }
    let exact = sent.exact?;
    let sum = |name: &str| ours.iter().filter_map(|flow| flow[name].as_u64()).sum();
    let shown = Exact {
        fwd_packets: sum("fwd_packets"),
        fwd_bytes: sum("fwd_bytes"),
        rev_packets: sum("rev_packets"),
        rev_bytes: sum("rev_bytes"),
    };
    (shown != exact).then(|| {
        format!(
            "{} {} → {}: sent {exact:?}, shown {shown:?}",
            sent.protocol, sent.src, sent.dst
        )
    })
}
