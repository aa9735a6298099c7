use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::testing::{Numbers, parts};
use super::*;

fn model(parts: &ModelParts) -> Model {
    Model::from_bytes(&encode(parts).expect("encodes")).expect("loads")
}

/// The same answer computed the plain way: one row, one tree after the other.
fn reference(parts: &ModelParts, row: &[f32; FEATURES]) -> (f32, u8) {
    let trees = parts.forest.trees();
    let mut sum = 0.0;
    let mut classes = vec![0_u32; parts.classes.len()];
    for tree in trees {
        let leaf = tree.leaf(row);
        sum += f64::from(tree.attack[leaf]) / f64::from(SHARE_ONE);
        let rank = tree.nodes[..leaf].iter().filter(|n| n.is_leaf()).count();
        for class in 1..parts.classes.len() {
            let at = rank * (parts.classes.len() - 1) + class - 1;
            classes[class] += u32::from(tree.leaf_classes[at]);
        }
    }
    let best = (1..classes.len())
        .max_by_key(|&class| (classes[class], classes.len() - class))
        .expect("at least one attack class");
    ((sum / trees.len() as f64) as f32, best as u8)
}

#[test]
fn a_written_model_loads_with_every_part() {
    let parts = parts(1, 5, 40);
    let loaded = model(&parts);
    assert_eq!(loaded.parts(), &parts);
    assert_eq!(loaded.id().len(), 12);
    assert_eq!(loaded.classes()[0], "normal");
}

#[test]
fn many_rows_at_once_answer_as_one_row_at_a_time() {
    for (seed, count) in [(2, 1), (3, 15), (4, 64), (5, 65), (6, 200)] {
        let parts = parts(seed, 20, 60);
        let model = model(&parts);
        let mut numbers = Numbers(seed);
        let rows: Vec<_> = (0..count).map(|_| numbers.row()).collect();
        let mut out = vec![Judgement::default(); count];
        model.judge(&rows, &mut out);
        for (row, judgement) in rows.iter().zip(&out) {
            let (score, class) = reference(&parts, row);
            assert!((judgement.score - score).abs() < 1e-6);
            let expected = if judgement.score >= parts.unsure {
                class
            } else {
                0
            };
            assert_eq!(judgement.class, expected);
            let mut alone = [Judgement::default()];
            model.judge(std::slice::from_ref(row), &mut alone);
            assert_eq!(alone[0], *judgement, "company changes nothing");
        }
    }
}

#[test]
fn values_at_a_threshold_and_of_either_zero_go_the_same_way_in_company() {
    let split = |threshold, left, feature| Node {
        threshold,
        left,
        feature,
        flags: 0,
    };
    // Both zeros, the least and the greatest numbers there are, and a negative one.
    for threshold in [
        0.0,
        -0.0,
        f32::MIN_POSITIVE,
        -1.5,
        1e-45,
        f32::MAX,
        f32::MIN,
    ] {
        let nodes = vec![split(threshold, 1, 7), Node::leaf(1, 0), Node::leaf(2, 1)];
        let tree = Tree::new(nodes, vec![5, 0, SHARE_ONE], vec![0, SHARE_ONE], 2).expect("a tree");
        let forest = Forest::new(vec![tree.clone()], 2).expect("a forest");
        let values = [
            threshold.next_down(),
            threshold,
            threshold.next_up(),
            -threshold,
        ];
        let special = [
            0.0,
            -0.0,
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        let rows: Vec<_> = values
            .into_iter()
            .chain(special)
            .map(|value| {
                let mut row = [0.0; FEATURES];
                row[7] = value;
                row
            })
            .collect();
        for (row, (score, _)) in rows.iter().zip(forest.judge_all(&rows)) {
            let alone = tree.attack[tree.leaf(row)] == SHARE_ONE;
            assert_eq!(score > 0.5, alone, "{} at {threshold}", row[7]);
            assert_eq!(alone, row[7] > threshold);
        }
    }
}

#[test]
fn contributions_and_bias_sum_to_the_score() {
    let model = model(&parts(7, 30, 80));
    let mut numbers = Numbers(7);
    for _ in 0..200 {
        let row = numbers.row();
        let mut out = [Judgement::default()];
        model.judge(&[row], &mut out);
        let explanation = model.explain(&row);
        let sum = explanation.bias + explanation.contributions.iter().sum::<f32>();
        assert!((sum - out[0].score).abs() < 1e-5, "{sum} {}", out[0].score);
    }
}

#[test]
fn votes_count_every_tree_once_and_follow_the_leaves() {
    let parts = parts(8, 30, 20);
    let model = model(&parts);
    let row = Numbers(8).row();
    let votes = model.votes(&row);
    assert_eq!(votes.iter().sum::<u32>(), 30);
    for (class, votes) in votes.iter().enumerate() {
        let expected = parts
            .forest
            .trees()
            .iter()
            .filter(|tree| usize::from(tree.nodes[tree.leaf(&row)].vote()) == class);
        assert_eq!(expected.count(), *votes as usize);
    }
    let mut numbers = Numbers(80);
    let rows: Vec<_> = (0..50).map(|_| numbers.row()).collect();
    let majority = model.majority(&rows, &mut Leaves::default());
    for (row, class) in rows.iter().zip(majority) {
        let votes = model.votes(row);
        let most = votes.iter().max().expect("classes");
        let first = votes.iter().position(|count| count == most);
        assert_eq!(first, Some(usize::from(class)));
    }
}

#[test]
fn values_that_are_no_numbers_end_in_a_leaf() {
    let model = model(&parts(9, 10, 60));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut out = [Judgement::default(); 3];
        model.judge(&[[value; FEATURES]; 3], &mut out);
        assert!((0.0..=1.0).contains(&out[0].score));
        assert_eq!(out[0], out[2]);
    }
}

