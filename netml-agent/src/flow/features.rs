//! From the state of a flow and its hosts to one row of features.

use super::decay::{decay_factor, share};
use super::host::{HostWindow, PairWindow, Tries};
use super::schema::{FEATURE_SPECS, FEATURES};
use super::state::Flow;

/// Everything a feature may look at, all of it brought to `now_ns`.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Time of the evaluation point.
    pub now_ns: u64,
    /// The flow.
    pub flow: &'a Flow,
    /// Window of the initiator.
    pub src: &'a HostWindow,
    /// Window of the responder.
    pub dst: &'a HostWindow,
    /// Window of the two.
    pub pair: &'a PairWindow,
    /// Weight this flow still has in the decayed counts of flows; none of one that goes on.
    pub own: f32,
}

/// Flows a share is diluted by, so that one or two flows do not make a rate.
const PRIOR_FLOWS: f32 = 2.0;

impl<'a> Moment<'a> {
    /// Gathers what a row needs.
    #[must_use]
    pub fn new(
        now_ns: u64,
        flow: &'a Flow,
        src: &'a HostWindow,
        dst: &'a HostWindow,
        pair: &'a PairWindow,
    ) -> Self {
        let own = if flow.goes_on {
            0.0
        } else {
            decay_factor(now_ns.saturating_sub(flow.first_ns))
        };
        Self {
            now_ns,
            flow,
            src,
            dst,
            pair,
            own,
        }
    }

    /// One row in the order of the schema; every value is finite.
    #[must_use]
    pub fn row(&self) -> [f32; FEATURES] {
        let mut row = [0.0; FEATURES];
        for (value, spec) in row.iter_mut().zip(&FEATURE_SPECS) {
            let computed = (spec.compute)(self);
            *value = if computed.is_finite() { computed } else { 0.0 };
        }
        row
    }

    /// Seconds since the first packet, at least a millisecond.
    #[must_use]
    pub fn seconds(&self) -> f32 {
        (self.flow.last_ns.saturating_sub(self.flow.first_ns) as f32 / 1e9).max(1e-3)
    }

    /// Seconds from the first packet until now, which for a flow judged in its quiet is after its
    /// latest packet.
    #[must_use]
    pub fn seconds_since_begin(&self) -> f32 {
        self.now_ns.saturating_sub(self.flow.first_ns) as f32 / 1e9
    }

    /// Share of *other* flows without an answer, of `flows` of which `answered` were.
    #[must_use]
    pub fn unanswered_others(&self, flows: f32, answered: f32) -> f32 {
        let own_answered = if self.flow.rev.packets > 0 {
            self.own
        } else {
            0.0
        };
        let others = (flows - self.own).max(0.0);
        let unanswered = (others - (answered - own_answered).max(0.0)).max(0.0);
        share(unanswered, others + PRIOR_FLOWS)
    }

    /// Decayed *other* flows that brought no payload back, of `flows` of which `fed` did.
    #[must_use]
    pub fn barren_others(&self, flows: f32, fed: f32) -> f32 {
        let own_fed = if self.flow.rev.payload_bytes > 0 {
            self.own
        } else {
            0.0
        };
        let others = (flows - self.own).max(0.0);
        (others - (fed - own_fed).max(0.0)).max(0.0)
    }

    /// The same as a share of the other flows.
    #[must_use]
    pub fn barren_share_others(&self, flows: f32, fed: f32) -> f32 {
        let others = (flows - self.own).max(0.0);
        share(self.barren_others(flows, fed), others + PRIOR_FLOWS)
    }

    /// Share of *other* flows, over minutes, that were refused or got no answer. `counts_this`: this flow
    /// is among them.
    #[must_use]
    pub fn failed_others(&self, tries: &Tries, counts_this: bool) -> f32 {
        // Over minutes a flow is forgotten slowly: its own part is taken as a whole one.
        let own = f32::from(u8::from(counts_this && self.own > 0.0));
        let unanswered = self.flow.rev.packets == 0;
        let own_failed = f32::from(u8::from(unanswered || self.flow.refused)) * own;
        let others = (tries.flows - own).max(0.0);
        let failed = (tries.failed() - own_failed).clamp(0.0, others);
        share(failed, others + PRIOR_FLOWS)
    }

    /// *Other* connections that wait, of all that do.
    #[must_use]
    pub fn waiting_others(&self, waiting: u32) -> f32 {
        waiting.saturating_sub(u32::from(self.flow.waits)) as f32
    }

    /// Share of *other* flows that were refused.
    #[must_use]
    pub fn refused_others(&self, flows: f32, refused: f32) -> f32 {
        let own_refused = if self.flow.refused { self.own } else { 0.0 };
        let others = (flows - self.own).max(0.0);
        share((refused - own_refused).max(0.0), others + PRIOR_FLOWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::schema;

    #[test]
    fn names_are_distinct_and_the_digest_is_stable() {
        let mut names: Vec<_> = FEATURE_SPECS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES);
        assert_eq!(schema::digest().len(), 64);
        assert_eq!(schema::digest(), schema::digest());
    }
}
