//! Two models on the same labelled captures: which figures of the new one are worse.
//!
//! The captures are those of whoever is to run the model. A figure is worse where it moves to the bad
//! side by more than its tolerance; an interval of the difference over draws of whole captures stands
//! beside it and decides nothing, since a kind that one capture holds would never leave it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::captures::RunError;
use super::cells::{Cells, Draw};
use super::evaluate;
use super::labels::LabelledCapture;
use super::report::view::{percent_fine, rounded};
use crate::capture_file::Reading;
use crate::model::Model;

/// What is not worse yet, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// Of recall.
    pub recall: f64,
    /// Of the share of benign flows that are SUSPICIOUS.
    pub false_positives: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            recall: 0.01,
            false_positives: 0.001,
        }
    }
}

/// A figure of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Its name.
    pub figure: String,
    /// Of the old model; `None` where the captures do not define it.
    pub old: Option<f64>,
    /// Of the new one.
    pub new: Option<f64>,
    /// 95 % of the draws of captures of the new one's less the old one's.
    pub interval: Option<[f64; 2]>,
    /// Worse by more than the tolerance.
    pub worse: bool,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Identity of the old model.
    pub with: String,
    /// Identity of the new one, before its card told of this.
    pub of: String,
    /// Captures.
    pub captures: usize,
    /// Attack and benign flows of quality A, B or not told.
    pub flows: [f64; 2],
    /// What was let pass.
    pub tolerance: Tolerance,
    /// All figures.
    pub figures: Vec<Compared>,
    /// Names of those that are worse.
    pub worse: Vec<String>,
}

/// Which side of a figure is the good one.
#[derive(Clone, Copy)]
enum Good {
    High,
    Low,
}

/// Judges the captures by both models.
///
/// # Errors
/// [`RunError`] as in evaluation.
pub fn compare(
    [old, new]: [&Arc<Model>; 2],
    dir: &Path,
    labels: &[LabelledCapture],
    reading: Reading,
    tolerance: Tolerance,
) -> Result<Comparison, RunError> {
    let answers = |model| evaluate::answers(model, dir, labels, reading);
    let (before, after) = (answers(old)?, answers(new)?);
    // What is judged does not depend on who judges.
    debug_assert_eq!(before.table, after.table);
    let cells = Cells::new(&before.table, &before.flows);
    let [hits_before, hits_after] = [&before, &after].map(|answers| {
        let contenders = answers.contenders();
        cells.hits(&contenders[0].hits)
    });
    let mut figures = Vec::new();
    let mut add = |name: String, good: Good, of: &dyn Fn(&Draw<'_>) -> Option<f64>| {
        let [old, new] = [&hits_before, &hits_after].map(|hits| cells.value(hits, of));
        let loss = old.zip(new).map(|(old, new)| match good {
            Good::High => old - new - tolerance.recall,
            Good::Low => new - old - tolerance.false_positives,
        });
        figures.push(Compared {
            figure: name,
            old,
            new,
            interval: cells.difference([&hits_before, &hits_after], of),
            // A share that is a sum of parts may miss its tolerance by its rounding.
            worse: loss.is_some_and(|loss| loss > 1e-9),
        });
    };
    let kinds: BTreeSet<&str> = cells
        .cells
        .iter()
        .filter(|cell| cell.attack && !cell.apart)
        .map(|cell| cell.kind.as_str())
        .collect();
    add("benign flows SUSPICIOUS".into(), Good::Low, &|draw| {
        draw.share(|cell| !cell.attack)
    });
    add(
        "benign flows SUSPICIOUS, captures alike".into(),
        Good::Low,
        &|draw| draw.as_the_threshold_counts(),
    );
    add(
        "recall, mean over group and kind".into(),
        Good::High,
        &|draw| draw.recall_mean(|_| true),
    );
    for kind in kinds {
        add(format!("recall of {kind}"), Good::High, &|draw| {
            draw.recall_mean(|of| of == kind)
        });
    }
    let flows = |attack: bool| -> f64 {
        let cells = cells.cells.iter();
        let counted = cells.filter(|cell| !cell.apart && cell.attack == attack);
        counted.map(|cell| cell.flows).sum()
    };
    let worse = figures.iter().filter(|figure| figure.worse);
    Ok(Comparison {
        with: old.id().to_string(),
        of: new.id().to_string(),
        captures: labels.len(),
        flows: [flows(true), flows(false)],
        tolerance,
        worse: worse.map(|figure| figure.figure.clone()).collect(),
        figures,
    })
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [attack, benign] = self.flows;
        writeln!(
            f,
            "model {} against model {} on {} captures, {attack:.0} attack and {benign:.0} benign flows",
            self.of, self.with, self.captures
        )?;
        writeln!(
            f,
            "{:<42} {:>9} {:>9} {:>8}  {:<20}",
            "figure", "old", "new", "points", "95 % of draws"
        )?;
        let told = |value: Option<f64>| value.map_or("–".to_string(), percent_fine);
        let points = |value: f64| rounded(value * 100.0, 2);
        for line in &self.figures {
            let change = line.old.zip(line.new).map(|(old, new)| points(new - old));
            let interval = line
                .interval
                .map(|[low, high]| format!("{} to {}", points(low), points(high)));
            writeln!(
                f,
                "{:<42} {:>9} {:>9} {:>8}  {:<20}{}",
                line.figure,
                told(line.old),
                told(line.new),
                change.unwrap_or("–".into()),
                interval.unwrap_or("–".into()),
                if line.worse { " worse" } else { "" }
            )?;
        }
        let missing = self.figures.iter().filter(|line| line.old.is_none());
        for line in missing {
            writeln!(f, "not judged, for want of such flows: {}", line.figure)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
