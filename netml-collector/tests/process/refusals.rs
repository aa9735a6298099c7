//! Bad input: each a clear answer, never a crash, never harm to what is stored.

use std::process::Command;

use netml_proto::v1;
use tonic::Code;

use super::harness::{Collector, Sensor, batch, command, command_at, failing, flow, hello, packet};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_their_stream_with_a_status_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let good = || batch(1, 1, vec![packet(1)]);
    let mut cases: Vec<(&str, v1::Batch, Code)> = Vec::new();
    let mut wrong = good();
    wrong.crc32 ^= 1;
    cases.push(("checksum", wrong, Code::DataLoss));
    let mut wrong = good();
    wrong.count = 2;
    cases.push(("count", wrong, Code::DataLoss));
    let mut wrong = good();
    wrong.payload = vec![0xff; 100];
    wrong.crc32 = crc32fast::hash(&wrong.payload);
    cases.push(("payload", wrong, Code::DataLoss));
    let mut wrong = good();
    wrong.first_seq = 0;
    cases.push(("sequence 0", wrong, Code::InvalidArgument));
    let mut wrong = good();
    wrong.first_seq = u64::MAX;
    cases.push(("sequence overflow", wrong, Code::InvalidArgument));
    cases.push(("no records", batch(1, 1, vec![]), Code::ResourceExhausted));
    let many = (0..1_001).map(packet).collect();
    cases.push((
        "too many records",
        batch(1, 1, many),
        Code::ResourceExhausted,
    ));
    for (name, batch, code) in cases {
        let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
        sensor.send(batch).await;
        assert_eq!(sensor.refusal().await.code(), code, "{name}");
    }
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    let message = v1::SensorMessage {
        message: Some(v1::sensor_message::Message::Hello(hello("host-a", 1))),
    };
    sensor.outgoing.send(message).await.unwrap();
    assert_eq!(sensor.refusal().await.code(), Code::FailedPrecondition);
    let first = v1::sensor_message::Message::Batch(good());
    let mut sensor = Sensor::open(&collector, first).await;
    assert_eq!(sensor.refusal().await.code(), Code::FailedPrecondition);
    for name in ["", "a b", "../x", &"a".repeat(65), "<script>"] {
        let mut sensor = Sensor::connect(&collector, hello(name, 1)).await;
        assert_eq!(
            sensor.refusal().await.code(),
            Code::InvalidArgument,
            "{name}"
        );
    }
    let mut newer = hello("host-a", 1);
    newer.protocol_version = 2;
    let mut sensor = Sensor::connect(&collector, newer).await;
    assert_eq!(sensor.refusal().await.code(), Code::InvalidArgument);

    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(good()).await;
    assert_eq!(sensor.ack().await, 1, "a good batch is taken as ever");
    let books = collector.get("/api/status")["books"].clone();
    assert_eq!(books["records_stored"], 1);
    let of = |name: &str| books[name].as_u64().unwrap();
    assert_eq!(
        of("records_in"),
        of("records_stored") + of("records_duplicate") + of("records_refused")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_record_is_refused_alone_and_the_rest_stored() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut records = vec![packet(1)];
    let mut bad = |change: fn(&mut v1::Flow)| {
        let mut flow = flow(1, v1::FlowState::Start, 1, v1::Verdict::Normal);
        change(&mut flow);
        records.push(v1::record::Record::Flow(flow));
    };
    bad(|f| f.src_ip = vec![1, 2, 3]);
    bad(|f| f.dst_ip = vec![]);
    bad(|f| f.src_port = 65_536);
    bad(|f| f.ip_protocol = 256);
    bad(|f| f.verdict = 9);
    bad(|f| f.state = 0);
    bad(|f| f.probability = f64::NAN);
    bad(|f| f.score = 1.5);
    bad(|f| f.fwd_bytes = u64::MAX);
    bad(|f| f.last_unix_ns = u64::MAX);
    bad(|f| f.kind = "x".repeat(1_000));
    records.push(packet(2));
    let count = records.len() as u64;
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(batch(1, 1, records)).await;
    assert_eq!(sensor.ack().await, count);
    assert_eq!(collector.items("/api/packets").len(), 2);
    assert_eq!(collector.items("/api/flows").len(), 0);
    let books = collector.get("/api/status")["books"].clone();
    assert_eq!(books["records_refused"], count - 2);
    assert_eq!(books["records_stored"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_sensor_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut owner = Sensor::connect(&collector, hello("owner", 1)).await;
    owner.send(batch(1, 1, vec![packet(1)])).await;
    assert_eq!(owner.ack().await, 1);
    let mut other = Sensor::connect(&collector, hello("other", 2)).await;
    other.send(batch(1, 2, vec![packet(2)])).await;
    assert_eq!(other.refusal().await.code(), Code::PermissionDenied);
    owner.send(batch(1, 2, vec![packet(2)])).await;
    assert_eq!(owner.ack().await, 2);
    assert_eq!(collector.items("/api/packets").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_a_name_stays() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut older = Sensor::connect(&collector, hello("host-a", 1)).await;
    older.send(batch(1, 1, vec![packet(1)])).await;
    assert_eq!(older.ack().await, 1);
    let mut newer = Sensor::connect(&collector, hello("host-a", 2)).await;
    assert_eq!(older.refusal().await.code(), Code::Aborted);
    newer.send(batch(2, 1, vec![packet(2)])).await;
    assert_eq!(newer.ack().await, 1);
    assert_eq!(collector.get("/api/status")["sensors_connected"], 1);
}

#[test]
fn starts_that_cannot_succeed_say_why_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let check = |command: &mut Command, code: i32, words: &str| {
        let output = failing(command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(output.stdout.is_empty());
    };
    let fresh = directory.path().join("fresh");
    let any = "127.0.0.1:0";
    let rule = "needs HTTPS; give --web-certificate";
    check(&mut command_at(&fresh, "0.0.0.0:0", any), 2, rule);
    check(
        &mut command_at(&fresh, any, "[::]:0"),
        2,
        "netml-collector ca init",
    );

    let taken = std::net::TcpListener::bind(any).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&mut command_at(&fresh, &address, any), 1, "--web");
    check(&mut command_at(&fresh, &address, any), 1, "stop who does");

    let mut nonsense = command_at(&fresh, "nonsense", any);
    check(&mut nonsense, 2, "--web");
    let mut bare = Command::new(env!("CARGO_BIN_EXE_netml-collector"));
    bare.stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    check(&mut bare, 2, "subcommand");
    check(bare.args(["serve", "--nonsense"]), 2, "--nonsense");
    check(&mut command_at(&fresh, "192.0.2.1:0", any), 2, rule);

    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    check(&mut command(&file.join("below")), 1, "--data");

    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(
        foreign.join("meta.db"),
        "this is no database, only words ".repeat(200),
    )
    .unwrap();
    check(&mut command(&foreign), 1, "not a SQLite database");

    let token = directory.path().join("token");
    std::fs::write(&token, "short").unwrap();
    check(command(&fresh).arg("--token-file").arg(&token), 1, "token");

    let used = directory.path().join("used");
    let running = Collector::start(&used);
    check(&mut command(&used), 1, "in use by another collector");
    assert_eq!(running.stop(), Some(0));
}

#[tokio::test]
async fn a_file_of_a_newer_netml_is_left_alone() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Collector::start(directory.path()).stop(), Some(0));
    let mut meta = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(directory.path().join("meta.db"))
        .connect()
        .await
        .unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, x'00', 0)")
        .execute(&mut meta)
        .await
        .unwrap();
    meta.close().await.unwrap();
    let output = failing(&mut command(directory.path()));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("newer netml"), "{text}");
}
