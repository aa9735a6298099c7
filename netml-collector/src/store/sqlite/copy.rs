//! Copies of databases: backup and restore of a data directory, and the same data in less space.
//!
//! A copy is made by SQLite (`VACUUM INTO`): it is of one moment, without the log, and reading every
//! page it meets damage instead of copying it. It is made under another name, written through to
//! the disk and only then renamed, so that what has the name is whole. While the file of the present
//! day is copied its log cannot be folded in and grows by what is stored meanwhile.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::check::{self, Depth};
use super::{day, open};
use crate::store::StoreError;

/// A file that was copied or compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub name: String,
    /// Bytes before, with its log.
    pub bytes_before: u64,
    /// Bytes of what has its name now.
    pub bytes: u64,
}

/// Copies what a data directory holds into a new one; a collector may run on it. Days that go by
/// retention meanwhile are left out.
///
/// # Errors
/// When `to` holds anything, cannot be written, or a file is damaged; `to` is then left as it was.
pub async fn backup(from: &Path, to: &Path) -> Result<Vec<Copied>, StoreError> {
    // The latest day last, and nothing of days that begin meanwhile: what is in the copy is all that
    // was stored up to some moment.
    let mut files = check::databases(from)?;
    // What sensors and certificates are known is never older than the days.
    files.sort_by_key(|(day, _)| day.unwrap_or(u32::MAX));
    let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
    let partial = empty_place(to)?;
    let copied = copy_all(&files, &partial).await.and_then(|copied| {
        std::fs::rename(&partial, to).map_err(|source| unwritable(to, source))?;
        sync_directory(to.parent().filter(|parent| !parent.as_os_str().is_empty()))?;
        Ok(copied)
    });
    if copied.is_err() {
        discard_directory(&partial);
    }
    copied
}

/// Checks a backup and copies it into a new data directory.
///
/// # Errors
/// [`StoreError::NotWhole`] when the backup has a fault; else as [`backup`].
pub async fn restore(from: &Path, to: &Path) -> Result<Vec<Copied>, StoreError> {
    let report = check::check(from, Depth::Full).await?;
    if let Some(file) = report.files.iter().find(|file| !file.faults.is_empty()) {
        return Err(StoreError::NotWhole {
            path: from.join(&file.name),
            fault: file.faults.first().cloned().unwrap_or_default(),
        });
    }
    backup(from, to).await
}

/// Makes the files of all days but the latest as small as they can be. No collector may run.
///
/// # Errors
/// When one does, or a file is damaged or cannot be written; that file is then left as it was.
pub async fn compact(directory: &Path) -> Result<Vec<Copied>, StoreError> {
    let files = check::databases(directory)?;
    let _lock = super::lock(directory)?;
    let days: Vec<u32> = files.into_iter().filter_map(|(day, _)| day).collect();
    let closed = days.split_last().map_or(&[][..], |(_, closed)| closed);
    let mut compacted = Vec::new();
    for day in closed {
        // Folds a log that was left behind into the file.
        open::close(open::day_writer(directory, *day).await?).await;
        let path = day::path(directory, *day);
        let partial = directory.join(format!("compact-{day:08}.partial"));
        remove_if_there(&partial)?;
        let made = copy_one(&path, &partial).await;
        let copied = match made {
            Ok(copied) => copied,
            Err(error) => {
                remove_if_there(&partial)?;
                return Err(error);
            }
        };
        if copied.bytes < copied.bytes_before {
            std::fs::rename(&partial, &path).map_err(|source| unwritable(&path, source))?;
            sync_directory(Some(directory))?;
            compacted.push(Copied {
                name: name(&path),
                ..copied
            });
        } else {
            remove_if_there(&partial)?;
        }
    }
    Ok(compacted)
}

async fn copy_all(files: &[PathBuf], to: &Path) -> Result<Vec<Copied>, StoreError> {
    let mut all = Vec::new();
    for path in files {
        let target = to.join(name(path));
        match copy_one(path, &target).await {
            Ok(copied) => all.push(copied),
            // Retention took it.
            Err(_) if !path.exists() => {
                tracing::info!(file = %path.display(), "a day went by retention meanwhile");
                remove_if_there(&target)?;
            }
            Err(error) => return Err(error),
        }
    }
    sync_directory(Some(to))?;
    Ok(all)
}

async fn copy_one(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let bytes_before = size(from);
    let mut connection = open::reader(from).await?;
    let done = sqlx::query("VACUUM INTO ?")
        .bind(to.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await;
    open::close(connection).await;
    done.map_err(|error| failure(from, to, error))?;
    let written = File::open(to).and_then(|file| {
        file.sync_all()?;
        file.metadata()
    });
    let bytes = written.map_err(|source| unwritable(to, source))?.len();
    Ok(Copied {
        name: name(to),
        bytes_before,
        bytes,
    })
}

/// Where the copy failed: at what is read or at what is written.
fn failure(from: &Path, to: &Path, error: sqlx::Error) -> StoreError {
    let code: i32 = error
        .as_database_error()
        .and_then(|error| error.code()?.parse().ok())
        .unwrap_or(0);
    match code & 0xff {
        // SQLITE_FULL, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_READONLY
        13 => unwritable(to, std::io::ErrorKind::StorageFull.into()),
        10 | 14 | 8 => StoreError::Open {
            path: to.to_owned(),
            reason: error.to_string(),
        },
        _ => StoreError::Open {
            path: from.to_owned(),
            reason: error.to_string(),
        },
    }
}

/// A new directory beside `to`, which is not there or empty.
fn empty_place(to: &Path) -> Result<PathBuf, StoreError> {
    match std::fs::read_dir(to) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(StoreError::NotEmpty {
                    path: to.to_owned(),
                });
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(unwritable(to, source)),
    }
    let mut partial = to.to_owned().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    discard_directory(&partial);
    DirBuilder::new()
        .mode(0o700)
        .create(&partial)
        .map_err(|source| unwritable(&partial, source))?;
    Ok(partial)
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn size(path: &Path) -> u64 {
    let sizes = day::with_logs(path).map(|path| std::fs::metadata(path).map_or(0, |m| m.len()));
    sizes[0] + sizes[1]
}

fn unwritable(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

fn sync_directory(directory: Option<&Path>) -> Result<(), StoreError> {
    let directory = directory.unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|source| unwritable(directory, source))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(path, error)),
        _ => Ok(()),
    }
}

/// Removes what was begun; if that fails, the next attempt tries again.
fn discard_directory(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "an unfinished copy cannot be removed");
    }
}
