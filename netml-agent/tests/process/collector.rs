//! A collector of the test's own: notes what comes, acknowledges or hangs up as it is told.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use netml_proto::v1;
use netml_proto::v1::collector_server::{Collector, CollectorServer};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Longest wait for anything a test expects.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What came, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    Hello(Box<v1::Hello>),
    Batch(v1::Batch),
    Result(v1::CommandResult),
    Closed,
}

/// How the collector behaves.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// Streams that are hung up on after their first batch, which is not acknowledged.
    pub(crate) hang_up_on: usize,
    /// Sent after each hello.
    pub(crate) command: Option<v1::Command>,
}

/// A running collector; ends at drop.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) seen: Receiver<Seen>,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    /// A collector on a free port.
    pub(crate) fn start(manner: Manner) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), manner)
    }

    pub(crate) fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, seen) = channel();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = Service {
            seen: sender,
            manner,
            streams: std::sync::atomic::AtomicUsize::new(0),
        };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(CollectorServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            url,
            seen,
            _runtime: runtime,
        }
    }

    /// The next thing seen.
    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    /// Everything until a stream is closed.
    pub(crate) fn until_closed(&self) -> (Vec<v1::Hello>, Vec<v1::Batch>) {
        let (mut hellos, mut batches) = (Vec::new(), Vec::new());
        loop {
            match self.next() {
                Seen::Hello(hello) => hellos.push(*hello),
                Seen::Batch(batch) => batches.push(batch),
                Seen::Result(_) => {}
                Seen::Closed => return (hellos, batches),
            }
        }
    }
}

/// Records of batches, after their checks: numbers without a gap from 1, counts and checksums.
pub(crate) fn records(batches: &[v1::Batch]) -> Vec<v1::record::Record> {
    let mut all = Vec::new();
    let mut next_seq = 1;
    for batch in batches {
        assert_eq!(batch.first_seq, next_seq, "a gap or a repetition");
        assert_eq!(batch.crc32, crc32fast::hash(&batch.payload));
        let payload = v1::Payload::decode(&batch.payload[..]).unwrap();
        assert_eq!(payload.records.len(), batch.count as usize);
        next_seq += u64::from(batch.count);
        all.extend(
            payload
                .records
                .into_iter()
                .map(|record| record.record.unwrap()),
        );
    }
    all
}

struct Service {
    seen: Sender<Seen>,
    manner: Manner,
    streams: std::sync::atomic::AtomicUsize,
}

#[tonic::async_trait]
impl Collector for Service {
    type StreamStream = ReceiverStream<Result<v1::CollectorMessage, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::SensorMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let number = self
            .streams
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let hang_up = number < self.manner.hang_up_on;
        let command = self.manner.command.clone();
        let seen = self.seen.clone();
        let mut inbound = request.into_inner();
        let (answers, outbound) = mpsc::channel(16);
        tokio::spawn(async move {
            use v1::sensor_message::Message;
            let answer = |message| {
                Ok(v1::CollectorMessage {
                    message: Some(message),
                })
            };
            while let Ok(Some(message)) = inbound.message().await {
                match message.message.unwrap() {
                    Message::Hello(hello) => {
                        seen.send(Seen::Hello(Box::new(hello))).unwrap();
                        if let Some(command) = command.clone() {
                            let message = v1::collector_message::Message::Command(command);
                            answers.send(answer(message)).await.unwrap();
                        }
                    }
                    Message::Batch(batch) => {
                        let ack = v1::Ack {
                            stream_id: batch.stream_id,
                            seq: batch.first_seq + u64::from(batch.count) - 1,
                        };
                        seen.send(Seen::Batch(batch)).unwrap();
                        if hang_up {
                            let lost = Status::unavailable("hung up by the test");
                            answers.send(Err(lost)).await.unwrap();
                            return;
                        }
                        let message = v1::collector_message::Message::Ack(ack);
                        if answers.send(answer(message)).await.is_err() {
                            break;
                        }
                    }
                    Message::Result(result) => seen.send(Seen::Result(result)).unwrap(),
                }
            }
            // The test may have ended already.
            drop(seen.send(Seen::Closed));
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}
