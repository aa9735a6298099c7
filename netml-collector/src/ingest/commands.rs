//! Commands given to sensors and what they answered. Pure: the clock is passed in.

use std::collections::{BTreeMap, VecDeque};

use netml_proto::v1;

use crate::record::SensorName;

/// Commands remembered; with one more the oldest is forgotten.
pub const COMMANDS_KEPT: usize = 256;

/// Hops kept of one traceroute; further ones are ignored.
pub const HOPS_MAX: usize = 64;

/// Round-trip times kept of one hop.
pub const RTTS_MAX: usize = 16;

/// A command without its last result for this long is done, with an error.
pub const TIMEOUT_MS: i64 = 180_000;

/// Longest error or address text kept, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// A command and its results so far.
#[derive(Clone, Debug, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct CommandState {
    /// Its id, 16 hexadecimal digits.
    pub command_id: String,
    /// Sensor that runs it.
    pub sensor: String,
    /// `traceroute` or `probe`.
    pub command: String,
    /// Host name or address.
    pub target: String,
    /// No more results will come.
    pub done: bool,
    /// What went wrong; null: nothing.
    pub error: Option<String>,
    /// Hops of a traceroute so far, by distance.
    pub hops: Vec<Hop>,
    /// Result of a probe.
    pub probe: Option<Probe>,
    #[serde(skip)]
    started_unix_ms: i64,
}

/// One hop of a traceroute.
#[derive(Clone, Debug, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Hop {
    /// Distance.
    pub ttl: u32,
    /// Who answered; empty: nobody.
    pub address: String,
    /// Round-trip times in milliseconds.
    pub rtt_ms: Vec<f64>,
    /// Probes without an answer.
    pub lost: u32,
    /// This is the target.
    pub reached: bool,
}

/// Result of a probe. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Probe {
    /// Address the name stood for.
    pub address: String,
    /// `icmp` or `tcp-connect`.
    pub method: String,
    /// Probes sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
    /// Shortest round trip; null: no answer.
    pub rtt_min_ms: Option<f64>,
    /// Mean round trip.
    pub rtt_mean_ms: Option<f64>,
    /// Longest round trip.
    pub rtt_max_ms: Option<f64>,
    /// Mean difference of neighbouring round trips; null: fewer than two answers.
    pub jitter_ms: Option<f64>,
}

/// The commands remembered.
#[derive(Debug, Default)]
pub struct Commands {
    by_id: BTreeMap<u64, CommandState>,
    order: VecDeque<u64>,
}

impl Commands {
    /// Notes a command that is about to be sent.
    pub fn begin(
        &mut self,
        id: u64,
        sensor: &SensorName,
        command: &str,
        target: &str,
        now_unix_ms: i64,
    ) {
        while self.order.len() >= COMMANDS_KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
        self.order.push_back(id);
        let state = CommandState {
            command_id: format!("{id:016x}"),
            sensor: sensor.as_str().to_owned(),
            command: command.to_owned(),
            target: target.to_owned(),
            done: false,
            error: None,
            hops: Vec::new(),
            probe: None,
            started_unix_ms: now_unix_ms,
        };
        self.by_id.insert(id, state);
    }

    /// Takes a result. `None` when the command is not known, is done, or was given to another
    /// sensor: only the one asked may answer.
    pub fn result(
        &mut self,
        sensor: &SensorName,
        result: v1::CommandResult,
    ) -> Option<CommandState> {
        let state = self.by_id.get_mut(&result.id)?;
        if state.done || state.sensor != sensor.as_str() {
            return None;
        }
        match result.result {
            Some(v1::command_result::Result::Hop(hop)) => add_hop(&mut state.hops, hop),
            Some(v1::command_result::Result::Probe(probe)) => state.probe = Some(summary(probe)),
            None => {}
        }
        if !result.error.is_empty() {
            state.error = Some(shorten(&result.error));
        }
        state.done = result.done || state.error.is_some();
        Some(state.clone())
    }

    /// Ends the commands a sensor can no longer answer.
    pub fn disconnected(&mut self, sensor: &SensorName) -> Vec<CommandState> {
        let open = self
            .by_id
            .values_mut()
            .filter(|state| !state.done && state.sensor == sensor.as_str());
        open.map(|state| {
            state.done = true;
            state.error = Some("the sensor disconnected before it answered".to_owned());
            state.clone()
        })
        .collect()
    }

