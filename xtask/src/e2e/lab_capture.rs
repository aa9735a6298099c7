//! `lab capture`, with a scenario that needs no package.

use crate::lab::capture;
use crate::process::target_dir;

/// One scenario is recorded over the wire, told apart by its rule, and leaves no namespace.
pub(super) fn holds_what_its_label_says() -> anyhow::Result<String> {
    let scratch = target_dir().join(format!("lab-capture-{}", std::process::id()));
    let checked = capture::check_one(&scratch);
    std::fs::remove_dir_all(&scratch)?;
    checked
}
