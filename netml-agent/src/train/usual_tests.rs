//! Whether the hosts' own past finds attacks that forest and rules miss, on groups left out.
//!
//! `NETML_LONG=1 NETML_DATA=DIR cargo test --release -p netml-agent --lib usual -- --nocapture` prints
//! tables. Each group's captures go through the engine with a forest and thresholds that never saw
//! that group; what is usual is learned within each capture, from nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::captures::{ends_of_flow, parallel};
use super::cross::{Judged, validation};
use super::dataset::kind_of;
use super::forest::{self, Settings as ForestSettings, Training};
use super::labels::{self, Label, LabelledCapture};
use super::table::Table;
use super::trainer::TrainSettings;
use crate::baseline::WarmUp;
use crate::capture_file::{self, Item, Reading};
use crate::engine::{Engine, FlowReport, FlowState, JudgedPacket, Settings, Sink};
use crate::flow::schema;
use crate::model::{Model, ModelParts, encode};
use crate::verdict::Verdict;

/// Observed seconds and time of the warm-ups compared.
const WARM_UPS: [(u32, u64); 4] = [(30, 60), (60, 120), (120, 300), (120, 600)];

const LIMITS: [f32; 6] = [2.0, 2.5, 3.0, 4.0, 5.0, 6.0];

/// Known benign flows below which a group is pooled with others.
const GROUP_FLOWS_MIN: usize = 100;

/// A flow as it ended.
struct Told {
    group: String,
    kind: String,
    attack: bool,
    verdict: Verdict,
    known: bool,
    score: f32,
}

struct Telling<'a> {
    capture: &'a LabelledCapture,
    told: Vec<Told>,
}

impl Sink for Telling<'_> {
    fn flow(&mut self, report: &FlowReport) {
        if !matches!(report.state, FlowState::End(_)) {
            return;
        }
        let ends = ends_of_flow(&report.ends, report.beside.tunnel.as_ref());
        let attack = match self.capture.label(&ends) {
            Label::Unknown => return,
            label => label == Label::Attack,
        };
        let opinion = report.verdict.baseline;
        self.told.push(Told {
            group: self.capture.group.clone(),
            kind: kind_of(self.capture, attack).to_owned(),
            attack,
            verdict: report.verdict.verdict,
            known: opinion.is_known(),
            score: opinion.score,
        });
    }
    fn packet(&mut self, _packet: &JudgedPacket) {}
}

fn tell(dir: &Path, capture: &LabelledCapture, model: &Arc<Model>, warm_up: WarmUp) -> Vec<Told> {
    let path = dir.join(&capture.file);
    let mut reader = capture_file::open(&path)
        .expect("a capture")
        .reading(Reading::default());
    let settings = Settings {
        warm_up,
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, Some(Arc::clone(model)));
    let mut sink = Telling {
        capture,
        told: Vec::new(),
    };
    while let Some(item) = reader.next_item().expect("a packet") {
        if let Item::Packet(record) = item {
            engine.packet_with(&record, reader.extras(), &mut sink);
        }
    }
    engine.flush(&mut sink);
    engine.finish(&mut sink);
    sink.told
}

/// The models that judge each group without having seen it.
fn models() -> BTreeMap<String, Arc<Model>> {
    let model = |name| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("model")
            .join(name)
    };
    let paths = [model("features.csv.gz"), model("lab.csv.gz")];
    let table = Table::read_all(None, &paths).expect("the tables");
    let settings = TrainSettings::default();
    let judged = Judged::new(&table, &settings).expect("a validation");
    let folds = &judged.judges.folds;
    let grown = validation(&settings);
    let names = table.groups.all().iter().enumerate();
    names
        .filter(|(group, _)| folds.of_group[*group] < folds.count)
        .map(|(group, name)| {
            let fold = folds.of_group[group];
            let training = Training::new(&table, |row| folds.fold(&table, row) != fold)
                .expect("rows of other groups");
            let settings = ForestSettings {
                seed: grown.seed.wrapping_add(1 + fold as u64),
                ..grown.clone()
            };
            let cut = &judged.cuts[fold];
            let parts = ModelParts {
                schema_digest: schema::digest(),
                classes: training.classes.clone(),
                suspicious: cut.suspicious,
                unsure: cut.unsure,
                reference_share: 0.1,
                calibration: cut.calibration.clone(),
                false_alarms: cut.false_alarms.clone(),
                card: "{}".to_owned(),
                forest: forest::fit(&training, &settings).expect("a forest"),
            };
            let model = Model::from_bytes(&encode(&parts).expect("a model")).expect("a model");
            (name.clone(), Arc::new(model))
        })
        .collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1);
    values.sum::<f64>() / count as f64
}

fn share(flows: &[&Told], hit: impl Fn(&Told) -> bool) -> f64 {
    flows.iter().filter(|flow| hit(flow)).count() as f64 / flows.len().max(1) as f64
}

/// Benign flows by group, small groups pooled.
fn benign<'a>(flows: &[&'a Told]) -> BTreeMap<String, Vec<&'a Told>> {
    let mut by_group: BTreeMap<String, Vec<&Told>> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| !flow.attack) {
        by_group.entry(flow.group.clone()).or_default().push(flow);
    }
    let small: Vec<String> = by_group
        .iter()
        .filter(|(_, flows)| flows.len() < GROUP_FLOWS_MIN)
        .map(|(group, _)| group.clone())
        .collect();
    let pooled: Vec<&Told> = small
        .iter()
        .filter_map(|group| by_group.remove(group))
        .flatten()
        .collect();
    if !pooled.is_empty() {
        by_group.insert("pooled".to_owned(), pooled);
    }
    by_group
}

