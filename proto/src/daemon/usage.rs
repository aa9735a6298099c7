//! Memory and processor time of this process, from `/proc/self`.

use std::fs;

/// Ticks a second in `/proc/self/stat`: `USER_HZ`, 100 in the ABI of every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures the share of a processor between calls.
#[derive(Debug, Default)]
pub struct Meter {
    last: Option<(u64, u64)>,
}

/// One measurement; a value that cannot be read is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Share of one processor since the last call, 0 at the first.
    pub cpu_share: f64,
    /// Processor time since the start of the process.
    pub cpu_seconds: f64,
}

impl Meter {
    /// Measures now; `now_ns` is any clock that goes on steadily.
    pub fn usage(&mut self, now_ns: u64) -> Usage {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ticks = cpu_ticks(&stat).unwrap_or(0);
        let cpu_share = match self.last.replace((now_ns, ticks)) {
            Some((then_ns, then)) if now_ns > then_ns => {
                let seconds = (now_ns - then_ns) as f64 / 1e9;
                ticks.saturating_sub(then) as f64 / TICKS_PER_SECOND / seconds
            }
            _ => 0.0,
        };
        Usage {
            resident_bytes: resident_kib(&status).map_or(0, |kib| kib * 1024),
            cpu_share,
            cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
        }
    }
}

/// `VmRSS` of `/proc/self/status`.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// User and system ticks; the name before them may hold anything, so fields count from its end.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 4194560 1 2 3 4 70 30 5 6 20 0";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_share_that_is_a_number() {
        let mut meter = Meter::default();
        assert!(meter.usage(0).resident_bytes > 0);
        assert!(meter.usage(1_000_000_000).cpu_share.is_finite());
    }
}
