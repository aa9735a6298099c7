//! The forest that serves: file format with checks, batch evaluation, explanation.
//!
//! Bytes become a [`Model`] in [`Model::from_bytes`] only; past it every index is in range, so that
//! judging cannot fail. Data in: rows of [`FEATURES`] finite numbers. Data out: a score, its
//! calibrated probability, the most probable attack class. Nothing here learns: the trainer fills
//! a [`ModelParts`], and a sensor needs no machine-learning crate.

mod describe;
mod forest;
mod format;
mod self_test;
mod serving;
mod standing;
#[cfg(test)]
pub(crate) mod testing;

use std::path::Path;
use std::sync::Arc;

use crate::flow::{FEATURES, schema};
use crate::verdict::Verdict;

pub(crate) use describe::schema_line;
pub use describe::{
    Comparison, Importance, Summary, VerdictChanges, compare, made_up_rows, summary,
};
pub use forest::{Forest, Node, SHARE_ONE, Tree};
#[cfg(feature = "train")]
pub(crate) use format::hex;
pub(crate) use format::read;
pub use format::{FORMAT_VERSION, MODEL_BYTES_MAX, ModelError, encode};
pub use self_test::{SELF_TEST_ROWS_MAX, SelfTest};
pub use serving::Leaves;

/// The model compiled into this build.
static EMBEDDED: &[u8] = include_bytes!("../../model/netml.model");

/// Judgement of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Share of attack over the trees, 0 to 1.
    pub score: f32,
    /// Calibrated probability of attack, 0 to 1.
    pub probability: f32,
    /// Most probable attack class where the score reaches the lower threshold, else 0 (normal).
    pub class: u8,
}

/// Contributions of all features to the margin of one row: `bias + Σ contributions == score`,
/// within the rounding of `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Score of the roots, over all trees.
    pub bias: f32,
    /// Per feature, in the order of the schema.
    pub contributions: [f32; FEATURES],
}

/// A point of a table over the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knot {
    /// Score, 0 to 1; strictly rising within a table.
    pub score: f32,
    /// The table's value there.
    pub value: f32,
}

/// Everything a model file holds but its checksum.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelParts {
    /// Digest of the feature schema the rows were computed by.
    pub schema_digest: String,
    /// Class names; the first is "normal".
    pub classes: Vec<String>,
    /// At or above this score a flow is SUSPICIOUS; above 0 to 1.
    pub suspicious: f32,
    /// At or above this score, and below the other, it is UNSURE; above 0 to `suspicious`.
    pub unsure: f32,
    /// Share of attack the probabilities are calibrated at, above 0 and below 1.
    pub reference_share: f32,
    /// Score to calibrated probability: rising, linear between the knots, flat outside.
    pub calibration: Vec<Knot>,
    /// Score to false alarms per host-day at this threshold: falling, a step at each knot.
    pub false_alarms: Vec<Knot>,
    /// The model card, a JSON object.
    pub card: String,
    /// The trees.
    pub forest: Forest,
}

/// A checked forest, ready to serve.
pub struct Model {
    id: Arc<str>,
    parts: ModelParts,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("id", &self.id).finish()
    }
}

/// The bytes of the model compiled into this build.
#[must_use]
pub fn embedded_bytes() -> &'static [u8] {
    EMBEDDED
}

/// The model compiled into this build.
///
/// # Errors
/// [`ModelError::Schema`] where the features changed and the model was not trained anew.
pub fn embedded() -> Result<Model, ModelError> {
    Model::from_bytes(EMBEDDED)
}