    /// A command as it stands.
    pub fn get(&mut self, id: u64, now_unix_ms: i64) -> Option<CommandState> {
        let state = self.by_id.get_mut(&id)?;
        if !state.done && now_unix_ms.saturating_sub(state.started_unix_ms) > TIMEOUT_MS {
            state.done = true;
            state.error = Some(format!(
                "the sensor gave no last answer within {} s",
                TIMEOUT_MS / 1_000
            ));
        }
        Some(state.clone())
    }
}

/// A hop reported again replaces what was known of it.
fn add_hop(hops: &mut Vec<Hop>, wire: v1::TracerouteHop) {
    let hop = Hop {
        ttl: wire.ttl,
        address: shorten(&wire.address),
        rtt_ms: wire
            .rtt_ms
            .into_iter()
            .filter(|rtt| rtt.is_finite())
            .take(RTTS_MAX)
            .collect(),
        lost: wire.lost,
        reached: wire.reached,
    };
    match hops.binary_search_by_key(&hop.ttl, |h| h.ttl) {
        Ok(index) => {
            if let Some(known) = hops.get_mut(index) {
                *known = hop;
            }
        }
        Err(index) if hops.len() < HOPS_MAX => hops.insert(index, hop),
        Err(_) => {}
    }
}

fn summary(wire: v1::ProbeSummary) -> Probe {
    let of = |answers: u32, ms: f64| (wire.received >= answers && ms.is_finite()).then_some(ms);
    let answered = |ms| of(1, ms);
    Probe {
        address: shorten(&wire.address),
        method: shorten(&wire.method),
        sent: wire.sent,
        received: wire.received,
        rtt_min_ms: answered(wire.rtt_min_ms),
        rtt_mean_ms: answered(wire.rtt_mean_ms),
        rtt_max_ms: answered(wire.rtt_max_ms),
        jitter_ms: of(2, wire.jitter_ms),
    }
}

fn shorten(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(TEXT_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> SensorName {
        SensorName::parse(name).unwrap()
    }

    fn hop(id: u64, ttl: u32, done: bool) -> v1::CommandResult {
        let hop = v1::TracerouteHop {
            ttl,
            rtt_ms: vec![1.0, f64::NAN],
            ..v1::TracerouteHop::default()
        };
        v1::CommandResult {
            id,
            done,
            result: Some(v1::command_result::Result::Hop(hop)),
            ..v1::CommandResult::default()
        }
    }

    #[test]
    fn results_gather_in_order_of_distance_until_the_last() {
        let mut commands = Commands::default();
        commands.begin(7, &name("a"), "traceroute", "8.8.8.8", 0);
        assert!(commands.result(&name("b"), hop(7, 1, false)).is_none());
        commands.result(&name("a"), hop(7, 2, false)).unwrap();
        let state = commands.result(&name("a"), hop(7, 1, true)).unwrap();
        assert!(state.done);
        let ttls: Vec<u32> = state.hops.iter().map(|h| h.ttl).collect();
        assert_eq!(ttls, [1, 2]);
        assert_eq!(state.hops[0].rtt_ms, [1.0]);
        assert!(commands.result(&name("a"), hop(7, 3, false)).is_none());
    }

    #[test]
    fn what_was_not_measured_is_null_and_never_zero() {
        let of = |received| {
            let probe = summary(v1::ProbeSummary {
                sent: 3,
                received,
                ..v1::ProbeSummary::default()
            });
            (probe.rtt_mean_ms, probe.jitter_ms)
        };
        assert_eq!(of(0), (None, None));
        assert_eq!(of(1), (Some(0.0), None));
        assert_eq!(of(2), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn a_silent_or_lost_sensor_ends_its_commands_and_old_ones_are_forgotten() {
        let mut commands = Commands::default();
        commands.begin(0, &name("a"), "probe", "x", 0);
        assert!(!commands.get(0, TIMEOUT_MS).unwrap().done);
        assert!(commands.get(0, TIMEOUT_MS + 1).unwrap().error.is_some());
        commands.begin(1, &name("a"), "probe", "x", 0);
        assert_eq!(commands.disconnected(&name("a")).len(), 1);
        for id in 2..600 {
            commands.begin(id, &name("a"), "probe", "x", 0);
        }
        assert_eq!(commands.by_id.len(), COMMANDS_KEPT);
        assert!(commands.get(1, 0).is_none());
    }
}
