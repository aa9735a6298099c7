//! Starts the collector on free ports, speaks to it as a sensor and as a browser.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netml_proto::v1;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Collector {
    pub(crate) child: Child,
    pub(crate) web: String,
    pub(crate) grpc: String,
    pub(crate) token: String,
}

pub(crate) fn command(data: &Path) -> Command {
    command_at(data, "127.0.0.1:0", "127.0.0.1:0")
}

pub(crate) fn command_at(data: &Path, web: &str, grpc: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netml-collector"));
    command
        .args(["serve", "--web", web, "--grpc", grpc, "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Collector {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_by(command(data))
    }

    /// By a command that ends in the collector itself.
    pub(crate) fn start_by(mut command: Command) -> Self {
        command.stderr(Stdio::inherit());
        Self::start_as(command)
    }

    /// With its log where the command says.
    pub(crate) fn start_as(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |prefix: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(prefix).unwrap().to_owned()
        };
        let dashboard = line("dashboard: http");
        let (_, dashboard) = dashboard.split_once("://").unwrap();
        let (web, token) = dashboard.split_once("/?token=").unwrap();
        Self {
            web: web.to_owned(),
            token: token.to_owned(),
            grpc: line("sensors: "),
            child,
        }
    }

    /// Ends it without any chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop; gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the collector does not stop");
            std::thread::yield_now();
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.request(&format!("GET {path} HTTP/1.1"), &[], "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().unwrap().clone()
    }

    /// Asks until `accept` is content.
    pub(crate) fn eventually(&self, path: &str, accept: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.get(path);
            if accept(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{path} stays {value}");
        }
    }

    /// One request on a connection of its own. A Host header is added unless one is given.
    pub(crate) fn request(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.web).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = format!(
            "{line}\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.push_str(&format!("Host: {}\r\n", self.web));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(body);
        stream.write_all(text.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&String::from_utf8(bytes).unwrap())
    }

    /// Opens the live feed.
    pub(crate) fn live(&self) -> Live {
        self.live_with("")
    }

    /// The live feed, asked for with further header lines, each ended by CRLF.
    pub(crate) fn live_with(&self, headers: &str) -> Live {
        let mut stream = TcpStream::connect(&self.web).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /api/live HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            self.web
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines();
        // The first comment says that the watcher is entered.
        lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.starts_with(':'))
            .unwrap();
        Live(Box::new(lines.map(Result::unwrap)))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Ended already by most tests; this is for those that failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) struct Live(Box<dyn Iterator<Item = String>>);

impl Live {
    /// Id and data of the next event of this name.
    pub(crate) fn next(&mut self, name: &str) -> (u64, Value) {
        let (mut id, mut event) = (0, String::new());
        for line in self.0.by_ref() {
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().unwrap();
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ")
                && event == name
            {
                return (id, serde_json::from_str(data).unwrap());
            }
        }
        panic!("the live feed ended without {name}");
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: HashMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers
            .get("transfer-encoding")
            .is_some_and(|t| t == "chunked");
        Self {
            status: status.parse().unwrap(),
            body: if chunked {
                unchunk(body)
            } else {
                body.to_owned()
            },
            headers,
        }
    }
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return out;
        }
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
}

pub(crate) struct Sensor {
    pub(crate) outgoing: mpsc::Sender<v1::SensorMessage>,
    pub(crate) incoming: Streaming<v1::CollectorMessage>,
}

impl Sensor {
    pub(crate) async fn connect(collector: &Collector, hello: v1::Hello) -> Self {
        Self::open(collector, v1::sensor_message::Message::Hello(hello)).await
    }

    /// Opens a stream with any first message.
    pub(crate) async fn open(collector: &Collector, first: v1::sensor_message::Message) -> Self {
        Self::open_at(&collector.grpc, first).await
    }

    pub(crate) async fn open_at(url: &str, first: v1::sensor_message::Message) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut client = v1::collector_client::CollectorClient::new(channel);
        let (outgoing, messages) = mpsc::channel(64);
        let message = v1::SensorMessage {
            message: Some(first),
        };
        outgoing.send(message).await.unwrap();
        let answer = client.stream(ReceiverStream::new(messages)).await.unwrap();
        Self {
            outgoing,
            incoming: answer.into_inner(),
        }
    }

    pub(crate) async fn send(&self, batch: v1::Batch) {
        assert!(self.is_sent(batch).await, "the stream has ended");
    }

    /// False when the stream has ended before.
    pub(crate) async fn is_sent(&self, batch: v1::Batch) -> bool {
        let message = v1::SensorMessage {
            message: Some(v1::sensor_message::Message::Batch(batch)),
        };
        self.outgoing.send(message).await.is_ok()
    }

    /// The next acknowledged sequence number.
    pub(crate) async fn ack(&mut self) -> u64 {
        match self.message().await.unwrap().unwrap().message.unwrap() {
            v1::collector_message::Message::Ack(ack) => ack.seq,
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    pub(crate) async fn message(&mut self) -> Result<Option<v1::CollectorMessage>, Status> {
        tokio::time::timeout(PATIENCE, self.incoming.message())
            .await
            .unwrap()
    }

    /// The status that ends the stream.
    pub(crate) async fn refusal(&mut self) -> Status {
        loop {
            match self.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return status,
            }
        }
    }
}

