//! Rows with the answers expected of them, kept in the model card and judged at every load.
//!
//! The card's `self_test` is `{"rows": [[…]], "scores": […], "classes": […]}`: features in the order
//! of the schema, the forest's score, and the class told (0 below the lower threshold). Scores are
//! sums of integers, so that any build on any machine must give the same bits; a model that does not
//! is refused. A card without a self-test is taken: models of before it have none.

use serde_json::{Value, json};

use super::format::ModelError;
use super::{Judgement, Model};
use crate::flow::FEATURES;

/// Most rows of a self-test: 256 rows of 74 features are about 200 KB of card.
pub const SELF_TEST_ROWS_MAX: usize = 256;

/// Rows and what the model must say of them; the three have one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelfTest {
    /// Features in the order of the schema, finite.
    pub rows: Vec<[f32; FEATURES]>,
    /// Scores, 0 to 1.
    pub scores: Vec<f32>,
    /// Indices into the model's classes.
    pub classes: Vec<u8>,
}

impl SelfTest {
    /// The self-test of a model card, if it has one.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn of_card(card: &str) -> Result<Option<Self>, &'static str> {
        let card: Value =
            serde_json::from_str(card).map_err(|_| "the model card is not a JSON object")?;
        let Some(test) = card.get("self_test") else {
            return Ok(None);
        };
        let list = |name: &str| test.get(name).and_then(Value::as_array);
        let (Some(rows), Some(scores), Some(classes)) =
            (list("rows"), list("scores"), list("classes"))
        else {
            return Err("a self-test without rows, scores or classes");
        };
        if rows.is_empty() || rows.len() > SELF_TEST_ROWS_MAX {
            return Err("a self-test without rows or with more than 256");
        }
        if scores.len() != rows.len() || classes.len() != rows.len() {
            return Err("a self-test with more rows than answers or the reverse");
        }
        let number = |value: &Value| {
            let number = value.as_f64().map(|value| value as f32);
            number
                .filter(|value| value.is_finite())
                .ok_or("a self-test with a value that is no finite number")
        };
        let row = |value: &Value| {
            let values = value.as_array().filter(|values| values.len() == FEATURES);
            let values = values.ok_or("a self-test row of another number of features")?;
            let mut row = [0.0; FEATURES];
            for (into, value) in row.iter_mut().zip(values) {
                *into = number(value)?;
            }
            Ok(row)
        };
        let class = |value: &Value| {
            let class = value.as_u64().and_then(|class| u8::try_from(class).ok());
            class.ok_or("a self-test with an unknown class")
        };
        Ok(Some(Self {
            rows: rows.iter().map(row).collect::<Result<_, &str>>()?,
            scores: scores.iter().map(number).collect::<Result<_, _>>()?,
            classes: classes.iter().map(class).collect::<Result<_, &str>>()?,
        }))
    }

    /// As it stands in the card.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rows: Vec<&[f32]> = self.rows.iter().map(<[f32; FEATURES]>::as_slice).collect();
        json!({"rows": rows, "scores": self.scores, "classes": self.classes})
    }

    /// Judges the rows and compares.
    ///
    /// # Errors
    /// [`ModelError::SelfTest`] with the first row that is answered otherwise.
    pub(super) fn run(&self, model: &Model) -> Result<(), ModelError> {
        let mut out = vec![Judgement::default(); self.rows.len()];
        model.judge(&self.rows, &mut out);
        let expected = self.scores.iter().zip(&self.classes);
        for (row, (got, (&score, &class))) in out.iter().zip(expected).enumerate() {
            if got.score.to_bits() != score.to_bits() || got.class != class {
                return Err(ModelError::SelfTest {
                    row,
                    got: got.score,
                    want: score,
                    got_class: got.class,
                    want_class: class,
                });
            }
        }
        Ok(())
    }
}
