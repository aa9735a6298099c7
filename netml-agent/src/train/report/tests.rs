use super::*;
use crate::flow::FEATURES;
use crate::train::random::Random;
use crate::train::table::Table;
use crate::train::testing::{Made, telling};
use crate::train::trainer::TrainSettings;

/// Four groups with both labels in two captures each, and a lab that is wrong about everything.
fn table() -> Table {
    let mut made = Made::default();
    let mut random = Random::new(3, 3);
    let telling = telling();
    for group in 0..5_u32 {
        let name = if group == 4 {
            "lab".into()
        } else {
            format!("g{group}")
        };
        for capture in 0..2 {
            for flow in 0..220_u32 {
                let attack = flow % 2 == 0;
                let kind = match (attack, group % 2) {
                    (true, 0) => "port_scan",
                    (true, _) => "syn_flood",
                    (false, _) => "web",
                };
                for point in 0..2 {
                    let mut features: [f32; FEATURES] =
                        std::array::from_fn(|_| random.unit() as f32);
                    let high = attack != (group == 4);
                    features[telling] = if high { 0.45 } else { 0.0 } + random.unit() as f32 / 2.0;
                    let capture = format!("<{group}&{capture}>.pcap");
                    let row = made.row(&capture, &name, kind, attack);
                    row.quality = if flow > 215 { 'C' } else { 'A' };
                    (row.flow, row.host) = (flow, flow % 3);
                    row.packets = 1 + point;
                    row.time_ms = u64::from(flow) * 1_000 + point;
                    row.features = features;
                }
            }
        }
    }
    made.table
}

fn settings() -> TrainSettings {
    let mut settings = TrainSettings {
        validation_trees: 4,
        ..TrainSettings::default()
    };
    settings.forest.tree_rows = 200;
    settings.budget.false_positive_rate = 0.05;
    settings.budget.alarms_per_host_day = 1e9;
    settings
}

fn report() -> Report {
    build(&table(), &settings(), &[1, 2], Extent::Whole).expect("validates")
}

/// Text between tags, entities resolved.
fn cells(html: &str, tag: &str) -> Vec<String> {
    let mut cells = Vec::new();
    for part in html.split(&format!("<{tag}")).skip(1) {
        let inner = part.split_once('>').map_or("", |(_, rest)| rest);
        let text = inner.split(&format!("</{tag}>")).next().unwrap_or("");
        let text = text.replace("&lt;", "<").replace("&gt;", ">");
        cells.push(text.replace("&quot;", "\"").replace("&amp;", "&"));
    }
    cells
}

#[test]
fn json_markdown_and_html_tell_the_same_numbers() {
    let report = report();
    let sections = view::sections(&report);
    let (markdown, html) = (
        markdown::render(view::title(&report), &sections),
        html::render(view::title(&report), &sections),
    );
    let mut in_markdown = Vec::new();
    for line in markdown.lines().filter(|line| line.starts_with("| ")) {
        let line = line.trim_start_matches("| ").trim_end_matches(" |");
        in_markdown.extend(line.split(" | ").map(str::to_string));
    }
    let body = html.split("<main>").nth(1).expect("a page");
    let mut in_html = Vec::new();
    for row in body.split("<tr>").skip(1) {
        let row = row.split("</tr>").next().expect("a row");
        in_html.extend(cells(row, "th"));
        in_html.extend(cells(row, "td"));
    }
    assert!(in_html.len() > 300, "{}", in_html.len());
    assert_eq!(in_markdown, in_html);
    // What the JSON holds is what the tables say, to the digits they show.
    let json: serde_json::Value =
        serde_json::from_str(&report.json().expect("serialises")).expect("parses");
    let shown = |title: &str, row: usize, column: usize| {
        let section = sections.iter().find(|s| s.title == title).expect(title);
        section.grid.rows[row][column].clone()
    };
    let mean = |value: &serde_json::Value| value["mean"].as_f64().expect("a mean");
    let headline = &json["headline"];
    assert_eq!(
        shown("Headline", 0, 1),
        view::percent_fine(mean(&headline["false_positives"]))
    );
    assert_eq!(
        shown("Headline", 6, 1),
        view::percent(mean(&headline["recall"]))
    );
    for (row, line) in json["recall"].as_array().expect("lines").iter().enumerate() {
        assert_eq!(
            shown("Recall by group and kind", row, 4),
            view::percent(mean(&line["recall"]))
        );
    }
    for (row, line) in json["lines"].as_array().expect("lines").iter().enumerate() {
        let title = "Against its parts and the baselines";
        assert_eq!(shown(title, row, 1), view::percent(mean(&line["recall"])));
    }
    let told = &json["extras"]["importances"][0];
    assert_eq!(
        shown("What the forest rests on", 0, 1),
        view::percent_fine(told["permutation"].as_f64().expect("a number"))
    );
}