pub(crate) fn hello(sensor: &str, stream_id: u64) -> v1::Hello {
    v1::Hello {
        protocol_version: 1,
        sensor: sensor.into(),
        version: "0.1.0".into(),
        kernel: "6.18".into(),
        source: v1::Source::Live.into(),
        stream_id,
        interfaces: vec![v1::Interface {
            slot: 0,
            name: "eth0".into(),
            ingress_mode: "native-xdp".into(),
            egress_mode: "tcx".into(),
            ..v1::Interface::default()
        }],
        model_id: "m1".into(),
        accepted_commands: vec!["traceroute".into(), "probe".into()],
        ..v1::Hello::default()
    }
}

pub(crate) fn batch(stream_id: u64, first_seq: u64, records: Vec<v1::record::Record>) -> v1::Batch {
    let records: Vec<v1::Record> = records
        .into_iter()
        .map(|record| v1::Record {
            record: Some(record),
        })
        .collect();
    let count = u32::try_from(records.len()).unwrap();
    let payload = v1::Payload { records }.encode_to_vec();
    v1::Batch {
        stream_id,
        first_seq,
        count,
        crc32: crc32fast::hash(&payload),
        payload,
    }
}

pub(crate) fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

pub(crate) fn packet(n: u32) -> v1::record::Record {
    v1::record::Record::Packet(v1::PacketSample {
        unix_ns: now_ns(),
        src_ip: vec![10, 0, 0, 1],
        dst_ip: vec![10, 0, 1, u8::try_from(n % 200).unwrap()],
        src_port: 40_000,
        dst_port: n % 60_000,
        ip_protocol: 6,
        wire_bytes: 60 + n % 1_000,
        segments: 1,
        tcp_flags: 0x12,
        direction: v1::Direction::Egress.into(),
        interface: "eth0".into(),
        verdict: v1::Verdict::Normal.into(),
        probability: 0.25,
        flow_id: 77,
        ..v1::PacketSample::default()
    })
}

pub(crate) fn flow(
    flow_id: u64,
    state: v1::FlowState,
    packets: u64,
    verdict: v1::Verdict,
) -> v1::Flow {
    v1::Flow {
        flow_id,
        state: state.into(),
        end_reason: if state == v1::FlowState::End {
            "fin".into()
        } else {
            String::new()
        },
        first_unix_ns: now_ns(),
        last_unix_ns: now_ns(),
        src_ip: vec![10, 0, 0, 1],
        dst_ip: vec![192, 0, 2, 7],
        src_port: 40_000,
        dst_port: 443,
        ip_protocol: 6,
        interface: "eth0".into(),
        fwd_packets: packets,
        rev_packets: packets,
        fwd_bytes: packets * 100,
        rev_bytes: packets * 1_000,
        tcp_flags: 0x12,
        verdict: verdict.into(),
        kind: if verdict == v1::Verdict::Suspicious {
            "scan".into()
        } else {
            String::new()
        },
        probability: 0.5,
        score: 0.4,
        reasons: vec![v1::Reason {
            feature: "syn_share".into(),
            value: 1.0,
            contribution: 0.2,
            ..v1::Reason::default()
        }],
        model_id: "m1".into(),
        initiator_direction: v1::Direction::Egress.into(),
        ..v1::Flow::default()
    }
}

pub(crate) fn counters(
    attach_id: u64,
    direction: v1::Direction,
    packets: u64,
) -> v1::record::Record {
    v1::record::Record::Counters(v1::Counters {
        unix_ns: now_ns(),
        interface: "eth0".into(),
        direction: direction.into(),
        attach_id,
        packets,
        bytes: packets * 100,
        frames: packets + 3,
        recorded: packets,
        lost: HashMap::from([("arp".into(), 3)]),
        protocol_packets: HashMap::from([("tcp".into(), packets)]),
        protocol_bytes: HashMap::from([("tcp".into(), packets * 100)]),
        ..v1::Counters::default()
    })
}

/// Runs the collector to its end; for starts that fail.
pub(crate) fn failing(arguments: &mut Command) -> Output {
    let child = arguments.spawn().unwrap();
    child.wait_with_output().unwrap()
}
