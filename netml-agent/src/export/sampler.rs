//! Which packets are shown: all of them below a rate, above it SUSPICIOUS ones first and a
//! uniform choice of the rest.
//!
//! Core. Packets of one window are kept in two reservoirs of fixed size (Vitter's algorithm R);
//! closing the window gives what the budget allows. The budget is a token bucket that holds one
//! second's worth, so any second below the budget is shown whole.
//! `offered == given + left_out + waiting`.

use crate::engine::JudgedPacket;
use crate::verdict::Verdict;

/// Samples a second when nothing else is said.
pub const SAMPLES_PER_SECOND: u32 = 500;

/// A window that has lasted this long is to be closed.
pub const WINDOW_NS: u64 = 200_000_000;

/// Chooses packets within a budget.
pub struct Sampler {
    budget_per_s: u32,
    tokens: f64,
    closed_at_ns: Option<u64>,
    suspicious: Reservoir,
    rest: Reservoir,
    random: u64,
    left_out: u64,
    given: u64,
}

/// A uniform choice of bounded size out of however many.
struct Reservoir {
    kept: Vec<JudgedPacket>,
    size: usize,
    offered: u64,
}

impl Reservoir {
    fn offer(&mut self, packet: &JudgedPacket, random: u64) {
        self.offered += 1;
        if self.kept.len() < self.size {
            self.kept.push(*packet);
            return;
        }
        // Multiply-shift maps the random word onto 0..offered without a division.
        let at = (u128::from(random) * u128::from(self.offered)) >> 64;
        if let Some(place) = self.kept.get_mut(at as usize) {
            *place = *packet;
        }
    }

    /// Cuts the choice to `size`, each being as likely to stay.
    fn cut(&mut self, size: usize, mut random: impl FnMut() -> u64) {
        while self.kept.len() > size {
            let at = (u128::from(random()) * self.kept.len() as u128) >> 64;
            self.kept.swap_remove(at as usize);
        }
    }

    fn clear(&mut self) -> u64 {
        self.kept.clear();
        std::mem::take(&mut self.offered)
    }
}

impl Sampler {
    /// A sampler of at most `budget_per_s` packets a second; the seed makes it repeatable.
    #[must_use]
    pub fn new(budget_per_s: u32, seed: u64) -> Self {
        let size = budget_per_s as usize;
        let reservoir = || Reservoir {
            kept: Vec::with_capacity(size),
            size,
            offered: 0,
        };
        Self {
            budget_per_s,
            tokens: f64::from(budget_per_s),
            closed_at_ns: None,
            suspicious: reservoir(),
            rest: reservoir(),
            // Any seed but zero, on which xorshift stays.
            random: seed | 1,
            left_out: 0,
            given: 0,
        }
    }

    /// Takes a packet into the choice of this window.
    pub fn offer(&mut self, packet: &JudgedPacket) {
        let random = self.next_random();
        if packet.verdict == Verdict::Suspicious {
            self.suspicious.offer(packet, random);
        } else {
            self.rest.offer(packet, random);
        }
    }

    /// True when the window has lasted long enough to be closed.
    #[must_use]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.closed_at_ns
            .is_none_or(|closed| now_ns.saturating_sub(closed) >= WINDOW_NS)
    }

    /// Ends the window: gives each chosen packet in the order of time.
    pub fn close(&mut self, now_ns: u64, mut give: impl FnMut(&JudgedPacket)) {
        let passed_ns = now_ns.saturating_sub(self.closed_at_ns.unwrap_or(now_ns));
        self.closed_at_ns = Some(now_ns);
        let budget = f64::from(self.budget_per_s);
        self.tokens = (self.tokens + budget * passed_ns as f64 / 1e9).min(budget);
        let allowed = whole(self.tokens);
        let mut random = self.random;
        let mut next = || {
            random = xorshift(random);
            random
        };
        self.suspicious.cut(allowed, &mut next);
        let left = allowed - self.suspicious.kept.len();
        self.rest.cut(left, &mut next);
        self.random = random;
        let chosen = self.suspicious.kept.len() + self.rest.kept.len();
        self.tokens -= chosen as f64;
        self.rest.kept.extend_from_slice(&self.suspicious.kept);
        self.rest
            .kept
            .sort_unstable_by_key(|packet| packet.record.mono_ns);
        self.rest.kept.iter().for_each(&mut give);
        let offered = self.rest.clear() + self.suspicious.clear();
        self.given += chosen as u64;
        self.left_out += offered - chosen as u64;
    }

    /// Packets left out so far, for want of budget.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Packets given so far.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }

    fn next_random(&mut self) -> u64 {
        self.random = xorshift(self.random);
        self.random
    }
}

/// Whole tokens of a share that is never negative.
#[expect(clippy::cast_sign_loss, reason = "held at zero before the cast")]
fn whole(tokens: f64) -> usize {
    tokens.max(0.0) as usize
}

/// Marsaglia's xorshift64*: good enough to choose what is shown.
fn xorshift(mut x: u64) -> u64 {
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    x.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::convert::testing::judged;

    fn run(sampler: &mut Sampler, now_ns: u64) -> Vec<u64> {
        let mut given = Vec::new();
        sampler.close(now_ns, |packet| given.push(packet.record.mono_ns));
        given
    }

    #[test]
    fn below_the_budget_every_packet_is_given_in_order() {
        let mut sampler = Sampler::new(100, 1);
        for at in [5, 3, 9] {
            sampler.offer(&judged(at, Verdict::Normal));
        }
        sampler.offer(&judged(4, Verdict::Suspicious));
        assert_eq!(run(&mut sampler, 1_000), [3, 4, 5, 9]);
        assert_eq!((sampler.given(), sampler.left_out()), (4, 0));
    }

    #[test]
    fn above_the_budget_suspicious_come_first_and_the_rest_is_chosen_from_the_whole_window() {
        let mut sampler = Sampler::new(100, 7);
        for at in 0..10_000 {
            let suspicious = at % 200 == 0;
            sampler.offer(&judged(
                at,
                if suspicious {
                    Verdict::Suspicious
                } else {
                    Verdict::Normal
                },
            ));
        }
        let given = run(&mut sampler, 1_000);
        assert_eq!(given.len(), 100);
        assert_eq!(given.iter().filter(|at| **at % 200 == 0).count(), 50);
        let late = given.iter().filter(|at| **at >= 5_000).count();
        assert!((35..=65).contains(&late), "late half has {late} of 100");
        assert_eq!((sampler.given(), sampler.left_out()), (100, 9_900));
    }

    #[test]
    fn the_budget_refills_with_time_and_holds_one_second() {
        let mut sampler = Sampler::new(100, 7);
        let mut now = 0;
        let mut offer = |sampler: &mut Sampler, step_ns| {
            now += step_ns;
            for at in 0..200 {
                sampler.offer(&judged(at, Verdict::Normal));
            }
            run(sampler, now).len()
        };
        assert_eq!(offer(&mut sampler, 0), 100);
        assert_eq!(offer(&mut sampler, WINDOW_NS), 20);
        assert_eq!(offer(&mut sampler, 60_000_000_000), 100);
        assert_eq!(sampler.given() + sampler.left_out(), 600);
    }
}
