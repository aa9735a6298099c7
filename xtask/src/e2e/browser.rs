//! The dashboard's browser tests against a collector that a sensor in the lab feeds.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;

use super::system::System;
use crate::lab::{self, Offloads};
use crate::process::{is_installed, log_dir, workspace};
use crate::test::{Outcome, finish_within};

/// Longest time the browser may take.
const PATIENCE: Duration = Duration::from_secs(420);
/// The lab's traffic goes on for longer than that, and is stopped when the browser is done.
const TRAFFIC: Duration = Duration::from_secs(430);

/// Runs `npm test` with the address of a live dashboard.
pub(super) fn dashboard_on_live_data() -> anyhow::Result<Outcome> {
    for program in ["npm", "chromium"] {
        if !is_installed(program) {
            return Ok(Outcome::Skipped(format!(
                "{program} is missing: cargo xtask setup"
            )));
        }
    }
    let system = System::start(Offloads::On)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for scenario in lab::choose("web,dns,ssh,ping,outbound,syn-scan")? {
        running.push(lab::start(&system.lab, scenario, TRAFFIC, 31, &stop)?);
    }
    let log = log_dir()?.join("dashboard-live.log");
    let file = std::fs::File::create(&log)?;
    let mut command = Command::new("npm");
    command
        .current_dir(workspace().join("web"))
        .args(["run", "test"])
        .env("NETML_DASHBOARD_URL", format!("http://{}", system.api.0))
        .stdout(file.try_clone()?)
        .stderr(file);
    let ended = finish_within(&mut command, PATIENCE);
    stop.store(true, Ordering::SeqCst);
    for scenario in running {
        scenario.finish()?;
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    ensure!(ended?, "the browser tests failed:\n{said}");
    Ok(Outcome::Passed(String::new()))
}
