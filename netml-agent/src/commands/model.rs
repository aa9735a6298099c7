//! `model`: look at model files, check them, compare two.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::model::{
    self, Comparison, Judgement, Leaves, Model, Summary, VerdictChanges, made_up_rows, schema_line,
};

#[cfg(feature = "train")]
mod compare;

/// Features of a list that are shown; `--json` has all.
const FEATURES_SHOWN: usize = 15;
/// Differences of the metadata that are shown; `--json` has all.
const DIFFERENCES_SHOWN: usize = 60;
/// Characters of a text out of a file that are shown.
const TEXT_CHARS_MAX: usize = 160;

/// Arguments of `model`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with model files.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Tell what a model is: card, thresholds, calibration, what its trees ask
    Inspect(OneFile),
    /// Check a model: checksum, structure, schema, its answers
    Verify(OneFile),
    /// Tell what differs between two models, and on which rows their verdicts do
    Diff(TwoFiles),
    /// Tell whether a new model does worse than the old one on labelled captures of one's own
    #[cfg(feature = "train")]
    Compare(compare::CompareArgs),
}

/// One model file.
#[derive(Debug, clap::Args)]
pub struct OneFile {
    /// Model file; without it the built-in model
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Two model files.
#[derive(Debug, clap::Args)]
pub struct TwoFiles {
    /// Model file
    #[arg(value_name = "FILE")]
    pub first: PathBuf,
    /// The other one; without it the built-in model
    #[arg(value_name = "OTHER")]
    pub second: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the action.
///
/// # Errors
/// Where a file cannot be read or is no usable model: the file and the reason.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match &args.action {
        Action::Inspect(OneFile { file, json }) => {
            let model = load(file.as_deref())?;
            let summary = model::summary(&model);
            if *json {
                writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
                return Ok(());
            }
            write!(out, "{}", inspected(&model, &summary))?;
            Ok(())
        }
        Action::Verify(OneFile { file, json }) => verify(file.as_deref(), *json, &mut out),
        Action::Diff(TwoFiles {
            first,
            second,
            json,
        }) => {
            let models = [load(Some(first))?, load(second.as_deref())?];
            let comparison = model::compare(&models[0], &models[1]);
            if *json {
                writeln!(out, "{}", serde_json::to_string_pretty(&comparison)?)?;
                return Ok(());
            }
            write!(out, "{}", compared(&comparison))?;
            Ok(())
        }
        #[cfg(feature = "train")]
        Action::Compare(args) => compare::run(args, &mut out),
    }
}

/// A model of any schema, to look at.
fn load(file: Option<&Path>) -> anyhow::Result<Model> {
    let name = name(file);
    let model = match file {
        Some(path) => model::read(path).and_then(|bytes| Model::from_bytes_of_any_schema(&bytes)),
        None => Model::from_bytes_of_any_schema(model::embedded_bytes()),
    };
    model.with_context(|| format!("cannot use {name}"))
}

fn name(file: Option<&Path>) -> String {
    file.map_or_else(
        || "the built-in model".into(),
        |path| path.display().to_string(),
    )
}

