//! The model file of a running sensor: noticed when it changes, read again, taken whole or not at
//! all.
//!
//! The file is looked at once a second by its identity, size and time of change; another one is
//! read once it has stayed the same between two looks, so that a copy in progress is not read by
//! half. SIGHUP reads it at once. What cannot be used is refused with the reason, the model in use
//! stays, and the file is not read again before it changes or SIGHUP asks.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::model::{Model, ModelError};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Stamp {
    /// `None` where there is no file, or none that can be looked at. Anything but a regular file is
    /// none: to open a pipe would wait for its other end, and the sensor's totals with it.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file)?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            // Of the inode and not of the content: `touch -d` and `cp -p` cannot set it back.
            changed_s: found.ctime(),
            changed_ns: found.ctime_nsec(),
        })
    }
}

/// What a look at the file showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As it was when it was read last.
    Unchanged,
    /// Another, and perhaps not whole yet.
    Settling,
    /// Another, and the same as at the look before: to be read.
    Changed,
    /// Gone since the look before; told once.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ModelFile {
    path: PathBuf,
    /// Takes a model that is worse than its parent by its own card, or was never compared with it.
    accept_worse: bool,
    /// State that was read last; `None` where it could not be looked at.
    read: Option<Stamp>,
    /// State at the latest look.
    seen: Option<Stamp>,
}

impl ModelFile {
    /// To be called before the file is read for the first time.
    pub(super) fn new(path: &Path, accept_worse: bool) -> Self {
        let stamp = Stamp::of(path);
        Self {
            path: path.to_path_buf(),
            accept_worse,
            read: stamp,
            seen: stamp,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called once a second.
    pub(super) fn look(&mut self) -> Look {
        let before = std::mem::replace(&mut self.seen, Stamp::of(&self.path));
        match self.seen {
            None if before.is_some() => Look::Gone,
            None => Look::Unchanged,
            now if now == self.read => Look::Unchanged,
            now if now == before => Look::Changed,
            _ => Look::Settling,
        }
    }

    /// Reads and checks the file as it is now.
    pub(super) fn read(&mut self) -> Result<Model, ModelError> {
        // The stamp first: a change while it is read is seen at the next look.
        self.read = Stamp::of(&self.path);
        self.seen = self.read;
        if self.read.is_none() && self.path.exists() {
            return Err(ModelError::Unreadable {
                path: self.path.clone(),
                source: std::io::Error::other("it is not a regular file"),
            });
        }
        let model = Model::load(&self.path)?;
        if !self.accept_worse {
            model.check_standing()?;
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::embedded_bytes;

    fn file() -> (tempfile::TempDir, PathBuf, ModelFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netml.model");
        std::fs::write(&path, embedded_bytes()).unwrap();
        let file = ModelFile::new(&path, false);
        (folder, path, file)
    }

    #[test]
    fn a_file_that_stays_is_never_read_again() {
        let (_folder, _, mut file) = file();
        assert_eq!([file.look(), file.look()], [Look::Unchanged; 2]);
    }

    #[test]
    fn a_file_put_in_its_place_is_read_once_it_rests() {
        let (folder, path, mut file) = file();
        let other = folder.path().join("new");
        std::fs::write(&other, embedded_bytes()).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(file.look(), Look::Settling);
        assert_eq!(file.look(), Look::Changed);
        assert!(file.read().is_ok());
        assert_eq!(file.look(), Look::Unchanged);
    }

    #[test]
    fn a_copy_in_progress_is_not_read_before_it_ends() {
        let (_folder, path, mut file) = file();
        let whole = embedded_bytes();
        for part in [whole.len() / 3, whole.len() / 2, whole.len()] {
            std::fs::write(&path, &whole[..part]).unwrap();
            assert_eq!(file.look(), Look::Settling, "{part} bytes");
        }
        assert_eq!(file.look(), Look::Changed);
        assert!(file.read().is_ok());
    }

    #[test]
    fn what_was_refused_is_not_read_again_until_it_changes() {
        let (_folder, path, mut file) = file();
        std::fs::write(&path, b"no model").unwrap();
        assert_eq!([file.look(), file.look()], [Look::Settling, Look::Changed]);
        assert!(matches!(file.read(), Err(ModelError::Foreign)));
        assert_eq!([file.look(), file.look()], [Look::Unchanged; 2]);
        std::fs::write(&path, embedded_bytes()).unwrap();
        assert_eq!([file.look(), file.look()], [Look::Settling, Look::Changed]);
    }

    #[test]
    fn a_model_not_compared_with_its_parent_is_refused_unless_told_otherwise() {
        let (_folder, path, mut file) = file();
        let model = crate::model::embedded().unwrap();
        let entry = serde_json::json!({ "model": model.id() });
        std::fs::write(&path, model.with_card_entry("parent", entry).unwrap()).unwrap();
        assert!(matches!(file.read(), Err(ModelError::NotCompared { .. })));
        assert!(ModelFile::new(&path, true).read().is_ok());
    }

    #[test]
    fn a_pipe_in_its_place_is_refused_and_never_waited_for() {
        let (_folder, path, mut file) = file();
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert_eq!([file.look(), file.look()], [Look::Gone, Look::Unchanged]);
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_file_that_went_is_told_once_and_its_return_is_read() {
        let (_folder, path, mut file) = file();
        std::fs::remove_file(&path).unwrap();
        assert_eq!([file.look(), file.look()], [Look::Gone, Look::Unchanged]);
        assert!(matches!(file.read(), Err(ModelError::Unreadable { .. })));
        std::fs::write(&path, embedded_bytes()).unwrap();
        assert_eq!([file.look(), file.look()], [Look::Settling, Look::Changed]);
    }
}
