//! The figures of a report as titled tables of text and plots.

use super::plot::{self, Plot};
use super::{About, LeftOut, Line, OneModel, Report, WindowLine};
use crate::train::cells::{Figure, LARGE_GROUP_FLOWS};

/// A table of text; the first column names its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows, each as wide as the columns.
    pub rows: Vec<Vec<String>>,
}

/// A part of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// What the figures are, in whole sentences.
    pub note: String,
    /// Drawing of the table below it.
    pub plot: Option<Plot>,
    /// Figures.
    pub grid: Grid,
}

fn grid(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Grid {
    Grid {
        columns: columns.iter().map(|name| (*name).to_string()).collect(),
        rows: rows.into_iter().collect(),
    }
}

/// A number to so many digits; what rounds to nothing has no sign.
#[must_use]
pub fn rounded(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_string(),
        _ => text,
    }
}

/// A share in percent.
#[must_use]
pub fn percent(share: f64) -> String {
    rounded(share * 100.0, 1) + " %"
}

/// A small share in percent.
#[must_use]
pub fn percent_fine(share: f64) -> String {
    rounded(share * 100.0, 2) + " %"
}

fn plain(value: f64) -> String {
    rounded(value, 1)
}

fn count(value: f64) -> String {
    rounded(value, 0)
}

/// Mean, range over seeds and interval, each as told by `tell`; a dash where there is none.
fn figure(figure: &Figure, tell: fn(f64) -> String) -> [String; 3] {
    let span = |span: &Option<[f64; 2]>| {
        span.map_or("–".to_string(), |[low, high]| {
            format!("{} to {}", tell(low), tell(high))
        })
    };
    [
        figure.mean.map_or("–".to_string(), tell),
        span(&figure.range),
        span(&figure.interval),
    ]
}

fn mean(of: &Figure, tell: fn(f64) -> String) -> String {
    let [mean, _, _] = figure(of, tell);
    mean
}

fn maybe(value: Option<f64>, tell: fn(f64) -> String) -> String {
    value.map_or("–".to_string(), tell)
}

/// Title of the document.
#[must_use]
pub fn title(report: &Report) -> &'static str {
    match report.about {
        About::LeftOut(_) => "Cross-validation of the model",
        About::Model(_) => "Evaluation of a model",
    }
}

/// Column of the range over seeds; absent where there is one.
const SEEDS: &str = "seeds";

/// Column of what a release wants of groups left out; absent elsewhere.
const WANTED: &str = "wanted";

/// All parts, in the order they are read.
#[must_use]
pub fn sections(report: &Report) -> Vec<Section> {
    let mut sections = all_sections(report);
    for section in &mut sections {
        if report.about.seeds() < 2 {
            without(&mut section.grid, SEEDS);
        }
        if matches!(report.about, About::Model(_)) {
            without(&mut section.grid, WANTED);
        }
    }
    sections
}

/// Takes a column away.
fn without(grid: &mut Grid, column: &str) {
    if let Some(at) = grid.columns.iter().position(|name| name == column) {
        grid.columns.remove(at);
        for row in &mut grid.rows {
            row.remove(at);
        }
    }
}

