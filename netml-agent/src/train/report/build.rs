//! Answers to the figures of a report.

use super::seen::{Seen, Weights};
use super::{About, BaseRate, Extras, LeftOut, Line, Report};
use crate::train::cells::{Cells, DRAWS, Draw};
use crate::train::cross::{Answer, Contender, Judged, Said, validation};
use crate::train::forest::{self, Training};
use crate::train::importance;
use crate::train::probes;
use crate::train::table::Table;
use crate::train::tables::TRAINING_ONLY;
use crate::train::trainer::{TrainError, TrainSettings};
use crate::verdict::Verdict;

/// Base rates that precision is projected to.
const BASE_RATES: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// How much is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What the validation gives.
    Plain,
    /// With kinds unseen, importances and probes: some forests more.
    Whole,
}

/// Validates with some seeds and gathers the figures.
///
/// # Errors
/// [`TrainError`] as in training.
pub fn build(
    table: &Table,
    settings: &TrainSettings,
    seeds: &[u64],
    extent: Extent,
) -> Result<Report, TrainError> {
    let mut judged = Vec::new();
    let mut contenders: Vec<Vec<Contender>> = Vec::new();
    for seed in seeds {
        let mut settings = settings.clone();
        settings.forest.seed = *seed;
        let of_seed = Judged::new(table, &settings)?;
        contenders.push(of_seed.contenders(table, &settings)?);
        judged.push(of_seed);
    }
    let Some(first) = judged.first() else {
        return Err(TrainError::Groups("no seed to validate with".into()));
    };
    let extras = match extent {
        Extent::Plain => None,
        Extent::Whole => {
            let mut settings = settings.clone();
            settings.forest.seed = first.seed;
            let training = Training::new(table, |_| true)?;
            let whole = forest::fit(&training, &validation(&settings))?;
            let rate = settings.budget.false_positive_rate;
            Some(Extras {
                unseen: probes::unseen(table, &settings, first)?,
                importances: importance::importances(table, &training, &whole, &first.judges, rate),
                probes: probes::probes(table, &settings, first)?,
            })
        }
    };
    let said: Vec<Said<'_>> = judged.iter().map(|seed| seed.said(table)).collect();
    let about = About::LeftOut(left_out(table, settings, seeds, first));
    Ok(Report {
        extras,
        ..of_answers(table, &said, &contenders, about)
    })
}

/// The figures of some answers, a seed or one model each, which are about the same flows; there is one
/// at least, each with its contenders, the combination first.
#[must_use]
pub fn of_answers(
    table: &Table,
    said: &[Said<'_>],
    contenders: &[Vec<Contender>],
    about: About,
) -> Report {
    let cells = Cells::new(table, said[0].flows);
    let seen = Seen {
        table,
        said,
        cells: &cells,
        weights: Weights::new(table, said[0].flows, about.reference_share()),
    };
    let suspicious: Vec<Vec<f64>> = contenders
        .iter()
        .map(|of_seed| cells.hits(&of_seed[0].hits))
        .collect();
    let unsure: Vec<Vec<f64>> = said
        .iter()
        .map(|seed| {
            let unsure = |answer: &Answer| answer.verdict == Verdict::Unsure;
            cells.hits(&seed.answers.iter().map(unsure).collect::<Vec<_>>())
        })
        .collect();
    let of_contender =
        |at: usize| -> Vec<&Contender> { contenders.iter().map(|of_seed| &of_seed[at]).collect() };
    let lines: Vec<Line> = (0..contenders[0].len())
        .map(|at| seen.line(&of_contender(at)))
        .collect();
    let alike = |draw: &Draw<'_>, share: f64| {
        let (recall, rate) = (draw.recall_mean(|_| true)?, draw.as_the_threshold_counts()?);
        let (hits, alarms) = (recall * share, rate * (1.0 - share));
        (hits > 0.0).then(|| hits / (hits + alarms))
    };
    Report {
        about,
        headline: seen.headline(&suspicious),
        lines,
        calibration: seen.calibration(),
        base_rates: BASE_RATES
            .iter()
            .map(|&share| BaseRate {
                share,
                precision: cells.figure(&suspicious, |draw| alike(draw, share)),
            })
            .collect(),
        kinds: seen.kinds(&suspicious),
        recall: seen.recall(&suspicious),
        benign: seen.benign(&suspicious, &unsure),
        host_alarms: seen.host_alarms(),
        hosts: seen.hosts(),
        windows: seen.windows(),
        delays: seen.delays(),
        confusion: seen.confusion(),
        curves: (0..2).map(|at| seen.curve(&of_contender(at))).collect(),
        captures: seen.captures(&suspicious),
        extras: None,
    }
}

fn left_out(table: &Table, settings: &TrainSettings, seeds: &[u64], first: &Judged) -> LeftOut {
    let name = |group: u32| table.groups.name(group).to_string();
    LeftOut {
        rows: table.rows.len(),
        captures: table.captures.all().len(),
        groups: table.judged_groups().into_iter().map(name).collect(),
        groups_for_training_only: table
            .groups
            .all()
            .iter()
            .filter(|name| TRAINING_ONLY.contains(&name.as_str()))
            .cloned()
            .collect(),
        folds: first.judges.folds.count,
        seeds: seeds.to_vec(),
        trees: settings.validation_trees,
        false_positive_budget: settings.budget.false_positive_rate,
        reference_share: settings.budget.reference_share,
        draws: DRAWS,
    }
}
