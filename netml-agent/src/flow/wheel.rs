//! A hashed timing wheel over places: who must be looked at, at the latest when.
//!
//! One timer per place. A timer may fire early (after a wrap, or because the deadline moved on
//! meanwhile): who is woken checks its own deadlines and sets the timer anew.

use super::lru::Place;

/// Length of one tick.
pub const TICK_NS: u64 = 250_000_000;

/// Ticks of the wheel: 256 s, beyond the longest time-out; a later deadline fires early.
const TICKS: usize = 1024;

const NONE: Place = Place::MAX;

#[derive(Clone, Copy)]
struct Timer {
    next: Place,
    previous: Place,
    /// Tick number at which it fires; `u64::MAX`: not set.
    tick: u64,
}

const UNSET: Timer = Timer {
    next: NONE,
    previous: NONE,
    tick: u64::MAX,
};

/// The wheel. Costs 16 bytes a place and 4 bytes a tick.
pub struct Wheel {
    heads: Box<[Place]>,
    timers: Vec<Timer>,
    /// Ticks before this one have fired.
    now_tick: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            heads: vec![NONE; TICKS].into_boxed_slice(),
            timers: Vec::new(),
            now_tick: 0,
        }
    }
}

impl Wheel {
    /// Wakes `place` in the tick of `deadline_ns` unless it is woken earlier already.
    pub fn set_earlier(&mut self, place: Place, deadline_ns: u64) {
        let tick =
            (deadline_ns / TICK_NS + 1).clamp(self.now_tick, self.now_tick + TICKS as u64 - 1);
        if self.timers.len() <= place as usize {
            self.timers.resize(place as usize + 1, UNSET);
        }
        if self.timers[place as usize].tick <= tick {
            return;
        }
        self.clear(place);
        let head = &mut self.heads[tick as usize % TICKS];
        self.timers[place as usize] = Timer {
            next: *head,
            previous: NONE,
            tick,
        };
        if *head != NONE {
            self.timers[*head as usize].previous = place;
        }
        *head = place;
    }

    /// Forgets the timer of `place`.
    pub fn clear(&mut self, place: Place) {
        let Some(&timer) = self.timers.get(place as usize) else {
            return;
        };
        if timer.tick == u64::MAX {
            return;
        }
        match timer.previous {
            NONE => self.heads[timer.tick as usize % TICKS] = timer.next,
            previous => self.timers[previous as usize].next = timer.next,
        }
        if timer.next != NONE {
            self.timers[timer.next as usize].previous = timer.previous;
        }
        self.timers[place as usize] = UNSET;
    }

    /// True when `now_ns` lies in a tick that has not been fired.
    #[must_use]
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns / TICK_NS >= self.now_tick
    }

    /// Moves every timer that is due by `now_ns` to `woken`, in a fixed order. A jump of the clock
    /// costs one turn of the wheel at most.
    pub fn fire(&mut self, now_ns: u64, woken: &mut Vec<Place>) {
        let last = now_ns / TICK_NS;
        if last < self.now_tick {
            return;
        }
        let turns = (last - self.now_tick + 1).min(TICKS as u64);
        for tick in self.now_tick..self.now_tick + turns {
            let mut at = std::mem::replace(&mut self.heads[tick as usize % TICKS], NONE);
            while at != NONE {
                woken.push(at);
                at = std::mem::replace(&mut self.timers[at as usize], UNSET).next;
            }
        }
        self.now_tick = last + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, now_ns: u64) -> Vec<Place> {
        let mut woken = Vec::new();
        wheel.fire(now_ns, &mut woken);
        woken
    }

    #[test]
    fn a_timer_fires_once_at_its_tick_and_not_before() {
        let mut wheel = Wheel::default();
        wheel.set_earlier(3, 10 * TICK_NS);
        assert!(fired(&mut wheel, 10 * TICK_NS).is_empty());
        assert_eq!(fired(&mut wheel, 11 * TICK_NS), [3]);
        assert!(fired(&mut wheel, 2000 * TICK_NS).is_empty());
    }

    #[test]
    fn the_earlier_deadline_holds() {
        let mut wheel = Wheel::default();
        wheel.set_earlier(1, 50 * TICK_NS);
        wheel.set_earlier(1, 5 * TICK_NS);
        wheel.set_earlier(1, 80 * TICK_NS);
        assert_eq!(fired(&mut wheel, 6 * TICK_NS), [1]);
        assert!(fired(&mut wheel, 100 * TICK_NS).is_empty());
    }

    #[test]
    fn cleared_timers_leave_their_neighbours() {
        let mut wheel = Wheel::default();
        for place in 0..5 {
            wheel.set_earlier(place, TICK_NS);
        }
        wheel.clear(2);
        wheel.clear(4);
        wheel.clear(0);
        assert_eq!(fired(&mut wheel, 2 * TICK_NS), [3, 1]);
    }

    #[test]
    fn a_jump_of_years_fires_everything_once() {
        let mut wheel = Wheel::default();
        wheel.set_earlier(0, 0);
        wheel.set_earlier(1, 100 * TICK_NS);
        let mut woken = fired(&mut wheel, u64::MAX / 2);
        woken.sort_unstable();
        assert_eq!(woken, [0, 1]);
        wheel.set_earlier(0, 0);
        assert_eq!(fired(&mut wheel, u64::MAX / 2 + TICK_NS), [0]);
    }
}