fn all_sections(report: &Report) -> Vec<Section> {
    let mut sections = vec![
        match &report.about {
            About::LeftOut(about) => left_out(about),
            About::Model(about) => one_model(about),
        },
        headline(report),
        contenders(report),
        calibration(report),
        base_rates(report),
        kinds(report),
        recall(report),
        benign(report),
        host_alarms(report),
        hosts(report),
        windows(report),
        delays(report),
        confusion(report),
        captures(report),
    ];
    if let Some(extras) = &report.extras {
        sections.push(Section {
            title: "Kinds that no forest was shown",
            note: "All attacks of a class are taken out of training, besides the group that is judged. \
                   Recall is the mean over group and kind, by the first seed. Where only one group \
                   holds a class, the forest has never seen it anyway."
                .into(),
            plot: None,
            grid: grid(
                &["class", "groups", "forest, shown", "forest, not shown", "with rules, not shown"],
                extras.unseen.iter().map(|line| {
                    vec![
                        line.class.clone(),
                        line.groups.to_string(),
                        percent(line.seen),
                        percent(line.unseen),
                        percent(line.unseen_combined),
                    ]
                }),
            ),
        });
        sections.push(Section {
            title: "What the forest rests on",
            note: "Permutation: by how much mean recall of the forest alone falls, on groups left out and at \
                   the same rate of false positives, when a feature's values are those of other \
                   flows; below zero it does better without. Impurity: part of the decrease of Gini \
                   impurity over the training rows. By the first seed."
                .into(),
            plot: Some(plot::importances(&extras.importances)),
            grid: grid(
                &["feature", "permutation, drop of recall", "impurity"],
                extras.importances.iter().map(|line| {
                    vec![
                        line.feature.to_string(),
                        percent_fine(line.permutation),
                        percent_fine(line.impurity),
                    ]
                }),
            ),
        });
        let probes = &extras.probes;
        sections.push(Section {
            title: "Probes",
            note: format!(
                "Forests that learnt shuffled labels must find nothing on groups left out (0.5). \
                 Features that tell the networks apart on captures not seen are a warning: groups {}.",
                probes.groups.join(", ")
            ),
            plot: None,
            grid: grid(
                &["probe", "value"],
                [
                    vec![
                        "ROC-AUC with shuffled labels".to_string(),
                        maybe(probes.shuffled_roc_auc, |v| format!("{v:.3}")),
                    ],
                    vec![
                        "groups recognised".to_string(),
                        maybe(probes.group_recognised, percent),
                    ],
                    vec![
                        "the same by guessing".to_string(),
                        maybe(probes.group_chance, percent),
                    ],
                ],
            ),
        });
    }
    sections
}

fn one_model(about: &OneModel) -> Section {
    let seen = &about.groups_trained_on;
    let warning = if seen.is_empty() {
        String::new()
    } else {
        format!(
            " The model was trained on captures of {}: figures over these flatter.",
            seen.join(", ")
        )
    };
    Section {
        title: "What was evaluated",
        note: format!(
            "The captures went through the sensor's own code. A flow counts once, by its verdict when it \
             ended; UNSURE counts as not detected. Flows of quality C stand apart and are in no mean. \
             Intervals are 95 % of draws of whole captures with replacement, and absent where there are \
             too few.{warning}"
        ),
        plot: None,
        grid: grid(
            &["what", "value"],
            [
                ("model", about.model_id.clone()),
                ("SUSPICIOUS from", rounded(about.suspicious.into(), 3)),
                ("UNSURE from", rounded(about.unsure.into(), 3)),
                ("captures", about.captures.to_string()),
                ("groups", about.groups.len().to_string()),
                ("groups it was trained on", seen.len().to_string()),
                ("flows", about.flows.to_string()),
                ("rows", about.rows.to_string()),
                ("reference share of attack", percent(about.reference_share)),
                ("draws of captures", about.draws.to_string()),
            ]
            .map(|(name, value)| vec![name.to_string(), value]),
        ),
    }
}

fn left_out(about: &LeftOut) -> Section {
    let only = &about.groups_for_training_only;
    Section {
        title: "What was validated",
        note: "Every group is judged by forests, thresholds and calibration that never saw it. A flow \
               counts once, by its combined verdict; UNSURE counts as not detected. Flows of quality C \
               stand apart and are in no mean. Intervals are 95 % of draws of whole captures with \
               replacement, and absent where there is one capture."
            .into(),
        plot: None,
        grid: grid(
            &["what", "value"],
            [
                ("rows", about.rows.to_string()),
                ("captures", about.captures.to_string()),
                ("groups left out in turn", about.groups.len().to_string()),
                (
                    "groups that only train",
                    if only.is_empty() { "none".into() } else { only.join(", ") },
                ),
                ("folds", about.folds.to_string()),
                (
                    "seeds",
                    about.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
                ),
                ("trees of each forest", about.trees.to_string()),
                ("budget of false positives", percent_fine(about.false_positive_budget)),
                ("reference share of attack", percent(about.reference_share)),
                ("draws of captures", about.draws.to_string()),
            ]
            .map(|(name, value)| vec![name.to_string(), value]),
        ),
    }
}

