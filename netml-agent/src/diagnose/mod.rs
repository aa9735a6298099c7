//! Traceroute and latency probes, run on the sensor.
//!
//! Data in: a command with a target that is checked before anything is sent. Data out: results,
//! one by one, the last marked as done. Each command runs on a thread of its own, far from the
//! packet path. Bounds: [`COMMANDS_MAX`] at once, [`TIME_MAX`] each, and the limits of
//! [`TracerouteLimits`] and [`ProbeLimits`]; names are resolved within [`RESOLVE_TIMEOUT`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netml_proto::v1;
use tokio::sync::mpsc;

mod icmp;
mod probe;
mod target;
mod traceroute;

pub use probe::{ProbeLimits, probe};
pub use target::{Target, TargetError};
pub use traceroute::{TracerouteLimits, traceroute};

/// Commands that run at once; one more is answered with an error.
pub const COMMANDS_MAX: usize = 2;

/// Results that wait to be sent; a command waits for room.
pub const RESULTS_MAX: usize = 64;

/// Time one command may take.
pub const TIME_MAX: Duration = Duration::from_secs(90);

/// Time the resolution of a name may take.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command gave no (full) result.
#[derive(Debug, thiserror::Error)]
pub enum DiagnoseError {
    /// The target is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No socket for it.
    #[error("cannot open a socket for probes: {0}; run as root or with CAP_NET_RAW")]
    Socket(std::io::Error),
    /// Sending failed.
    #[error("cannot send to {address}: {source}")]
    Send {
        /// Where to.
        address: std::net::IpAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Nobody takes the results any more.
    #[error("nobody takes the results")]
    Abandoned,
}

/// Commands this sensor runs for a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Accept {
    /// Path to a target.
    Traceroute,
    /// Latency, jitter and loss to a target.
    Probe,
}

impl Accept {
    /// Stable name, as in the hello.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traceroute => "traceroute",
            Self::Probe => "probe",
        }
    }
}

/// Runs commands of the collector.
#[derive(Clone, Debug)]
pub struct Runner {
    accepted: Vec<Accept>,
    running: Arc<AtomicUsize>,
}

impl Runner {
    /// A runner of the accepted commands; others are answered with an error.
    #[must_use]
    pub fn new(accepted: Vec<Accept>) -> Self {
        Self {
            accepted,
            running: Arc::default(),
        }
    }

    /// Names of the accepted commands.
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        self.accepted
            .iter()
            .map(|accept| accept.name().to_owned())
            .collect()
    }

    /// Starts a command; its results go to `results`. Never waits.
    pub fn start(&self, command: v1::Command, results: mpsc::Sender<v1::CommandResult>) {
        let id = command.id;
        if let Err(error) = self.try_start(command, &results) {
            let refused = v1::CommandResult {
                id,
                done: true,
                error,
                result: None,
            };
            if results.try_send(refused).is_err() {
                tracing::debug!(id, "no room to refuse a command");
            }
        }
    }

    fn try_start(
        &self,
        command: v1::Command,
        results: &mpsc::Sender<v1::CommandResult>,
    ) -> Result<(), String> {
        let wanted = command.command.ok_or("an empty command")?;
        let accept = match &wanted {
            v1::command::Command::Traceroute(_) => Accept::Traceroute,
            v1::command::Command::Probe(_) => Accept::Probe,
        };
        if !self.accepted.contains(&accept) {
            return Err(format!(
                "this sensor does not accept {}; start it with --accept-command {}",
                accept.name(),
                accept.name()
            ));
        }
        let place = Place::take(&self.running)
            .ok_or_else(|| format!("{COMMANDS_MAX} commands run already; try again later"))?;
        let id = command.id;
        let results = results.clone();
        std::thread::Builder::new()
            .name("diagnose".into())
            .spawn(move || {
                let place = place;
                run(id, wanted, &results);
                drop(place);
            })
            .map(drop)
            .map_err(|error| format!("cannot start the command: {error}"))
    }
}

/// One of the places for running commands, given back at drop.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = running.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < COMMANDS_MAX).then_some(count + 1)
        });
        taken.ok().map(|_| Self(Arc::clone(running)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a command to its end; every way out sends a result that says done.
fn run(id: u64, wanted: v1::command::Command, results: &mpsc::Sender<v1::CommandResult>) {
    let done = match wanted {
        v1::command::Command::Traceroute(wanted) => {
            let limits = TracerouteLimits::clamped(wanted.hops_max, wanted.probes_per_hop);
            traceroute(&wanted.target, limits, |hop| {
                let result = v1::CommandResult {
                    id,
                    done: false,
                    error: String::new(),
                    result: Some(v1::command_result::Result::Hop(hop)),
                };
                results
                    .blocking_send(result)
                    .map_err(|_| DiagnoseError::Abandoned)
            })
            .map(|()| None)
        }
        v1::command::Command::Probe(wanted) => {
            let limits = ProbeLimits::clamped(wanted.count, wanted.interval_ms);
            probe(&wanted.target, limits)
                .map(|summary| Some(v1::command_result::Result::Probe(summary)))
        }
    };
    let (result, error) = match done {
        Ok(result) => (result, String::new()),
        Err(error) => (None, error.to_string()),
    };
    let last = v1::CommandResult {
        id,
        done: true,
        error,
        result,
    };
    if results.blocking_send(last).is_err() {
        tracing::debug!(id, "nobody takes a command's result");
    }
}

#[cfg(test)]
mod tests;
