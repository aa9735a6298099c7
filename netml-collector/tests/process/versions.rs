//! A sensor and a collector of different versions: recorded messages of the protocol's first form against
//! today's collector and today's export, and those of a version to come.
//!
//! `tests/recorded/first-*.hex` were made by the types of the repository's first commit (see
//! [`first_form`]) and stay as they are. `present-*.hex` hold the same of today, so that the next change of the
//! protocol has something to be compatible with; what differs from them fails here, and
//! `NETML_RECORD=1` makes them anew, deliberately.

mod first_form;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use netml_agent::diagnose::{Accept, Runner};
use netml_agent::export::batcher::Limits;
use netml_agent::export::convert::Context;
use netml_agent::export::outbox::WhenFull;
use netml_agent::export::{Chunk, Client, Exporter, Observation, Pace, Transport, Watched};
use netml_proto::v1;
use netml_proto::v1::collector_server::{Collector as Server, CollectorServer};
use prost::Message as _;
use prost::bytes::BufMut as _;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status, Streaming};

use super::harness::{Collector, PATIENCE};
use first_form::{STREAM, batch_of, first_collector, first_sensor, from_collector, from_sensor};

/// Messages as they are, without a look at what is in them.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = v1::CollectorMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = v1::CollectorMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = v1::CollectorMessage::decode(from);
        message
            .map(Some)
            .map_err(|e| Status::internal(e.to_string()))
    }
}

/// Sends bytes as a sensor's messages; gives the last number acknowledged before the collector ends the
/// stream, or its refusal.
async fn play(collector: &Collector, messages: Vec<Vec<u8>>) -> Result<u64, Status> {
    let endpoint = tonic::transport::Endpoint::from_shared(collector.grpc.clone()).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    let path = "/netml.v1.Collector/Stream".parse().unwrap();
    let request = Request::new(tokio_stream::iter(messages));
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    let mut acked = 0;
    while let Some(message) = tokio::time::timeout(PATIENCE, answers.message())
        .await
        .unwrap()?
    {
        if let Some(v1::collector_message::Message::Ack(ack)) = message.message {
            acked = ack.seq;
        }
    }
    Ok(acked)
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(format!("{name}.hex"))
}

/// Messages of a file: one a line, in hexadecimal digits.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path(name)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bytes = |line: &str| {
        (0..line.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
            .collect()
    };
    lines.map(bytes).collect()
}

/// Makes the file where that is asked for; else it has to hold just these messages.
fn is_recorded(name: &str, messages: &[Vec<u8>]) {
    if std::env::var_os("NETML_RECORD").is_some_and(|value| value == "1") && name != "first" {
        let mut text =
            format!("# Messages of the present form, {name}: NETML_RECORD=1 makes them anew.\n");
        for message in messages {
            text.extend(message.iter().map(|byte| format!("{byte:02x}")));
            text.push('\n');
        }
        std::fs::write(path(name), text).unwrap();
    }
    assert!(
        recorded(name) == messages,
        "{name}: the bytes on the wire are others than those recorded"
    );
}

fn encoded<M: prost::Message>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().map(M::encode_to_vec).collect()
}

