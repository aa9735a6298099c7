//! UTC days as `YYYYMMDD` numbers, and the files named after them. Pure.
//!
//! `day-YYYYMMDD.db` is served; `damaged-YYYYMMDD-N.db` was set aside, the N-th of its day.

use std::path::{Path, PathBuf};

/// Day of a unix time, as `YYYYMMDD`. Times before 1970 or after 9999 give the nearest such day.
#[must_use]
pub(super) fn of_unix_ms(unix_ms: i64) -> u32 {
    let days = unix_ms.div_euclid(86_400_000).clamp(0, 2_932_896);
    // Civil date of a day number, by Howard Hinnant's "chrono-compatible low-level date algorithms".
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    u32::try_from(year * 10_000 + month * 100 + day).unwrap_or(0)
}

/// File of a day in `directory`.
#[must_use]
pub(super) fn path(directory: &Path, day: u32) -> PathBuf {
    directory.join(format!("day-{day:08}.db"))
}

/// A database file, its log and the log's index.
#[must_use]
pub(super) fn with_logs(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.to_owned().into_os_string();
        name.push(suffix);
        name.into()
    })
}

/// Place for the `n`-th damaged file of a day.
#[must_use]
pub(super) fn damaged_path(directory: &Path, day: u32, n: u32) -> PathBuf {
    directory.join(format!("damaged-{day:08}-{n}.db"))
}

/// Day and number of a file's name, if it is one that was set aside.
#[must_use]
pub(super) fn of_damaged_name(name: &str) -> Option<(u32, u32)> {
    let (day, n) = name
        .strip_prefix("damaged-")?
        .strip_suffix(".db")?
        .split_once('-')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if day.len() != 8 || n.is_empty() || !digits(day) || !digits(n) {
        return None;
    }
    Some((day.parse().ok()?, n.parse().ok()?))
}

/// Day of a file's name, if it is a day file.
#[must_use]
pub(super) fn of_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("day-")?.strip_suffix(".db")?;
    if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(of_unix_ms(0), 19_700_101);
        assert_eq!(of_unix_ms(86_399_999), 19_700_101);
        assert_eq!(of_unix_ms(86_400_000), 19_700_102);
        assert_eq!(of_unix_ms(951_782_400_000), 20_000_229);
        assert_eq!(of_unix_ms(951_868_800_000), 20_000_301);
        assert_eq!(of_unix_ms(4_102_444_799_999), 20_991_231);
        assert_eq!(of_unix_ms(i64::MIN), 19_700_101);
        assert_eq!(of_unix_ms(i64::MAX), 99_991_231);
    }

    #[test]
    fn only_day_files_are_taken_for_day_files() {
        let path = path(Path::new("/d"), 20_261_122);
        assert_eq!(path, Path::new("/d/day-20261122.db"));
        assert_eq!(of_file_name("day-20261122.db"), Some(20_261_122));
        for name in [
            "day-20261122.db-wal",
            "day-2026112.db",
            "day-+0261122.db",
            "meta.db",
            "damaged-20261122-1.db",
        ] {
            assert_eq!(of_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_damaged_file_is_known_by_its_name() {
        let path = damaged_path(Path::new("/d"), 20_261_122, 2);
        assert_eq!(path, Path::new("/d/damaged-20261122-2.db"));
        assert_eq!(
            of_damaged_name("damaged-20261122-2.db"),
            Some((20_261_122, 2))
        );
        for name in [
            "damaged-20261122-2.db-wal",
            "damaged-20261122-.db",
            "damaged-2026112-1.db",
            "damaged-20261122-+1.db",
            "day-20261122.db",
        ] {
            assert_eq!(of_damaged_name(name), None, "{name}");
        }
    }
}
