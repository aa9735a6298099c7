//! What a model's card says of the model it is to replace.
//!
//! `train --base` writes `{"parent": {"model": ID}}`; `model compare --output` writes `{"comparison":
//! {"with": ID, "worse": [figure, …], …}}`. A card without either, as that of the built-in model, claims
//! nothing and is taken. Whoever makes a model can write what they like there: this guards against
//! a slip, not against a forger.

use serde_json::{Value, json};

use super::format::{ModelError, plain};
use super::{Model, encode};

/// Figures that a refusal names.
const FIGURES_TOLD: usize = 4;

impl Model {
    /// An entry of the card.
    fn card_entry(&self, pointer: &str) -> Option<Value> {
        let card: Value = serde_json::from_str(self.card()).ok()?;
        card.pointer(pointer).cloned()
    }

    /// Identity of the model it was made to replace, as its card says.
    #[must_use]
    pub fn parent(&self) -> Option<String> {
        let parent = self.card_entry("/parent/model")?;
        parent.as_str().map(plain)
    }

    /// Identity of the model it was compared with, as its card says.
    #[must_use]
    pub fn compared_with(&self) -> Option<String> {
        let with = self.card_entry("/comparison/with")?;
        with.as_str().map(plain)
    }

    /// Whether it may replace its parent.
    ///
    /// # Errors
    /// [`ModelError::NotCompared`] where it was not compared with it, [`ModelError::Worse`] where it
    /// was and did worse.
    pub fn check_standing(&self) -> Result<(), ModelError> {
        let with = self.compared_with();
        if let Some(parent) = self.parent()
            && with.as_ref() != Some(&parent)
        {
            return Err(ModelError::NotCompared {
                id: self.id().to_string(),
                parent,
            });
        }
        let Some(with) = with else { return Ok(()) };
        let worse = match self.card_entry("/comparison/worse") {
            Some(Value::Array(worse)) => worse,
            _ => vec![json!("which ones the card does not tell")],
        };
        if worse.is_empty() {
            return Ok(());
        }
        let told = worse.iter().take(FIGURES_TOLD).map(|figure| {
            let text = figure.as_str().unwrap_or("?");
            let shown = text.chars().take(60);
            shown
                .map(|c| if c.is_control() { '?' } else { c })
                .collect::<String>()
        });
        Err(ModelError::Worse {
            id: self.id().to_string(),
            with,
            figures: told.collect::<Vec<_>>().join("; "),
        })
    }

    /// The bytes of the same model with another entry in its card; its identity is another one then.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where the card would be too long.
    pub fn with_card_entry(&self, name: &str, entry: Value) -> Result<Vec<u8>, ModelError> {
        let mut parts = self.parts.clone();
        let mut card: Value =
            serde_json::from_str(&parts.card).map_err(|_| ModelError::Invalid {
                what: "the model card is not a JSON object",
            })?;
        card[name] = entry;
        parts.card = card.to_string();
        encode(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::embedded;

    fn model(entries: &[(&str, Value)]) -> Model {
        let mut model = embedded().unwrap();
        for (name, entry) in entries {
            let bytes = model.with_card_entry(name, entry.clone()).unwrap();
            model = Model::from_bytes(&bytes).unwrap();
        }
        model
    }

    #[test]
    fn a_model_that_claims_nothing_is_taken() {
        let built_in = embedded().unwrap();
        assert!(built_in.check_standing().is_ok());
        assert_eq!((built_in.parent(), built_in.compared_with()), (None, None));
    }

    #[test]
    fn one_made_to_replace_another_is_taken_once_compared_with_it_and_not_worse() {
        let parent = ("parent", json!({"model": "aaaaaaaaaaaa"}));
        let comparison =
            |with: &str, worse: Value| ("comparison", json!({"with": with, "worse": worse}));
        let refused = |entries: &[(&str, Value)]| {
            let error = model(entries).check_standing().unwrap_err();
            error.to_string()
        };
        assert!(refused(std::slice::from_ref(&parent)).contains("not compared with"));
        let other = comparison("bbbbbbbbbbbb", json!([]));
        assert!(refused(&[parent.clone(), other]).contains("aaaaaaaaaaaa"));
        let worse = comparison("aaaaaaaaaaaa", json!(["recall of scan\u{1b}[2J"]));
        let told = refused(&[parent.clone(), worse.clone()]);
        assert!(
            told.contains("recall of scan?[2J") && !told.contains('\u{1b}'),
            "{told}"
        );
        assert!(told.contains("--accept-worse-model"));
        assert!(
            refused(&[worse]).contains("worse"),
            "with or without a parent"
        );
        assert!(refused(&[comparison("aaaaaaaaaaaa", json!(7))]).contains("worse"));
        let good = comparison("aaaaaaaaaaaa", json!([]));
        assert!(model(&[parent, good]).check_standing().is_ok());
    }
}
