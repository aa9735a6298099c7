//! The API over HTTP: it answers what was sent, to those who may ask.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use netml_proto::v1;
use serde_json::json;

use super::harness::{Collector, PATIENCE, Sensor, batch, counters, flow, hello, now_ns, packet};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_what_the_sensor_sent() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 0x1f)).await;
    let records = vec![
        packet(5),
        counters(1, v1::Direction::Ingress, 30),
        counters(1, v1::Direction::Egress, 12),
        v1::record::Record::Flow(flow(2, v1::FlowState::Start, 1, v1::Verdict::Normal)),
        v1::record::Record::Flow(v1::Flow {
            also_seen_on: vec!["eth1".into(), "veth7".into()],
            tunnel: Some(v1::Tunnel {
                kind: "vxlan".into(),
                network_id: Some(42),
                src_ip: vec![192, 0, 2, 1],
                dst_ip: vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                deeper: false,
            }),
            icmp_errors: 3,
            icmp_last: Some(v1::IcmpError { r#type: 3, code: 1 }),
            dns: Some(v1::DnsNumbers {
                questions: 9,
                answers: 8,
                failures: 7,
                name_bytes: 34,
                labels: 3,
                digits: 2,
                query_type: 16,
                response_code: 3,
                answer_records: 1,
            }),
            reasons: vec![v1::Reason {
                feature: "syn_share".into(),
                usual_low: Some(0.5),
                usual_high: Some(0.75),
                ..v1::Reason::default()
            }],
            baseline: Some(v1::Baseline {
                initiator_known: true,
                responder_known: false,
                score: 4.5,
                limit: 3.0,
                new_port: true,
                first_contact: false,
                farthest: Some(v1::Deviation {
                    feature: "src_flows_log2".into(),
                    value: 9.0,
                    usual_low: 0.0,
                    usual_high: 2.5,
                }),
            }),
            ..flow(2, v1::FlowState::End, 4, v1::Verdict::Suspicious)
        }),
        v1::record::Record::Flow(flow(3, v1::FlowState::Start, 2, v1::Verdict::NoVerdict)),
        v1::record::Record::Event(v1::Event {
            unix_ns: now_ns(),
            kind: "alarm-start".into(),
            severity: "alarm".into(),
            message: "=a scan".into(),
            ..v1::Event::default()
        }),
        v1::record::Record::Health(v1::Health {
            unix_ns: now_ns(),
            flows_live: 7,
            ..v1::Health::default()
        }),
    ];
    sensor.send(batch(0x1f, 1, records)).await;
    assert_eq!(sensor.ack().await, 8);

    let packets = collector.items("/api/packets");
    assert_eq!(packets.len(), 1);
    let packet = &packets[0];
    for (name, value) in [
        ("sensor", json!("host-a")),
        ("interface", json!("eth0")),
        ("src_ip", json!("10.0.0.1")),
        ("dst_ip", json!("10.0.1.5")),
        ("dst_port", json!(5)),
        ("protocol", json!("tcp")),
        ("bytes", json!(65)),
        ("tcp_flags", json!("SYN,ACK")),
        ("direction", json!("egress")),
        ("verdict", json!("NORMAL")),
        ("probability", json!(0.25)),
        ("flow_id", json!(format!("{:016x}{:016x}", 0x1f, 77))),
    ] {
        assert_eq!(packet[name], value, "{name}");
    }

    let flows = collector.items("/api/flows?verdict=SUSPICIOUS&kind=scan&protocol=6&port=443");
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0]["state"], "end");
    assert_eq!(flows[0]["end_reason"], "fin");
    assert_eq!(flows[0]["fwd_packets"], 4);
    assert_eq!(
        flows[0]["reasons"],
        json!([{"feature": "syn_share", "value": 0.0, "contribution": 0.0, "usual_low": 0.5, "usual_high": 0.75}])
    );
    for (name, value) in [
        ("also_seen_on", json!(["eth1", "veth7"])),
        (
            "tunnel",
            json!({"kind": "vxlan", "network_id": 42, "src_ip": "192.0.2.1", "dst_ip": "fe80::1", "deeper": false}),
        ),
        (
            "baseline",
            json!({"initiator_known": true, "responder_known": false, "score": 4.5, "limit": 3.0, "new_port": true, "first_contact": false, "farthest": {"feature": "src_flows_log2", "value": 9.0, "usual_low": 0.0, "usual_high": 2.5}}),
        ),
        ("icmp_errors", json!(3)),
        ("icmp_last", json!({"type": 3, "code": 1})),
        (
            "dns",
            json!({"questions": 9, "answers": 8, "failures": 7, "name_bytes": 34, "labels": 3, "digits": 2, "query_type": 16, "response_code": 3, "answer_records": 1}),
        ),
    ] {
        assert_eq!(flows[0][name], value, "{name}");
    }
    let id = flows[0]["flow_id"].as_str().unwrap();
    assert_eq!(collector.get(&format!("/api/flows/{id}")), flows[0]);
    let unjudged = collector.items("/api/flows?verdict=NO_VERDICT");
    assert_eq!(unjudged.len(), 1);
    assert!(
        unjudged[0]["probability"].is_null(),
        "no verdict, no probability"
    );
    assert!(unjudged[0]["expected_false_alarms_per_day"].is_null());
    for name in ["tunnel", "icmp_last", "dns", "baseline"] {
        assert!(unjudged[0][name].is_null(), "{name}");
    }
    assert_eq!(unjudged[0]["also_seen_on"], json!([]));
    assert_eq!(collector.items("/api/flows?address=192.0.2.8").len(), 0);
    assert_eq!(
        collector.items("/api/flows?address=::ffff:192.0.2.7").len(),
        2
    );

    let totals = collector.get("/api/totals?sensor=host-a");
    assert_eq!(totals["rx_packets"], 30);
    assert_eq!(totals["tx_bytes"], 1_200);
    assert_eq!(totals["frames"], 48);
    assert_eq!(totals["recorded"], 42);
    assert_eq!(totals["lost"], json!({"arp": 6}));
    assert_eq!(
        totals["protocols"],
        json!([{"protocol": "tcp", "packets": 42, "bytes": 4_200}])
    );
    assert_eq!(
        totals["verdicts"],
        json!({"NORMAL": 0, "NO_VERDICT": 1, "SUSPICIOUS": 1, "UNSURE": 0})
    );

    // ARP is no packet that is missing from the analysis.
    let seconds = collector.items("/api/traffic");
    assert!(seconds.iter().all(|second| second["lost_packets"] == 0));

    let talkers = collector.items("/api/talkers?by=port");
    assert_eq!(
        talkers,
        [
            json!({"key": "443/tcp", "bytes": 6 * 1_100, "packets": 12, "flows": 2}),
            json!({"key": "other", "bytes": 0, "packets": 0, "flows": 0})
        ]
    );

    let sensors = collector.items("/api/sensors");
    assert_eq!(sensors[0]["connected"], true);
    assert_eq!(sensors[0]["source"], "live");
    assert_eq!(sensors[0]["model_id"], "m1");
    assert_eq!(sensors[0]["interfaces"][0]["ingress_mode"], "native-xdp");
    assert_eq!(sensors[0]["health"]["flows_live"], 7);
    assert_eq!(sensors[0]["frames"], 48);
    assert_eq!(collector.get("/api/status")["source"], "live");

    let csv = collector.request("GET /api/export/events.csv HTTP/1.1", &[], "");
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert!(csv.body.contains(",alarm,'=a scan,"), "{}", csv.body);
    assert_eq!(csv.headers["x-netml-rows-max"], "5000000");
    let csv = collector.request("GET /api/export/flows.csv HTTP/1.1", &[], "");
    let head = csv.body.lines().next().unwrap();
    assert!(
        head.ends_with(",also_seen_on,tunnel,icmp_errors,icmp_last,dns,baseline"),
        "{head}"
    );
    assert!(
        csv.body
            .contains(r#","[""eth1"",""veth7""]","{""deeper"":false,""dst_ip"":""fe80::1"","#),
        "{}",
        csv.body
    );
    for table in ["packets", "flows", "talkers", "traffic", "events"] {
        let lines = collector.request(&format!("GET /api/export/{table}.ndjson HTTP/1.1"), &[], "");
        assert_eq!(lines.status, 200, "{table}");
        assert!(lines.body.lines().count() > 0, "{table}");
        for line in lines.body.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_feed_shows_a_packet_within_two_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut live = collector.live();
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    let (first_id, sensors) = live.next("sensors");
    assert_eq!(sensors[0]["sensor"], "host-a");
    let sent = Instant::now();
    let records = vec![packet(3), counters(1, v1::Direction::Ingress, 30)];
    sensor.send(batch(1, 1, records)).await;
    let (_, traffic) = live.next("traffic");
    assert_eq!(traffic["rx_packets"], 30);
    let (id, packets) = live.next("packets");
    assert!(sent.elapsed().as_secs_f64() < 2.0);
    assert_eq!(packets[0]["dst_port"], 3);
    assert!(id > first_id);
    assert_eq!(sensor.ack().await, 2);
    assert_eq!(
        collector.stop(),
        Some(0),
        "a watcher does not hold up the stop"
    );
}

#[test]
fn who_takes_up_the_live_feed_is_told_that_nothing_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut again = collector.live_with("Last-Event-ID: 1700000000000\r\n");
    let (_, lagged) = again.next("lagged");
    assert_eq!(lagged, json!({"missed": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_the_sensor_and_results_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let bearer = format!("Bearer {}", collector.token);
    let json = ("Content-Type", "application/json");
    let post = |headers: &[(&str, &str)], sensor: &str, body: &str| {
        let line = format!("POST /api/sensors/{sensor}/commands HTTP/1.1");
        collector.request(&line, headers, body)
    };
    let authorised = [("Authorization", bearer.as_str()), json];
    let trace = r#"{"command": "traceroute", "target": "192.0.2.1"}"#;
    assert_eq!(post(&[json], "host-a", trace).status, 401);
    assert_eq!(post(&authorised, "host-a", trace).status, 404);
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    collector.eventually("/api/status", |status| status["sensors_connected"] == 1);
    for target in ["-h", "--version", "a b", "", "$(x)", "1.2.3.4;x"] {
        let body = json!({"command": "probe", "target": target}).to_string();
        let answer = post(&authorised, "host-a", &body);
        assert_eq!(answer.status, 400, "{target}");
        assert_eq!(answer.body.lines().count(), 1);
    }
    for body in [
        "",
        "{}",
        "[]",
        r#"{"command": "load", "target": "a"}"#,
        // More than a sensor does would come back as less than was asked for.
        r#"{"command": "probe", "target": "a", "count": 51}"#,
        r#"{"command": "probe", "target": "a", "interval_ms": 5001}"#,
    ] {
        assert_eq!(post(&authorised, "host-a", body).status, 400, "{body}");
    }
    assert_eq!(post(&authorised, "host-a", &"x".repeat(20_000)).status, 413);

    let answer = post(&authorised, "host-a", trace);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let sent: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let path = format!("/api/commands/{}", sent["command_id"].as_str().unwrap());
    assert_eq!(collector.get(&path)["done"], false);
    let message = sensor.message().await.unwrap().unwrap().message.unwrap();
    let v1::collector_message::Message::Command(command) = message else {
        panic!("{message:?}");
    };
    let hop = v1::TracerouteHop {
        ttl: 1,
        address: "192.0.2.1".into(),
        rtt_ms: vec![0.5],
        reached: true,
        ..v1::TracerouteHop::default()
    };
    let result = v1::CommandResult {
        id: command.id,
        done: true,
        result: Some(v1::command_result::Result::Hop(hop)),
        ..v1::CommandResult::default()
    };
    let message = v1::SensorMessage {
        message: Some(v1::sensor_message::Message::Result(result)),
    };
    sensor.outgoing.send(message).await.unwrap();
    let state = collector.eventually(&path, |state| state["done"] == true);
    assert_eq!(state["hops"][0]["rtt_ms"], json!([0.5]));
    assert_eq!(state["hops"][0]["reached"], true);

    // A sensor that connects anew does not know what its older connection was asked.
    let answer = post(&authorised, "host-a", trace);
    let sent: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let path = format!("/api/commands/{}", sent["command_id"].as_str().unwrap());
    let newer = Sensor::connect(&collector, hello("host-a", 2)).await;
    let state = collector.eventually(&path, |state| state["done"] == true);
    assert!(state["error"].as_str().unwrap().contains("disconnected"));

    drop((sensor, newer));
    collector.eventually("/api/status", |status| status["sensors_connected"] == 0);
    assert_eq!(post(&authorised, "host-a", trace).status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_a_stop_cuts_short_does_not_look_complete() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    // Far more than the buffers of two sockets hold.
    const BATCHES: u64 = 60;
    for b in 0..BATCHES {
        sensor
            .send(batch(1, b * 1_000 + 1, (0..1_000).map(packet).collect()))
            .await;
    }
    while sensor.ack().await < BATCHES * 1_000 {}
    let export = |web: &str| {
        let mut stream = TcpStream::connect(web).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /api/export/packets.ndjson HTTP/1.1\r\nHost: {web}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
    let mut whole = Vec::new();
    export(&collector.web).read_to_end(&mut whole).unwrap();
    assert!(whole.ends_with(LAST_CHUNK));
    let mut cut = export(&collector.web);
    let mut bytes = vec![0; 1_000];
    cut.read_exact(&mut bytes).unwrap();
    let web = collector.web.clone();
    let stopping = std::thread::spawn(move || collector.stop());
    // The listener goes as soon as the stop is known.
    while !stopping.is_finished() && TcpStream::connect(&web).is_ok() {}
    // A reset can come before the end.
    drop(cut.read_to_end(&mut bytes));
    assert!(bytes.len() < whole.len());
    assert!(!bytes.ends_with(LAST_CHUNK));
    assert_eq!(stopping.join().unwrap(), Some(0));
}

#[test]
fn foreign_hosts_and_origins_are_refused_and_changes_need_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let get = |headers: &[(&str, &str)]| collector.request("GET /api/status HTTP/1.1", headers, "");
    assert_eq!(get(&[("Host", "rebound.example")]).status, 403);
    assert_eq!(get(&[("Origin", "http://evil.example")]).status, 403);
    let fine = get(&[("Origin", &format!("http://{}", collector.web))]);
    assert_eq!(fine.status, 200);
    for name in [
        "content-security-policy",
        "x-content-type-options",
        "referrer-policy",
    ] {
        assert!(fine.headers.contains_key(name), "{name}");
    }
    assert!(!fine.headers.contains_key("access-control-allow-origin"));

    let wrong = collector.request("GET /?token=0123456789abcdef HTTP/1.1", &[], "");
    assert_eq!(wrong.status, 401);
    let line = format!("GET /?token={} HTTP/1.1", collector.token);
    let entered = collector.request(&line, &[], "");
    assert_eq!(
        (entered.status, entered.headers["location"].as_str()),
        (303, "/")
    );
    let cookie = &entered.headers["set-cookie"];
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap();
    let body: serde_json::Value = serde_json::from_str(&get(&[("Cookie", pair)]).body).unwrap();
    assert_eq!(body["can_change"], true);
    // A page of another site cannot post, cookie or not.
    let line = "POST /api/sensors/a/commands HTTP/1.1";
    let json = ("Content-Type", "application/json");
    let body = r#"{"command": "probe", "target": "a"}"#;
    let foreign = [("Cookie", pair), ("Origin", "http://evil.example"), json];
    assert_eq!(collector.request(line, &foreign, body).status, 403);
    assert_eq!(
        collector
            .request(line, &[("Cookie", pair), json], body)
            .status,
        401
    );
    let origin = format!("http://{}", collector.web);
    let own = [("Cookie", pair), ("Origin", origin.as_str()), json];
    assert_eq!(collector.request(line, &own, body).status, 404);
}

#[test]
fn hostile_parameters_get_one_line_of_json() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    for path in [
        "/api/packets?limit=0",
        "/api/packets?limit=99999999999999999999",
        "/api/packets?before=x",
        "/api/packets?address=%00",
        "/api/packets?verdict=%27%20OR%201=1--",
        "/api/packets?unknown=1",
        "/api/packets?limit=1&limit=2",
        "/api/flows?kind=%0a",
        "/api/flows/..%2f..%2fetc%2fpasswd",
        "/api/flows?port=-1",
        "/api/talkers?by=packets;drop",
        "/api/talkers?order=",
        "/api/traffic?from_unix_ms=9&to_unix_ms=1",
        "/api/traffic?from_unix_ms=-1",
        "/api/totals?sensor=%3Cscript%3E",
        "/api/commands/zz",
        "/api/export/packets.xls",
        "/api/export/secrets.csv",
        "/api/live?x=1",
        "/api/nothing",
        "/../../etc/passwd",
        "/vendor/../package.json",
        "/package.json",
        "/tests/harness.mjs",
    ] {
        let answer = collector.request(&format!("GET {path} HTTP/1.1"), &[], "");
        if path == "/api/talkers?order=" {
            assert_eq!(answer.status, 200, "an empty value is as good as none");
            continue;
        }
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.status
        );
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let error = body["error"].as_str().unwrap();
        assert!(!error.is_empty() && error.lines().count() == 1, "{path}");
    }
}

#[test]
fn the_dashboard_and_its_description_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let page = collector.request("GET / HTTP/1.1", &[], "");
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let script = collector.request("GET /app/main.js HTTP/1.1", &[], "");
    assert_eq!(
        script.headers["content-type"],
        "text/javascript; charset=utf-8"
    );
    let tag = script.headers["etag"].clone();
    let again = collector.request("GET /app/main.js HTTP/1.1", &[("If-None-Match", &tag)], "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let api = collector.get("/api/openapi.json");
    for path in [
        "/api/packets",
        "/api/flows/{flow_id}",
        "/api/export/{file}",
        "/api/live",
    ] {
        assert!(api["paths"][path].is_object(), "{path}");
    }
}
