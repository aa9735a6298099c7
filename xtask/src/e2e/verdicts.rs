//! Verdicts on the lab's traffic, none of which the model was trained on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::system::System;
use crate::lab::report::Label;
use crate::lab::{self, Offloads, space};

/// Most flows of ordinary traffic that may be SUSPICIOUS, in percent.
const BENIGN_PERCENT_MAX: f64 = 1.0;
/// Least flows of a scan or flood that must be SUSPICIOUS, in percent.
const ATTACK_PERCENT_MIN: f64 = 50.0;
/// Attacks that must be seen; what the model makes of the others is printed.
const MUST_BE_SEEN: [&str; 2] = ["syn-scan", "syn-flood"];
/// How long ordinary traffic runs, and each attack behind it.
const BENIGN_RUN: Duration = Duration::from_secs(45);
const ATTACK_RUN: Duration = Duration::from_secs(8);

/// Ordinary flows are not SUSPICIOUS, a scan and a flood are.
pub(super) fn lab_is_judged_right() -> anyhow::Result<String> {
    let mut system = System::start(Offloads::On)?;
    ensure!(
        system.sensor()?["model_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty()),
        "the sensor has no model"
    );
    lab::play(&system.lab, &lab::choose("benign")?, BENIGN_RUN, 21)?;
    let benign = shares(&mut system, |_, malicious| !malicious)?;
    let mut lines = vec![format!("benign {benign}")];
    let mut faults = Vec::new();
    if benign.percent() > BENIGN_PERCENT_MAX {
        faults.push(format!("ordinary traffic: {benign}"));
    }
    for scenario in lab::scenarios().filter(|scenario| scenario.label == Label::Malicious) {
        let reports = lab::play(&system.lab, &[scenario], ATTACK_RUN, 22)?;
        let peers: Vec<IpAddr> = reports
            .iter()
            .flat_map(|report| report.peers.clone())
            .collect();
        let share = shares(&mut system, |flow, malicious| {
            if peers.is_empty() {
                // Invented sources: all malicious flows that are not the attacker's own.
                malicious && !ends(flow).iter().any(|end| end.starts_with("198.18.66."))
            } else {
                ends(flow)
                    .iter()
                    .any(|end| peers.iter().any(|peer| peer.to_string() == *end))
            }
        })?;
        if MUST_BE_SEEN.contains(&scenario.name) && share.percent() < ATTACK_PERCENT_MIN {
            faults.push(format!("{}: {share}", scenario.name));
        }
        lines.push(format!("{} {share}", scenario.name));
    }
    let summary = lines.join("; ");
    ensure!(faults.is_empty(), "{} ({summary})", faults.join("; "));
    Ok(summary)
}

/// Flows by verdict.
#[derive(Debug, Default)]
struct Share {
    flows: usize,
    suspicious: usize,
    by_verdict: BTreeMap<String, usize>,
}

impl Share {
    fn percent(&self) -> f64 {
        if self.flows == 0 {
            return 0.0;
        }
        self.suspicious as f64 * 100.0 / self.flows as f64
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} % of {} SUSPICIOUS {:?}",
            self.percent(),
            self.flows,
            self.by_verdict
        )
    }
}

/// Verdicts of the newest flows that `wanted` picks, once their number has settled.
fn shares(system: &mut System, wanted: impl Fn(&Value, bool) -> bool) -> anyhow::Result<Share> {
    system.quiet()?;
    let mut last = usize::MAX;
    system.eventually(Duration::from_secs(60), |system| {
        let mut share = Share::default();
        for flow in system.api.items("/api/flows?limit=1000")? {
            let malicious = ends(&flow)
                .iter()
                .any(|end| end.parse().is_ok_and(space::is_malicious));
            if !wanted(&flow, malicious) {
                continue;
            }
            let verdict = flow["verdict"]
                .as_str()
                .context("a flow without a verdict")?;
            share.flows += 1;
            share.suspicious += usize::from(verdict == "SUSPICIOUS");
            *share.by_verdict.entry(verdict.to_owned()).or_default() += 1;
        }
        let settled = share.flows > 0 && share.flows == last;
        last = share.flows;
        if !settled {
            // Flows are reported every five seconds.
            std::thread::sleep(Duration::from_secs(3));
        }
        Ok(if settled {
            Ok(share)
        } else {
            Err("the number of flows does not settle".to_owned())
        })
    })
}

fn ends(flow: &Value) -> [&str; 2] {
    [
        flow["src_ip"].as_str().unwrap_or_default(),
        flow["dst_ip"].as_str().unwrap_or_default(),
    ]
}
