use std::io::Write as _;

use super::*;
use crate::model::{encode, testing};

/// A capture of UDP packets between numbered hosts: (source, destination).
fn pcap(packets: &[(u8, u8)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0xa1b2_c3d4_u32.to_le_bytes());
    out.extend([2, 0, 4, 0]);
    out.extend([0; 8]);
    out.extend(65_535_u32.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    for (at, &(src, dst)) in packets.iter().enumerate() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([10, 0, 0, src, 10, 0, 0, dst]);
        frame.extend([0x30, 0x39, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        out.extend((at as u32).to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        for _ in 0..2 {
            out.extend((frame.len() as u32).to_le_bytes());
        }
        out.extend(frame);
    }
    out
}

/// A capture with an attack and one without.
pub(in crate::train) fn captures() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, packets: &[(u8, u8)]| {
        let mut file = std::fs::File::create(dir.path().join(name)).expect("creates");
        file.write_all(&pcap(packets)).expect("writes");
    };
    put("bad.pcap", &[(1, 2), (2, 1), (3, 4), (5, 1), (5, 1)]);
    put("good.pcap", &[(1, 2), (7, 8)]);
    dir
}

/// Their labels.
pub(in crate::train) fn labelled() -> Vec<LabelledCapture> {
    let csv = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n\
               bad.pcap,malicious,dns_tunnel,10.0.0.1,10.0.0.2,,unknown,g\n\
               good.pcap,benign,normal_dns,,,,,h\n";
    super::super::labels::parse(csv.as_bytes(), Path::new("l")).expect("parses")
}

fn report(suspicious: f32) -> Report {
    let dir = captures();
    let mut parts = testing::parts(3, 4, 20);
    (parts.suspicious, parts.unsure) = (suspicious, suspicious.min(0.9));
    let model = Model::from_bytes(&encode(&parts).expect("encodes")).expect("loads");
    let reading = Reading::default();
    evaluate(&Arc::new(model), dir.path(), &labelled(), reading).expect("runs")
}

#[test]
fn flows_and_packets_are_counted_by_the_rule() {
    let report = report(1e-6);
    assert_eq!((report.packets, report.packets_unknown), (7, 3));
    let overall = &report.overall;
    // All packets go to port 53: each pair and direction is a flow of its own.
    assert_eq!((overall.flow.attack, overall.flow.benign), (2.0, 2.0));
    assert_eq!((overall.packet.attack, overall.packet.benign), (2.0, 2.0));
    assert_eq!(overall.packet.recall, Some(1.0));
    assert_eq!(overall.packet.fpr, Some(1.0));
    assert_eq!(overall.packet.precision, Some(0.5));
    let kinds: Vec<_> = report.by_kind.keys().collect();
    assert_eq!(kinds, ["dns_tunnel", "normal_dns"]);
    assert_eq!(report.by_kind["dns_tunnel"].flow.fpr, None);
    assert_eq!(report.by_group["h"].flow.recall, None);
    assert!((report.by_capture["bad.pcap"].packet.attack - 2.0).abs() < 1e-9);
    let json = serde_json::to_value(&report).expect("serialises");
    assert!(json["by_kind"]["dns_tunnel"]["flow"]["roc_auc"].is_null());
}

#[test]
fn the_report_with_intervals_is_about_the_same_flows() {
    let report = report(1e-6);
    let told = &report.report;
    let About::Model(about) = &told.about else {
        panic!("{:?}", told.about)
    };
    assert_eq!((about.flows, about.captures), (4, 2));
    assert_eq!(
        told.headline.recall_of_flows.mean,
        report.overall.flow.recall
    );
    assert_eq!(told.headline.precision.mean, report.overall.flow.precision);
    assert_eq!(told.captures.len(), 2);
    for line in &told.captures {
        let flow = &report.by_capture[&line.capture].flow;
        assert_eq!(line.recall.mean, flow.recall, "{}", line.capture);
        assert_eq!(line.false_positives.mean, flow.fpr, "{}", line.capture);
    }
    // Both attacks are found at their first packet.
    let delay = &told.delays[0];
    assert_eq!((delay.kind.as_str(), delay.captures), ("dns_tunnel", 1));
    assert_eq!(
        (delay.flow_packets, delay.capture_packets),
        (Some([1.0, 1.0]), Some(1.0))
    );
    // Hosts 1 and 2 of the first capture are attackers, 1 and 7 of the second are not.
    assert!((told.hosts.attack - 2.0).abs() < 1e-9 && (told.hosts.benign - 2.0).abs() < 1e-9);
    assert!(
        told.confusion
            .rows
            .iter()
            .all(|row| row.shares[..2] == [0.0, 0.0])
    );
    let sections = report::view::sections(told);
    let text = report::markdown::render(report::view::title(told), &sections);
    assert!(text.starts_with("# Evaluation of a model"), "{text}");
    let columns = sections.iter().flat_map(|section| &section.grid.columns);
    assert!(
        columns
            .into_iter()
            .all(|name| name != "seeds" && name != "wanted")
    );
    assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
}

#[test]
fn captures_without_a_known_flow_are_refused() {
    let dir = captures();
    let csv = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n\
               bad.pcap,malicious,dns_tunnel,10.9.0.1,,,unknown,g\n";
    let labels = super::super::labels::parse(csv.as_bytes(), Path::new("l")).expect("parses");
    let model = Model::from_bytes(&encode(&testing::parts(3, 1, 2)).expect("encodes"));
    let model = Arc::new(model.expect("loads"));
    let error = evaluate(&model, dir.path(), &labels, Reading::default()).expect_err("nothing");
    assert!(error.to_string().contains("known label"), "{error}");
}

#[test]
fn unsure_counts_as_not_detected_and_stands_beside() {
    let mut report = report(1.0);
    report.unsure = 0.0;
    let flow = &report.overall.flow;
    assert_eq!(flow.recall, Some(0.0));
    assert!((flow.true_negatives - 2.0).abs() < 1e-9);
}

#[test]
fn a_capture_that_is_missing_is_named_with_its_line() {
    let csv = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n\
               none.pcap,benign,web,,,,,g\n";
    let labels = super::super::labels::parse(csv.as_bytes(), Path::new("l")).expect("parses");
    let parts = testing::parts(3, 1, 2);
    let model = Model::from_bytes(&encode(&parts).expect("encodes")).expect("loads");
    let error = evaluate(
        &Arc::new(model),
        Path::new("/nonexistent"),
        &labels,
        Reading::default(),
    )
    .expect_err("missing")
    .to_string();
    assert!(
        error.contains("line 2") && error.contains("none.pcap"),
        "{error}"
    );
}