#[test]
fn thresholds_and_tables_cut_where_they_say() {
    let model = model(&parts(10, 1, 3));
    assert_eq!(model.verdict(0.39), Verdict::Normal);
    assert_eq!(model.verdict(0.4), Verdict::Unsure);
    assert_eq!(model.verdict(0.6), Verdict::Suspicious);
    for (score, probability) in [(0.0, 0.0), (0.35, 0.2), (0.5, 0.4), (0.7, 0.7), (1.0, 1.0)] {
        assert!((model.probability(score) - probability).abs() < 1e-6);
    }
    for (score, alarms) in [(0.0, 90.0), (0.49, 90.0), (0.5, 3.0), (1.0, 0.25)] {
        let got = model.expected_false_alarms_per_host_day(score);
        assert!((got - alarms).abs() < 1e-6);
    }
}

#[test]
fn each_refusal_names_cause_and_way_out_in_one_line() {
    let bytes = encode(&parts(11, 2, 10)).expect("encodes");
    let refused = |bytes: &[u8], word: &str| {
        let error = Model::from_bytes(bytes).expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains('\n'));
    };
    refused(b"", "not a netml model");
    refused(b"\x7fELF and so on, whatever it is", "not a netml model");
    refused(&bytes[..20], "damaged");
    refused(&bytes[..bytes.len() - 1], "cut or lengthened");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    refused(&flipped, "checksum");
    let mut newer = bytes.clone();
    newer[8] = 2;
    refused(&newer, "update netml-agent");
    let error = Model::from_bytes_of_schema(&bytes, "another").expect_err("another schema");
    assert!(matches!(error, ModelError::Schema { .. }));
    assert!(error.to_string().contains("retrain"));
    let mut hostile = parts(11, 2, 10);
    hostile.schema_digest = "a\n\u{1b}[2J".into();
    let hostile = encode(&hostile).expect("encodes");
    refused(&hostile, "another feature schema (a??[2J,");
    let missing = Model::load(std::path::Path::new("/nonexistent/netml.model"));
    assert!(matches!(missing, Err(ModelError::Unreadable { .. })));
}

#[test]
fn parts_that_contradict_themselves_are_not_written() {
    let good = parts(12, 2, 10);
    let broken = |change: fn(&mut ModelParts)| {
        let mut parts = good.clone();
        change(&mut parts);
        assert!(matches!(encode(&parts), Err(ModelError::Invalid { .. })));
    };
    broken(|parts| parts.unsure = 0.7);
    broken(|parts| parts.suspicious = f32::NAN);
    broken(|parts| parts.reference_share = 1.0);
    broken(|parts| parts.calibration.clear());
    broken(|parts| parts.calibration.swap(0, 1));
    broken(|parts| parts.false_alarms.reverse());
    broken(|parts| parts.classes[0] = "benign".into());
    broken(|parts| parts.classes[1] = "x".repeat(256));
    broken(|parts| parts.card = "[]".into());
}

