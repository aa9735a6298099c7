//! The gRPC service: one task per connection reads, one acknowledges, in order.
//!
//! With TLS a sensor's name is that of its certificate; without it, on loopback only, it is what the
//! sensor says, and anyone on the host can say it.

use std::sync::Arc;
use std::time::Duration;

use netml_proto::token::Fingerprint;
use netml_proto::{BATCH_BYTES_MAX, v1};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::books::Books;
use super::check::{self, Refusal};
use super::committer::{CommitFailed, Line, Pending};
use super::connections::Peer;
use super::reasons;
use super::registry::{Outgoing, Registry};
use crate::clock;
use crate::pki::Roll;
use crate::record::{Record, SensorName};
use crate::store::{Outcome, Store, StoreError};

/// A connection that says no hello for this long is closed.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Encoded bytes of batches between arrival and commit, over all sensors; beyond it sensors wait.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// Batches of one connection between arrival and acknowledgement; beyond it the sensor waits.
pub const IN_FLIGHT_BATCHES_MAX: usize = 16;

/// Messages waiting to be sent to one sensor.
const OUTGOING_MAX: usize = 64;

/// Time between two notes of when a sensor was last heard.
const SEEN_INTERVAL: Duration = Duration::from_secs(30);

/// What connections share.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    books: Arc<Books>,
    queue: mpsc::WeakSender<Pending>,
    memory: Arc<Semaphore>,
    roll: Option<Arc<Roll>>,
    stop: watch::Receiver<bool>,
}

/// What becomes of a batch, in the order of arrival.
type Fate = oneshot::Receiver<Result<Outcome, CommitFailed>>;

impl Service {
    /// A service that puts batches into `queue` until `stop` says true. The queue is held weakly:
    /// it ends with its owner and the last connection. With a roll of certificates only their
    /// holders may speak.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        books: Arc<Books>,
        queue: mpsc::WeakSender<Pending>,
        roll: Option<Arc<Roll>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                registry,
                books,
                queue,
                memory: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX)),
                roll,
                stop,
            }),
        }
    }
}

