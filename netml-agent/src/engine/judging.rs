//! From a row's judgement to the verdict of its flow, with its reasons.

use crate::baseline::OfFlow;
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;
use crate::flow::state::Flow;
use crate::model::{Judgement, Model};
use crate::rules::Finding;
use crate::verdict::{FlowVerdict, REASONS_MAX, Reason, Verdict};

/// Begins the verdict anew where another model gave it: scores of two models do not compare. What a
/// rule found stands, and is given back to count again.
fn begin_anew(flow: &mut Flow, model: &Model) -> Option<Finding> {
    let verdict = &mut flow.verdict;
    if verdict.model_id.as_deref() == Some(model.id()) {
        return None;
    }
    *verdict = FlowVerdict {
        rule: verdict.rule,
        baseline: verdict.baseline,
        lost_meanwhile: verdict.lost_meanwhile,
        model_id: Some(model.shared_id()),
        ..FlowVerdict::default()
    };
    flow.class = 0;
    flow.verdict.rule
}

/// Takes a judgement and what a rule found into the verdict of its flow: the highest combined
/// score so far decides. A rule that speaks is an alarm of its own: fixed limits find what no
/// capture taught, the forest finds what no limit says, and each was measured to have few false
/// alarms alone.
pub(super) fn apply(
    flow: &mut Flow,
    model: &Model,
    judgement: &Judgement,
    finding: Option<Finding>,
    row: &[f32; FEATURES],
    usual: &OfFlow<'_>,
) {
    let is_fed = flow.rev.payload_bytes > 0;
    let standing = begin_anew(flow, model);
    let verdict = &mut flow.verdict;
    let first = verdict.verdict == Verdict::NoVerdict;
    verdict.forest_score_max = verdict.forest_score_max.max(judgement.score);
    verdict.forest = model.verdict(verdict.forest_score_max);
    if finding.is_none()
        && is_fed
        && verdict
            .rule
            .is_some_and(|so_far| so_far.rule.rests_on_silence())
    {
        withdraw(verdict, model);
    }
    if let Some(finding) = finding
        && verdict
            .rule
            .is_none_or(|so_far| finding.excess() >= so_far.excess())
    {
        verdict.rule = Some(finding);
    }
    let finding = finding.or(standing.and(verdict.rule));
    let score = match finding {
        Some(_) => judgement.score.max(model.rule_score()),
        None => judgement.score,
    };
    if !first && score <= verdict.score {
        return;
    }
    verdict.score = score;
    verdict.forest_score = judgement.score;
    verdict.probability = model.probability(score);
    verdict.verdict = model.verdict(score);
    verdict.false_alarms_per_host_day = model.expected_false_alarms_per_host_day(score);
    if verdict.verdict < Verdict::Unsure {
        return;
    }
    let class_of = |finding: Finding| model.class_of(finding.rule.kind());
    flow.class = finding.and_then(class_of).unwrap_or(judgement.class);
    let told = model.classes().get(usize::from(flow.class));
    let kind = match finding {
        Some(finding) => finding.rule.kind(),
        None => told.map_or("", String::as_str),
    };
    if verdict.kind.as_deref() != Some(kind) {
        verdict.kind = Some(kind.to_owned());
    }
    verdict.reasons = reasons(model, row, usual);
}

/// Takes back what a rule said of a flow's silence: the forest's answer is left.
fn withdraw(verdict: &mut FlowVerdict, model: &Model) {
    verdict.rule = None;
    verdict.score = verdict.forest_score_max;
    verdict.probability = model.probability(verdict.score);
    verdict.verdict = model.verdict(verdict.score);
    verdict.false_alarms_per_host_day = model.expected_false_alarms_per_host_day(verdict.score);
    if verdict.verdict < Verdict::Unsure {
        verdict.kind = None;
        verdict.reasons.clear();
    }
}

/// The strongest contributions, largest first, and the sum of the rest as "others".
fn reasons(model: &Model, row: &[f32; FEATURES], usual: &OfFlow<'_>) -> Vec<Reason> {
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
            usual: usual.range(i),
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
        usual: None,
    });
    reasons
}