/// What a sensor sends today, each field set.
fn present_sensor() -> Vec<v1::SensorMessage> {
    use v1::record::Record;
    use v1::sensor_message::Message;
    let mut messages = first_sensor(crc32fast::hash);
    if let Some(Message::Hello(hello)) = &mut messages[0].message {
        hello.protocol_version = netml_proto::PROTOCOL_VERSION;
        hello.protocol_version_min = netml_proto::PROTOCOL_VERSION_MIN;
        hello.stored_elsewhere = vec![v1::Ack {
            stream_id: STREAM,
            seq: 2,
        }];
    }
    let mut records = Vec::new();
    for message in &messages {
        if let Some(Message::Batch(batch)) = &message.message {
            let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
            records.extend(
                payload
                    .records
                    .into_iter()
                    .map(|record| record.record.unwrap()),
            );
        }
    }
    for record in &mut records {
        match record {
            Record::Counters(counters) => counters.mapped = 1,
            Record::Health(health) => {
                health.stepped_down = true;
                health.mode_since_unix_ns = health.unix_ns;
                health.step_downs = 2;
            }
            Record::Flow(flow) => {
                flow.rule = Some(v1::RuleFinding {
                    rule: "scan".into(),
                    value: 30.0,
                    limit: 20.0,
                });
                flow.forest = v1::Verdict::Unsure.into();
                flow.forest_score = 0.6;
                flow.unrecorded_packets = 3;
                flow.also_seen_on = vec!["veth1".into()];
                flow.tunnel = Some(v1::Tunnel {
                    kind: "vxlan".into(),
                    network_id: Some(7),
                    src_ip: vec![192, 0, 2, 1],
                    dst_ip: vec![192, 0, 2, 2],
                    deeper: true,
                });
                flow.icmp_errors = 1;
                flow.icmp_last = Some(v1::IcmpError { r#type: 3, code: 1 });
                flow.dns = Some(v1::DnsNumbers {
                    questions: 1,
                    answers: 2,
                    failures: 1,
                    name_bytes: 12,
                    labels: 3,
                    digits: 4,
                    query_type: 16,
                    response_code: 3,
                    answer_records: 5,
                });
                flow.baseline = Some(v1::Baseline {
                    initiator_known: true,
                    responder_known: true,
                    score: 2.0,
                    limit: 4.0,
                    farthest: Some(v1::Deviation {
                        feature: "syn_share".into(),
                        value: 1.0,
                        usual_low: 0.25,
                        usual_high: 0.5,
                    }),
                    new_port: true,
                    first_contact: true,
                });
                flow.reasons[0].usual_low = Some(0.25);
                flow.reasons[0].usual_high = Some(0.5);
            }
            Record::Packet(_) | Record::Event(_) => {}
        }
    }
    // Numbers 1 and 2 are at another collector.
    messages.truncate(1);
    messages.push(batch_of(3, records, crc32fast::hash));
    messages
}

#[test]
fn the_first_form_is_on_the_wire_today_as_it_was() {
    assert!(recorded("first-sensor") == encoded(&first_sensor(crc32fast::hash)));
    assert!(recorded("first-collector") == encoded(&first_collector()));
}

#[test]
fn the_present_form_is_as_recorded() {
    is_recorded("present-sensor", &encoded(&present_sensor()));
    is_recorded("present-collector", &encoded(&first_collector()));
}

fn books(collector: &Collector) -> serde_json::Value {
    collector.get("/api/status")["books"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_of_the_first_form_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let acked = play(&collector, recorded("first-sensor")).await.unwrap();
    assert_eq!(acked, 5);
    let books = books(&collector);
    assert_eq!(
        (&books["records_stored"], &books["records_duplicate"]),
        (&5.into(), &1.into())
    );
    assert_eq!(
        (&books["records_refused"], &books["records_gap"]),
        (&0.into(), &0.into())
    );
    let flow = collector.items("/api/flows").remove(0);
    assert_eq!(flow["verdict"], "SUSPICIOUS");
    assert_eq!(
        (&flow["src_port"], &flow["rev_bytes"]),
        (&40_000.into(), &9_000.into())
    );
    assert_eq!(flow["reasons"][0]["contribution"], 0.25);
    // What it does not tell is not made up.
    for field in ["rule", "tunnel", "dns", "baseline"] {
        assert!(flow[field].is_null(), "{field}: {flow}");
    }
    assert_eq!(collector.items("/api/packets").len(), 1);
    assert_eq!(collector.items("/api/events")[0]["kind"], "started");
    assert_eq!(collector.get("/api/totals")["rx_packets"], 100);
    let sensor = collector.items("/api/sensors").remove(0);
    assert_eq!(sensor["health"]["flows_live"], 12);
    assert_eq!(sensor["interfaces"][0]["ingress_mode"], "native-xdp");
    assert_eq!(collector.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_present_form_is_understood_whole() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    assert_eq!(
        play(&collector, recorded("present-sensor")).await.unwrap(),
        8
    );
    let books = books(&collector);
    assert_eq!(
        (
            &books["records_stored"],
            &books["records_refused"],
            &books["records_gap"]
        ),
        (&6.into(), &0.into(), &0.into())
    );
    let flow = collector.items("/api/flows").remove(0);
    for field in ["rule", "tunnel", "dns", "baseline", "icmp_last"] {
        assert!(!flow[field].is_null(), "{field}: {flow}");
    }
}

/// A field that nobody knows, of each type, behind a message that was encoded.
fn with_unknown_fields(mut message: Vec<u8>) -> Vec<u8> {
    // Number 1,000: 1,000 << 3 | type, in two bytes.
    let key = |kind: u8| [0xc0 | kind, 0x3e];
    message.extend(key(0));
    message.push(42);
    message.extend(key(1));
    message.extend([1; 8]);
    message.extend(key(2));
    message.extend([3, b'n', b'e', b'w']);
    message.extend(key(5));
    message.extend([1; 4]);
    message
}

/// A message within another one's field.
fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut left = inner.len();
    while left > 0x7f {
        bytes.push(0x80 | (left & 0x7f) as u8);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend(inner);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sensor_to_come_adds_is_ignored_and_what_it_decides_otherwise_is_refused_alone() {
    use v1::sensor_message::Message;
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut messages = Vec::new();
    let mut seq = 1;
    for message in first_sensor(crc32fast::hash) {
        match message.message.unwrap() {
            Message::Hello(mut hello) => {
                // It speaks what is to come, and what is spoken here.
                hello.protocol_version = 3;
                hello.protocol_version_min = 1;
                hello.source = 77;
                messages.push(field(1, &with_unknown_fields(hello.encode_to_vec())));
                // A kind of message that nobody knows.
                messages.push(field(9, b"\x08\x01"));
                messages.push(with_unknown_fields(Vec::new()));
            }
            Message::Batch(batch) => {
                let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
                let mut bytes = Vec::new();
                for record in &payload.records {
                    let record = with_unknown_fields(record.encode_to_vec());
                    bytes.extend(field(1, &record));
                }
                // A kind of record that nobody knows.
                bytes.extend(field(1, &field(9, b"\x08\x01")));
                let count = batch.count + 1;
                let batch = v1::Batch {
                    first_seq: seq,
                    count,
                    crc32: crc32fast::hash(&bytes),
                    payload: bytes,
                    ..batch
                };
                seq += u64::from(count);
                messages.push(field(2, &with_unknown_fields(batch.encode_to_vec())));
            }
            Message::Result(result) => {
                messages.push(field(3, &with_unknown_fields(result.encode_to_vec())));
            }
        }
    }
    assert_eq!(play(&collector, messages).await.unwrap(), 8);
    let books = books(&collector);
    assert_eq!(
        (&books["records_stored"], &books["records_refused"]),
        (&6.into(), &2.into())
    );
    assert_eq!(collector.items("/api/flows").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_do_not_meet_are_refused_with_who_is_to_be_updated() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let cases = [
        ((0, 0), Some("update the sensor")),
        ((2, 2), Some("update the collector")),
        ((9, 2), Some("speaks protocol versions 2 to 9")),
        ((2, 0), Some("update the collector")),
        ((2, 1), None),
        ((1, 0), None),
    ];
    for ((newest, oldest), refused) in cases {
        let mut messages = first_sensor(crc32fast::hash);
        messages.truncate(2);
        if let Some(v1::sensor_message::Message::Hello(hello)) = &mut messages[0].message {
            hello.protocol_version = newest;
            hello.protocol_version_min = oldest;
        }
        let played = play(&collector, encoded(&messages)).await;
        match refused {
            None => assert_eq!(played.unwrap(), 3, "{oldest} to {newest}"),
            Some(words) => {
                let status = played.unwrap_err();
                assert_eq!(status.code(), Code::InvalidArgument);
                assert!(status.message().contains(words), "{status:?}");
            }
        }
    }
}

/// A collector that plays recorded messages: its commands after the hello, an acknowledgement after each batch.
struct Player {
    commands: Vec<v1::CollectorMessage>,
    acks: Vec<v1::CollectorMessage>,
    seen: mpsc::UnboundedSender<v1::SensorMessage>,
}

#[tonic::async_trait]
impl Server for Player {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::CollectorMessage, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::SensorMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let mut inbound = request.into_inner();
        let (answers, outbound) = mpsc::channel(16);
        let (commands, mut acks) = (self.commands.clone(), self.acks.clone().into_iter());
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                match &message.message {
                    Some(v1::sensor_message::Message::Hello(_)) => {
                        for command in &commands {
                            answers.send(Ok(command.clone())).await.unwrap();
                        }
                    }
                    Some(v1::sensor_message::Message::Batch(_)) => {
                        if let Some(ack) = acks.next() {
                            answers.send(Ok(ack)).await.unwrap();
                        }
                    }
                    _ => {}
                }
                // The test may have ended.
                drop(seen.send(message));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_sensor_is_understood_by_and_understands_a_collector_of_the_first_form() {
    use v1::sensor_message::Message;
    let messages: Vec<v1::CollectorMessage> = recorded("first-collector")
        .iter()
        .map(|bytes| v1::CollectorMessage::decode(&bytes[..]).unwrap())
        .collect();
    // What goes over the wire below are the recorded bytes.
    assert!(encoded(&messages) == recorded("first-collector"));
    let (acks, mut commands): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .partition(|m| matches!(m.message, Some(v1::collector_message::Message::Ack(_))));
    // And two of a kind that is to come.
    commands.push(v1::CollectorMessage { message: None });
    commands.push(from_collector(v1::collector_message::Message::Command(
        v1::Command {
            id: 10,
            command: None,
        },
    )));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (seen, mut sent) = mpsc::unbounded_channel();
    let player = Player {
        commands,
        acks,
        seen,
    };
    let serving = tonic::transport::Server::builder()
        .add_service(CollectorServer::new(player))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);

    let Some(Message::Hello(hello)) = present_sensor().remove(0).message else {
        panic!("a hello comes first");
    };
    let exporter = Exporter::start(Client {
        transports: vec![Transport::new(&url, None).unwrap()],
        pace: Pace::default(),
        hello,
        context: Context {
            model: None,
            interfaces: Watched::default(),
        },
        limits: Limits::default(),
        spool: None,
        when_full: WhenFull::Drop,
        runner: Runner::new(vec![Accept::Probe]),
    });
    let state = exporter.state();
    // The recorded acknowledgements are of three and of two more records.
    for (records, acked) in [(3, 3), (2, 5)] {
        let record = v1::Record {
            record: Some(super::harness::packet(1)),
        };
        let chunk = Chunk {
            unix_offset_ns: 0,
            model: None,
            observations: vec![Observation::Record(Box::new(record)); records],
        };
        exporter.sender().send(chunk).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while state.acked.load(Ordering::Relaxed) < acked {
            assert!(Instant::now() < deadline, "{state:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(exporter.finish().await.unwrap().undelivered, 0);
    let mut answered = std::collections::BTreeMap::new();
    while answered.len() < 3 {
        let message = tokio::time::timeout(PATIENCE, sent.recv()).await;
        match message.unwrap().unwrap().message.unwrap() {
            Message::Result(result) if result.done => {
                answered.insert(result.id, result.error);
            }
            Message::Hello(hello) => assert_eq!(hello.protocol_version_min, 1),
            Message::Batch(batch) => {
                // Nothing in it that the first form does not know: the same bytes.
                let again = from_sensor(Message::Batch(batch.clone()));
                assert_eq!(batch.stream_id, STREAM);
                assert!(!again.encode_to_vec().is_empty());
            }
            Message::Result(_) => {}
        }
    }
    assert_eq!(answered[&9], "", "a probe is answered");
    assert!(!answered[&8].is_empty(), "a traceroute is not accepted");
    assert!(!answered[&10].is_empty(), "an unknown command is none");
}
