//! `traceroute` and `probe`: the commands of the dashboard, on the terminal.

use std::io::{self, Write};

use anyhow::anyhow;

use super::Misuse;
use crate::diagnose::{self, DiagnoseError, ProbeLimits, TargetError, TracerouteLimits};

/// Arguments of `traceroute`.
#[derive(Debug, clap::Args)]
pub struct TracerouteArgs {
    /// Host name or address
    #[arg(default_value = "8.8.8.8", allow_hyphen_values = true)]
    pub target: String,
    /// Largest number of hops, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub hops: u32,
    /// Probes of each hop, 1 to 10
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub probes: u32,
}

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// Host name or address
    #[arg(default_value = "8.8.8.8", allow_hyphen_values = true)]
    pub target: String,
    /// Probes, 1 to 50
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub count: u32,
    /// Time between two probes, 10 to 5000
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub interval_ms: u32,
}

/// Traces the path to a host.
///
/// # Errors
/// Where the target is none (misuse) or nothing can be sent.
pub fn traceroute(args: &TracerouteArgs) -> anyhow::Result<()> {
    let limits = TracerouteLimits::clamped(args.hops, args.probes);
    let mut out = io::stdout().lock();
    diagnose::traceroute(&args.target, limits, |hop| {
        let times: Vec<_> = hop.rtt_ms.iter().map(|ms| format!("{ms:.3} ms")).collect();
        let lost = "* ".repeat(hop.lost as usize);
        let address = if hop.address.is_empty() {
            "*"
        } else {
            &hop.address
        };
        let line = format!(
            "{:>2}  {:<39} {} {}",
            hop.ttl,
            address,
            times.join("  "),
            lost
        );
        writeln!(out, "{}", line.trim_end()).map_err(|_| DiagnoseError::Abandoned)
    })
    .map_err(explain)
}

/// Measures latency, jitter and loss to a host.
///
/// # Errors
/// Where the target is none (misuse), nothing can be sent, or nothing answers.
pub fn probe(args: &ProbeArgs) -> anyhow::Result<()> {
    let limits = ProbeLimits::clamped(args.count, args.interval_ms);
    let got = diagnose::probe(&args.target, limits).map_err(explain)?;
    let lost = got.sent - got.received;
    writeln!(
        io::stdout(),
        "{} by {}: {} sent, {} answered, {:.0} % lost; ms: min {:.3} mean {:.3} max {:.3} jitter {:.3}",
        got.address,
        got.method,
        got.sent,
        got.received,
        100.0 * f64::from(lost) / f64::from(got.sent.max(1)),
        got.rtt_min_ms,
        got.rtt_mean_ms,
        got.rtt_max_ms,
        got.jitter_ms
    )?;
    if got.received == 0 {
        return Err(anyhow!(
            "{} does not answer; see whether it is up and a route leads there",
            got.address
        ));
    }
    Ok(())
}

fn explain(error: DiagnoseError) -> anyhow::Error {
    match error {
        DiagnoseError::Target(TargetError::NotAHost) => {
            anyhow!(Misuse(TargetError::NotAHost.to_string()))
        }
        other => anyhow!(other),
    }
}
