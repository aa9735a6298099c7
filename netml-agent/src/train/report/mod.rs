//! The report of a cross-validation or of one model: every figure once, told as JSON, Markdown and
//! HTML.
//!
//! [`Report`] holds the figures; [`view`] turns them into titled tables of text and plots, which
//! [`markdown`] and [`html`] only lay out. So a number is the same wherever it is shown.

mod build;
pub mod html;
pub mod markdown;
mod plot;
mod seen;
mod times;
pub mod view;

use std::path::Path;

use serde::Serialize;

use super::cells::Figure;
use super::importance::Importance;
use super::metrics::Calibration;
use super::probes::{Probes, Unseen};
use super::table;

pub use build::{Extent, build, of_answers};

/// Who answered, and what.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum About {
    /// Groups of a table, judged by forests that never saw them.
    LeftOut(LeftOut),
    /// Captures, judged by a given model.
    Model(OneModel),
}

impl About {
    /// Share of attack that probabilities, calibration and areas over alike groups are stated at.
    #[must_use]
    pub fn reference_share(&self) -> f64 {
        match self {
            Self::LeftOut(about) => about.reference_share,
            Self::Model(about) => about.reference_share,
        }
    }

    /// How many times the same was asked with another seed.
    #[must_use]
    pub fn seeds(&self) -> usize {
        match self {
            Self::LeftOut(about) => about.seeds.len(),
            Self::Model(_) => 1,
        }
    }
}

/// Captures judged by a given model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OneModel {
    /// Identity of the model.
    pub model_id: String,
    /// Its upper threshold.
    pub suspicious: f32,
    /// Its lower threshold.
    pub unsure: f32,
    /// Captures.
    pub captures: usize,
    /// Their groups.
    pub groups: Vec<String>,
    /// Those of them that the model was trained on, by its card.
    pub groups_trained_on: Vec<String>,
    /// Flows of a known label.
    pub flows: usize,
    /// Rows at their evaluation points.
    pub rows: usize,
    /// Share of attack the model's probabilities are calibrated at.
    pub reference_share: f64,
    /// Draws of captures behind each interval.
    pub draws: u64,
}

/// What was validated, and how.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Rows of the table.
    pub rows: usize,
    /// Captures.
    pub captures: usize,
    /// Groups left out one after the other, or in folds.
    pub groups: Vec<String>,
    /// Groups that only train.
    pub groups_for_training_only: Vec<String>,
    /// Folds.
    pub folds: usize,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Trees of each forest that judges.
    pub trees: usize,
    /// Share of benign flows that the thresholds may call SUSPICIOUS within the training part.
    pub false_positive_budget: f64,
    /// Share of attack that probabilities, calibration and areas over alike groups are stated at.
    pub reference_share: f64,
    /// Draws of captures behind each interval.
    pub draws: u64,
}

/// One way to answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Mean recall over group and kind.
    pub recall: Figure,
    /// Mean false-positive rate over groups with at least 200 benign flows.
    pub false_positives: Figure,
    /// The same as the thresholds count it: captures alike, groups below 100 flows pooled.
    pub false_positives_captures_alike: Figure,
    /// Area under precision over recall, flows as they are.
    pub pr_auc: Figure,
    /// The same with groups and kinds alike, at the reference share.
    pub pr_auc_alike: Figure,
    /// ROC-AUC with groups and kinds alike.
    pub roc_auc_alike: Figure,
}

/// The figures a release is judged by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Headline {
    /// Mean false-positive rate over groups with at least 200 benign flows.
    pub false_positives: Figure,
    /// The worst of these groups.
    pub false_positives_worst: Figure,
    /// The smaller groups as one.
    pub false_positives_small_groups: Figure,
    /// False alarms per 1,000 benign flows, all flows alike.
    pub false_alarms_per_1000_flows: Figure,
    /// Mean recall over scans and SYN floods, by group and kind.
    pub recall_scans_and_syn_floods: Figure,
    /// Mean recall over the five kinds that two or more groups hold.
    pub recall_shared_kinds: Figure,
    /// Mean recall over group and kind.
    pub recall: Figure,
    /// Precision over flows as they are.
    pub precision: Figure,
    /// Recall over flows as they are.
    pub recall_of_flows: Figure,
    /// F1 over flows as they are.
    pub f1: Figure,
    /// ROC-AUC over flows as they are.
    pub roc_auc: Figure,
}

/// Alarms of hosts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostAlarms {
    /// Benign host-days observed: 1,440 active minutes of a host each.
    pub host_days: f64,
    /// Episodes, as mean over the seeds.
    pub episodes: f64,
    /// Per host-day.
    pub per_host_day: Figure,
    /// What 95 % of Poisson counts allow for the mean number of episodes, per host-day: the bound
    /// that so few host-days leave; `None` without a benign host.
    pub per_host_day_at_most: Option<f64>,
}

/// Recall of one group and kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecallLine {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Quality C: in no mean.
    pub apart: bool,
    /// Captures.
    pub captures: usize,
    /// Flows.
    pub flows: f64,
    /// Recall.
    pub recall: Figure,
}

/// Recall of a kind over its groups.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindLine {
    /// Kind, or the name of several.
    pub kind: String,
    /// Groups that hold it.
    pub groups: usize,
    /// In the mean over the kinds that two or more groups hold.
    pub shared: bool,
    /// Mean recall over group and kind.
    pub recall: Figure,
}

