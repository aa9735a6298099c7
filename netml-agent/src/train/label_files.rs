//! Labels against the files they are about: nothing twice, nothing forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::labels::{LabelledCapture, LabelsError};

/// Looks at the files that the labels name and at those beside them.
///
/// # Errors
/// [`LabelsError`] for two lines about the same bytes and, unless `skip_unlabelled`, for captures
/// in the same folder as a labelled one that no line names. A capture that is missing is not told
/// here.
pub fn check_files(
    path: &Path,
    dir: &Path,
    captures: &[LabelledCapture],
    skip_unlabelled: bool,
) -> Result<(), LabelsError> {
    // A name that is spelt wrong is told as a capture that is missing, not as one without a label.
    let all_there = captures.iter().all(|c| dir.join(&c.file).is_file());
    if !skip_unlabelled && all_there {
        let files = unlabelled(dir, captures)?;
        if !files.is_empty() {
            let path = path.to_path_buf();
            return Err(LabelsError::Unlabelled { path, files });
        }
    }
    // Equal bytes have equal length: only such files are read.
    let mut by_length: BTreeMap<u64, Vec<&LabelledCapture>> = BTreeMap::new();
    for capture in captures {
        if let Ok(about) = std::fs::metadata(dir.join(&capture.file)) {
            by_length.entry(about.len()).or_default().push(capture);
        }
    }
    for same_length in by_length.into_values().filter(|of| of.len() > 1) {
        let mut first_of: HashMap<[u8; 32], &LabelledCapture> = HashMap::new();
        for capture in same_length {
            let file = dir.join(&capture.file);
            let digest =
                digest(&file).map_err(|source| LabelsError::Folder { path: file, source })?;
            let first = *first_of.entry(digest).or_insert(capture);
            if first.line == capture.line {
                continue;
            }
            let (path, line) = (path.to_path_buf(), capture.line);
            let (file, same) = (capture.file.clone(), first.says_the_same(capture));
            let first = first.line;
            return Err(if same {
                LabelsError::Copy {
                    path,
                    line,
                    file,
                    first,
                }
            } else {
                LabelsError::Contradiction {
                    path,
                    line,
                    file,
                    first,
                }
            });
        }
    }
    Ok(())
}

/// Captures in the folders of labelled ones that have no label, in the order of their names.
fn unlabelled(dir: &Path, captures: &[LabelledCapture]) -> Result<Vec<PathBuf>, LabelsError> {
    let labelled: HashSet<PathBuf> = captures.iter().map(|c| dir.join(&c.file)).collect();
    let folders: BTreeSet<&Path> = labelled.iter().filter_map(|file| file.parent()).collect();
    let mut found = BTreeSet::new();
    for folder in folders {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            // That a labelled capture is missing is told with its line.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => {
                let path = folder.to_path_buf();
                return Err(LabelsError::Folder { path, source });
            }
        };
        for entry in entries {
            let file = entry
                .map_err(|source| LabelsError::Folder {
                    path: folder.to_path_buf(),
                    source,
                })?
                .path();
            let name = file.file_name().map(|name| name.to_string_lossy());
            let is_capture = name
                .is_some_and(|name| CAPTURE_ENDINGS.iter().any(|ending| name.ends_with(ending)));
            if is_capture && file.is_file() && !labelled.contains(&file) {
                found.insert(file.strip_prefix(dir).map_or(file.clone(), PathBuf::from));
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// How the names of captures end.
const CAPTURE_ENDINGS: [&str; 9] = [
    ".pcap",
    ".pcap.gz",
    ".pcap.zst",
    ".pcapng",
    ".pcapng.gz",
    ".pcapng.zst",
    ".cap",
    ".cap.gz",
    ".cap.zst",
];

fn digest(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut part = vec![0; 1 << 16];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hasher.finalize().into()),
            bytes => hasher.update(&part[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels;
    use super::*;

    const HEADER: &str = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n";

    /// Checks labels of captures that hold these bytes.
    fn checked(rows: &str, files: &[(&str, &str)], skip_unlabelled: bool) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, bytes).expect("writes");
        }
        let path = Path::new("labels.csv");
        let captures = labels::parse(format!("{HEADER}{rows}").as_bytes(), path).expect("parses");
        check_files(path, dir.path(), &captures, skip_unlabelled).map_err(|error| error.to_string())
    }

    #[test]
    fn a_capture_that_no_line_names_is_named_unless_it_may_be_left() {
        let rows = "a/1.pcap,benign,k,,,,,g\n./a/2.pcap,benign,k,,,,,g\n";
        let files = [
            ("a/1.pcap", "1"),
            ("a/2.pcap", "22"),
            ("a/3.pcapng.gz", "3"),
            ("a/notes.txt", ""),
            ("b/4.pcap", "4"),
        ];
        let error = checked(rows, &files, false).expect_err("one has no label");
        assert!(
            error.contains("no line names a/3.pcapng.gz, which lies beside"),
            "{error}"
        );
        assert_eq!(checked(rows, &files, true), Ok(()));
        assert_eq!(checked(rows, &files[..2], false), Ok(()));
    }

    #[test]
    fn the_same_bytes_under_two_names_are_refused_by_line() {
        let files = [("a.pcap", "same"), ("b.pcap", "same"), ("c.pcap", "othr")];
        let lines =
            |second: &str| format!("a.pcap,benign,k,,,,,g\n{second}\nc.pcap,benign,k,,,,,g\n");
        let error = checked(&lines("b.pcap,malicious,k,,,,none,g"), &files, false);
        let error = error.expect_err("contradicts");
        assert!(
            error.contains(
                "line 3: b.pcap is the same capture as that of line 2, with another label"
            ),
            "{error}"
        );
        let error = checked(&lines("b.pcap,benign,k,,,,,g"), &files, false);
        assert!(error.expect_err("twice").contains("would count twice"));
    }
}
