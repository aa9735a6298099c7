//! Whether a program's loops make progress. Pure: the time is passed in.
//!
//! A [`Gate`] looks at each stage's own count of work done. A stage that has nothing to do says so, or
//! counts the turns it makes in vain; one that stands still in the middle of its work does neither.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a stage says when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Waits for work; fine for as long as it likes.
    Idle,
    /// Work done so far, in any unit that changes with progress.
    Done(u64),
}

/// Work that is taken up and finished, piece by piece.
#[derive(Debug, Default)]
pub struct Work(AtomicU64);

impl Work {
    /// Takes up a piece; it is finished when what this gives is dropped.
    #[must_use]
    pub fn begin(&self) -> Busy<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Odd within a piece of work, even between two.
    #[must_use]
    pub fn sign(&self) -> Sign {
        match self.0.load(Ordering::Relaxed) {
            count if count % 2 == 0 => Sign::Idle,
            count => Sign::Done(count),
        }
    }
}

/// A piece of work that is being done.
#[derive(Debug)]
pub struct Busy<'a>(&'a Work);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Stage {
    name: &'static str,
    look: Box<dyn Fn() -> Sign + Send>,
    seen: Option<Sign>,
    moved_ms: u64,
}

/// The stages of a program.
#[derive(Default)]
pub struct Gate {
    stages: Vec<Stage>,
}

impl Gate {
    /// Adds a stage; it counts as moving at `now_ms`, on the clock of all later looks.
    pub fn add(
        &mut self,
        name: &'static str,
        now_ms: u64,
        look: impl Fn() -> Sign + Send + 'static,
    ) {
        self.stages.push(Stage {
            name,
            look: Box::new(look),
            seen: None,
            moved_ms: now_ms,
        });
    }

    /// Looks at all stages: name, and milliseconds since the last look that found progress.
    pub fn look(&mut self, now_ms: u64) -> Vec<(&'static str, u64)> {
        for stage in &mut self.stages {
            let sign = (stage.look)();
            if sign == Sign::Idle || stage.seen != Some(sign) {
                stage.seen = Some(sign);
                stage.moved_ms = now_ms;
            }
        }
        let ages = |stage: &Stage| (stage.name, now_ms.saturating_sub(stage.moved_ms));
        self.stages.iter().map(ages).collect()
    }

    /// Looks at all stages; those without progress for longer than `limit_ms`, with their milliseconds.
    pub fn stalled(&mut self, now_ms: u64, limit_ms: u64) -> Vec<(&'static str, u64)> {
        let mut ages = self.look(now_ms);
        ages.retain(|(_, age_ms)| *age_ms > limit_ms);
        ages
    }

    /// The same, a line for each.
    pub fn stalled_in_words(&mut self, now_ms: u64, limit: Duration) -> Vec<String> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let words = |(stage, ms): (&str, u64)| {
            format!("{stage} has made no progress for {:.1} s", ms as f64 / 1e3)
        };
        let stalled = self.stalled(now_ms, limit_ms);
        stalled.into_iter().map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_stage_that_stands_still_is_named_until_it_moves_again() {
        let turns = Arc::new(AtomicU64::new(0));
        let mut gate = Gate::default();
        let read = Arc::clone(&turns);
        gate.add("capture", 0, move || {
            Sign::Done(read.load(Ordering::Relaxed))
        });
        gate.add("send", 0, || Sign::Idle);
        assert!(gate.stalled(1_000, 5_000).is_empty());
        assert!(gate.stalled(6_000, 5_000).is_empty(), "5 s since the look");
        assert_eq!(gate.stalled(6_001, 5_000), [("capture", 5_001)]);
        turns.store(1, Ordering::Relaxed);
        assert!(gate.stalled(6_002, 5_000).is_empty());
        assert_eq!(gate.look(7_002), [("capture", 1_000), ("send", 0)]);
    }

    #[test]
    fn work_may_wait_for_ever_but_not_stay_unfinished() {
        let work = Arc::new(Work::default());
        let mut gate = Gate::default();
        let looked = Arc::clone(&work);
        gate.add("commit", 0, move || looked.sign());
        assert!(gate.stalled(100_000, 10).is_empty(), "nothing to do");
        let busy = work.begin();
        assert!(gate.stalled(100_000, 10).is_empty(), "just begun");
        assert_eq!(gate.stalled(100_011, 10), [("commit", 11)]);
        drop(busy);
        assert!(gate.stalled(100_012, 10).is_empty());
        // Another piece at each look is progress.
        for now in 0..5 {
            let busy = work.begin();
            assert!(gate.stalled(200_000 + now * 100, 10).is_empty());
            drop(busy);
        }
    }

    #[test]
    fn a_clock_that_goes_back_stalls_nothing() {
        let mut gate = Gate::default();
        gate.add("capture", 1_000, || Sign::Done(0));
        assert!(gate.stalled(500, 10).is_empty());
        assert!(gate.stalled(400, 10).is_empty());
    }
}
