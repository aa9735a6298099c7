//! Word to the service manager: ready, stopping, how it fares, and that it makes progress.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use netml_proto::daemon::notify::ServiceManager;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::health::Observed;

/// Words of progress in the time the manager waits for one.
const FEEDS: u32 = 3;

/// See the module.
pub(super) struct Service {
    manager: ServiceManager,
    observed: Arc<Observed>,
    pulse: Option<Interval>,
    is_ready: bool,
    is_withheld: bool,
    told: String,
}

impl Service {
    /// That of the environment; where it cannot be reached that is said, and the sensor runs without.
    pub(super) fn of_environment(observed: Arc<Observed>) -> Self {
        let manager = ServiceManager::of_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager cannot be reached and is told nothing");
            ServiceManager::default()
        });
        Self {
            manager,
            observed,
            pulse: None,
            is_ready: false,
            is_withheld: false,
            told: String::new(),
        }
    }

    /// After each report: at the first one the sensor is ready.
    pub(super) fn reported(&mut self) {
        let status = self.observed.status_line();
        if !self.is_ready {
            self.is_ready = true;
            said(self.manager.ready(&status));
            self.pulse = self.manager.watchdog().map(|longest| {
                let mut pulse = interval((longest / FEEDS).max(Duration::from_millis(1)));
                pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
                pulse
            });
        } else if status != self.told && !self.is_withheld {
            said(self.manager.status(&status));
        }
        self.told = status;
    }

    /// Waits until it is time to tell of progress, and does where every stage made some; for ever where
    /// nobody waits for word. May be dropped and called again.
    pub(super) async fn pulse(&mut self) {
        let Some(pulse) = &mut self.pulse else {
            return std::future::pending().await;
        };
        pulse.tick().await;
        let stalled = self.observed.stalled(pulse.period());
        if stalled.is_empty() {
            if std::mem::take(&mut self.is_withheld) {
                tracing::info!("every stage makes progress again");
                said(self.manager.status(&self.told));
            }
            said(self.manager.feed_watchdog());
        } else if !self.is_withheld {
            self.is_withheld = true;
            let why = stalled.join("; ");
            tracing::warn!(
                why,
                "a stage stands still: the watchdog is not told of progress"
            );
            said(self.manager.status(&why));
        }
    }

    /// The sensor ends.
    pub(super) fn stopping(&self) {
        said(self.manager.stopping());
    }
}

fn said(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the service manager took no word");
    }
}
