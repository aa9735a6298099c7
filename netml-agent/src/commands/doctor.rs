//! `doctor`: looks at this host and says what helps or hinders the sensor.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use serde::Serialize;

use super::Misuse;
use crate::doctor::facts::InterfaceFacts;
use crate::doctor::gather::{self, Questions};
use crate::doctor::{self, Check, State};
use crate::export::transport;
use crate::probe::{self, Interface, Leftover, ProbeError, Selection};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface to look at, or a pattern, may be repeated; default: those with a default route
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// Look at all interfaces but the loopback
    #[arg(long)]
    pub all: bool,
    /// Network namespace they are in: a name of `ip netns`, or a path
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Where the collector takes sensors
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub collector: String,
    /// Where the collector keeps data
    #[arg(long, value_name = "DIR", default_value = "netml-data")]
    pub data: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Remove the filters that killed sensors left, and say which
    #[arg(long)]
    pub clean: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The worst of all checks.
    state: State,
    checks: Vec<Check>,
    /// Filters removed, with `--clean` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<Removed>>,
}

#[derive(Debug, Serialize)]
struct Removed {
    interface: String,
    program: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Where an argument is wrong (misuse), leftovers cannot be removed, or something will not work.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let transport::Place { host, port } =
        transport::place(&args.collector).map_err(|error| anyhow!(Misuse(error.to_string())))?;
    let collector = Some((args.collector.clone(), host, port));
    let (interfaces, leftovers) =
        probe::within(args.netns.as_deref(), || look(args)).map_err(probe_error)?;
    let removed = leftovers.map(|leftovers| {
        let removed = leftovers.into_iter().map(|leftover| Removed {
            interface: leftover.interface,
            program: leftover.program,
        });
        removed.collect()
    });
    let checks = doctor::checks(&gather::facts(&Questions {
        interfaces,
        collector,
        data: args.data.clone(),
    }));
    let report = Report {
        state: doctor::worst(&checks),
        checks,
        removed,
    };
    let text = if args.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        format!("{json}\n")
    } else {
        table(&report)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    if report.state == State::WillNotWork {
        let failing: Vec<_> = report
            .checks
            .iter()
            .filter(|check| check.state == State::WillNotWork)
            .map(|check| check.id)
            .collect();
        bail!("will not work: {}", failing.join(", "));
    }
    Ok(())
}

/// The interfaces, and with `--clean` what was removed from them.
fn look(args: &Args) -> Result<(Vec<InterfaceFacts>, Option<Vec<Leftover>>), ProbeError> {
    let existing = probe::list_interfaces()?;
    let interfaces = chosen(args, &existing)?;
    let leftovers = match args.clean {
        false => None,
        true => Some(probe::clean(&existing)?),
    };
    Ok((
        interfaces.iter().map(gather::interface).collect(),
        leftovers,
    ))
}

/// As `run` chooses; a host where nothing can be chosen is looked at without interfaces.
fn chosen(args: &Args, existing: &[Interface]) -> Result<Vec<Interface>, ProbeError> {
    let selection = Selection::new(&args.interface, args.all);
    match probe::choose(&selection, existing) {
        Err(ProbeError::NoInterface { .. }) => Ok(Vec::new()),
        chosen => chosen,
    }
}

fn probe_error(error: ProbeError) -> anyhow::Error {
    if error.is_misuse() {
        anyhow!(Misuse(error.to_string()))
    } else {
        anyhow!(error)
    }
}

/// For people: what is wrong comes with its command on a line of its own.
fn table(report: &Report) -> String {
    let mut lines = Vec::new();
    for check in &report.checks {
        let what = match &check.subject {
            Some(subject) => format!("{} {}", check.id, shown(subject)),
            None => check.id.to_owned(),
        };
        lines.push(format!(
            "{:<14} {what:<24} {}",
            check.state.name(),
            shown(&check.why)
        ));
        if let Some(mend) = &check.mend {
            lines.push(format!("{:<39} → {}", "", shown(mend)));
        }
    }
    for removed in report.removed.iter().flatten() {
        lines.push(format!(
            "removed        {} from {}",
            removed.program,
            shown(&removed.interface)
        ));
    }
    if report.removed.as_ref().is_some_and(Vec::is_empty) {
        lines.push("removed        nothing: no filters of killed sensors".into());
    }
    lines.push(format!("all in all: {}", report.state.name()));
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// Text of the host without what a terminal could take for a command.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
