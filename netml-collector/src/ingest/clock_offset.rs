//! How far a sensor's clock is from the collector's. Pure: both times are passed in.
//!
//! A report carries the sensor's time, and takes a while to come: what is measured is the offset less
//! that while, so the greatest of some measurements is the nearest to the truth. It is at most the
//! shortest way of a report below it: some tenths of a second where reports come live. What is read
//! from a spool comes late by an outage and is outweighed by what comes live beside it.

/// Measurements are kept for this long at least, and twice as long at most.
pub const WINDOW_MS: i64 = 30_000;

/// Measurements of one sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    began_ms: i64,
    present: Option<i64>,
    past: Option<i64>,
}

impl ClockOffset {
    /// A report of this time came at that time.
    pub fn note(&mut self, sensor_unix_ms: i64, received_unix_ms: i64) {
        let age_ms = received_unix_ms.saturating_sub(self.began_ms);
        // A clock that goes back begins anew as well.
        if !(0..WINDOW_MS).contains(&age_ms) {
            let is_next = (WINDOW_MS..2 * WINDOW_MS).contains(&age_ms);
            self.past = self.present.filter(|_| is_next);
            self.present = None;
            self.began_ms = received_unix_ms;
        }
        let measured = sensor_unix_ms.saturating_sub(received_unix_ms);
        self.present = self.present.max(Some(measured));
    }

    /// The sensor's clock less the collector's, in milliseconds; None before the first report.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        self.present.max(self.past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_that_came_fastest_counts() {
        let mut clock = ClockOffset::default();
        assert_eq!(clock.get(), None);
        // Ahead by 5 s; the way takes 400, 150, 900 ms, and one waited an hour in a spool.
        for (n, way_ms) in [400, 150, 900, 3_600_000].into_iter().enumerate() {
            let received = 1_000_000_000 + n as i64 * 1_000;
            clock.note(received + 5_000 - way_ms, received);
        }
        assert_eq!(clock.get(), Some(4_850));
    }

    #[test]
    fn a_clock_that_is_set_right_is_seen_within_two_windows() {
        let mut clock = ClockOffset::default();
        let mut received = 1_000_000_000;
        for _ in 0..100 {
            clock.note(received + 60_000, received);
            received += 1_000;
        }
        let set = received;
        while clock.get() != Some(-100) {
            clock.note(received - 100, received);
            received += 1_000;
            assert!(received - set <= 2 * WINDOW_MS + 1_000);
        }
    }

    #[test]
    fn the_collectors_own_clock_may_jump() {
        let mut clock = ClockOffset::default();
        clock.note(10_000_000, 10_000_000);
        clock.note(10_000_000, 5_000_000);
        assert_eq!(clock.get(), Some(5_000_000));
        clock.note(10_000_500, 10_000_500);
        assert_eq!(clock.get(), Some(0), "measurements of before are void");
        clock.note(i64::MAX, i64::MIN);
        clock.note(i64::MIN, i64::MAX);
        assert!(clock.get().is_some());
    }
}
