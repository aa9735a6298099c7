//! End-to-end checks: collector, sensor and lab as processes and namespaces.

mod books;
mod browser;
mod http;
mod lab_capture;
mod limits;
mod replay;
pub(crate) mod system;
mod verdicts;
mod view;

use std::path::Path;
use std::time::Duration;

use crate::test::Outcome;

pub(crate) use replay::counted as packets_in_books;

/// A shortened run of the collector, and the long one of `test --all`.
const COLLECTOR_RUN: Duration = Duration::from_secs(60);
const COLLECTOR_RUN_LONG: Duration = Duration::from_secs(600);

/// An end-to-end check.
pub(crate) struct Check {
    /// Its name: what must hold.
    pub(crate) name: &'static str,
    /// Needs namespaces and BPF.
    pub(crate) needs_root: bool,
    run: fn(&Settings<'_>) -> anyhow::Result<Outcome>,
}

/// What the checks are told.
pub(crate) struct Settings<'a> {
    /// Where the captures are, if they are.
    pub(crate) data: Option<&'a Path>,
    /// Run the long forms.
    pub(crate) all: bool,
}

impl Check {
    /// Runs the check.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn run(&self, settings: &Settings<'_>) -> anyhow::Result<Outcome> {
        (self.run)(settings)
    }
}

fn passed(said: String) -> Outcome {
    Outcome::Passed(said)
}

/// All checks.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "e2e: packets and bytes equal the peer's counters, TC",
        needs_root: true,
        run: |_| books::exact_with_tc().map(passed),
    },
    Check {
        name: "e2e: packets and bytes equal the peer's counters, native XDP",
        needs_root: true,
        run: |_| books::exact_with_native_xdp().map(passed),
    },
    Check {
        name: "e2e: with offloads, segments reconcile with the peer's",
        needs_root: true,
        run: |_| books::segments_with_offloads().map(passed),
    },
    Check {
        name: "e2e: a packet is shown within 2 s",
        needs_root: true,
        run: |_| view::packet_shown_within_two_seconds().map(passed),
    },
    Check {
        name: "e2e: flows, totals and destinations agree with the lab",
        needs_root: true,
        run: |_| view::tables_agree_with_the_lab().map(passed),
    },
    Check {
        name: "e2e: a scan and a flood are SUSPICIOUS, the rest is not",
        needs_root: true,
        run: |_| verdicts::lab_is_judged_right().map(passed),
    },
    Check {
        name: "e2e: a capture of the lab holds what its label says",
        needs_root: true,
        run: |_| lab_capture::holds_what_its_label_says().map(passed),
    },
    Check {
        name: "e2e: the dashboard in a browser on live data",
        needs_root: true,
        run: |_| browser::dashboard_on_live_data(),
    },
    Check {
        name: "e2e: 50,000 live flows in 128 MiB",
        needs_root: true,
        run: |_| limits::agent_memory_at_fifty_thousand_flows().map(passed),
    },
    Check {
        name: "e2e: the collector's memory at 1,000 records/s",
        needs_root: true,
        run: |settings| {
            let run = if settings.all {
                COLLECTOR_RUN_LONG
            } else {
                COLLECTOR_RUN
            };
            limits::collector_memory(run).map(passed)
        },
    },
    Check {
        name: "e2e: every capture is accounted for",
        needs_root: false,
        run: |settings| match settings.data {
            Some(data) => replay::every_capture_is_accounted_for(data).map(passed),
            None => Ok(Outcome::NotHere("NETML_DATA names no captures".to_owned())),
        },
    },
];
