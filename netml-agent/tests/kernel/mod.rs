//! What the kernel tests share: privilege, frames, captures.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod corpus;
pub(crate) mod frames;

use std::path::{Path, PathBuf};

/// True as root. Else says that the test is skipped, and fails where nothing may be.
pub(crate) fn may_load() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    uid == Some("0") || skip("not root, so no kernel program can be loaded")
}

/// Captures named by `NETML_DATA`, if any.
pub(crate) fn captures() -> Option<Vec<PathBuf>> {
    let Some(data) = std::env::var_os("NETML_DATA") else {
        println!("skipped: NETML_DATA names no captures");
        return None;
    };
    let mut files = Vec::new();
    let mut folders = vec![Path::new(&data).join("pcap")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Some(files)
}

fn skip(reason: &str) -> bool {
    println!("skipped: {reason}");
    assert!(
        std::env::var_os("NETML_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "a required test was skipped: {reason}"
    );
    false
}

/// Up to `max` Ethernet frames, as far as captured, of a classic capture file; none of another.
pub(crate) fn ethernet_frames(path: &Path, max: usize) -> Vec<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let _ = flate2::read::GzDecoder::new(file).read_to_end(&mut bytes);
    } else {
        let _ = std::io::BufReader::new(file).read_to_end(&mut bytes);
    }
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    const MAGIC_US: usize = 0xa1b2_c3d4;
    const MAGIC_NS: usize = 0xa1b2_3c4d;
    const ETHERNET: usize = 1;
    let mut frames = Vec::new();
    if !matches!(word(0), Some(MAGIC_US | MAGIC_NS)) || word(20) != Some(ETHERNET) {
        return frames;
    }
    let mut at = 24;
    while let (true, Some(length)) = (frames.len() < max, word(at + 8)) {
        let Some(frame) = bytes.get(at + 16..at + 16 + length) else {
            break;
        };
        frames.push(frame.to_vec());
        at += 16 + length;
    }
    frames
}
