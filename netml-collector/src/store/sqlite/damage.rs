//! Damaged day files: telling damage from other errors, and setting such a file aside.
//!
//! A file is damaged when SQLite finds it malformed or no database, when a table is missing, or when
//! the state that appends build on cannot be. It is renamed with its log, nothing of it is changed,
//! and what is left is served. A single row with an impossible value is no reason for that: it is
//! left out of answers and counted.
//!
//! A full disk, a lock, a missing right or a failed read of the disk is no damage: the error is told
//! and the file stays.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::writer::Writer;
use super::{SqliteStore, day};
use crate::store::{Damage, StoreError};

/// Most damaged files of one day; more are an error, and the day stays as it is.
const SET_ASIDE_PER_DAY_MAX: u32 = 100;

/// Most damaged files met by one call before it gives up.
pub(super) const SET_ASIDE_PER_CALL_MAX: usize = 100;

/// Unreadable rows remembered, so that each is counted once; beyond it none is counted any more.
const UNREADABLE_ROWS_MAX: usize = 10_000;

/// SQLITE_CORRUPT, SQLITE_NOTADB, and SQLITE_TOOBIG: no row was written that large.
const DAMAGE_CODES: [i32; 3] = [11, 26, 18];

/// What the file says of itself that its schema denies.
const DAMAGE_WORDS: [&str; 3] = ["no such table", "no such column", "has no column named"];

/// A table, a day and the number of a row in it.
pub(super) type RowPlace = (&'static str, u32, i64);

/// Why an error of the database means damage; `None`: it has another cause.
pub(super) fn reason(error: &sqlx::Error) -> Option<String> {
    let error = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
            return Some("a value of the state that appends build on cannot be read".to_owned());
        }
        _ => return None,
    };
    let code: i32 = error.code()?.parse().ok()?;
    let message = error.message();
    let is_damage = DAMAGE_CODES.contains(&(code & 0xff))
        || (code & 0xff == 1 && DAMAGE_WORDS.iter().any(|words| message.contains(words)));
    is_damage.then(|| message.to_owned())
}

/// Names the day in an error that means damage of its file; others pass.
pub(super) fn of_day(day: u32, error: StoreError) -> StoreError {
    let reason = match &error {
        StoreError::Damaged(what) => Some(format!("the stored {what} cannot be")),
        StoreError::NotSqlite { .. } => Some("it is not a SQLite database".to_owned()),
        StoreError::Foreign { reason, .. } => Some(reason.clone()),
        StoreError::Database(error) => reason(error),
        _ => None,
    };
    match reason {
        Some(reason) => StoreError::DayDamaged { day, reason },
        None => error,
    }
}

/// Damaged files of a directory: day, number, path; in the order in which they were set aside.
pub(super) fn set_aside_files(directory: &Path) -> Result<Vec<(u32, u32, PathBuf)>, StoreError> {
    let unreadable = |source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let found = entry.file_name().to_str().and_then(day::of_damaged_name);
        files.extend(found.map(|(day, n)| (day, n, entry.path())));
    }
    files.sort_unstable();
    Ok(files)
}

/// Days of which a file was set aside.
pub(super) fn set_aside_days(directory: &Path) -> Result<Vec<u32>, StoreError> {
    let files = set_aside_files(directory)?;
    Ok(files.into_iter().map(|(day, _, _)| day).collect())
}

/// Renames the file of a day and its log; gives its new name, or nothing where there is none.
fn rename(directory: &Path, day: u32) -> Result<Option<PathBuf>, StoreError> {
    let from = day::path(directory, day);
    let failed = |source| StoreError::Directory {
        path: from.clone(),
        source,
    };
    if !from.try_exists().map_err(failed)? {
        return Ok(None);
    }
    let free = |n: &u32| {
        let path = day::damaged_path(directory, day, *n);
        matches!(path.try_exists(), Ok(false))
    };
    let n = (1..=SET_ASIDE_PER_DAY_MAX)
        .find(free)
        .ok_or_else(|| failed(std::io::Error::other("too many damaged files of this day")))?;
    let to = day::damaged_path(directory, day, n);
    // The log first: left behind alone it would be taken for that of the day's next file.
    let [database, log, index] = day::with_logs(&from);
    let [to_database, to_log, to_index] = day::with_logs(&to);
    for (from, to) in [(log, to_log), (index, to_index), (database, to_database)] {
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    Ok(Some(to))
}

impl SqliteStore {
    /// Sets a damaged day aside; the caller holds no connection to it.
    pub(super) async fn set_aside(&self, day: u32, reason: &str) -> Result<(), StoreError> {
        let mut slot = self.writer.lock().await;
        self.set_aside_with(&mut slot, day, reason).await
    }

    /// The same while the writer's place is held.
    pub(super) async fn set_aside_with(
        &self,
        slot: &mut Option<Writer>,
        day: u32,
        reason: &str,
    ) -> Result<(), StoreError> {
        if self.lock.is_none() {
            return Err(StoreError::DayDamaged {
                day,
                reason: reason.to_owned(),
            });
        }
        // Every connection is closed before the file is renamed: SQLite removes a log by its name when
        // the last one closes, and by then the name can be that of the next file's log.
        if let Some(writer) = slot.take_if(|writer| writer.uses(day)) {
            writer.abandon().await;
        }
        let pool = self
            .days
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&day);
        let was_served = pool.is_some();
        if let Some(pool) = pool {
            pool.close().await;
        }
        match rename(&self.directory, day) {
            // Another call met the same damage.
            Ok(None) => Ok(()),
            Ok(Some(path)) => {
                self.unreadable().days_set_aside += 1;
                tracing::error!(
                    day,
                    reason,
                    file = %path.display(),
                    "a day's file is damaged: it was set aside, the rest is served"
                );
                Ok(())
            }
            Err(error) => {
                if was_served {
                    self.add_day(day);
                }
                tracing::error!(day, reason, %error, "a day's file is damaged and cannot be set aside");
                Err(error)
            }
        }
    }

    /// A row of a list, unless a value in it cannot be: then it is counted and left out.
    pub(super) fn readable<T>(&self, place: RowPlace, decoded: Result<T, StoreError>) -> Option<T> {
        let error = match decoded {
            Ok(row) => return Some(row),
            Err(error) => error,
        };
        let mut unreadable = self.unreadable();
        if unreadable.rows.len() < UNREADABLE_ROWS_MAX && unreadable.rows.insert(place) {
            let (table, day, row) = place;
            tracing::warn!(table, day, row, %error, "a stored row cannot be read: it is left out");
        }
        None
    }

    pub(super) fn damage_now(&self) -> Damage {
        let files = set_aside_files(&self.directory).unwrap_or_default();
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        let unreadable = self.unreadable();
        Damage {
            days_set_aside: unreadable.days_set_aside,
            rows_unreadable: unreadable.rows.len() as u64,
            files: files.iter().filter_map(|(_, _, path)| name(path)).collect(),
        }
    }
}
