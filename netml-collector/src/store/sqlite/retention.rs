//! Removing the oldest day files.
//!
//! Shell. Nothing is rewritten: what a file holds goes with it, in the time of closing and removing
//! it. Watermarks are carried from file to file, so a batch of a day that is gone is still known as
//! resent. A read that is going on is waited for; one that comes meanwhile may fail and succeeds when
//! asked again.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::PoisonError;

use super::{SqliteStore, day};
use crate::store::{Retention, Size, StoreError};

/// A day file, its log and the log's index.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

impl SqliteStore {
    pub(super) async fn remove_oldest(&self, retention: Retention) -> Result<Vec<u32>, StoreError> {
        let mut removed = Vec::new();
        loop {
            let days: Vec<u32> = self.days().keys().copied().collect();
            // The latest is being written, and the next one takes its watermarks from it.
            let [oldest, _, ..] = days[..] else {
                return Ok(removed);
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
            for file in self.files_of(oldest) {
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
        for file in days.iter().flat_map(|day| self.files_of(*day)) {
            match std::fs::metadata(&file) {
                Ok(metadata) => bytes += metadata.len(),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::Directory { path: file, source }),
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
        for [file, log, index] in days.iter().map(|day| self.files_of(*day)) {
            let bytes = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            let wal_bytes = bytes(log);
            size.wal_bytes += wal_bytes;
            size.bytes += bytes(file) + wal_bytes + bytes(index);
        }
        size
    }

    fn files_of(&self, day: u32) -> [PathBuf; 3] {
        let path = day::path(&self.directory, day);
        SUFFIXES.map(|suffix| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            name.into()
        })
    }
}
