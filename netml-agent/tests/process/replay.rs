use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::fixture::{conversation, conversation_file, pcap, pcapng, write};
use super::{agent, run, stderr};

fn lines(stdout: &[u8]) -> Vec<Value> {
    std::str::from_utf8(stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_flow_is_one_object_and_the_books_are_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let output = run(&["replay", "--no-model", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut flows = lines(&output.stdout);
    flows.sort_by_key(|flow| flow["protocol"].to_string());
    assert_eq!(flows.len(), 2);
    let web = &flows[0];
    for (key, expected) in [
        ("src_ip", Value::from("192.0.2.1")),
        ("dst_ip", Value::from("198.51.100.2")),
        ("src_port", Value::from(40_000)),
        ("dst_port", Value::from(80)),
        ("protocol", Value::from("tcp")),
        ("fwd_packets", Value::from(4)),
        ("rev_packets", Value::from(3)),
        ("fwd_bytes", Value::from(4 * 54 + 100)),
        ("rev_bytes", Value::from(3 * 54 + 1_000)),
        ("first_unix_ns", Value::from(1_600_000_000_030_000_000_u64)),
        ("last_unix_ns", Value::from(1_600_000_000_090_000_000_u64)),
        ("tcp_flags", Value::from("FIN,SYN,PSH,ACK")),
        ("verdict", Value::from("NO_VERDICT")),
        ("kind", Value::Null),
        ("probability", Value::Null),
        ("model_id", Value::Null),
        ("interface", Value::from("0")),
        ("also_seen_on", Value::Array(Vec::new())),
        ("tunnel", Value::Null),
        ("icmp_errors", Value::from(0)),
        ("icmp_last", Value::Null),
        ("dns", Value::Null),
    ] {
        assert_eq!(web[key], expected, "{key} of {web}");
    }
    let dns = &flows[1];
    assert_eq!(
        (&dns["protocol"], &dns["dst_port"]),
        (&"udp".into(), &53.into())
    );
    let text = stderr(&output);
    for part in [
        "10 packets = 9 records + 1 arp",
        "9 records in = 9 in ended flows + 0 live; 9 judged",
        "2 started = 2 ended (0 evicted) with 9 packets",
        "2 NO_VERDICT",
        "books balance",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains('\r'), "a progress bar without a terminal");
}

#[test]
fn a_flow_names_the_other_interfaces_of_the_capture_it_was_seen_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = pcapng(&["eth0", "", "wlan0"], &conversation());
    let file = write(folder.path(), "router.pcapng", &file);
    let output = run(&["replay", "--no-model", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut seen: Vec<_> = lines(&output.stdout)
        .iter()
        .filter(|flow| flow["protocol"] == "tcp")
        .map(|flow| {
            (
                flow["interface"].to_string(),
                flow["also_seen_on"].to_string(),
            )
        })
        .collect();
    seen.sort();
    let expected = [
        (r#""1""#, r#"["eth0","wlan0"]"#),
        (r#""eth0""#, r#"["1","wlan0"]"#),
        (r#""wlan0""#, r#"["eth0","1"]"#),
    ];
    assert_eq!(seen, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn an_icmp_error_and_a_dns_question_are_told_of_their_flows() {
    let folder = tempfile::tempdir().unwrap();
    // 10.0.0.1:1000 asks 10.0.0.2:53 for the address of "net.ml", which answers that nobody listens.
    let mut question = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend(*b"\x03net\x02ml\0\0\x01\0\x01");
    let mut datagram = vec![0x03, 0xe8, 0, 53, 0, 8 + question.len() as u8, 0, 0];
    datagram.extend(&question);
    let ip = |protocol, (src, dst): (u8, u8), payload: &[u8]| {
        let mut packet = vec![
            0x45,
            0,
            0,
            20 + payload.len() as u8,
            0,
            0,
            0,
            0,
            64,
            protocol,
        ];
        packet.extend([0, 0, 10, 0, 0, src, 10, 0, 0, dst]);
        packet.extend(payload);
        packet
    };
    let asked = ip(17, (1, 2), &datagram);
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend(&asked[..28]);
    let file = pcap(101, &[asked, ip(1, (2, 1), &error)]);
    let file = write(folder.path(), "refused.pcap", &file);
    let output = run(&["replay", "--no-model", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let flows = lines(&output.stdout);
    let udp = flows.iter().find(|flow| flow["protocol"] == "udp").unwrap();
    assert_eq!(udp["icmp_errors"], 1);
    assert_eq!(udp["icmp_last"], serde_json::json!({"type": 3, "code": 3}));
    assert_eq!(udp["dns"]["questions"], 1, "{udp}");
    assert_eq!(udp["dns"]["name_bytes"], 6);
}

#[test]
fn standard_input_and_a_file_give_the_same_flows() {
    let folder = tempfile::tempdir().unwrap();
    let file = conversation_file(folder.path());
    let from_file = run(&["replay", "--no-model", file.to_str().unwrap()]);
    let mut child = agent()
        .args(["replay", "--no-model", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&pcap(1, &conversation())).unwrap();
    drop(stdin);
    let from_stdin = child.wait_with_output().unwrap();
    let name = file.to_str().unwrap();
    let expected = String::from_utf8(from_file.stdout)
        .unwrap()
        .replace(name, "-");
    assert_eq!(String::from_utf8(from_stdin.stdout).unwrap(), expected);
}

#[test]
fn a_cut_file_gives_its_whole_packets_and_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let whole = pcap(1, &conversation());
    let file = write(folder.path(), "cut.pcap", &whole[..whole.len() - 1]);
    let output = run(&["replay", "--no-model", file.to_str().unwrap()]);
    assert!(output.status.success());
    let text = stderr(&output);
    assert!(text.contains("9 packets = 8 records + 1 arp"), "{text}");
    assert!(
        text.contains("warning: the file ends inside a packet"),
        "{text}"
    );
}

#[test]
fn one_bad_file_of_several_fails_the_run_but_not_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let good = conversation_file(folder.path());
    let bad = write(folder.path(), "bad.pcap", b"nothing of use");
    let files = [bad.to_str().unwrap(), good.to_str().unwrap()];
    let output = run(&["replay", "--no-model", files[0], files[1]]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&output.stdout).len(), 2);
    let text = stderr(&output);
    assert!(
        text.contains("1 of 2 captures could not be replayed"),
        "{text}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..20_000_u32)
        .map(|index| {
            // Each a flow of its own.
            let mut frame = conversation()[3].clone();
            frame[26..30].copy_from_slice(&(0x0a00_0000 + index).to_be_bytes());
            frame
        })
        .collect();
    let file = write(folder.path(), "many.pcap", &pcap(1, &frames));
    let mut child = agent()
        .args(["replay", "--no-model", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
