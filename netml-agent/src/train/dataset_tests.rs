use super::*;

fn flow(capture: usize, number: u32, values: &[f32]) -> Flow {
    let point = |value: &f32| Point {
        packets: 1,
        time_ns: 0,
        host: 0,
        rule: None,
        features: [*value; FEATURES],
    };
    Flow {
        capture,
        number,
        attack: true,
        stands_for: 1.0,
        rows: values.iter().map(point).collect(),
    }
}

#[test]
fn a_flow_whose_rows_are_all_known_is_stood_for_by_the_first() {
    let mut card = card(None);
    let flows = vec![
        flow(0, 0, &[1.0, 2.0]),
        flow(0, 1, &[1.0, 2.0]),
        flow(0, 2, &[1.0]),
        flow(1, 0, &[1.0, 2.0]),
    ];
    let kept = without_copies(flows, &mut card);
    assert_eq!(kept.len(), 2);
    assert_eq!((kept[0].stands_for, kept[1].stands_for), (3.0, 1.0));
    assert_eq!(card.flows_copied, 2);
}

fn card(near: Option<u32>) -> DataCard {
    DataCard {
        near_digits: near.unwrap_or(NEAR_DIGITS),
        near_left_out: near.is_some(),
        ..DataCard::default()
    }
}

#[test]
fn near_copies_are_counted_and_left_out_only_where_asked_for() {
    // To three digits the second is the first, to four it is not; the third is a copy of the second.
    let flows = || {
        [1.0, 1.001, 1.001, 1.02]
            .into_iter()
            .zip(0..)
            .map(|(value, number)| flow(0, number, &[value]))
            .collect::<Vec<_>>()
    };
    let standing = |near: Option<u32>| {
        let mut card = card(near);
        let kept = without_copies(flows(), &mut card);
        let standing: Vec<f64> = kept.iter().map(|flow| flow.stands_for).collect();
        (standing, card.flows_copied, card.flows_near_copied)
    };
    assert_eq!(standing(None), (vec![1.0, 2.0, 1.0], 1, 1));
    assert_eq!(standing(Some(3)), (vec![3.0, 1.0], 1, 1));
    assert_eq!(standing(Some(4)), (vec![1.0, 2.0, 1.0], 1, 0));
}

#[test]
fn near_rows_are_not_fitted_where_near_copies_are_left_out() {
    let csv = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\na,malicious,scan,,,,none,g\n";
    let labels = super::super::labels::parse(csv.as_bytes(), Path::new("l")).expect("parses");
    let fit = |near: Option<u32>| {
        let mut table = Table::default();
        let mut card = card(near);
        let flows = vec![flow(0, 0, &[1.0, 1.001, 1.0, 2.0])];
        push_cell(&mut table, &labels, "g", "scan", flows, &mut card);
        assert_eq!(card.rows_near_repeated, 1);
        table.rows.iter().map(|row| row.fit).collect::<Vec<_>>()
    };
    assert_eq!(fit(None), [true, true, false, true]);
    assert_eq!(fit(Some(3)), [true, false, false, true]);
}

proptest::proptest! {
    #[test]
    fn rounding_is_that_of_decimal_notation(value in proptest::num::f32::NORMAL, digits in 1..=NEAR_DIGITS_MAX) {
        let text = |value: f32| {
            let text = format!("{:.*e}", digits as usize - 1, f64::from(value));
            let (digits, tens) = text.split_once('e').expect("an exponent");
            (digits.to_string(), tens.parse::<i32>().expect("a number"))
        };
        let code = |value: f32| rounded(&[value; FEATURES], digits)[0];
        // Halves may round either way: a value a hair off them says the same.
        let scale = 10f64.powi(digits as i32 - 1 - text(value).1);
        let part = (f64::from(value) * scale).fract().abs();
        proptest::prop_assume!((part - 0.5).abs() > 1e-6);
        let as_told: f32 = format!("{:.*e}", digits as usize - 1, f64::from(value)).parse().expect("a number");
        proptest::prop_assume!(as_told.is_finite());
        proptest::prop_assert_eq!(code(value), code(as_told));
        proptest::prop_assert_ne!(code(value), code(-value));
    }
}

