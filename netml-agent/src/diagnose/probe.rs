//! Latency, jitter and loss to a target: ICMP echo, else the time a TCP connect takes.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use netml_proto::v1;

use super::icmp::{AnswerKind, Prober};
use super::{DiagnoseError, TIME_MAX, Target};

/// Time for the answer to one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const HOP_LIMIT: u32 = 64;
/// Ports tried where ICMP gets no answer; a refusal is an answer too.
const CONNECT_PORTS: [u16; 2] = [443, 80];

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeLimits {
    /// Probes, 1 to 50.
    pub count: u32,
    /// Time between two, 10 ms to 5 s.
    pub interval: Duration,
}

impl ProbeLimits {
    /// Limits held within their ranges; 0 stands for the default (10 and 200 ms).
    #[must_use]
    pub fn clamped(count: u32, interval_ms: u32) -> Self {
        let or = |given, default| if given == 0 { default } else { given };
        Self {
            count: or(count, 10).clamp(1, 50),
            interval: Duration::from_millis(or(interval_ms, 200).clamp(10, 5_000).into()),
        }
    }
}

/// Probes a target.
///
/// # Errors
/// [`DiagnoseError`] where the target is none. A target that does not answer is a result.
pub fn probe(target: &str, limits: ProbeLimits) -> Result<v1::ProbeSummary, DiagnoseError> {
    let address = Target::parse(target)?.resolve()?;
    let end = Instant::now() + TIME_MAX / 2;
    let echo = echo(address, limits, end);
    if let Ok(rtts) = &echo
        && rtts.iter().any(Option::is_some)
    {
        return Ok(summary(address, "icmp", rtts));
    }
    let connects = connect(address, limits, Instant::now() + TIME_MAX / 2);
    match echo {
        // Nothing answers either way: say what ICMP saw.
        Ok(rtts) if connects.iter().all(Option::is_none) => Ok(summary(address, "icmp", &rtts)),
        _ => Ok(summary(address, "tcp-connect", &connects)),
    }
}

/// Round-trip times in milliseconds, `None` where no answer came.
fn echo(address: IpAddr, limits: ProbeLimits, end: Instant) -> io::Result<Vec<Option<f64>>> {
    let id = getrandom::u32().unwrap_or_default() as u16;
    let prober = Prober::open(address, id, false)?;
    let mut rtts = Vec::with_capacity(limits.count as usize);
    for seq in 1..=limits.count as u16 {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        prober.send(seq, HOP_LIMIT)?;
        let deadline = sent + PROBE_TIMEOUT;
        let mut rtt = None;
        while let Some(answer) = prober.receive(deadline)? {
            if answer.seq == seq && answer.kind == AnswerKind::Reached {
                rtt = Some(sent.elapsed().as_secs_f64() * 1e3);
                break;
            }
        }
        rtts.push(rtt);
        pause(sent, limits, seq);
    }
    Ok(rtts)
}

fn connect(address: IpAddr, limits: ProbeLimits, end: Instant) -> Vec<Option<f64>> {
    let mut rtts = Vec::with_capacity(limits.count as usize);
    let mut ports = CONNECT_PORTS.to_vec();
    for seq in 1..=limits.count as u16 {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let rtt = ports.iter().find_map(|port| {
            let sent = Instant::now();
            let opened =
                TcpStream::connect_timeout(&SocketAddr::new(address, *port), PROBE_TIMEOUT);
            let answered = match opened {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            };
            answered.then(|| (*port, sent.elapsed().as_secs_f64() * 1e3))
        });
        if let Some((port, _)) = rtt {
            // Stay with the port that answers.
            ports = vec![port];
        }
        rtts.push(rtt.map(|(_, rtt)| rtt));
        pause(begun, limits, seq);
    }
    rtts
}

/// Waits for the rest of the interval, but not after the last probe.
fn pause(sent: Instant, limits: ProbeLimits, seq: u16) {
    if u32::from(seq) < limits.count {
        std::thread::sleep(limits.interval.saturating_sub(sent.elapsed()));
    }
}

/// Jitter is the mean difference of successive round-trip times.
fn summary(address: IpAddr, method: &str, rtts: &[Option<f64>]) -> v1::ProbeSummary {
    let answered: Vec<f64> = rtts.iter().flatten().copied().collect();
    let count = answered.len() as f64;
    let steps = answered.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let has_answer = !answered.is_empty();
    v1::ProbeSummary {
        address: address.to_string(),
        sent: rtts.len() as u32,
        received: answered.len() as u32,
        rtt_min_ms: if has_answer {
            answered.iter().copied().fold(f64::INFINITY, f64::min)
        } else {
            0.0
        },
        rtt_mean_ms: if has_answer {
            answered.iter().sum::<f64>() / count
        } else {
            0.0
        },
        rtt_max_ms: answered.iter().copied().fold(0.0, f64::max),
        jitter_ms: if answered.len() > 1 {
            steps.sum::<f64>() / (count - 1.0)
        } else {
            0.0
        },
        method: method.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_losses_and_measures_jitter_between_neighbours() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let got = summary(address, "icmp", &[Some(1.0), None, Some(3.0), Some(2.0)]);
        assert_eq!((got.sent, got.received), (4, 3));
        assert_eq!(
            (
                got.rtt_min_ms,
                got.rtt_mean_ms,
                got.rtt_max_ms,
                got.jitter_ms
            ),
            (1.0, 2.0, 3.0, 1.5)
        );
        let none = summary(address, "icmp", &[None, None]);
        assert_eq!((none.sent, none.received, none.rtt_min_ms), (2, 0, 0.0));
    }

    #[test]
    fn limits_are_held_within_their_ranges() {
        let limits = ProbeLimits::clamped(1_000_000, 1);
        assert_eq!(
            (limits.count, limits.interval),
            (50, Duration::from_millis(10))
        );
        assert_eq!(ProbeLimits::clamped(0, 0).count, 10);
    }

    #[test]
    fn a_refused_connection_is_an_answer() {
        let limits = ProbeLimits::clamped(2, 10);
        let rtts = connect(
            IpAddr::from([127, 0, 0, 1]),
            limits,
            Instant::now() + Duration::from_secs(5),
        );
        assert_eq!(rtts.iter().flatten().count(), 2);
    }
}
