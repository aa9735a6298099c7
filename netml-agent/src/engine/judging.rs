//! From a row's judgement to the verdict of its flow, with its reasons.

use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;
use crate::flow::state::Flow;
use crate::model::{Judgement, Model};
use crate::verdict::{REASONS_MAX, Reason, Verdict};

/// Takes a judgement into the verdict of its flow: the highest score so far decides.
pub(super) fn apply(flow: &mut Flow, model: &Model, judgement: &Judgement, row: &[f32; FEATURES]) {
    let first = flow.verdict.verdict == Verdict::NoVerdict;
    if !first && judgement.score <= flow.verdict.score {
        return;
    }
    flow.verdict.score = judgement.score;
    flow.verdict.probability = judgement.probability;
    flow.verdict.verdict = model.verdict(judgement.score);
    if flow.verdict.verdict < Verdict::Unsure {
        return;
    }
    flow.class = judgement.class;
    let kind = model
        .classes()
        .get(usize::from(judgement.class))
        .map_or("", String::as_str);
    if flow.verdict.kind.as_deref() != Some(kind) {
        flow.verdict.kind = Some(kind.to_owned());
    }
    flow.verdict.reasons = reasons(model, row);
}

/// The strongest contributions, largest first, and the sum of the rest as "others".
fn reasons(model: &Model, row: &[f32; FEATURES]) -> Vec<Reason> {
    let explanation = model.explain(row);
    let mut order: [usize; FEATURES] = std::array::from_fn(|i| i);
    let strength = |i: &usize| -explanation.contributions[*i].abs();
    order.sort_by(|a, b| strength(a).total_cmp(&strength(b)));
    let mut reasons: Vec<_> = order[..REASONS_MAX]
        .iter()
        .map(|&i| Reason {
            feature: FEATURE_SPECS[i].name,
            value: row[i],
            contribution: explanation.contributions[i],
        })
        .collect();
    let others = explanation.bias
        + order[REASONS_MAX..]
            .iter()
            .map(|&i| explanation.contributions[i])
            .sum::<f32>();
    reasons.push(Reason {
        feature: "others",
        value: 0.0,
        contribution: others,
    });
    reasons
}
