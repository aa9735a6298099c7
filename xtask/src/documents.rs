//! The documents: links lead somewhere, and the README's commands are run as they stand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::process::{log_dir, target_dir, workspace};
use crate::sys;
use crate::test::{Outcome, finish_within};

/// Longest time one command of the README may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(240);
/// A block begun by this and followed by `sh` is run; the two main commands stand in plain blocks.
const RUN_MARK: &str = "<!-- run -->";
/// The same for commands that need root.
const RUN_AS_ROOT_MARK: &str = "<!-- run as root -->";

/// Checks that every relative link of every Markdown file leads to a file.
///
/// # Errors
/// A link leads nowhere.
pub(crate) fn links() -> anyhow::Result<Outcome> {
    let root = workspace();
    let mut files = Vec::new();
    for directory in ["", "docs", "docs/decisions", "web", "deploy"] {
        let Ok(entries) = std::fs::read_dir(root.join(directory)) else {
            continue;
        };
        files.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
        );
    }
    let mut checked = 0;
    let mut dead = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let base = file.parent().unwrap_or(&root);
        for target in relative_links(&text) {
            checked += 1;
            if !base.join(target).exists() {
                dead.push(format!("{}: {target}", file.display()));
            }
        }
    }
    ensure!(
        dead.is_empty(),
        "links that lead nowhere:\n{}",
        dead.join("\n")
    );
    Ok(Outcome::Passed(format!("{checked} links")))
}

/// Targets of inline links and images, without addresses of other hosts and fragments.
fn relative_links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '))
        .collect()
}

/// Runs every marked command of the README in a directory of its own.
///
/// # Errors
/// A command fails, or none is marked.
pub(crate) fn commands() -> anyhow::Result<Outcome> {
    let root = workspace();
    let text = std::fs::read_to_string(root.join("README.md")).context("there is no README.md")?;
    let blocks = marked_blocks(&text);
    ensure!(
        !blocks.is_empty(),
        "no command of the README is marked to be run"
    );
    let scratch = target_dir().join(format!("readme-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let ran = run_blocks(&blocks, &root, &scratch);
    std::fs::remove_dir_all(&scratch)?;
    ran
}

fn run_blocks(blocks: &[Block<'_>], root: &Path, scratch: &Path) -> anyhow::Result<Outcome> {
    let (mut ran, mut left_out) = (0, 0);
    for block in blocks {
        if block.needs_root && !sys::is_root() {
            left_out += 1;
            continue;
        }
        let log = log_dir()?.join("readme.log");
        let file = std::fs::File::create(&log)?;
        let mut command = Command::new("sh");
        command
            .current_dir(root)
            .args(["-e", "-c", block.script])
            .env("SCRATCH", scratch)
            .env("PATH", search_path()?)
            .stdout(file.try_clone()?)
            .stderr(file);
        if !finish_within(&mut command, COMMAND_PATIENCE)? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!(
                "the README's command failed: {}\n{said}",
                block.script.trim()
            );
        }
        ran += 1;
    }
    Ok(Outcome::Passed(format!(
        "{ran} blocks run, {left_out} need root"
    )))
}

/// The programs as built by the tests come first.
fn search_path() -> anyhow::Result<std::ffi::OsString> {
    let mut path: Vec<PathBuf> = vec![target_dir().join("debug")];
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    Ok(std::env::join_paths(path)?)
}

#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    script: &'a str,
    needs_root: bool,
}

fn marked_blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for (mark, needs_root) in [(RUN_MARK, false), (RUN_AS_ROOT_MARK, true)] {
        for rest in text.split(mark).skip(1) {
            if let Some(rest) = rest.trim_start().strip_prefix("```sh\n")
                && let Some(script) = rest.split("```").next()
            {
                blocks.push(Block { script, needs_root });
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::{Block, marked_blocks, relative_links};

    #[test]
    fn links_to_other_hosts_and_fragments_are_not_files() {
        let text = "[a](docs/a.md) ![b](b.png) [c](https://example.org) [d](#part) [e](e.md#x)";
        assert_eq!(relative_links(text), ["docs/a.md", "b.png", "e.md"]);
    }

    #[test]
    fn only_marked_blocks_are_run() {
        let text = "```sh\nno\n```\n<!-- run -->\n```sh\nyes\n```\n<!-- run as root -->\n```sh\nroot\n```\n";
        assert_eq!(
            marked_blocks(text),
            [
                Block {
                    script: "yes\n",
                    needs_root: false
                },
                Block {
                    script: "root\n",
                    needs_root: true
                },
            ]
        );
    }
}