fn headline(report: &Report) -> Section {
    let h = &report.headline;
    let line = |name: &str, of: &Figure, tell: fn(f64) -> String, wanted: &str| {
        let mut row = vec![name.to_string()];
        row.extend(figure(of, tell));
        row.push(wanted.to_string());
        row
    };
    Section {
        title: "Headline",
        note: format!(
            "Forest and rules together, at the thresholds of {}. Large groups hold at least \
             {LARGE_GROUP_FLOWS} benign flows.",
            match report.about {
                About::LeftOut(_) => "each training part",
                About::Model(_) => "the model",
            }
        ),
        plot: None,
        grid: grid(
            &["figure", "mean", SEEDS, "95 % of draws", WANTED],
            [
                line(
                    "false positives, mean over large groups",
                    &h.false_positives,
                    percent_fine,
                    "≤ 1 %",
                ),
                line(
                    "false positives, worst large group",
                    &h.false_positives_worst,
                    percent_fine,
                    "≤ 5 %",
                ),
                line(
                    "false positives, smaller groups pooled",
                    &h.false_positives_small_groups,
                    percent_fine,
                    "",
                ),
                line(
                    "false alarms per 1,000 benign flows",
                    &h.false_alarms_per_1000_flows,
                    plain,
                    "",
                ),
                line(
                    "recall, scans and SYN floods",
                    &h.recall_scans_and_syn_floods,
                    percent,
                    "≥ 95 %",
                ),
                line(
                    "recall, the five shared kinds",
                    &h.recall_shared_kinds,
                    percent,
                    "≥ 60 %",
                ),
                line("recall, mean over group and kind", &h.recall, percent, ""),
                line("precision over flows", &h.precision, percent, ""),
                line("recall over flows", &h.recall_of_flows, percent, ""),
                line("F1 over flows", &h.f1, percent, ""),
                line("ROC-AUC over flows", &h.roc_auc, percent, ""),
            ],
        ),
    }
}

fn contenders(report: &Report) -> Section {
    let row = |line: &Line| {
        vec![
            line.name.clone(),
            mean(&line.recall, percent),
            mean(&line.false_positives, percent_fine),
            mean(&line.false_positives_captures_alike, percent_fine),
            mean(&line.pr_auc, percent),
            mean(&line.pr_auc_alike, percent),
            mean(&line.roc_auc_alike, percent),
        ]
    };
    let means = if report.about.seeds() > 1 {
        "Means over the seeds. "
    } else {
        ""
    };
    let (title, ports) = match report.about {
        About::LeftOut(_) => (
            "Against its parts and the baselines",
            " No tree asks the port class, so the forest's share that rests on it is 0; the rules that \
             ask a port are left out in one line.",
        ),
        About::Model(_) => ("Against its parts", ""),
    };
    Section {
        title,
        note: format!(
            "{means}Recall is the mean over group and kind; false positives are the mean over large \
             groups, then as the thresholds count them (captures alike, small groups pooled). Areas: \
             flows as they are, then groups and kinds alike at an attack share of {}.{ports}",
            percent(report.about.reference_share())
        ),
        plot: Some(plot::curves(&report.curves, report.about.reference_share())),
        grid: grid(
            &[
                "answer by",
                "recall",
                "false positives",
                "captures alike",
                "PR-AUC",
                "PR-AUC, alike",
                "ROC-AUC, alike",
            ],
            report.lines.iter().map(row),
        ),
    }
}

fn calibration(report: &Report) -> Section {
    let about = |ece: f64, skill: f64, brier: f64| {
        format!(
            "{}, groups and kinds alike, at an attack share of {}: calibration error (15 bins) {ece:.4}, Brier score {brier:.4}, Brier skill {skill:.3} \
             (a constant has 0). Wanted: an error of at most 0.05 with a skill above 0.3.",
            match report.about {
                About::LeftOut(_) => "Over groups left out, all seeds together",
                About::Model(_) => "Over all flows",
            },
            percent(report.about.reference_share())
        )
    };
    let Some(told) = &report.calibration else {
        return Section {
            title: "Calibration",
            note: "One class only: nothing to compare probabilities with.".into(),
            plot: None,
            grid: grid(&["probability told", "share of attack", "weight"], []),
        };
    };
    Section {
        title: "Calibration",
        note: about(told.ece, told.brier_skill, told.brier),
        plot: Some(plot::reliability(&told.bins)),
        grid: grid(
            &["probability told", "share of attack", "weight"],
            told.bins.iter().map(|[weight, probability, share]| {
                vec![
                    percent(*probability),
                    percent(*share),
                    percent_fine(*weight),
                ]
            }),
        ),
    }
}