#[tonic::async_trait]
impl v1::collector_server::Collector for Service {
    type StreamStream = ReceiverStream<Result<v1::CollectorMessage, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::SensorMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let queue = self
            .inner
            .queue
            .upgrade()
            .ok_or_else(|| Status::unavailable("the collector is stopping"))?;
        let holder = self.inner.holder(request.extensions().get())?;
        let (outgoing, stream) = mpsc::channel(OUTGOING_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            if let Err(status) = inner
                .connection(request.into_inner(), holder, queue, &outgoing)
                .await
                && outgoing.send(Err(status)).await.is_err()
            {
                tracing::debug!("a sensor left before it could be told why its stream ended");
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Who holds the certificate that a connection showed.
struct Holder {
    sensor: SensorName,
    certificate: Fingerprint,
}

/// Where batches of a connection come from.
struct Origin {
    sensor: SensorName,
    elsewhere: check::Elsewhere,
    line: Line,
}

impl Inner {
    /// Who opens a stream; None where names are taken as they are said.
    fn holder(&self, peer: Option<&Peer>) -> Result<Option<Holder>, Status> {
        let Some(roll) = &self.roll else {
            return Ok(None);
        };
        let refuse = |why: &'static str| {
            Books::add(&self.books.certificates_missing, 1);
            tracing::warn!("a stream was refused: {why}");
            Err(Status::unauthenticated(why))
        };
        let Some(Peer::Tls {
            certificate: Some(certificate),
        }) = peer
        else {
            return refuse("a certificate is needed; get one: netml-agent enroll");
        };
        match roll.get(certificate) {
            None => refuse("the certificate is not known"),
            Some(known) if known.revoked => refuse("the certificate was revoked"),
            Some(known) if known.not_after_unix_ms < clock::unix_ms() => {
                refuse("the certificate has expired; it is good for renewal only")
            }
            Some(known) => Ok(Some(Holder {
                sensor: known.sensor,
                certificate: *certificate,
            })),
        }
    }

    async fn connection(
        &self,
        mut messages: Streaming<v1::SensorMessage>,
        holder: Option<Holder>,
        queue: mpsc::Sender<Pending>,
        outgoing: &Outgoing,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let wire = match first.and_then(|m| m.message) {
            Some(v1::sensor_message::Message::Hello(hello)) => hello,
            _ => return Err(self.refuse(&Refusal::HelloFirst, 0)),
        };
        let elsewhere =
            check::stored_elsewhere(&wire).map_err(|refusal| self.refuse(&refusal, 0))?;
        let hello = check::hello(wire).map_err(|refusal| self.refuse(&refusal, 0))?;
        let sensor = hello.sensor.clone();
        if let Some(holder) = &holder
            && holder.sensor != sensor
        {
            Books::add(&self.books.names_foreign, 1);
            tracing::warn!(said = %sensor, certificate = %holder.sensor, "a stream was refused: the name is another's");
            return Err(Status::permission_denied(format!(
                "the certificate is that of {}",
                holder.sensor
            )));
        }
        self.store
            .hello(&hello, clock::unix_ms())
            .await
            .map_err(|error| store_status(&error))?;
        tracing::info!(%sensor, version = hello.version, interfaces = hello.interfaces.len(), "sensor connected");
        let (id, closed) = self
            .registry
            .connect(hello, holder.map(|of| of.certificate), outgoing.clone())
            .ok_or_else(|| Status::resource_exhausted("too many sensors are connected"))?;

        let from = Origin {
            sensor: sensor.clone(),
            elsewhere,
            line: Line::default(),
        };
        let (fates, fates_in) = mpsc::channel(IN_FLIGHT_BATCHES_MAX);
        let acknowledging = tokio::spawn(acknowledge(fates_in, outgoing.clone()));
        let read = self.read(&from, &mut messages, closed, &queue, fates).await;
        drop(queue);
        // What was taken is still committed and acknowledged.
        let acknowledged = acknowledging
            .await
            .unwrap_or_else(|_| Err(Status::internal("acknowledging failed")));
        self.registry.disconnect(&sensor, id);
        self.note_seen(&sensor).await;
        let ended = read.and(acknowledged);
        let why = ended.as_ref().err().map(with_cause);
        tracing::info!(%sensor, why, "sensor disconnected");
        ended
    }

    /// Reads messages until the sensor ends its stream, a newer connection takes its place, the
    /// collector stops, or something is wrong.
    async fn read(
        &self,
        from: &Origin,
        messages: &mut Streaming<v1::SensorMessage>,
        mut closed: oneshot::Receiver<&'static str>,
        queue: &mpsc::Sender<Pending>,
        fates: mpsc::Sender<(Fate, u64)>,
    ) -> Result<(), Status> {
        let sensor = &from.sensor;
        let mut stop = self.stop.clone();
        let mut seen = tokio::time::interval(SEEN_INTERVAL);
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                reason = &mut closed => {
                    return Err(match reason {
                        Ok(reason) => Status::unauthenticated(reason),
                        Err(_) => Status::aborted("a newer connection of this sensor took its place"),
                    });
                }
                () = stopped(&mut stop) => {
                    return Err(Status::unavailable("the collector is stopping"));
                }
                () = fates.closed() => return Ok(()),
                _ = seen.tick() => {
                    self.note_seen(sensor).await;
                    continue;
                }
            };
            let Some(message) = message else {
                return Ok(());
            };
            match message.message {
                Some(v1::sensor_message::Message::Batch(batch)) => {
                    let last = self.take(from, batch, queue, &fates).await?;
                    if last {
                        return Ok(());
                    }
                }
                Some(v1::sensor_message::Message::Result(result)) => {
                    self.registry.result(sensor, result);
                }
                Some(v1::sensor_message::Message::Hello(_)) => {
                    return Err(self.refuse(&Refusal::HelloAgain, 0));
                }
                // Of a newer version, which can be left out.
                None => {
                    let reason = reasons::name(&Refusal::EmptyMessage);
                    self.books.refusals.add(reason);
                    tracing::debug!(%sensor, "a message of an unknown kind is left out");
                }
            }
        }
    }

