//! The path to a target: probes of rising hop limit.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netml_proto::v1;

use super::icmp::{AnswerKind, Prober};
use super::{DiagnoseError, TIME_MAX, Target};

/// Time for the answers to the probes of one hop.
const HOP_TIMEOUT: Duration = Duration::from_secs(1);

/// How far and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracerouteLimits {
    /// Largest hop limit, 1 to 64.
    pub hops_max: u32,
    /// Probes of each, 1 to 10.
    pub probes_per_hop: u32,
}

impl TracerouteLimits {
    /// Limits held within their ranges; 0 stands for the default (30 and 3).
    #[must_use]
    pub fn clamped(hops_max: u32, probes_per_hop: u32) -> Self {
        let or = |given, default| if given == 0 { default } else { given };
        Self {
            hops_max: or(hops_max, 30).clamp(1, 64),
            probes_per_hop: or(probes_per_hop, 3).clamp(1, 10),
        }
    }
}

/// Traces the path, giving each hop as it is known.
///
/// # Errors
/// [`DiagnoseError`]; hops given before it stand.
pub fn traceroute(
    target: &str,
    limits: TracerouteLimits,
    mut give: impl FnMut(v1::TracerouteHop) -> Result<(), DiagnoseError>,
) -> Result<(), DiagnoseError> {
    let address = Target::parse(target)?.resolve()?;
    let id = getrandom::u32().unwrap_or_default() as u16;
    let prober = Prober::open(address, id, true).map_err(DiagnoseError::Socket)?;
    let end = Instant::now() + TIME_MAX;
    for ttl in 1..=limits.hops_max {
        if Instant::now() >= end {
            break;
        }
        let (hop, last) = hop(&prober, address, ttl, limits.probes_per_hop)?;
        give(hop)?;
        if last {
            break;
        }
    }
    Ok(())
}

/// One hop, and whether it is the last.
fn hop(
    prober: &Prober,
    address: IpAddr,
    ttl: u32,
    probes: u32,
) -> Result<(v1::TracerouteHop, bool), DiagnoseError> {
    let failed = |source| DiagnoseError::Send { address, source };
    let first_seq = (ttl * 16) as u16;
    let mut sent_at = Vec::with_capacity(probes as usize);
    for probe in 0..probes as u16 {
        sent_at.push(Some(Instant::now()));
        prober.send(first_seq + probe, ttl).map_err(failed)?;
    }
    let mut hop = v1::TracerouteHop {
        ttl,
        ..Default::default()
    };
    let mut last = false;
    let deadline = Instant::now() + HOP_TIMEOUT;
    while sent_at.iter().any(Option::is_some) {
        let Some(answer) = prober.receive(deadline).map_err(failed)? else {
            break;
        };
        let index = usize::from(answer.seq.wrapping_sub(first_seq));
        // Answers of earlier hops and doubles fall out here.
        let Some(sent) = sent_at.get_mut(index).and_then(Option::take) else {
            continue;
        };
        hop.rtt_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        hop.address = answer.from.to_string();
        hop.reached |= answer.kind == AnswerKind::Reached;
        last |= answer.kind != AnswerKind::Hop;
    }
    hop.lost = sent_at.iter().flatten().count() as u32;
    Ok((hop, last))
}