/// A text out of a file for the terminal: bounded, without anything that moves the cursor.
fn plain(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut shown: String = chars.by_ref().take(TEXT_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A JSON value in one bounded line; a text without quotes.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

fn list(values: &[String]) -> String {
    let shown: Vec<_> = values.iter().map(|value| plain(value)).collect();
    shown.join(", ")
}

/// What `inspect` prints.
fn inspected(model: &Model, told: &Summary) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &format!("{name:<16} {value}\n");
    line("model", told.id.clone());
    line("format", told.format_version.to_string());
    line("schema", schema_line(model));
    line(
        "features",
        format!("{} asked of {}", told.features_asked, told.features),
    );
    line("classes", list(&told.classes));
    line(
        "trees",
        format!(
            "{}, {} nodes of which {} leaves, depth {} at most, {:.1} as a mean",
            told.trees.count,
            told.trees.nodes,
            told.trees.leaves,
            told.trees.depth_max,
            told.trees.depth_mean
        ),
    );
    line(
        "thresholds",
        format!(
            "SUSPICIOUS from {:.3} ({:.2} false alarms per host-day), UNSURE from {:.3} ({:.2})",
            told.suspicious,
            model.expected_false_alarms_per_host_day(told.suspicious),
            told.unsure,
            model.expected_false_alarms_per_host_day(told.unsure)
        ),
    );
    let calibration: Vec<_> = (0..=10_u8)
        .map(|tenth| f32::from(tenth) / 10.0)
        .map(|score| format!("{score:.1}:{:.3}", model.probability(score)))
        .collect();
    line(
        "calibration",
        format!(
            "score:probability at a share of attack of {} %: {}",
            told.reference_share * 100.0,
            calibration.join(" ")
        ),
    );
    let tests = told.self_test_rows.map_or_else(
        || "none in the file".into(),
        |rows| format!("{rows} rows, answered as the file says"),
    );
    line("self-test", tests);
    let card = |path: &str| told.card.pointer(path);
    for (name, path) in [
        ("name", "/name"),
        ("trainer", "/trainer"),
        ("limits", "/limits"),
        ("thresholds from", "/thresholds/from"),
        ("table", "/data/table_sha256"),
        ("rows", "/data/rows"),
        ("captures", "/data/captures"),
        ("groups", "/data/groups"),
        ("parent", "/parent/model"),
        ("compared with", "/comparison/with"),
        ("worse", "/comparison/worse"),
    ] {
        match card(path) {
            Some(Value::Array(values)) => {
                let names: Vec<_> = values.iter().map(value).collect();
                line(
                    name,
                    format!("{}: {}", names.len(), plain(&names.join(", "))),
                );
            }
            Some(found) => line(name, value(found)),
            None => {}
        }
    }
    if let Some(Value::Object(settings)) = card("/settings/forest") {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, of)| format!("{}={}", plain(name), value(of)))
            .collect();
        line("settings", settings.join(" "));
    }
    data_by_kind(&told.card, &mut text);
    text += &format!("\n{:<36} {:>7} {:>9}\n", "feature", "splits", "movement");
    for importance in told.importances.iter().take(FEATURES_SHOWN) {
        text += &format!(
            "{:<36} {:>7} {:>7.1} %\n",
            importance.feature,
            importance.splits,
            importance.movement * 100.0
        );
    }
    let rest = told.importances.iter().skip(FEATURES_SHOWN);
    let (count, movement) = rest.fold((0, 0.0), |(count, sum), importance| {
        (count + 1, sum + importance.movement)
    });
    if count > 0 {
        let name = format!("{count} more (--json has all)");
        text += &format!("{name:<36} {:>7} {:>7.1} %\n", "", movement * 100.0);
    }
    text
}

/// Training data by kind, as far as the card tells of it.
fn data_by_kind(card: &Value, text: &mut String) {
    if let Some(Value::Object(kinds)) = card.pointer("/data/by_kind") {
        *text += &format!(
            "\n{:<24} {:>7} {:>8} {:>8} {:>9} {:>7}\n",
            "kind", "attack", "rows", "flows", "captures", "groups"
        );
        for (kind, of) in kinds {
            let cell = |name: &str| value(of.get(name).unwrap_or(&Value::Null));
            *text += &format!(
                "{:<24} {:>7} {:>8} {:>8} {:>9} {:>7}\n",
                plain(kind),
                cell("attack"),
                cell("rows"),
                cell("flows"),
                cell("captures"),
                cell("groups")
            );
        }
    } else if let Some(Value::Array(kinds)) = card.pointer("/data/kinds") {
        let names: Vec<_> = kinds.iter().map(value).collect();
        *text += &format!("{:<16} {}\n", "kinds", names.join(", "));
    }
}

/// Prints a line for each check; fails at the first that does.
fn verify(file: Option<&Path>, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let (checks, failed) = checks(file);
    if json {
        let lines: Vec<_> = checks
            .iter()
            .map(|(name, said)| json!({"check": name, "passed": true, "detail": said}))
            .chain(failed.iter().map(|(name, error)| {
                json!({"check": name, "passed": false, "detail": error.to_string()})
            }))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?;
    } else {
        for (name, said) in &checks {
            writeln!(out, "passed  {name}: {said}")?;
        }
        if let Some((name, error)) = &failed {
            writeln!(out, "failed  {name}: {error}")?;
        }
    }
    match failed {
        Some((_, error)) => Err(error).with_context(|| format!("cannot use {}", name(file))),
        None => Ok(()),
    }
}

