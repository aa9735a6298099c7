//! What the sensor says of a flow, and on what basis.

use std::sync::Arc;

use crate::baseline::{Opinion, UsualRange};
use crate::rules::Finding;

/// Answer for a flow or packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Verdict {
    /// No model was loaded or it has not run yet. Never shown as normal.
    #[default]
    NoVerdict,
    /// Below the model's lower threshold.
    Normal,
    /// Between the thresholds; counts as not detected and not alarmed.
    Unsure,
    /// At or above the upper threshold.
    Suspicious,
}

impl Verdict {
    /// Stable name, as in output and on the dashboard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoVerdict => "NO_VERDICT",
            Self::Normal => "NORMAL",
            Self::Unsure => "UNSURE",
            Self::Suspicious => "SUSPICIOUS",
        }
    }
}

/// Most named reasons of a verdict; the rest of the margin is the entry "others".
pub const REASONS_MAX: usize = 5;

/// One feature's part in a verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// Feature name of the schema, or "others".
    pub feature: &'static str,
    /// The feature's value; of "others": 0.
    pub value: f32,
    /// Part of the uncalibrated margin; with "others" the parts sum to it.
    pub contribution: f32,
    /// What is usual for the host; `None`: the feature is of no host, or that is not known yet.
    pub usual: Option<UsualRange>,
}

/// The verdict of a flow with everything it rests on.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FlowVerdict {
    /// The answer.
    pub verdict: Verdict,
    /// Most probable attack kind; set only with `Unsure` and `Suspicious`.
    pub kind: Option<String>,
    /// Calibrated probability of attack at the model's reference share, 0 to 1.
    pub probability: f32,
    /// Combined score, 0 to 1; highest so far: the forest's, or that of a rule where one speaks
    /// and it is higher.
    pub score: f32,
    /// The forest's own score at that point: share of attack over the trees; what `reasons` sum to.
    pub forest_score: f32,
    /// The forest's own highest score so far, and its answer at that.
    pub forest_score_max: f32,
    /// See `forest_score_max`.
    pub forest: Verdict,
    /// What a rule found, by most so far.
    pub rule: Option<Finding>,
    /// What the hosts' own past says; without weight in the verdict.
    pub baseline: Opinion,
    /// Up to [`REASONS_MAX`] strongest features and "others"; empty with `Normal`.
    pub reasons: Vec<Reason>,
    /// Identity of the model that judged; `None` with `NoVerdict`.
    pub model_id: Option<Arc<str>>,
    /// False alarms per host-day that model expects at `score`.
    pub false_alarms_per_host_day: f32,
    /// Packets the sensor lost while the flow lived.
    pub lost_meanwhile: u64,
}