#[test]
fn trees_that_break_a_rule_are_refused() {
    let split = |left, feature, threshold| Node {
        threshold,
        left,
        feature,
        flags: 0,
    };
    let leaf = |index| Node::leaf(index, 0);
    let tree = |nodes: Vec<Node>| {
        let leaves = nodes.iter().filter(|node| node.is_leaf()).count();
        let attack = vec![0; nodes.len()];
        Tree::new(nodes, attack, vec![0; leaves], 2)
    };
    assert!(tree(vec![split(1, 0, 0.5), leaf(1), leaf(2)]).is_ok());
    assert!(tree(vec![]).is_err());
    assert!(
        tree(vec![split(0, 0, 0.5), leaf(1), leaf(2)]).is_err(),
        "a loop"
    );
    assert!(
        tree(vec![split(2, 0, 0.5), leaf(1), leaf(2)]).is_err(),
        "outside"
    );
    assert!(tree(vec![split(1, 0, f32::NAN), leaf(1), leaf(2)]).is_err());
    assert!(tree(vec![split(1, 255, 0.5), leaf(1), leaf(2)]).is_err() || FEATURES > 255);
    assert!(
        tree(vec![split(1, 0, 0.5), leaf(2), leaf(2)]).is_err(),
        "leads elsewhere"
    );
    assert!(
        tree(vec![split(1, 0, 0.5), leaf(1), leaf(2), leaf(3)]).is_err(),
        "unreached"
    );
    let two_parents = vec![
        split(1, 0, 0.5),
        split(3, 0, 0.5),
        split(3, 0, 0.5),
        leaf(3),
        leaf(4),
    ];
    assert!(tree(two_parents).is_err());
    assert!(
        Tree::new(vec![Node::leaf(0, 2)], vec![0], vec![0], 2).is_err(),
        "class"
    );
    assert!(
        Tree::new(vec![leaf(0)], vec![7], vec![6], 2).is_err(),
        "shares"
    );
}

/// Parts whose card has a self-test of some rows, answered by the model itself.
fn with_self_test(mut parts: ModelParts, rows: usize) -> ModelParts {
    let judge = model(&parts);
    let mut numbers = Numbers(99);
    let rows: Vec<_> = (0..rows).map(|_| numbers.row()).collect();
    let mut out = vec![Judgement::default(); rows.len()];
    judge.judge(&rows, &mut out);
    let test = SelfTest {
        rows,
        scores: out.iter().map(|judged| judged.score).collect(),
        classes: out.iter().map(|judged| judged.class).collect(),
    };
    parts.card = serde_json::json!({"name": "x", "self_test": test.to_json()}).to_string();
    parts
}

#[test]
fn a_model_that_answers_its_own_rows_otherwise_is_refused() {
    let good = with_self_test(parts(13, 4, 20), 20);
    let loaded = model(&good);
    assert_eq!(loaded.self_test().expect("a self-test").rows.len(), 20);
    // Another forest under the same card.
    let mut another = good.clone();
    another.forest = parts(14, 4, 20).forest;
    let error = Model::from_bytes(&encode(&another).expect("encodes")).expect_err("refused");
    assert!(matches!(error, ModelError::SelfTest { .. }), "{error}");
    assert!(error.to_string().contains("fails its self-test"), "{error}");
}