#[test]
fn the_cap_keeps_whole_flows_that_stand_for_the_rest() {
    let mut card = card(None);
    let flows: Vec<_> = (0..100)
        .map(|i| flow(0, i, &[i as f32, 0.0, 0.5]))
        .collect();
    let kept = bounded(flows, 30, &mut card);
    assert_eq!(kept.len(), 10);
    assert_eq!(card.flows_capped, 90);
    let stand: f64 = kept.iter().map(|flow| flow.stands_for).sum();
    assert!((stand - 100.0).abs() < 1e-9);
    assert!(kept.is_sorted_by_key(|flow| flow.number));
    assert!(
        kept.iter().any(|flow| flow.number >= 50),
        "not just the first ones"
    );
}

#[test]
fn repeated_and_contradicting_vectors_are_marked_and_counted() {
    let csv = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n\
               a,malicious,scan,,,,none,g\nb,benign,web,,,,,h\n";
    let labels = super::super::labels::parse(csv.as_bytes(), Path::new("l")).expect("parses");
    let mut table = Table::default();
    let mut card = card(None);
    push_cell(
        &mut table,
        &labels,
        "g",
        "scan",
        vec![flow(0, 0, &[1.0, 1.0, 2.0])],
        &mut card,
    );
    let benign = Flow {
        attack: false,
        ..flow(1, 0, &[2.0, 3.0])
    };
    push_cell(&mut table, &labels, "h", "web", vec![benign], &mut card);
    let fit: Vec<_> = table.rows.iter().map(|row| row.fit).collect();
    assert_eq!(fit, [true, false, true, true, true]);
    assert_eq!(contradicting(&table, bits), 1);
}

/// The captures of the project, where they are at hand.
fn captures() -> Option<std::path::PathBuf> {
    let dir = std::env::var_os("NETML_DATA").map(std::path::PathBuf::from);
    if dir.is_none() {
        eprintln!("skipped: NETML_DATA does not name the captures");
    }
    dir
}

/// Counts packets by label through the whole engine.
struct LabelCount<'a>(&'a LabelledCapture, [u64; 2]);

impl Sink for LabelCount<'_> {
    fn flow(&mut self, _report: &FlowReport) {}
    fn packet(&mut self, packet: &JudgedPacket) {
        let label = self.0.label(&captures::ends_of_packet(
            &packet.record,
            packet.tunnel.as_ref(),
        ));
        self.1[usize::from(label == Label::Attack)] += 1;
    }
}

#[test]
fn the_rule_counts_the_attack_packets_that_every_capture_states() {
    let Some(dir) = captures() else { return };
    let path = dir.join("labels.csv");
    let labels = super::super::labels::read(&path).expect("the labels");
    let mut stated = csv::Reader::from_path(&path).expect("the labels");
    let header = stated.headers().expect("a header").clone();
    let column = |name: &str| header.iter().position(|h| h == name).expect(name);
    let (attack_at, ip_at) = (column("attack_packets"), column("ip_packets"));
    let stated: Vec<[u64; 2]> = stated
        .records()
        .map(|record| {
            let record = record.expect("a row");
            [ip_at, attack_at].map(|at| record[at].parse().expect("a count"))
        })
        .collect();
    let outcomes = captures::run(&dir, &labels, None, Reading::default(), |i| {
        LabelCount(&labels[i], [0; 2])
    })
    .expect("runs");
    for ((outcome, labels), stated) in outcomes.iter().zip(&labels).zip(stated) {
        let [others, attack] = outcome.sink.1;
        assert!(outcome.capture.balanced());
        assert_eq!(
            [others + attack, attack],
            stated,
            "{}",
            labels.file.display()
        );
    }
}