type Check = (&'static str, String);

/// What was checked and held, and the check that did not.
fn checks(file: Option<&Path>) -> (Vec<Check>, Option<(&'static str, anyhow::Error)>) {
    let mut passed = Vec::new();
    let failed = |name, error: anyhow::Error| Some((name, error));
    let bytes = match file {
        Some(path) => match model::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return (passed, failed("readable", error.into())),
        },
        None => model::embedded_bytes().to_vec(),
    };
    passed.push(("readable", format!("{} bytes", bytes.len())));
    let model = match Model::from_bytes_of_any_schema(&bytes) {
        Ok(model) => model,
        Err(error @ model::ModelError::SelfTest { .. }) => {
            return (passed, failed("self-test", error.into()));
        }
        Err(error) => return (passed, failed("checksum and structure", error.into())),
    };
    let trees = model.parts().forest.trees();
    passed.push((
        "checksum and structure",
        format!("model {}, {} trees", model.id(), trees.len()),
    ));
    passed.push((
        "self-test",
        model.self_test().map_or_else(
            || "the file has none".to_string(),
            |test| format!("{} rows", test.rows.len()),
        ),
    ));
    if let Err(error) = Model::from_bytes(&bytes) {
        return (passed, failed("schema", error.into()));
    }
    passed.push(("schema", schema_line(&model)));
    match answers(&model) {
        Ok(rows) => passed.push((
            "answers",
            format!("{rows} made-up rows, alike alone and in company, explained in full"),
        )),
        Err(error) => return (passed, failed("answers", error)),
    }
    (passed, None)
}

/// Rows answered alike alone and together, with reasons that sum to the score.
fn answers(model: &Model) -> anyhow::Result<usize> {
    const NEAR: f32 = 1e-4;
    let rows = made_up_rows(&[model]);
    let mut together = vec![Judgement::default(); rows.len()];
    model.judge(&rows, &mut together);
    let mut leaves = Leaves::default();
    for (at, (row, judged)) in rows.iter().zip(&together).enumerate() {
        let mut alone = [Judgement::default()];
        model.judge_in(std::slice::from_ref(row), &mut alone, &mut leaves);
        if alone[0] != *judged {
            bail!(
                "row {at} has score {} alone and {} in company",
                alone[0].score,
                judged.score
            );
        }
        let explained = model.explain(row);
        let sum = explained.bias + explained.contributions.iter().sum::<f32>();
        if (sum - judged.score).abs() > NEAR {
            bail!(
                "row {at} has score {} and reasons that sum to {sum}",
                judged.score
            );
        }
    }
    Ok(rows.len())
}

/// What `diff` prints.
fn compared(comparison: &Comparison) -> String {
    let [a, b] = &comparison.ids;
    if comparison.same {
        return format!("both are model {a}\n");
    }
    let mut text = format!("models {a} and {b}\n");
    // What decides verdicts before what the card tells of the training data.
    let (card, own): (Vec<_>, Vec<_>) = comparison
        .metadata
        .iter()
        .partition(|(name, _)| name.starts_with("card."));
    for (name, [a, b]) in own.into_iter().chain(card).take(DIFFERENCES_SHOWN) {
        let name = plain(name);
        text += &match (a, b) {
            (Value::Array(a), Value::Array(b)) => {
                let only = |of: &[Value], not: &[Value]| {
                    let only: Vec<_> = of.iter().filter(|v| !not.contains(v)).map(value).collect();
                    plain(&only.join(", "))
                };
                format!(
                    "  {name}: only in the first [{}], only in the second [{}]\n",
                    only(a, b),
                    only(b, a)
                )
            }
            (a, b) => format!("  {name}: {} -> {}\n", value(a), value(b)),
        };
    }
    let more = comparison.metadata.len().saturating_sub(DIFFERENCES_SHOWN);
    if more > 0 {
        text += &format!("  {more} more differences (--json has all)\n");
    }
    if comparison.importances.is_empty() {
        text += "trees that rest on the same features alike\n";
    } else {
        text += &format!("{:<36} {:>8} {:>8}\n", "movement, %", "first", "second");
    }
    for (feature, [a, b]) in comparison.importances.iter().take(FEATURES_SHOWN) {
        text += &format!("{feature:<36} {:>8.1} {:>8.1}\n", a * 100.0, b * 100.0);
    }
    match &comparison.verdicts {
        None => text += "verdicts are not compared: made for different features\n",
        Some(changes) => text += &changes_told(changes),
    }
    text
}

fn changes_told(changes: &VerdictChanges) -> String {
    let mut text = format!(
        "verdicts on {} rows ({}): {} differ, {} are of another kind; scores apart by {:.4} at most, {:.4} as a mean\n",
        changes.rows,
        changes.rows_from,
        changes.changed,
        changes.of_another_class,
        changes.score_distance_max,
        changes.score_distance_mean
    );
    for (first, seconds) in &changes.counts {
        for (second, rows) in seconds {
            text += &format!("  {first:<10} -> {second:<10} {rows:>6}\n");
        }
    }
    for change in &changes.first {
        text += &format!(
            "  row {}: {} {:.3} {} -> {} {:.3} {}\n",
            change.row,
            change.verdicts[0],
            change.scores[0],
            plain(&change.classes[0]),
            change.verdicts[1],
            change.scores[1],
            plain(&change.classes[1])
        );
    }
    text
}