impl Model {
    /// Checks the bytes of a model file.
    ///
    /// # Errors
    /// [`ModelError`]: foreign, of a newer format, damaged, or made for another feature schema.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        Self::from_bytes_of_schema(bytes, &schema::digest())
    }

    /// The same against a given schema digest.
    pub(crate) fn from_bytes_of_schema(bytes: &[u8], digest: &str) -> Result<Self, ModelError> {
        let (id, parts) = format::decode(bytes, Some(digest))?;
        let id = id.into();
        Self { id, parts }.tested()
    }

    /// The same of any schema that has as many features: to look at it, never to serve it.
    pub(crate) fn from_bytes_of_any_schema(bytes: &[u8]) -> Result<Self, ModelError> {
        let (id, parts) = format::decode(bytes, None)?;
        let id = id.into();
        Self { id, parts }.tested()
    }

    fn tested(self) -> Result<Self, ModelError> {
        if let Some(test) = self.self_test() {
            test.run(&self)?;
        }
        Ok(self)
    }

    /// The rows with known answers in its card, if it has any.
    #[must_use]
    pub fn self_test(&self) -> Option<SelfTest> {
        // Loading has checked its form.
        SelfTest::of_card(&self.parts.card).ok().flatten()
    }

    /// True where this build computes the features it was made for.
    #[must_use]
    pub fn is_of_this_schema(&self) -> bool {
        self.parts.schema_digest == schema::digest()
    }

    /// Reads and checks a model file of at most [`MODEL_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`ModelError::Unreadable`] with the cause, and those of [`Self::from_bytes`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_bytes(&format::read(path)?)
    }

    /// Short identity: the first 12 hex digits of the file's digest.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same, to be kept by verdicts: they tell who gave them after the model has gone.
    #[must_use]
    pub fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// Class names; the first is "normal".
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.parts.classes
    }

    /// The model card, a JSON object.
    #[must_use]
    pub fn card(&self) -> &str {
        &self.parts.card
    }

    /// Everything the file holds.
    #[must_use]
    pub fn parts(&self) -> &ModelParts {
        &self.parts
    }

    /// Judges rows; `out` has their length. The sums are of integers, so that neither the order of
    /// trees, nor the processor, nor how many rows are judged at once changes a result.
    pub fn judge(&self, rows: &[[f32; FEATURES]], out: &mut [Judgement]) {
        self.judge_in(rows, out, &mut Leaves::default());
    }

    /// [`Self::judge`] in scratch space of the caller's, so that nothing is allocated.
    pub fn judge_in(&self, rows: &[[f32; FEATURES]], out: &mut [Judgement], leaves: &mut Leaves) {
        debug_assert_eq!(rows.len(), out.len());
        let forest = &self.parts.forest;
        forest.walk_each(rows, leaves, |at, mut walked| {
            let score = forest.score_of(walked.attack);
            let class = if score >= self.parts.unsure {
                forest.attack_class(&mut walked)
            } else {
                0
            };
            out[at] = Judgement {
                score,
                probability: self.probability(score),
                class,
            };
        });
    }

    /// How many trees' training majority is each class: what the trainer's own forest would have
    /// answered. Kept to compare with it; the verdict never rests on it.
    #[must_use]
    pub fn votes(&self, row: &[f32; FEATURES]) -> Vec<u32> {
        self.parts.forest.votes(row, self.parts.classes.len())
    }

    /// The class most trees vote for, per row; the lowest of equals. What [`Self::votes`] counts, by
    /// the walk that serves.
    #[must_use]
    pub fn majority(&self, rows: &[[f32; FEATURES]], leaves: &mut Leaves) -> Vec<u8> {
        self.parts.forest.majority(rows, leaves)
    }

    /// Calibrated probability of attack at the model's reference share, 0 to 1.
    #[must_use]
    pub fn probability(&self, score: f32) -> f32 {
        interpolate(&self.parts.calibration, score)
    }

    /// Cuts a score by the model's thresholds.
    #[must_use]
    pub fn verdict(&self, score: f32) -> Verdict {
        if score >= self.parts.suspicious {
            Verdict::Suspicious
        } else if score >= self.parts.unsure {
            Verdict::Unsure
        } else {
            Verdict::Normal
        }
    }

    /// Score of a flow of which a rule speaks and the forest does not: halfway between the upper
    /// threshold and certainty.
    #[must_use]
    pub fn rule_score(&self) -> f32 {
        f32::midpoint(self.parts.suspicious, 1.0)
    }

    /// Index of a class by its name.
    #[must_use]
    pub fn class_of(&self, name: &str) -> Option<u8> {
        let at = self.parts.classes.iter().position(|class| class == name)?;
        u8::try_from(at).ok()
    }

    /// What drove the score of one row: each split's change of the attack share goes to the
    /// feature it asked (Saabas 2014), averaged over the trees.
    #[must_use]
    pub fn explain(&self, row: &[f32; FEATURES]) -> Explanation {
        self.parts.forest.explain(row)
    }

    /// False alarms per host-day to expect at this score, from the validation captures.
    #[must_use]
    pub fn expected_false_alarms_per_host_day(&self, score: f32) -> f32 {
        let table = &self.parts.false_alarms;
        let above = table.partition_point(|knot| knot.score <= score);
        table
            .get(above.saturating_sub(1))
            .map_or(0.0, |knot| knot.value)
    }
}

/// Value of a table at `score`: linear between knots, flat outside.
pub(crate) fn interpolate(table: &[Knot], score: f32) -> f32 {
    let above = table.partition_point(|knot| knot.score <= score);
    match (
        above.checked_sub(1).and_then(|i| table.get(i)),
        table.get(above),
    ) {
        (Some(low), Some(high)) => {
            let share = (score - low.score) / (high.score - low.score);
            low.value + share * (high.value - low.value)
        }
        (Some(edge), None) | (None, Some(edge)) => edge.value,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests;
