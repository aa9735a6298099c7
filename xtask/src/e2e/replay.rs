//! Every capture at hand through the sensor's own code: nothing may panic or go missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::system::program;

/// All files of a directory and its directories are replayed, with every packet accounted for.
pub(super) fn every_capture_is_accounted_for(data: &Path) -> anyhow::Result<String> {
    let mut captures = Vec::new();
    for directory in ["pcap", "odd"] {
        collect(&data.join(directory), &mut captures)?;
    }
    ensure!(!captures.is_empty(), "no capture in {}", data.display());
    let mut packets = 0;
    let mut refused = Vec::new();
    for capture in &captures {
        let output = Command::new(program("netml-agent"))
            .args(["replay", "--output", "ndjson"])
            .arg(capture)
            .output()
            .context("cannot run netml-agent")?;
        let log = String::from_utf8_lossy(&output.stderr);
        let name = capture.file_name().unwrap_or_default().display();
        ensure!(
            matches!(output.status.code(), Some(0 | 1)) && !log.contains("panicked"),
            "{name}: {}: {log}",
            output.status
        );
        ensure!(!log.contains("DO NOT balance"), "{name}: {log}");
        if output.status.code() == Some(1) {
            // Truncated files and unknown link types are refused with one line that says so.
            ensure!(
                log.contains("error: "),
                "{name} failed without a reason: {log}"
            );
            let reason = log.lines().last().unwrap_or_default();
            refused.push(format!("{name} ({reason})"));
        } else {
            ensure!(log.contains("books balance"), "{name}: no books: {log}");
        }
        packets += counted(&log);
    }
    ensure!(
        refused.len() < captures.len() / 10,
        "{} of {} captures are refused, among them {}",
        refused.len(),
        captures.len(),
        refused[..refused.len().min(3)].join(", ")
    );
    Ok(format!(
        "{} captures with {packets} packets; refused with a reason: {}",
        captures.len(),
        if refused.is_empty() {
            "none".to_owned()
        } else {
            refused.join(", ")
        }
    ))
}

/// The number in `capture: N packets = …`.
pub(crate) fn counted(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| line.trim().strip_prefix("capture: "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn collect(directory: &Path, captures: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, captures)?;
        } else {
            captures.push(path);
        }
    }
    captures.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn packets_are_read_from_the_books() {
        assert_eq!(
            counted("a.pcap\n  capture: 12 packets = 10 records + 2 arp\n"),
            12
        );
        assert_eq!(counted("error: nothing"), 0);
    }
}
