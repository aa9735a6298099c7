//! Who is connected, and the way back to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netml_proto::token::Fingerprint;
use netml_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::clock_offset::ClockOffset;
use super::commands::{CommandState, Commands};
use crate::clock;
use crate::live::{Live, Update};
use crate::record::{Hello, SensorName, Source};

/// Most sensors connected at once; one more is refused.
pub const CONNECTIONS_MAX: usize = 128;

/// Messages to a sensor: acknowledgements and commands, or the error that ends its stream.
pub type Outgoing = mpsc::Sender<Result<v1::CollectorMessage, Status>>;

/// Why a command was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// Not connected now.
    #[error("the sensor is not connected; start its agent")]
    NotConnected,
    /// Its configuration does not list the command.
    #[error("the sensor does not accept this command; its own configuration lists those it does")]
    NotAccepted,
    /// Its queue is full.
    #[error("the sensor does not take commands at the moment; try again")]
    Busy,
    /// No random number for an id.
    #[error("the system gives no random numbers")]
    NoRandom,
}

struct Connection {
    id: u64,
    hello: Hello,
    outgoing: Outgoing,
    /// What it showed.
    certificate: Option<Fingerprint>,
    clock: ClockOffset,
    /// Given a reason, or dropped where a newer connection takes its place, to end it.
    close: oneshot::Sender<&'static str>,
}

#[derive(Default)]
struct State {
    connections: HashMap<SensorName, Connection>,
    commands: Commands,
    next_id: u64,
}

/// Connected sensors and their commands.
pub struct Registry {
    state: Mutex<State>,
    live: Live,
}

impl Registry {
    /// Nobody is connected.
    #[must_use]
    pub fn new(live: Live) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            live,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection; an older one of the same name is closed, since an agent that restarts
    /// must not wait until its old connection is found dead. Gives the connection's number and
    /// what resolves when it must end; `None` when too many are connected.
    pub(super) fn connect(
        &self,
        hello: Hello,
        certificate: Option<Fingerprint>,
        outgoing: Outgoing,
    ) -> Option<(u64, oneshot::Receiver<&'static str>)> {
        let mut state = self.state();
        let known = state.connections.contains_key(&hello.sensor);
        if !known && state.connections.len() >= CONNECTIONS_MAX {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        let (close, closed) = oneshot::channel();
        let sensor = hello.sensor.clone();
        let connection = Connection {
            id,
            hello,
            outgoing,
            certificate,
            clock: ClockOffset::default(),
            close,
        };
        let mut ended = Vec::new();
        if state
            .connections
            .insert(sensor.clone(), connection)
            .is_some()
        {
            tracing::info!(%sensor, "a sensor connected anew; its older connection is closed");
            // What the older one was asked, the newer one does not know.
            ended = state.commands.disconnected(&sensor);
        }
        drop(state);
        self.tell(ended);
        self.live.give(Update::Sensors);
        Some((id, closed))
    }

    /// Removes a connection, unless a newer one took its place.
    pub(super) fn disconnect(&self, sensor: &SensorName, id: u64) {
        let mut state = self.state();
        if state.connections.get(sensor).is_none_or(|c| c.id != id) {
            return;
        }
        state.connections.remove(sensor);
        let ended = state.commands.disconnected(sensor);
        drop(state);
        self.tell(ended);
        self.live.give(Update::Sensors);
    }

    /// Ends connections for which `why`, told the certificate they showed, gives a reason.
    pub fn close_where(&self, why: impl Fn(Option<&Fingerprint>) -> Option<&'static str>) {
        let mut state = self.state();
        let ending: Vec<_> = state
            .connections
            .extract_if(|_, connection| why(connection.certificate.as_ref()).is_some())
            .collect();
        if ending.is_empty() {
            return;
        }
        let mut ended = Vec::new();
        for (sensor, connection) in ending {
            let reason = why(connection.certificate.as_ref()).unwrap_or_default();
            tracing::warn!(%sensor, "the connection is ended: {reason}");
            if connection.close.send(reason).is_err() {
                tracing::debug!(%sensor, "the connection had ended by itself");
            }
            ended.extend(state.commands.disconnected(&sensor));
        }
        drop(state);
        self.tell(ended);
        self.live.give(Update::Sensors);
    }

    fn tell(&self, changed: Vec<CommandState>) {
        for command in changed {
            self.live.give(Update::Command(Box::new(command)));
        }
    }

    /// Takes the time of a report for what the sensor's clock is off. That of a replay says nothing.
    pub(super) fn reported(&self, sensor: &SensorName, sensor_unix_ms: i64, received_unix_ms: i64) {
        let mut state = self.state();
        if let Some(connection) = state.connections.get_mut(sensor)
            && matches!(connection.hello.source, Source::Live | Source::Lab)
        {
            connection.clock.note(sensor_unix_ms, received_unix_ms);
        }
    }

    /// Those connected, and by how many milliseconds each one's clock is ahead of the collector's, less
    /// the way of a report.
    #[must_use]
    pub fn clock_offsets_ms(&self) -> HashMap<SensorName, Option<i64>> {
        let state = self.state();
        let offset = |(sensor, of): (&SensorName, &Connection)| (sensor.clone(), of.clock.get());
        state.connections.iter().map(offset).collect()
    }

    /// Names of those connected.
    #[must_use]
    pub fn connected(&self) -> Vec<SensorName> {
        self.state().connections.keys().cloned().collect()
    }

    /// Sources of those connected.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let state = self.state();
        state.connections.values().map(|c| c.hello.source).collect()
    }

    /// Sends a command to a sensor; gives its id.
    ///
    /// # Errors
    /// Why it was not sent.
    pub fn command(
        &self,
        sensor: &SensorName,
        name: &str,
        target: &str,
        command: v1::command::Command,
    ) -> Result<u64, CommandRefused> {
        let id = getrandom::u64().map_err(|_| CommandRefused::NoRandom)?;
        let mut state = self.state();
        let connection = state
            .connections
            .get(sensor)
            .ok_or(CommandRefused::NotConnected)?;
        if !connection.hello.accepted_commands.iter().any(|c| c == name) {
            return Err(CommandRefused::NotAccepted);
        }
        let message = v1::CollectorMessage {
            message: Some(v1::collector_message::Message::Command(v1::Command {
                id,
                command: Some(command),
            })),
        };
        connection
            .outgoing
            .try_send(Ok(message))
            .map_err(|_| CommandRefused::Busy)?;
        state
            .commands
            .begin(id, sensor, name, target, clock::unix_ms());
        Ok(id)
    }

    /// Takes a sensor's result.
    pub(super) fn result(&self, sensor: &SensorName, result: v1::CommandResult) {
        let changed = self.state().commands.result(sensor, result);
        match changed {
            Some(command) => self.live.give(Update::Command(Box::new(command))),
            None => tracing::debug!(%sensor, "a result of no open command was ignored"),
        }
    }

    /// A command as it stands.
    #[must_use]
    pub fn command_state(&self, id: u64) -> Option<CommandState> {
        self.state().commands.get(id, clock::unix_ms())
    }
}