fn base_rates(report: &Report) -> Section {
    Section {
        title: "Precision at other base rates",
        note:
            "Where one flow in so many is an attack, by mean recall over group and kind and false \
               positives as the thresholds count them."
                .into(),
        plot: None,
        grid: grid(
            &["share of attack", "precision", SEEDS, "95 % of draws"],
            report.base_rates.iter().map(|line| {
                let mut row = vec![line.share.to_string()];
                row.extend(figure(&line.precision, percent_fine));
                row
            }),
        ),
    }
}

fn kinds(report: &Report) -> Section {
    Section {
        title: "Recall by kind",
        note: match report.about {
            About::LeftOut(_) => {
                "The first five are those that two or more groups hold; scan takes port, vulnerability and \
                 IoT malware's scans together. Of the others one network's forest has seen none, or only \
                 what looks like it."
            }
            About::Model(_) => "Mean over the groups that hold the kind; the first five take several kinds together.",
        }
        .into(),
        plot: None,
        grid: grid(
            &["kind", "groups", "recall", SEEDS, "95 % of draws"],
            report.kinds.iter().map(|line| {
                let mut row = vec![line.kind.clone(), line.groups.to_string()];
                row.extend(figure(&line.recall, percent));
                row
            }),
        ),
    }
}

fn recall(report: &Report) -> Section {
    Section {
        title: "Recall by group and kind",
        note: "Per flow.".into(),
        plot: None,
        grid: grid(
            &[
                "group",
                "kind",
                "captures",
                "flows",
                "recall",
                SEEDS,
                "95 % of draws",
            ],
            report.recall.iter().map(|line| {
                let apart = if line.apart { " (quality C)" } else { "" };
                let mut row = vec![
                    line.group.clone(),
                    format!("{}{apart}", line.kind),
                    line.captures.to_string(),
                    count(line.flows),
                ];
                row.extend(figure(&line.recall, percent));
                row
            }),
        ),
    }
}

fn benign(report: &Report) -> Section {
    let mut lines: Vec<_> = report.benign.iter().collect();
    lines.sort_by_key(|line| !line.large);
    Section {
        title: "Benign flows by group",
        note: format!(
            "Groups with fewer than {LARGE_GROUP_FLOWS} benign flows are pooled in the headline and \
             listed here as small."
        ),
        plot: None,
        grid: grid(
            &[
                "group",
                "size",
                "captures",
                "flows",
                "SUSPICIOUS",
                SEEDS,
                "95 % of draws",
                "UNSURE",
            ],
            lines.into_iter().map(|line| {
                let mut row = vec![
                    line.group.clone(),
                    if line.large { "large" } else { "small" }.to_string(),
                    line.captures.to_string(),
                    count(line.flows),
                ];
                row.extend(figure(&line.suspicious, percent_fine));
                row.push(mean(&line.unsure, percent_fine));
                row
            }),
        ),
    }
}

fn host_alarms(report: &Report) -> Section {
    let alarms = &report.host_alarms;
    let mut row = vec![format!("{:.2}", alarms.host_days), plain(alarms.episodes)];
    row.extend(figure(&alarms.per_host_day, plain));
    row.push(maybe(alarms.per_host_day_at_most, plain));
    Section {
        title: "False alarms per host-day",
        note: "An alarm is an episode: SUSPICIOUS benign rows of one host and kind with less than five \
               minutes between them. A host-day is 1,440 minutes in each of which the host was active. \
               The last column is what so few host-days allow at 95 %, were the alarms independent."
            .into(),
        plot: None,
        grid: grid(
            &["host-days", "alarms", "per host-day", SEEDS, "95 % of draws", "at most"],
            [row],
        ),
    }
}

fn hosts(report: &Report) -> Section {
    let of = &report.hosts;
    by_host(
        "Per host",
        format!(
            "One host as initiator over its capture; it is an attack where any of its rows is, and \
             SUSPICIOUS where any of its rows is: {} hosts with an attack, {} without.",
            count(of.attack),
            count(of.benign)
        ),
        of,
    )
}

