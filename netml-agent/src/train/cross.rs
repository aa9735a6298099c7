//! Cross-validation: groups judged by forests, thresholds and baselines that never saw them.

use super::baseline::Baseline;
use super::forest::{FitError, Settings, Training};
use super::table::Table;
use super::threshold::{self, Thresholds};
use super::trainer::{TrainError, TrainSettings};
use super::validate::{self, FlowScore, Folds, IN_NO_FOLD, Judges, RowScore, flow_scores};
use crate::model::interpolate;
use crate::rules::Rule;
use crate::verdict::Verdict;

/// What the sensor would say of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Combined score.
    pub score: f32,
    /// Calibrated probability at it.
    pub probability: f32,
    /// Verdict.
    pub verdict: Verdict,
    /// Class told, by the class names of all rows; the rule's where one speaks.
    pub class: usize,
}

/// What the sensor would say at one row, by its score there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowAnswer {
    /// Combined score.
    pub score: f32,
    /// Verdict.
    pub verdict: Verdict,
    /// What tells kinds of alarm apart, see [`alarm_kind`].
    pub kind: u8,
}

/// A number for the kind of an alarm: by the rule that speaks and by the forest's class apart.
#[must_use]
pub fn alarm_kind(rule: Option<Rule>, class: u8) -> u8 {
    rule.map_or(class, |rule| u8::MAX - rule as u8)
}

/// Answers to the flows and rows of a table: what figures are drawn from.
pub struct Said<'a> {
    /// Class names; the first is normal.
    pub classes: &'a [String],
    /// The flows that are judged.
    pub flows: &'a [FlowScore],
    /// An answer for each.
    pub answers: &'a [Answer],
    /// An answer for each row of the table; none for those that are not judged.
    pub rows: Vec<Option<RowAnswer>>,
}

/// A way to answer, by flow.
pub struct Contender {
    /// Name in reports.
    pub name: String,
    /// Called an attack.
    pub hits: Vec<bool>,
    /// What orders the flows.
    pub scores: Vec<f32>,
}

/// One seed's answers, none by anything that saw the group.
pub struct Judged {
    /// The seed.
    pub seed: u64,
    /// The forests, one per fold.
    pub judges: Judges,
    /// Their scores of all rows.
    pub rows: Vec<RowScore>,
    /// Flows by their highest score.
    pub flows: Vec<FlowScore>,
    /// Per fold the thresholds, chosen without its scores.
    pub cuts: Vec<Thresholds>,
    /// Per flow the answer.
    pub answers: Vec<Answer>,
}

impl Judged {
    /// Validates with the seed of the settings.
    ///
    /// # Errors
    /// [`TrainError`] as in training.
    pub fn new(table: &Table, settings: &TrainSettings) -> Result<Self, TrainError> {
        let seed = settings.forest.seed;
        let folds = Folds::new(table, settings.folds, seed).map_err(TrainError::Groups)?;
        Ok(Self::in_folds(table, settings, &folds)?)
    }

    /// The same in given folds.
    ///
    /// # Errors
    /// [`FitError`] where the rows outside a fold are of one class.
    pub fn in_folds(
        table: &Table,
        settings: &TrainSettings,
        folds: &Folds,
    ) -> Result<Self, FitError> {
        let seed = settings.forest.seed;
        let judges = Judges::grow(table, folds, &validation(settings))?;
        let rows = judges.scores(table, |row| table.rows[row].features);
        let flows = flow_scores(table, &rows);
        let fold_of = |flow: &FlowScore| folds.of_group[table.rows[flow.rows.start].group as usize];
        let cuts: Vec<Thresholds> = (0..folds.count)
            .map(|fold| {
                let others: Vec<FlowScore> = flows
                    .iter()
                    .filter(|flow| fold_of(flow) != fold)
                    .cloned()
                    .collect();
                let wanted = |row: usize| folds.of_group[table.rows[row].group as usize] != fold;
                threshold::choose_among(table, &rows, &others, &settings.budget, wanted)
            })
            .collect();
        let mut judged = Self {
            seed,
            judges,
            rows,
            flows,
            cuts,
            answers: Vec::new(),
        };
        judged.answers = judged
            .flows
            .iter()
            .map(|flow| judged.answer(table, flow))
            .collect();
        Ok(judged)
    }

    /// Thresholds for a row; a row that only trains has none.
    #[must_use]
    pub fn cut(&self, table: &Table, row: usize) -> Option<&Thresholds> {
        let fold = self.judges.folds.of_group[table.rows[row].group as usize];
        (fold != IN_NO_FOLD).then(|| &self.cuts[fold])
    }

    /// As the sensor combines them: where a rule speaks, its score counts if it is higher.
    fn answer(&self, table: &Table, flow: &FlowScore) -> Answer {
        let cut =
            &self.cuts[self.judges.folds.of_group[table.rows[flow.rows.start].group as usize]];
        let score = combined(cut, flow.score, flow.rule);
        let verdict = verdict(cut, score);
        let of_rule = |rule: Rule| self.judges.classes.iter().position(|c| c == rule.kind());
        Answer {
            score,
            probability: interpolate(&cut.calibration, score),
            verdict,
            class: flow
                .rule
                .and_then(of_rule)
                .unwrap_or(usize::from(flow.class)),
        }
    }

