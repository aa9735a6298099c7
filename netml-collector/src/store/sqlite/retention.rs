//! Removing the oldest day files.
//!
//! Shell. Nothing is rewritten: what a file holds goes with it, in the time of closing and removing
//! it. Watermarks are carried from file to file, so a batch of a day that is gone is still known as
//! resent. A read that is going on is waited for; one that comes meanwhile may fail and succeeds when
//! asked again. Files of a day that were set aside as damaged count among its bytes and go with it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::PoisonError;

use super::{SqliteStore, damage, day};
use crate::store::{Retention, Size, StoreError};

impl SqliteStore {
    pub(super) async fn remove_oldest(&self, retention: Retention) -> Result<Vec<u32>, StoreError> {
        let mut removed = Vec::new();
        loop {
            let served: Vec<u32> = self.days().keys().copied().collect();
            let set_aside = damage::set_aside_days(&self.directory)?;
            let mut days = [served.clone(), set_aside].concat();
            days.sort_unstable();
            days.dedup();
            // The latest is being written, and the next one takes its watermarks from it.
            let oldest = match (days.first(), served.last()) {
                (Some(oldest), Some(latest)) if oldest < latest => *oldest,
                _ => return Ok(removed),
            };
            let most = |most: u32| days.len() > usize::try_from(most.max(1)).unwrap_or(usize::MAX);
            let too_many = retention.days_max.is_some_and(most);
            let too_large = match retention.bytes_max {
                Some(most) => self.bytes_of(&days)? > most,
                None => false,
            };
            if !too_many && !too_large {
                return Ok(removed);
            }
            let pool = self
                .days
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&oldest);
            if let Some(pool) = pool {
                pool.close().await;
            }
            for file in self.files_of(oldest)? {
                match std::fs::remove_file(&file) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        // Out of sight already; the next start finds the file and tries again.
                        return Err(StoreError::Directory { path: file, source });
                    }
                    _ => {}
                }
            }
            removed.push(oldest);
        }
    }

    fn bytes_of(&self, days: &[u32]) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for day in days {
            for file in self.files_of(*day)? {
                match std::fs::metadata(&file) {
                    Ok(metadata) => bytes += metadata.len(),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(source) => return Err(StoreError::Directory { path: file, source }),
                }
            }
        }
        Ok(bytes)
    }

    /// What the day files take. A file that cannot be looked at counts as empty.
    pub(super) fn size_now(&self) -> Size {
        let days: Vec<u32> = self.days().keys().copied().collect();
        let mut size = Size {
            days: days.len() as u64,
            ..Size::default()
        };
        let files = days
            .iter()
            .map(|day| day::with_logs(&day::path(&self.directory, *day)));
        for [file, log, index] in files {
            let bytes = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            let wal_bytes = bytes(log);
            size.wal_bytes += wal_bytes;
            size.bytes += bytes(file) + wal_bytes + bytes(index);
        }
        size
    }

    /// The files of a day, those set aside among them.
    fn files_of(&self, day: u32) -> Result<Vec<PathBuf>, StoreError> {
        let set_aside = damage::set_aside_files(&self.directory)?;
        let databases = set_aside
            .into_iter()
            .filter(|(of, _, _)| *of == day)
            .map(|(_, _, path)| path)
            .chain([day::path(&self.directory, day)]);
        Ok(databases.flat_map(|path| day::with_logs(&path)).collect())
    }
}
