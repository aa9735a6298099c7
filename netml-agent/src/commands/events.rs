//! Events every sensor tells, live or replaying.

use netml_proto::v1;

use super::identity;
use crate::export::convert::event;
use crate::model::Model;

/// The sensor started, and with which model.
#[must_use]
pub fn started(unix_ns: u64, model: Option<&Model>) -> Vec<v1::Record> {
    let fields = [
        ("version", identity::VERSION.to_owned()),
        ("commit", identity::COMMIT.to_owned()),
        ("kernel", identity::kernel()),
    ];
    let started = event(
        unix_ns,
        "started",
        "info",
        format!("netml-agent {} started", identity::VERSION),
        &fields,
    );
    let (severity, message, fields) = match model {
        Some(model) => (
            "info",
            format!("model {} loaded", model.id()),
            vec![("model_id", model.id().to_owned())],
        ),
        None => (
            "warning",
            "no model: every verdict is NO_VERDICT".to_owned(),
            vec![],
        ),
    };
    let loaded = event(unix_ns, "model-loaded", severity, message, &fields);
    vec![started, loaded]
}

/// What became of a model file that changed while the sensor runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelChange<'a> {
    /// It judges from now on.
    Loaded {
        /// Its identity.
        model_id: &'a str,
        /// That of the model before.
        before: &'a str,
    },
    /// It cannot be used, and the model in use stays.
    Refused {
        /// That of the model in use.
        model_id: &'a str,
        /// Why, in one line.
        reason: &'a str,
    },
}

/// The event of it.
#[must_use]
pub fn model(unix_ns: u64, change: &ModelChange<'_>) -> v1::Record {
    match *change {
        ModelChange::Loaded { model_id, before } => event(
            unix_ns,
            "model-loaded",
            "info",
            format!("model {model_id} loaded in place of {before}"),
            &[
                ("model_id", model_id.to_owned()),
                ("previous_model_id", before.to_owned()),
            ],
        ),
        ModelChange::Refused { model_id, reason } => event(
            unix_ns,
            "model-refused",
            "warning",
            format!("the new model is refused, {model_id} goes on: {reason}"),
            &[
                ("model_id", model_id.to_owned()),
                ("reason", reason.to_owned()),
            ],
        ),
    }
}

/// The sensor stopped.
#[must_use]
pub fn stopped(unix_ns: u64) -> v1::Record {
    event(
        unix_ns,
        "stopped",
        "info",
        "netml-agent stopped".into(),
        &[],
    )
}
