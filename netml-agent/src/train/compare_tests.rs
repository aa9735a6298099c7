use super::*;
use crate::model::{encode, testing};
use crate::train::evaluate::tests::{captures, labelled};

fn model(suspicious: f32) -> Arc<Model> {
    let mut parts = testing::parts(3, 4, 20);
    (parts.suspicious, parts.unsure) = (suspicious, suspicious.min(0.9));
    Arc::new(Model::from_bytes(&encode(&parts).expect("encodes")).expect("loads"))
}

fn compared(old: f32, new: f32, tolerance: Tolerance) -> Comparison {
    let dir = captures();
    let models = [&model(old), &model(new)];
    let reading = Reading::default();
    compare(models, dir.path(), &labelled(), reading, tolerance).expect("runs")
}

/// Calls everything SUSPICIOUS.
const ALL: f32 = 1e-6;
/// Calls nothing so.
const NONE: f32 = 1.0;

#[test]
fn what_a_model_finds_less_and_alarms_more_is_worse_and_the_reverse_is_not() {
    let blind = compared(ALL, NONE, Tolerance::default());
    let named = ["recall, mean over group and kind", "recall of dns_tunnel"];
    assert_eq!(blind.worse, named);
    let loud = compared(NONE, ALL, Tolerance::default());
    let named = [
        "benign flows SUSPICIOUS",
        "benign flows SUSPICIOUS, captures alike",
    ];
    assert_eq!(loud.worse, named);
    assert!(loud.flows.iter().all(|flows| (flows - 2.0).abs() < 1e-9));
    let told = loud.to_string();
    assert!(
        told.contains("100.00 %") && told.contains(" worse"),
        "{told}"
    );
}

#[test]
fn a_model_is_not_worse_than_itself_and_a_tolerance_lets_pass() {
    assert!(compared(ALL, ALL, Tolerance::default()).worse.is_empty());
    let all = Tolerance {
        recall: 1.0,
        false_positives: 1.0,
    };
    assert!(compared(ALL, NONE, all).worse.is_empty());
    assert!(compared(NONE, ALL, all).worse.is_empty());
}
