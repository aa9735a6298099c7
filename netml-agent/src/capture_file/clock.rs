//! Time stamps that their neighbours do not bear out.
//!
//! The engine's clock never goes back, so one stamp of the year 2100 would hold it for the rest of
//! a capture. The rule: a stamp more than [`WILD_JUMP_NS`] from the one before it is looked at
//! beside the next [`NEIGHBOURS`].
//!
//! - One of them is back within [`WILD_JUMP_NS`] of where the clock was: the stamp is wild. The
//!   packet takes the time of the one before it and is counted.
//! - None is, and the jump is forward: a pause of the capture, or files put together. Believed.
//! - None is, and the jump is backward: the clock was set back. Time goes on from where it was,
//!   and the stamps behind keep their distances from each other; counted as a set-back.
//! - The first stamp of a file is wild where none of its neighbours is within [`WILD_JUMP_NS`] and
//!   the next one lies before it; the packet takes the time of the next.
//!
//! Smaller jumps, back as well, are given as they are.

/// Distance beyond which a stamp is doubted: a day. Time zones, daylight saving and captures of
/// several clocks stay below it.
pub const WILD_JUMP_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// Packets looked at behind a doubtful stamp.
pub(crate) const NEIGHBOURS: usize = 8;

/// The clock of one file.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Latest believed stamp, as it is in the file.
    last_ns: Option<u64>,
    /// What set-backs added to the stamps behind them.
    shift_ns: u64,
    /// Times the clock was set back.
    set_backs: u64,
}

impl Clock {
    /// True where a stamp must be seen beside its neighbours.
    pub(crate) fn doubts(&self, stamp_ns: u64) -> bool {
        self.last_ns
            .is_none_or(|last_ns| stamp_ns.abs_diff(last_ns) > WILD_JUMP_NS)
    }

    /// Time of a packet and whether its stamp is wild, by the stamps behind it: at most
    /// [`NEIGHBOURS`], none needed where it is not doubted.
    pub(crate) fn time_ns(
        &mut self,
        stamp_ns: u64,
        behind: impl Iterator<Item = u64> + Clone,
    ) -> (u64, bool) {
        let believed_ns = match self.last_ns {
            None => first_ns(stamp_ns, behind),
            Some(_) if !self.doubts(stamp_ns) => stamp_ns,
            Some(last_ns) => {
                let mut behind = behind;
                if behind.any(|next_ns| next_ns.abs_diff(last_ns) <= WILD_JUMP_NS) {
                    last_ns
                } else {
                    if stamp_ns < last_ns {
                        self.shift_ns = self.shift_ns.saturating_add(last_ns - stamp_ns);
                        self.set_backs += 1;
                    }
                    stamp_ns
                }
            }
        };
        self.last_ns = Some(believed_ns);
        (
            believed_ns.saturating_add(self.shift_ns),
            believed_ns != stamp_ns,
        )
    }

    /// Times the clock was set back so far.
    pub(crate) fn set_backs(&self) -> u64 {
        self.set_backs
    }
}

/// The first stamp, or that of the next packet where the first stands alone and behind it.
fn first_ns(stamp_ns: u64, mut behind: impl Iterator<Item = u64> + Clone) -> u64 {
    let borne_out = behind
        .clone()
        .any(|next_ns| next_ns.abs_diff(stamp_ns) <= WILD_JUMP_NS);
    match behind.next() {
        Some(next_ns) if !borne_out && next_ns < stamp_ns => next_ns,
        _ => stamp_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const YEAR: u64 = 365 * 24 * 3_600 * S;
    const NOW: u64 = 50 * YEAR;

    /// Times and wild stamps of a whole file, and its set-backs.
    fn times(stamps: &[u64]) -> (Vec<u64>, Vec<usize>, u64) {
        let mut clock = Clock::default();
        let (mut times, mut wild) = (Vec::new(), Vec::new());
        for (i, stamp_ns) in stamps.iter().enumerate() {
            let behind = stamps[i + 1..].iter().copied().take(NEIGHBOURS);
            let (time_ns, is_wild) = clock.time_ns(*stamp_ns, behind);
            times.push(time_ns);
            if is_wild {
                wild.push(i);
            }
        }
        (times, wild, clock.set_backs())
    }

    #[test]
    fn a_stamp_of_the_far_future_takes_the_time_before_it() {
        let stamps = [NOW, NOW + S, NOW + 80 * YEAR, NOW + 2 * S, NOW + 3 * S];
        let (got, wild, set_backs) = times(&stamps);
        assert_eq!(got, [NOW, NOW + S, NOW + S, NOW + 2 * S, NOW + 3 * S]);
        assert_eq!((wild, set_backs), (vec![2], 0));
    }

    #[test]
    fn a_run_of_zero_stamps_takes_the_time_before_it() {
        let stamps = [NOW, 0, 0, 0, NOW + S];
        let (got, wild, set_backs) = times(&stamps);
        assert_eq!(got, [NOW, NOW, NOW, NOW, NOW + S]);
        assert_eq!((wild, set_backs), (vec![1, 2, 3], 0));
    }

    #[test]
    fn a_wild_first_stamp_takes_the_time_of_those_behind_it() {
        let stamps = [NOW + 80 * YEAR, NOW, NOW + S, NOW + 2 * S];
        let (got, wild, set_backs) = times(&stamps);
        assert_eq!(got, [NOW, NOW, NOW + S, NOW + 2 * S]);
        assert_eq!((wild, set_backs), (vec![0], 0));
    }

    #[test]
    fn pauses_of_days_and_small_steps_back_are_believed() {
        let stamps = [
            0,
            NOW,
            NOW - 10_000 * S,
            NOW + S,
            NOW + YEAR,
            NOW + 3 * YEAR,
        ];
        assert_eq!(times(&stamps), (stamps.to_vec(), vec![], 0));
    }

    #[test]
    fn behind_a_set_back_time_goes_on_and_distances_stay() {
        let mut stamps = vec![NOW, NOW + S];
        stamps.extend((0..20).map(|i| NOW - YEAR + i * S));
        let (got, wild, set_backs) = times(&stamps);
        assert_eq!((wild, set_backs), (vec![], 1));
        let expected: Vec<_> = (0..20).map(|i| NOW + S + i * S).collect();
        assert_eq!(got[2..], expected);
    }

    #[test]
    fn the_ends_of_the_range_overflow_nothing() {
        let stamps = [u64::MAX, 0, u64::MAX, u64::MAX, 0, 1, 2, 0, 1, 2, 3, 4, 5];
        let (got, ..) = times(&stamps);
        assert_eq!(got.len(), stamps.len());
    }
}
