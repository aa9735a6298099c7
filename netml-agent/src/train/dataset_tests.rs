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
    let mut card = DataCard::default();
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

#[test]
fn the_cap_keeps_whole_flows_that_stand_for_the_rest() {
    let mut card = DataCard::default();
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
    push_cell(
        &mut table,
        &labels,
        "g",
        "scan",
        vec![flow(0, 0, &[1.0, 1.0, 2.0])],
    );
    let benign = Flow {
        attack: false,
        ..flow(1, 0, &[2.0, 3.0])
    };
    push_cell(&mut table, &labels, "h", "web", vec![benign]);
    let fit: Vec<_> = table.rows.iter().map(|row| row.fit).collect();
    assert_eq!(fit, [true, false, true, true, true]);
    assert_eq!(contradicting(&table), 1);
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
