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

fn report(suspicious: f32) -> Report {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, packets: &[(u8, u8)]| {
        let mut file = std::fs::File::create(dir.path().join(name)).expect("creates");
        file.write_all(&pcap(packets)).expect("writes");
    };
    put("bad.pcap", &[(1, 2), (2, 1), (3, 4), (5, 1), (5, 1)]);
    put("good.pcap", &[(1, 2), (7, 8)]);
    let csv = "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,group\n\
               bad.pcap,malicious,dns_tunnel,10.0.0.1,10.0.0.2,,unknown,g\n\
               good.pcap,benign,normal_dns,,,,,h\n";
    let labels = super::super::labels::parse(csv.as_bytes(), Path::new("l")).expect("parses");
    let mut parts = testing::parts(3, 4, 20);
    (parts.suspicious, parts.unsure) = (suspicious, suspicious.min(0.9));
    let model = Model::from_bytes(&encode(&parts).expect("encodes")).expect("loads");
    evaluate(&Arc::new(model), dir.path(), &labels, Reading::default()).expect("runs")
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