    /// What is said of every flow and row.
    #[must_use]
    pub fn said(&self, table: &Table) -> Said<'_> {
        let answer = |row: usize| {
            let cut = self.cut(table, row)?;
            let (own, rule) = (&self.rows[row], table.rows[row].rule);
            let score = combined(cut, own.score, rule);
            Some(RowAnswer {
                score,
                verdict: verdict(cut, score),
                kind: alarm_kind(rule, own.class),
            })
        };
        Said {
            classes: &self.judges.classes,
            flows: &self.flows,
            answers: &self.answers,
            rows: (0..table.rows.len()).map(answer).collect(),
        }
    }

    /// The combination, its parts, and what needs no forest.
    ///
    /// # Errors
    /// [`FitError`] of a baseline.
    pub fn contenders(
        &self,
        table: &Table,
        settings: &TrainSettings,
    ) -> Result<Vec<Contender>, FitError> {
        let of_flow = |flow: &FlowScore| flow.rows.start;
        let suspicious = |answer: &Answer| answer.verdict == Verdict::Suspicious;
        let forest = |flow: &FlowScore| {
            let cut = self.cut(table, of_flow(flow));
            cut.is_some_and(|cut| flow.score >= cut.suspicious)
        };
        let mut contenders = vec![
            Contender {
                name: "forest and rules".into(),
                hits: self.answers.iter().map(suspicious).collect(),
                scores: self.answers.iter().map(|answer| answer.score).collect(),
            },
            Contender {
                name: "forest alone".into(),
                hits: self.flows.iter().map(forest).collect(),
                scores: self.flows.iter().map(|flow| flow.score).collect(),
            },
        ];
        let without_ports = validate::flow_scores_by(table, &self.rows, |rule| !asks_port(rule));
        let answers = without_ports.iter().map(|flow| self.answer(table, flow));
        let answers: Vec<Answer> = answers.collect();
        contenders.push(Contender {
            name: WITHOUT_PORTS.into(),
            hits: answers.iter().map(suspicious).collect(),
            scores: answers.iter().map(|answer| answer.score).collect(),
        });
        for baseline in Baseline::ALL {
            let answers = self.baseline(table, &validation(settings), baseline)?;
            // A rule that speaks stands for a flow only where nothing took it back.
            let scores: Vec<f32> = match baseline {
                Baseline::Rules => {
                    let spoke = |flow: &FlowScore| f32::from(u8::from(flow.rule.is_some()));
                    self.flows.iter().map(spoke).collect()
                }
                _ => {
                    let flows = flow_scores(table, &answers);
                    flows.iter().map(|flow| flow.score).collect()
                }
            };
            contenders.push(Contender {
                name: baseline.name().into(),
                hits: scores.iter().map(|score| *score >= 0.5).collect(),
                scores,
            });
        }
        Ok(contenders)
    }

    /// Answers of a baseline to every judged row, learnt without its fold.
    fn baseline(
        &self,
        table: &Table,
        settings: &Settings,
        baseline: Baseline,
    ) -> Result<Vec<RowScore>, FitError> {
        let folds = &self.judges.folds;
        let fold_of = |row: usize| folds.of_group[table.rows[row].group as usize];
        let mut answers = vec![RowScore::default(); table.rows.len()];
        for fold in 0..folds.count {
            let training = Training::new(table, |row| fold_of(row) != fold)?;
            let rows: Vec<usize> = (0..table.rows.len())
                .filter(|&r| fold_of(r) == fold)
                .collect();
            let given = baseline.answer(&training, settings, table, &rows)?;
            for (row, answer) in rows.into_iter().zip(given) {
                answers[row] = answer;
            }
        }
        Ok(answers)
    }
}

/// Name of the combination without the rules that look at a port.
pub const WITHOUT_PORTS: &str = "without the rules that ask a port";

/// True of a rule that asks which port or service it is. Of the forest's features one does, and no
/// tree asks it.
const fn asks_port(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::Reflection | Rule::SlowHttp | Rule::BruteForce | Rule::DnsTunnel | Rule::MailBurst
    )
}

/// How the forests that judge are grown.
#[must_use]
pub fn validation(settings: &TrainSettings) -> Settings {
    Settings {
        trees: settings.validation_trees,
        ..settings.forest.clone()
    }
}

pub(super) fn combined(cut: &Thresholds, score: f32, rule: Option<Rule>) -> f32 {
    let of_rule = f32::midpoint(cut.suspicious, 1.0);
    score.max(if rule.is_some() { of_rule } else { 0.0 })
}

fn verdict(cut: &Thresholds, score: f32) -> Verdict {
    match score {
        score if score >= cut.suspicious => Verdict::Suspicious,
        score if score >= cut.unsure => Verdict::Unsure,
        _ => Verdict::Normal,
    }
}
