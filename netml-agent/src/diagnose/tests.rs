use std::time::Duration;

use super::*;

fn command(id: u64, command: v1::command::Command) -> v1::Command {
    v1::Command {
        id,
        command: Some(command),
    }
}

fn traceroute_to(target: &str) -> v1::command::Command {
    v1::command::Command::Traceroute(v1::Traceroute {
        target: target.into(),
        hops_max: 3,
        probes_per_hop: 2,
    })
}

/// All results of one command.
async fn results(runner: &Runner, wanted: v1::command::Command) -> Vec<v1::CommandResult> {
    let (sender, mut receiver) = mpsc::channel(RESULTS_MAX);
    runner.start(command(5, wanted), sender);
    let mut all = Vec::new();
    let collect = async {
        while let Some(result) = receiver.recv().await {
            all.push(result);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), collect)
        .await
        .unwrap();
    all
}

#[tokio::test]
async fn a_traceroute_to_loopback_is_one_hop_and_done() {
    let runner = Runner::new(vec![Accept::Traceroute]);
    let all = results(&runner, traceroute_to("127.0.0.1")).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        all.iter()
            .all(|result| result.id == 5 && result.error.is_empty())
    );
    let Some(v1::command_result::Result::Hop(hop)) = &all[0].result else {
        panic!("no hop: {all:?}");
    };
    assert_eq!((hop.ttl, hop.reached, hop.lost), (1, true, 0));
    assert_eq!(hop.address, "127.0.0.1");
    assert_eq!(hop.rtt_ms.len(), 2);
    assert!(!all[0].done && all[1].done);
}

#[tokio::test]
async fn a_probe_of_loopback_loses_nothing() {
    let runner = Runner::new(vec![Accept::Probe]);
    let wanted = v1::command::Command::Probe(v1::Probe {
        target: "localhost".into(),
        count: 3,
        interval_ms: 10,
    });
    let all = results(&runner, wanted).await;
    assert_eq!(all.len(), 1);
    let Some(v1::command_result::Result::Probe(summary)) = &all[0].result else {
        panic!("no summary: {all:?}");
    };
    assert_eq!((summary.sent, summary.received), (3, 3));
    assert!(all[0].done);
}

#[tokio::test]
async fn what_is_not_accepted_or_no_target_is_refused_with_the_reason() {
    let runner = Runner::new(vec![Accept::Probe]);
    let all = results(&runner, traceroute_to("127.0.0.1")).await;
    assert!(all[0].done);
    assert!(
        all[0].error.contains("does not accept traceroute"),
        "{all:?}"
    );

    let runner = Runner::new(vec![Accept::Traceroute]);
    let all = results(&runner, traceroute_to("-f")).await;
    assert!(all[0].done);
    assert!(all[0].error.contains("no host name or address"), "{all:?}");
}

#[tokio::test]
async fn one_command_too_many_is_refused_and_places_come_back() {
    let runner = Runner::new(vec![Accept::Probe]);
    let places: Vec<_> = (0..COMMANDS_MAX)
        .map(|_| Place::take(&runner.running).unwrap())
        .collect();
    let wanted = || {
        v1::command::Command::Probe(v1::Probe {
            target: "127.0.0.1".into(),
            count: 1,
            interval_ms: 10,
        })
    };
    let all = results(&runner, wanted()).await;
    assert!(all[0].error.contains("try again later"), "{all:?}");
    drop(places);
    assert_eq!(results(&runner, wanted()).await[0].error, "");
}
