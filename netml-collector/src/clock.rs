//! The wall clock, for the shell; core modules are told the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, 0 for a clock set before that.
#[must_use]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