fn windows(report: &Report) -> Section {
    let of = &report.windows;
    let cap = match report.about {
        About::LeftOut(_) => " Kinds above the cap of the table lack rows.",
        About::Model(_) => "",
    };
    by_host(
        "Per host window",
        format!(
            "The same by minutes of a host: {} windows with an attack, {} without.{cap}",
            count(of.attack),
            count(of.benign)
        ),
        of,
    )
}

fn by_host(title: &'static str, note: String, of: &WindowLine) -> Section {
    let line = |name: &str, of: &Figure| {
        let [mean, seeds, _] = figure(of, percent);
        vec![name.to_string(), mean, seeds]
    };
    Section {
        title,
        note,
        plot: None,
        grid: grid(
            &["figure", "mean", SEEDS],
            [
                line("precision", &of.precision),
                line("recall", &of.recall),
                line("F1", &of.f1),
                line("false positives", &of.false_positives),
                line("PR-AUC", &of.pr_auc),
                line("ROC-AUC", &of.roc_auc),
            ],
        ),
    }
}

fn delays(report: &Report) -> Section {
    let pair = |of: &Option<[f64; 2]>, tell: fn(f64) -> String| {
        of.map_or("–".to_string(), |[median, most]| {
            format!("{} / {}", tell(median), tell(most))
        })
    };
    Section {
        title: "Detection delay",
        note: "Of captures: seconds and attack packets from the first attack row to the first alarm about \
               it, median over captures; packets of kinds above the cap of a table are those of \
               the table. Of flows that were found: packets and seconds of the flow at its first alarm, \
               median / 90th percentile."
            .into(),
        plot: None,
        grid: grid(
            &[
                "group",
                "kind",
                "captures found",
                "seconds",
                "packets",
                "flow packets",
                "flow seconds",
            ],
            report.delays.iter().map(|line| {
                vec![
                    line.group.clone(),
                    line.kind.clone(),
                    format!("{:.1} of {}", line.captures_found, line.captures),
                    maybe(line.capture_seconds, plain),
                    maybe(line.capture_packets, count),
                    pair(&line.flow_packets, count),
                    pair(&line.flow_seconds, plain),
                ]
            }),
        ),
    }
}

fn confusion(report: &Report) -> Section {
    let told = &report.confusion;
    let mut columns = vec!["kind", "flows"];
    columns.extend(told.columns.iter().map(String::as_str));
    Section {
        title: "What each kind was called",
        note: format!(
            "Share of the flows of a kind{}: NORMAL, UNSURE, or SUSPICIOUS as the class in the column. \
             Attacks first, then benign kinds.",
            if report.about.seeds() > 1 {
                ", mean over the seeds"
            } else {
                ""
            }
        ),
        plot: Some(plot::confusion(told)),
        grid: grid(
            &columns,
            told.rows.iter().map(|row| {
                let mut cells = vec![row.kind.clone(), count(row.flows)];
                cells.extend(row.shares.iter().map(|share| percent(*share)));
                cells
            }),
        ),
    }
}

fn captures(report: &Report) -> Section {
    let found = report
        .captures
        .iter()
        .filter(|line| line.recall.mean.is_some_and(|mean| mean > 0.0))
        .count();
    let attack = report
        .captures
        .iter()
        .filter(|line| line.attack > 0.0)
        .count();
    let clean = |line: &&super::CaptureLine| line.false_positives.mean.is_some_and(|m| m <= 0.0);
    let quiet = report.captures.iter().filter(clean).count();
    let benign = report
        .captures
        .iter()
        .filter(|line| line.benign > 0.0)
        .count();
    let [by, none] = if report.about.seeds() > 1 {
        [", by some seed", "no seed raised a false alarm"]
    } else {
        ["", "there was no false alarm"]
    };
    Section {
        title: "By capture",
        note: format!(
            "An attack was noticed in {found} of {attack} captures that hold one{by}; in {quiet} of {benign} \
             captures with benign flows {none}."
        ),
        plot: None,
        grid: grid(
            &[
                "capture",
                "group",
                "kinds",
                "attack flows",
                "recall",
                "benign flows",
                "false positives",
            ],
            report.captures.iter().map(|line| {
                vec![
                    line.capture.clone(),
                    line.group.clone(),
                    line.kinds.join(", "),
                    count(line.attack),
                    mean(&line.recall, percent),
                    count(line.benign),
                    mean(&line.false_positives, percent_fine),
                ]
            }),
        ),
    }
}