/// Benign flows of one group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenignLine {
    /// Group.
    pub group: String,
    /// Captures.
    pub captures: usize,
    /// Flows.
    pub flows: f64,
    /// At least 200 flows: counts by itself.
    pub large: bool,
    /// Share called SUSPICIOUS.
    pub suspicious: Figure,
    /// Share called UNSURE.
    pub unsure: Figure,
}

/// One host as initiator, in windows of a minute or over its capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowLine {
    /// Windows or hosts with an attack.
    pub attack: f64,
    /// Those without.
    pub benign: f64,
    /// Precision.
    pub precision: Figure,
    /// Recall.
    pub recall: Figure,
    /// F1.
    pub f1: Figure,
    /// False-positive rate.
    pub false_positives: Figure,
    /// Area under precision over recall.
    pub pr_auc: Figure,
    /// ROC-AUC.
    pub roc_auc: Figure,
}

/// One capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaptureLine {
    /// File.
    pub capture: String,
    /// Group.
    pub group: String,
    /// Kinds in it.
    pub kinds: Vec<String>,
    /// Attack flows.
    pub attack: f64,
    /// Recall.
    pub recall: Figure,
    /// Benign flows.
    pub benign: f64,
    /// Share of them called SUSPICIOUS.
    pub false_positives: Figure,
}

/// How soon an attack of one group and kind is found, all seeds together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DelayLine {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Captures with an alarm about the attack, as mean over the seeds.
    pub captures_found: f64,
    /// Captures.
    pub captures: usize,
    /// Seconds from the first attack row to the first alarm, median over captures.
    pub capture_seconds: Option<f64>,
    /// Attack packets until then; of a kind above the cap, those of the table.
    pub capture_packets: Option<f64>,
    /// Packets of a flow at its first alarm: median and 90th percentile over flows found.
    pub flow_packets: Option<[f64; 2]>,
    /// Seconds from its first evaluation point.
    pub flow_seconds: Option<[f64; 2]>,
}

/// What kinds were called.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confusion {
    /// Answers: NORMAL, UNSURE, then SUSPICIOUS by class.
    pub columns: Vec<String>,
    /// Kinds with their number of flows and the share of each answer, as mean over the seeds.
    pub rows: Vec<ConfusionRow>,
}

/// One kind of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfusionRow {
    /// Kind.
    pub kind: String,
    /// Attack or benign.
    pub attack: bool,
    /// Flows.
    pub flows: f64,
    /// Share of each answer.
    pub shares: Vec<f64>,
}

/// A curve of precision over recall.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Whose.
    pub name: String,
    /// Recall and precision, rising in recall.
    pub points: Vec<[f64; 2]>,
}

/// Precision where one flow in so many is an attack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaseRate {
    /// Share of attack.
    pub share: f64,
    /// Precision, by mean recall over group and kind and false positives as the threshold counts them.
    pub precision: Figure,
}

/// Everything that takes more forests or many passes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extras {
    /// By the first seed.
    pub unseen: Vec<Unseen>,
    /// By the first seed.
    pub importances: Vec<Importance>,
    /// By the first seed.
    pub probes: Probes,
}

/// All figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was validated, and how.
    pub about: About,
    /// Headline.
    pub headline: Headline,
    /// The combination, its parts and the baselines.
    pub lines: Vec<Line>,
    /// Mean over the seeds of the calibration on the groups left out; bins of all seeds together.
    pub calibration: Option<Calibration>,
    /// Precision by share of attack.
    pub base_rates: Vec<BaseRate>,
    /// Recall by kind.
    pub kinds: Vec<KindLine>,
    /// Recall by group and kind.
    pub recall: Vec<RecallLine>,
    /// Benign flows by group.
    pub benign: Vec<BenignLine>,
    /// Alarms of hosts.
    pub host_alarms: HostAlarms,
    /// Hosts, each over its capture.
    pub hosts: WindowLine,
    /// Host windows.
    pub windows: WindowLine,
    /// Detection delay.
    pub delays: Vec<DelayLine>,
    /// Answers by kind.
    pub confusion: Confusion,
    /// Precision over recall, all seeds together, groups and kinds alike.
    pub curves: Vec<Curve>,
    /// By capture.
    pub captures: Vec<CaptureLine>,
    /// Only where asked for.
    pub extras: Option<Extras>,
}

impl Report {
    /// As JSON.
    ///
    /// # Errors
    /// What serde says; no figure is of a kind it refuses.
    pub fn json(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Writes `report.json`, `report.md` and `report.html` into a folder, made if it is not there;
    /// each as a whole.
    ///
    /// # Errors
    /// That of the file system, with the file.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let told = |path: &Path, error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(dir).map_err(|error| told(dir, error))?;
        let sections = view::sections(self);
        let json = self.json().map_err(std::io::Error::other)?;
        for (name, text) in [
            ("report.json", json),
            ("report.md", markdown::render(view::title(self), &sections)),
            ("report.html", html::render(view::title(self), &sections)),
        ] {
            let path = dir.join(name);
            table::replace(&path, text.as_bytes()).map_err(|error| told(&path, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