/// Attack flows by group and kind.
fn attacks<'a>(flows: &[&'a Told]) -> BTreeMap<String, Vec<&'a Told>> {
    let mut cells: BTreeMap<String, Vec<&Told>> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow.attack) {
        cells
            .entry(format!("{} {}", flow.group, flow.kind))
            .or_default()
            .push(flow);
    }
    cells
}

fn percent(share: f64) -> String {
    format!("{:.2}", share * 100.0)
}

/// A line: false positives (mean over groups, worst), recall (mean over group and kind), UNSURE.
fn line(
    name: &str,
    flows: &[&Told],
    is_suspicious: impl Fn(&Told) -> bool,
    is_unsure: impl Fn(&Told) -> bool,
) {
    let (benign, attacks) = (benign(flows), attacks(flows));
    let wrong: Vec<f64> = benign
        .values()
        .map(|flows| share(flows, &is_suspicious))
        .collect();
    let unsure: Vec<f64> = benign
        .values()
        .map(|flows| share(flows, &is_unsure))
        .collect();
    let found: Vec<f64> = attacks
        .values()
        .map(|flows| share(flows, &is_suspicious))
        .collect();
    let doubted: Vec<f64> = attacks
        .values()
        .map(|flows| share(flows, &is_unsure))
        .collect();
    println!(
        "| {name} | {} | {} | {} | {} | {} |",
        percent(mean(wrong.iter().copied())),
        percent(wrong.iter().copied().fold(0.0, f64::max)),
        percent(mean(unsure.iter().copied())),
        percent(mean(found.iter().copied())),
        percent(mean(doubted.iter().copied())),
    );
}

#[test]
fn what_the_hosts_own_past_would_add() {
    let dir = std::env::var_os("NETML_DATA").map(PathBuf::from);
    let Some(dir) = dir.filter(|_| std::env::var_os("NETML_LONG").is_some()) else {
        eprintln!("skipped: NETML_LONG and NETML_DATA do not ask for it");
        return;
    };
    let captures = labels::read(&dir.join("labels.csv")).expect("labels");
    let captures: Vec<_> = captures.into_iter().filter(|c| c.quality != "C").collect();
    let models = models();
    for (observations, seconds) in WARM_UPS {
        let warm_up = WarmUp {
            observations,
            time_ns: seconds * 1_000_000_000,
        };
        let told = parallel(captures.len(), |at| {
            let capture = &captures[at];
            models
                .get(&capture.group)
                .map(|model| tell(&dir, capture, model, warm_up))
        });
        let told: Vec<Told> = told.into_iter().flatten().flatten().collect();
        let all: Vec<&Told> = told.iter().collect();
        let known: Vec<&Told> = told.iter().filter(|flow| flow.known).collect();
        assert!(!all.is_empty() && known.len() < all.len());
        println!("\n## {observations} s observed within {seconds} s\n");
        for (name, flows) in [("all", &all), ("known", &known)] {
            let count = |attack| flows.iter().filter(|flow| flow.attack == attack).count();
            println!(
                "{name}: {} benign flows of {} groups, {} attack flows of {} groups and kinds",
                count(false),
                benign(flows).len(),
                count(true),
                attacks(flows).len()
            );
        }
        for (group, flows) in benign(&known) {
            println!(
                "  {group}: {} benign, unusual {}",
                flows.len(),
                LIMITS
                    .map(|limit| percent(share(&flows, |flow| flow.score >= limit)))
                    .join(" ")
            );
        }
        for (cell, flows) in attacks(&known) {
            println!(
                "  {cell}: {} attack, SUSPICIOUS {}, unusual {}",
                flows.len(),
                percent(share(&flows, |flow| flow.verdict == Verdict::Suspicious)),
                LIMITS
                    .map(|limit| percent(share(&flows, |flow| flow.score >= limit)))
                    .join(" ")
            );
        }
        println!(
            "| | benign SUSPICIOUS | worst | benign UNSURE | attack SUSPICIOUS | attack UNSURE |\n|---|---|---|---|---|---|"
        );
        let suspicious = |flow: &Told| flow.verdict == Verdict::Suspicious;
        let unsure = |flow: &Told| flow.verdict == Verdict::Unsure;
        for (of, flows) in [("all", &all), ("known", &known)] {
            line(
                &format!("{of}: forest and rules"),
                flows,
                suspicious,
                unsure,
            );
            for limit in LIMITS {
                let unusual = |flow: &Told| flow.known && flow.score >= limit;
                line(
                    &format!("{of}: unusual from {limit} alone"),
                    flows,
                    unusual,
                    |_| false,
                );
                line(
                    &format!("{of}: raises UNSURE from {limit}"),
                    flows,
                    suspicious,
                    |flow| flow.verdict < Verdict::Suspicious && (unsure(flow) || unusual(flow)),
                );
                line(
                    &format!("{of}: lifts UNSURE to SUSPICIOUS from {limit}"),
                    flows,
                    |flow| suspicious(flow) || (unsure(flow) && unusual(flow)),
                    |flow| unsure(flow) && !unusual(flow),
                );
                line(
                    &format!("{of}: is SUSPICIOUS from {limit}"),
                    flows,
                    |flow| suspicious(flow) || unusual(flow),
                    |flow| unsure(flow) && !unusual(flow),
                );
            }
        }
    }
}
