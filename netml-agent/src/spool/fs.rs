//! The few file operations that a spool needs, and the real ones.
//!
//! Tests put a simulated disk in their place, on which only what was synced outlives a power cut.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the file whose lock says that a process holds the directory.
const LOCK: &str = "lock";

/// One directory of flat files, by name.
pub trait SpoolFs {
    /// An open file.
    type File;

    /// Names and sizes in bytes of the files.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes an empty file for reading and writing; one of that name must not exist.
    ///
    /// # Errors
    /// Where it cannot be made.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// Where it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Reads from `offset` on until `buffer` is full or the file ends; gives the bytes read.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; after an error any part of them may be written.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file.
    ///
    /// # Errors
    /// Where it cannot be cut.
    fn cut(&self, file: &Self::File, bytes: u64) -> io::Result<()>;
    /// Returns once what was written outlives a power cut.
    ///
    /// # Errors
    /// Where that cannot be said.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// The same for names: files made, renamed and removed.
    ///
    /// # Errors
    /// Where that cannot be said.
    fn sync_names(&self) -> io::Result<()>;
    /// Renames a file; one of the new name is replaced.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Where it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A directory of the host.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held as long as this lives; the kernel lets go of it however the process ends.
    _lock: Option<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made, read or written.
    #[error("the spool {path} cannot be used: {source}; choose another with --spool")]
    Unusable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the spool {path} is in use by another process; stop it or choose another directory")]
    InUse {
        /// Where.
        path: PathBuf,
    },
}

impl Directory {
    /// Makes the directory where it is missing, for this user only, and locks it.
    ///
    /// # Errors
    /// Where that is not possible, or another process has the lock.
    pub fn lock(path: &Path) -> Result<Self, DirectoryError> {
        let unusable = |source| DirectoryError::Unusable {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: Some(lock),
            }),
            Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// A directory to look at only, and whether another process holds it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn look(path: &Path) -> Result<(Self, bool), DirectoryError> {
        let unusable = |source| DirectoryError::Unusable {
            path: path.to_owned(),
            source,
        };
        std::fs::read_dir(path).map_err(unusable)?;
        let directory = Self {
            path: path.to_owned(),
            _lock: None,
        };
        let held = match File::open(path.join(LOCK)) {
            Ok(lock) => matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(unusable(error)),
        };
        Ok((directory, held))
    }
}

impl SpoolFs for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Gone between the two calls, as while a living sensor is looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        match opened {
            // Who only looks needs no right to write.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
            opened => opened,
        }
    }

    fn read_at(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn cut(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }
}
