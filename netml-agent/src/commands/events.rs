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