    /// Checks a batch and hands it on; true when the connection has ended meanwhile.
    async fn take(
        &self,
        from: &Origin,
        wire: v1::Batch,
        queue: &mpsc::Sender<Pending>,
        fates: &mpsc::Sender<(Fate, u64)>,
    ) -> Result<bool, Status> {
        let bytes = wire.payload.len().clamp(1, BATCH_BYTES_MAX);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| Status::unavailable("the collector is stopping"))?;
        let sensor = &from.sensor;
        let batch = check::batch(sensor, &wire, &from.elsewhere)
            .map_err(|refusal| self.refuse(&refusal, u64::from(wire.count)))?;
        drop(wire);
        let reports = batch.records.iter().flatten();
        let told = reports.filter_map(|record| match record {
            Record::Health(health) => Some(health.unix_ms),
            _ => None,
        });
        if let Some(latest_unix_ms) = told.max() {
            self.registry
                .reported(sensor, latest_unix_ms, clock::unix_ms());
        }
        let refused = batch.records.iter().filter(|r| r.is_none()).count();
        if refused > 0 {
            tracing::warn!(%sensor, refused, "records with impossible values were refused");
        }
        let stream_id = batch.stream_id;
        let (reply, fate) = oneshot::channel();
        let pending = Pending {
            batch,
            line: from.line.clone(),
            reply,
            memory,
        };
        queue
            .send(pending)
            .await
            .map_err(|_| Status::unavailable("the collector is stopping"))?;
        Ok(fates.send((fate, stream_id)).await.is_err())
    }

    /// Counts a message refused as a whole. Its records are counted as it states them, as far as
    /// a batch may state.
    fn refuse(&self, refusal: &Refusal, records: u64) -> Status {
        let records = records.min(netml_proto::BATCH_RECORDS_MAX as u64);
        if records > 0 {
            Books::add(&self.books.batches_in, 1);
            Books::add(&self.books.records_in, records);
            Books::add(&self.books.records_refused, records);
        }
        Books::add(&self.books.batches_refused, 1);
        self.books.refusals.add(reasons::name(refusal));
        tracing::warn!(%refusal, "a sensor's message was refused and its stream ended");
        match refusal {
            Refusal::BatchBytes(_) | Refusal::BatchRecords(_) => {
                Status::resource_exhausted(refusal.to_string())
            }
            Refusal::Checksum | Refusal::Payload | Refusal::Count { .. } => {
                Status::data_loss(refusal.to_string())
            }
            Refusal::HelloFirst | Refusal::HelloAgain => {
                Status::failed_precondition(refusal.to_string())
            }
            _ => Status::invalid_argument(refusal.to_string()),
        }
    }

    async fn note_seen(&self, sensor: &SensorName) {
        if let Err(error) = self.store.seen(sensor, clock::unix_ms()).await {
            tracing::warn!(%error, "when a sensor was last heard could not be noted");
        }
    }
}

/// Resolves once the collector stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Sends acknowledgements in the order of arrival.
async fn acknowledge(
    mut fates: mpsc::Receiver<(Fate, u64)>,
    outgoing: Outgoing,
) -> Result<(), Status> {
    while let Some((fate, stream_id)) = fates.recv().await {
        let seq = match fate.await {
            Ok(Ok(Outcome::Stored { ack, .. })) => ack,
            Ok(Ok(Outcome::ForeignStream)) => {
                return Err(Status::permission_denied(
                    "the stream id belongs to another sensor",
                ));
            }
            Ok(Err(CommitFailed)) | Err(_) => {
                return Err(Status::unavailable(
                    "the store could not take the batch; send it again later",
                ));
            }
        };
        let ack = v1::CollectorMessage {
            message: Some(v1::collector_message::Message::Ack(v1::Ack {
                stream_id,
                seq,
            })),
        };
        if outgoing.send(Ok(ack)).await.is_err() {
            // The sensor is gone. What it sent is stored all the same.
            return Ok(());
        }
    }
    Ok(())
}

/// What ended a stream, with the innermost cause: that bytes were changed on the way is told by TLS, far
/// below the status.
fn with_cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let first = std::error::Error::source(status);
    if let Some(innermost) = std::iter::successors(first, |error| error.source()).last() {
        text.push_str(": ");
        text.push_str(&innermost.to_string());
    }
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn store_status(error: &StoreError) -> Status {
    tracing::error!(%error, "a hello could not be stored");
    match error {
        StoreError::TooManySensors => Status::resource_exhausted(error.to_string()),
        _ => Status::unavailable("the store is not available; try again later"),
    }
}
