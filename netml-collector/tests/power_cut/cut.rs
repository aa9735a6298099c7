//! What is left of files when the power goes. Pure.

use std::collections::BTreeMap;

use super::recorder::Step;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// SplitMix64: the same cuts in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

#[derive(Default)]
struct File<'a> {
    /// What is sure to be there.
    synced: Vec<u8>,
    /// What came since.
    unsynced: Vec<&'a Step>,
    /// It was removed, which may or may not have reached the disk.
    removed: bool,
    /// Its next sync is one of the directory as well.
    syncs_directory: bool,
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

/// The number of batches acknowledged before step `at`, the files that are left when the power goes
/// there, and whether anything was lost.
pub(crate) fn cut(
    steps: &[Step],
    at: usize,
    random: &mut Random,
) -> (u64, BTreeMap<String, Vec<u8>>, bool) {
    let mut files: BTreeMap<String, File<'_>> = BTreeMap::new();
    let mut acknowledged = 0;
    for step in &steps[..at] {
        match step {
            Step::Acknowledged(batches) => acknowledged = *batches,
            Step::Created { name } => {
                let file = files.entry(name.clone()).or_default();
                if file.removed {
                    *file = File::default();
                }
            }
            Step::Written { name, .. } | Step::Cut { name, .. } => {
                files.entry(name.clone()).or_default().unsynced.push(step);
            }
            Step::Opened { name } => {
                files.entry(name.clone()).or_default().syncs_directory = true;
            }
            Step::Synced { name } => {
                // As SQLite does it, on whose behalf the removal of a journal waits for the log.
                if files
                    .get_mut(name)
                    .is_some_and(|file| std::mem::take(&mut file.syncs_directory))
                {
                    files.retain(|_, file| !file.removed);
                }
                let file = files.entry(name.clone()).or_default();
                for step in std::mem::take(&mut file.unsynced) {
                    match step {
                        Step::Written { offset, data, .. } => {
                            write(&mut file.synced, *offset, data);
                        }
                        Step::Cut { length, .. } => file.synced.resize(*length, 0),
                        _ => {}
                    }
                }
            }
            Step::Removed { name } => files.entry(name.clone()).or_default().removed = true,
        }
    }
    let mut lost = false;
    let mut left = BTreeMap::new();
    for (name, file) in files {
        if file.removed && random.below(2) == 0 {
            continue;
        }
        let mut bytes = file.synced;
        for step in file.unsynced {
            match (step, random.below(3)) {
                (Step::Written { .. } | Step::Cut { .. }, 0) => lost = true,
                (Step::Written { offset, data, .. }, 1) => write(&mut bytes, *offset, data),
                (Step::Written { offset, data, .. }, _) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if random.below(2) == 0 {
                            write(&mut bytes, offset + n * SECTOR, sector);
                        } else {
                            lost = true;
                        }
                    }
                }
                (Step::Cut { length, .. }, _) => bytes.resize(*length, 0),
                _ => {}
            }
        }
        left.insert(name, bytes);
    }
    (acknowledged, left, lost)
}