#[test]
fn what_rounds_to_nothing_has_no_sign() {
    for (value, digits, told) in [
        (-0.0001, 2, "0.00"),
        (-0.0, 1, "0.0"),
        (-0.4, 0, "0"),
        (-0.01, 2, "-0.01"),
        (0.004, 2, "0.00"),
    ] {
        assert_eq!(view::rounded(value, digits), told);
    }
    assert_eq!(view::percent_fine(-0.00001), "0.00 %");
}

#[test]
fn the_page_needs_nothing_and_every_plot_has_words() {
    let html = html::render("a <title>", &view::sections(&report()));
    for word in ["<script", "http://", "https://", "url(", "@import", " src="] {
        assert!(!html.contains(word), "{word}");
    }
    assert_eq!(html.matches("<svg").count(), 4);
    assert_eq!(html.matches("<desc id=").count(), 4);
    assert!(html.contains("prefers-color-scheme:dark"));
    assert!(!html.contains("<0&0>"), "names are escaped");
    assert!(html.contains("&lt;0&amp;0&gt;.pcap"));
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn the_same_table_gives_the_same_report_and_the_lab_is_nowhere_in_it() {
    let plain = || build(&table(), &settings(), &[1], Extent::Plain).expect("validates");
    let report = plain();
    assert_eq!(
        report.json().expect("serialises"),
        plain().json().expect("serialises")
    );
    let About::LeftOut(about) = &report.about else {
        panic!("{:?}", report.about)
    };
    assert_eq!(about.groups_for_training_only, ["lab"]);
    assert!(report.recall.iter().all(|line| line.group != "lab"));
    assert!(report.benign.iter().all(|line| line.group != "lab"));
    assert!(report.captures.iter().all(|line| line.group != "lab"));
}

#[test]
fn the_feature_that_tells_is_the_most_important_and_chance_is_chance() {
    let extras = report().extras.expect("asked for");
    assert_eq!(extras.importances[0].feature, "src_barren_share");
    let parts: f64 = extras.importances.iter().map(|line| line.impurity).sum();
    assert!((parts - 1.0).abs() < 1e-9, "{parts}");
    let auc = extras.probes.shuffled_roc_auc.expect("both classes");
    assert!((0.4..0.6).contains(&auc), "{auc}");
    let scan = extras
        .unseen
        .iter()
        .find(|line| line.class == "scan")
        .expect("a class");
    assert_eq!(scan.groups, 2);
    assert!((0.0..=1.0).contains(&scan.unseen));
}

#[test]
fn files_are_written_whole_into_a_folder_that_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let into = dir.path().join("a/b");
    report().write(&into).expect("writes");
    let mut names: Vec<_> = std::fs::read_dir(&into)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["report.html", "report.json", "report.md"]);
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("writes");
    let error = report().write(&file).expect_err("a file").to_string();
    assert!(error.contains("file"), "{error}");
}

#[test]
fn the_bound_of_few_counts_is_the_exact_one() {
    // Garwood's table: 3.689 for none, 5.572 for one, 18.39 for ten.
    for (count, want) in [(0.0, 3.6889), (1.0, 5.5716), (10.0, 18.390)] {
        let got = times::poisson_upper(count);
        assert!((got - want).abs() < 1e-3, "{count}: {got}");
    }
}
