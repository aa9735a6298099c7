//! Acknowledged means stored; a resend changes nothing.

use netml_proto::v1;

use super::harness::{Collector, Sensor, batch, counters, flow, hello, packet};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill_and_a_resend_of_everything_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    const BATCHES: u64 = 40;
    const RECORDS: u64 = 250;
    let batches: Vec<v1::Batch> = (0..BATCHES)
        .map(|b| {
            let first = b * RECORDS + 1;
            let packets = (0..RECORDS - 2).map(|n| packet(u32::try_from(first + n).unwrap()));
            let records = packets.chain([
                counters(5, v1::Direction::Ingress, (b + 1) * 10),
                v1::record::Record::Flow(flow(
                    b / 2,
                    v1::FlowState::Update,
                    b + 1,
                    v1::Verdict::Normal,
                )),
            ]);
            batch(9, first, records.collect())
        })
        .collect();

    // Killed in the middle, twice; each time everything is sent from the start.
    let mut acked = 0;
    for kill_after in [BATCHES * RECORDS / 4, BATCHES * RECORDS / 2] {
        let collector = Collector::start(directory.path());
        let mut sensor = Sensor::connect(&collector, hello("host-a", 9)).await;
        for batch in &batches {
            sensor.send(batch.clone()).await;
        }
        while acked < kill_after {
            acked = sensor.ack().await;
        }
        collector.kill();
    }

    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 9)).await;
    for batch in &batches {
        sensor.send(batch.clone()).await;
    }
    while acked < BATCHES * RECORDS {
        acked = sensor.ack().await;
    }

    let mut seen = std::collections::BTreeSet::new();
    let mut rows = 0;
    let mut before = String::new();
    loop {
        let page = collector.get(&format!("/api/packets?limit=1000&before={before}"));
        for item in page["items"].as_array().unwrap() {
            rows += 1;
            seen.insert(item["dst_port"].as_u64().unwrap());
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut before),
            None => break,
        }
    }
    assert_eq!(rows, BATCHES * (RECORDS - 2), "0 lost, 0 twice");
    assert_eq!(seen.len() as u64, rows, "each once");
    let totals = collector.get("/api/totals");
    assert_eq!(totals["rx_packets"], BATCHES * 10);
    let steps = collector.items("/api/traffic");
    let sum: u64 = steps
        .iter()
        .map(|s| s["rx_packets"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, BATCHES * 10, "seconds add up to the cumulative value");
    // Flow f ends with b = 2f + 1, thus 2f + 2 packets each way.
    let flow_packets: u64 = (0..BATCHES / 2).map(|f| 2 * (2 * f + 2)).sum();
    let talkers = collector.items("/api/talkers?by=destination");
    let packets: u64 = talkers.iter().map(|t| t["packets"].as_u64().unwrap()).sum();
    assert_eq!(
        packets, flow_packets,
        "talkers add up to the flows' last totals"
    );
    let books = collector.get("/api/status")["books"].clone();
    let book = |name: &str| books[name].as_u64().unwrap();
    assert_eq!(
        book("records_in"),
        book("records_stored") + book("records_duplicate") + book("records_refused")
    );
    assert!(book("records_duplicate") > 0);
    assert_eq!(collector.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_counted_and_told_an_overlap_is_stored_once() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 1)).await;
    sensor.send(batch(1, 1, vec![packet(1), packet(2)])).await;
    assert_eq!(sensor.ack().await, 2);
    sensor.send(batch(1, 2, vec![packet(2), packet(3)])).await;
    assert_eq!(sensor.ack().await, 3);
    sensor.send(batch(1, 10, vec![packet(10)])).await;
    assert_eq!(sensor.ack().await, 10);
    let ports: Vec<u64> = collector
        .items("/api/packets")
        .iter()
        .map(|p| p["dst_port"].as_u64().unwrap())
        .collect();
    assert_eq!(ports, [10, 3, 2, 1]);
    let events = collector.items("/api/events");
    assert_eq!(events[0]["kind"], "gap");
    assert_eq!(events[0]["fields"]["records"], "6");
    assert_eq!(collector.get("/api/status")["books"]["records_gap"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_go_on_over_restarts_and_start_anew_with_an_attachment() {
    let directory = tempfile::tempdir().unwrap();
    for (seq, packets) in (1..).zip([100, 150, 150, 400]) {
        let collector = Collector::start(directory.path());
        let mut sensor = Sensor::connect(&collector, hello("host-a", 3)).await;
        sensor
            .send(batch(
                3,
                seq,
                vec![counters(1, v1::Direction::Egress, packets)],
            ))
            .await;
        assert_eq!(sensor.ack().await, seq);
        assert_eq!(collector.get("/api/totals")["tx_packets"], packets);
        assert_eq!(collector.stop(), Some(0));
    }
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 4)).await;
    sensor
        .send(batch(4, 1, vec![counters(2, v1::Direction::Egress, 7)]))
        .await;
    assert_eq!(sensor.ack().await, 1);
    assert_eq!(collector.get("/api/totals")["tx_packets"], 7);
    let steps = collector.items("/api/traffic");
    let sum: u64 = steps
        .iter()
        .map(|s| s["tx_packets"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 407);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stores_what_was_taken() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(directory.path());
    let mut sensor = Sensor::connect(&collector, hello("host-a", 3)).await;
    for n in 0..20 {
        sensor
            .send(batch(3, 1 + n, vec![packet(u32::try_from(n).unwrap())]))
            .await;
    }
    let first = sensor.ack().await;
    assert_eq!(collector.stop(), Some(0));
    let mut acked = first;
    while let Ok(Some(message)) = sensor.message().await {
        if let Some(v1::collector_message::Message::Ack(ack)) = message.message {
            acked = ack.seq;
        }
    }
    let collector = Collector::start(directory.path());
    let stored = collector.items("/api/packets").len() as u64;
    assert!(stored >= acked, "{stored} stored, {acked} acknowledged");
}