#[test]
fn a_self_test_that_cannot_be_run_is_refused() {
    let good = with_self_test(parts(15, 2, 10), 3);
    let refused = |change: &dyn Fn(&mut serde_json::Value), word: &str| {
        let mut parts = good.clone();
        let mut card: serde_json::Value = serde_json::from_str(&parts.card).expect("JSON");
        change(&mut card["self_test"]);
        parts.card = card.to_string();
        let error = encode(&parts).expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(&|test| *test = 7.into(), "without rows");
    refused(&|test| test["rows"] = serde_json::json!([]), "without rows");
    refused(
        &|test| test["scores"] = serde_json::json!([0.5]),
        "more rows",
    );
    refused(
        &|test| test["rows"][1] = serde_json::json!([0.5]),
        "number of features",
    );
    refused(&|test| test["rows"][0][0] = "x".into(), "finite number");
    refused(&|test| test["rows"][0][0] = 1e300.into(), "finite number");
    refused(&|test| test["classes"][2] = 3.into(), "unknown class");
    refused(&|test| test["classes"][2] = (-1).into(), "unknown class");
    let many = SelfTest {
        rows: vec![[0.0; FEATURES]; SELF_TEST_ROWS_MAX + 1],
        scores: vec![0.0; SELF_TEST_ROWS_MAX + 1],
        classes: vec![0; SELF_TEST_ROWS_MAX + 1],
    };
    refused(&|test| *test = many.to_json(), "more than 256");
}

#[test]
fn a_model_is_told_with_what_its_trees_rest_on() {
    let parts = with_self_test(parts(16, 6, 30), 5);
    let told = summary(&model(&parts));
    assert_eq!((told.trees.count, told.self_test_rows), (6, Some(5)));
    assert_eq!(told.trees.nodes, 2 * told.trees.leaves - 6, "binary trees");
    let splits: usize = told.importances.iter().map(|i| i.splits).sum();
    assert_eq!(splits, told.trees.nodes - told.trees.leaves);
    let movement: f64 = told.importances.iter().map(|i| i.movement).sum();
    assert!((movement - 1.0).abs() < 1e-9, "{movement}");
    assert!(
        told.importances
            .is_sorted_by(|a, b| a.movement >= b.movement)
    );
    assert!(told.card.get("self_test").is_none() && told.card["name"] == "x");
}

#[test]
fn a_comparison_names_what_differs_and_nothing_of_the_same_model() {
    let first = model(&parts(17, 3, 12));
    let same = compare(&first, &model(&parts(17, 3, 12)));
    assert!(same.same && same.metadata.is_empty() && same.importances.is_empty());
    assert_eq!(same.verdicts.expect("compared").changed, 0);

    let mut other = parts(18, 4, 12);
    other.suspicious = 0.5;
    other.card = r#"{"name": "another"}"#.into();
    let other = model(&other);
    let told = compare(&first, &other);
    assert!(!told.same && !told.importances.is_empty());
    assert_eq!(told.metadata["trees.count"][0], 3);
    assert_eq!(told.metadata["trees.count"][1], 4);
    assert_eq!(told.metadata["card.name"][1], "another");
    assert!(told.metadata["card.name"][0].is_null());
    assert!(!told.metadata.contains_key("reference_share"));
    let verdicts = told.verdicts.expect("compared");
    let listed: usize = verdicts.counts.values().flat_map(|of| of.values()).sum();
    assert_eq!(listed, verdicts.rows);
    // Counted again, by the models themselves.
    let rows = made_up_rows(&[&first, &other]);
    let of = |model: &Model| {
        let mut out = vec![Judgement::default(); rows.len()];
        model.judge(&rows, &mut out);
        let verdicts: Vec<_> = out
            .iter()
            .map(|judged| model.verdict(judged.score))
            .collect();
        verdicts
    };
    let changed = of(&first)
        .into_iter()
        .zip(of(&other))
        .filter(|(a, b)| a != b);
    assert_eq!(verdicts.changed, changed.count());
    assert!(verdicts.changed > 0 && verdicts.first.len() <= 10);
}

#[test]
fn a_model_of_another_schema_can_be_looked_at_and_not_served() {
    let mut parts = parts(19, 2, 10);
    parts.schema_digest = "0123456789abcdef".into();
    let bytes = encode(&parts).expect("encodes");
    assert!(matches!(
        Model::from_bytes(&bytes),
        Err(ModelError::Schema { .. })
    ));
    let model = Model::from_bytes_of_any_schema(&bytes).expect("looked at");
    assert!(!summary(&model).schema_is_of_this_build);
    assert!(compare(&model, &model).verdicts.is_none());
}

/// Makes the checksum fit again, so that what lies behind it is tested.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 52 {
        let length = bytes.len() as u64;
        bytes[12..20].copy_from_slice(&length.to_le_bytes());
        let body = bytes.len() - 32;
        let sum = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_refused_or_serve(bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 12 {
            bytes[..12].copy_from_slice(b"NETMLMDL\x01\0\0\0");
        }
        prop_assert!(Model::from_bytes(&resealed(bytes)).is_err());
    }

    #[test]
    fn a_changed_model_is_refused_or_serves(
        seed in 0_u64..50,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = encode(&parts(seed, 3, 12)).expect("encodes");
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = Model::from_bytes(&resealed(bytes)) {
            let mut numbers = Numbers(seed);
            let rows: Vec<_> = (0..20).map(|_| numbers.row()).collect();
            let mut out = vec![Judgement::default(); rows.len()];
            model.judge(&rows, &mut out);
            for (row, judgement) in rows.iter().zip(&out) {
                prop_assert!((0.0..=1.0).contains(&judgement.score));
                prop_assert!((0.0..=1.0).contains(&judgement.probability));
                prop_assert!(usize::from(judgement.class) < model.classes().len());
                let explanation = model.explain(row);
                let sum = explanation.bias + explanation.contributions.iter().sum::<f32>();
                prop_assert!((sum - judgement.score).abs() < 1e-4);
            }
        }
    }
}
