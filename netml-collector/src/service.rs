//! Word to the service manager: ready, stopping, how it fares, and that it makes progress.

use std::io;
use std::time::Duration;

use netml_collector::server::Running;
use netml_proto::daemon::notify::ServiceManager;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Words of progress in the time the manager waits for one.
const FEEDS: u32 = 3;

/// Time between two looks at how it fares, where nobody waits for word of progress.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Service {
    manager: ServiceManager,
    pulse: Interval,
    is_withheld: bool,
    told: String,
}

impl Service {
    /// That of the environment; where it cannot be reached that is said, and the collector runs without.
    pub(crate) fn of_environment() -> Self {
        let manager = ServiceManager::of_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager cannot be reached and is told nothing");
            ServiceManager::default()
        });
        let wanted = manager.watchdog().map(|longest| longest / FEEDS);
        let period = wanted.unwrap_or(STATUS_INTERVAL);
        let mut pulse = interval(period.max(Duration::from_millis(1)));
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            manager,
            pulse,
            is_withheld: false,
            told: String::new(),
        }
    }

    /// Both ports are open.
    pub(crate) fn ready(&mut self, running: &Running) {
        self.told = running.status_line();
        said(self.manager.ready(&self.told));
    }

    /// Waits until it is time to tell how it fares, and tells: of progress where every loop makes some.
    /// May be dropped and called again.
    pub(crate) async fn pulse(&mut self, running: &Running) {
        self.pulse.tick().await;
        let stalled = match self.manager.watchdog() {
            Some(_) => running.health.stalled(self.pulse.period()),
            None => Vec::new(),
        };
        let status = if stalled.is_empty() {
            running.status_line()
        } else {
            stalled.join("; ")
        };
        if !stalled.is_empty() && !self.is_withheld {
            tracing::warn!(
                why = status,
                "a loop stands still: the watchdog is not told of progress"
            );
        } else if stalled.is_empty() && self.is_withheld {
            tracing::info!("every loop makes progress again");
        }
        // One word for a stall, whose length would change it every time.
        let is_news = stalled.is_empty() || !self.is_withheld;
        self.is_withheld = !stalled.is_empty();
        if is_news && status != self.told {
            said(self.manager.status(&status));
            self.told = status;
        }
        if self.manager.watchdog().is_some() && !self.is_withheld {
            said(self.manager.feed_watchdog());
        }
    }

    /// The collector ends.
    pub(crate) fn stopping(&self) {
        said(self.manager.stopping());
    }
}

fn said(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the service manager took no word");
    }
}
