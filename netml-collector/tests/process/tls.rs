//! Sensors by certificate: the sensor's own code against the collector, every refusal counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netml_agent::export::credentials::{Credentials, NewKey};
use netml_agent::export::transport::{self, Pinned, Transport};
use netml_collector::pki::records::Records;
use netml_collector::pki::{CERTIFICATE_MS, Pki, RENEWAL_GRACE_MS};
use netml_collector::record::SensorName;
use netml_proto::token::Token;
use netml_proto::v1;
use netml_proto::v1::collector_client::CollectorClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::harness::{Collector, PATIENCE, Sensor, batch, hello, packet};

const HOUR_MS: i64 = 3_600_000;

/// One command of `netml-collector` on a data directory; what it printed, or its error.
pub(crate) fn tell(data: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_netml-collector"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// A directory with an authority, and a collector on it.
pub(crate) fn with_authority() -> (tempfile::TempDir, Collector) {
    let data = tempfile::tempdir().unwrap();
    tell(data.path(), &["ca", "init", "--host", "127.0.0.1"]).unwrap();
    let collector = Collector::start(data.path());
    assert!(collector.grpc.starts_with("https://"), "{}", collector.grpc);
    (data, collector)
}

fn token(data: &Path, sensor: &str) -> Token {
    let text = tell(data, &["enroll", "token", "--name", sensor]).unwrap();
    Token::parse(&text).unwrap()
}

/// Credentials by way of a token, and the file they are in.
pub(crate) async fn enrolled(
    data: &Path,
    collector: &Collector,
    sensor: &str,
) -> (PathBuf, Credentials) {
    let token = token(data, sensor);
    let credentials = transport::enroll(&collector.grpc, &token).await.unwrap();
    (kept(data, sensor, &credentials), credentials)
}

fn kept(data: &Path, sensor: &str, credentials: &Credentials) -> PathBuf {
    let path = data.join(format!("{sensor}.pem"));
    credentials.write(&path).unwrap();
    path
}

pub(crate) fn way(collector: &Collector, path: &Path) -> Transport {
    let credentials = Credentials::read(path).unwrap();
    Transport::new(&collector.grpc, Some((path, credentials))).unwrap()
}

/// A stream with a hello; the error of the connection as a status.
pub(crate) async fn stream(transport: &Transport, hello: v1::Hello) -> Result<Sensor, Status> {
    let connected = transport.connect(|endpoint| endpoint).await;
    let channel = connected.map_err(Status::unavailable)?;
    let mut client = CollectorClient::new(channel);
    let (outgoing, messages) = mpsc::channel(64);
    let message = Some(v1::sensor_message::Message::Hello(hello));
    outgoing.send(v1::SensorMessage { message }).await.unwrap();
    let answer = client.stream(ReceiverStream::new(messages)).await?;
    Ok(Sensor {
        outgoing,
        incoming: answer.into_inner(),
    })
}

/// Sends a batch and waits until it is stored.
async fn is_taken(sensor: &mut Sensor, stream_id: u64) {
    sensor.send(batch(stream_id, 1, vec![packet(1)])).await;
    assert_eq!(sensor.ack().await, 1);
}

fn book(collector: &Collector, name: &str) -> u64 {
    collector.get("/api/status")["books"][name]
        .as_u64()
        .unwrap()
}

/// A refusal may be counted a moment after the other side knows of it; a connection refused in the
/// handshake is tried again by the sensor's library.
fn is_counted(collector: &Collector, name: &str) {
    collector.eventually("/api/status", |status| {
        status["books"][name].as_u64() > Some(0)
    });
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_enrols_once_and_is_who_its_certificate_says() {
    let (data, collector) = with_authority();
    let token = token(data.path(), "edge-1");
    let credentials = transport::enroll(&collector.grpc, &token).await.unwrap();
    let path = kept(data.path(), "edge-1", &credentials);
    let edge = way(&collector, &path);
    assert_eq!(edge.sensor().as_deref(), Some("edge-1"));

    let mut sensor = stream(&edge, hello("edge-1", 5)).await.unwrap();
    is_taken(&mut sensor, 5).await;
    assert_eq!(collector.items("/api/sensors")[0]["sensor"], "edge-1");

    // A name that is another's.
    let mut foreign = stream(&edge, hello("edge-2", 6)).await.unwrap();
    assert_eq!(foreign.refusal().await.code(), Code::PermissionDenied);
    assert_eq!(book(&collector, "names_foreign"), 1);

    // The token again, one for another sensor by its name, and one that was never given.
    let again = transport::enroll(&collector.grpc, &token).await;
    assert!(again.unwrap_err().contains("token is not valid"));
    for change in [
        |token: &mut Token| token.sensor = "edge-9".into(),
        |token: &mut Token| token.secret[0] ^= 1,
    ] {
        let mut other = self::token(data.path(), "edge-3");
        change(&mut other);
        assert!(transport::enroll(&collector.grpc, &other).await.is_err());
    }
    assert_eq!(book(&collector, "enrolments_refused"), 3);

    // Another authority than the token says: the sensor does not even ask.
    let mut elsewhere = self::token(data.path(), "edge-3");
    elsewhere.authority[0] ^= 1;
    let refused = transport::enroll(&collector.grpc, &elsewhere).await;
    assert!(refused.unwrap_err().contains("UnknownIssuer"));
    assert_eq!(book(&collector, "enrolments_refused"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_no_certificate_and_a_foreign_authority_are_turned_away() {
    let (data, collector) = with_authority();
    let plain = Transport::new(&collector.grpc.replace("https", "http"), None).unwrap();
    assert!(stream(&plain, hello("edge-1", 5)).await.is_err());
    is_counted(&collector, "tls_failed");

    // No certificate: good for enrolment only.
    let pki = Pki::open(data.path()).await.unwrap().unwrap();
    let authority = token(data.path(), "edge-1").authority;
    let bare = transport::without_certificate(&collector.grpc, Pinned::new(authority)).await;
    let (_, messages) = mpsc::channel(1);
    let answer = CollectorClient::new(bare.unwrap())
        .stream(ReceiverStream::new(messages))
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(book(&collector, "certificates_missing"), 1);

    // Credentials of another collector: each side refuses the other. Made to trust ours, the
    // sensor's side would connect, and ours refuses.
    let (other_data, other) = with_authority();
    let (path, credentials) = enrolled(other_data.path(), &other, "edge-1").await;
    let refused = stream(&way(&collector, &path), hello("edge-1", 5)).await;
    let refused = refused.err().unwrap();
    assert!(refused.message().contains("UnknownIssuer"), "{refused:?}");
    assert_eq!(book(&collector, "certificates_unknown"), 0);
    let trusting = credentials.trusting(pki.authorities().await.unwrap());
    trusting.write(&path).unwrap();
    let refused = stream(&way(&collector, &path), hello("edge-1", 5)).await;
    assert!(refused.is_err(), "a certificate of another authority");
    is_counted(&collector, "certificates_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_sensor_is_cut_off_and_kept_out_until_it_enrols_anew() {
    let (data, collector) = with_authority();
    let (path, _) = enrolled(data.path(), &collector, "edge-1").await;
    let (other, _) = enrolled(data.path(), &collector, "edge-2").await;
    let mut sensor = stream(&way(&collector, &path), hello("edge-1", 5))
        .await
        .unwrap();
    is_taken(&mut sensor, 5).await;
    let mut stays = stream(&way(&collector, &other), hello("edge-2", 6))
        .await
        .unwrap();

    let revoked = Instant::now();
    tell(data.path(), &["revoke", "--name", "edge-1"]).unwrap();
    let status = sensor.refusal().await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert!(revoked.elapsed() < Duration::from_secs(60));
    let again = stream(&way(&collector, &path), hello("edge-1", 5)).await;
    assert!(again.is_err());
    is_counted(&collector, "certificates_revoked");
    is_taken(&mut stays, 6).await;

    let (path, _) = enrolled(data.path(), &collector, "edge-1").await;
    let mut sensor = stream(&way(&collector, &path), hello("edge-1", 7))
        .await
        .unwrap();
    is_taken(&mut sensor, 7).await;
}

/// Credentials whose certificate was signed at another time.
async fn signed_at(data: &Path, sensor: &str, unix_ms: i64) -> PathBuf {
    let records = Records::open(data).await.unwrap().unwrap();
    let name = SensorName::parse(sensor).unwrap();
    let token = records.token(&name, HOUR_MS, unix_ms).await.unwrap();
    let pki = Pki::open(data).await.unwrap().unwrap();
    let key = NewKey::make().unwrap();
    let request = key.request().unwrap();
    let (_, issued) = pki
        .enroll(&token.reveal(), &request, unix_ms)
        .await
        .unwrap();
    let credentials = key.with(
        sensor.into(),
        v1::IssuedCertificate {
            authorities: pki.authorities().await.unwrap(),
            certificate: issued.certificate,
            not_before_unix_ms: issued.not_before_unix_ms,
            not_after_unix_ms: issued.not_after_unix_ms,
        },
    );
    kept(data, sensor, &credentials)
}

/// Waits until the file holds another certificate than before.
async fn renewed(transport: &Transport, path: &Path) {
    let before = Credentials::read(path).unwrap();
    let keeping = tokio::spawn(Transport::keep_renewed(vec![transport.clone()]));
    let deadline = Instant::now() + PATIENCE;
    while Credentials::read(path).unwrap() == before {
        assert!(Instant::now() < deadline, "no renewal");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_good_for_its_renewal_and_a_very_old_one_for_nothing() {
    let data = tempfile::tempdir().unwrap();
    tell(data.path(), &["ca", "init", "--host", "127.0.0.1"]).unwrap();
    let now = now_ms();
    let off = signed_at(data.path(), "was-off", now - CERTIFICATE_MS - 24 * HOUR_MS).await;
    let gone = now - CERTIFICATE_MS - RENEWAL_GRACE_MS - HOUR_MS;
    let gone = signed_at(data.path(), "gone", gone).await;
    let collector = Collector::start(data.path());

    let transport = way(&collector, &off);
    let refused = stream(&transport, hello("was-off", 5)).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated);
    assert_eq!(book(&collector, "certificates_missing"), 1);
    let renewals = transport.renewals().unwrap();
    renewed(&transport, &off).await;
    assert!(renewals.has_changed().unwrap());
    let mut sensor = stream(&transport, hello("was-off", 5)).await.unwrap();
    is_taken(&mut sensor, 5).await;

    assert!(
        stream(&way(&collector, &gone), hello("gone", 6))
            .await
            .is_err()
    );
    is_counted(&collector, "certificates_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_changed_without_a_sensor_being_shut_out() {
    let data = tempfile::tempdir().unwrap();
    tell(data.path(), &["ca", "init", "--host", "127.0.0.1"]).unwrap();
    let ca = |arguments: &[&str]| {
        let arguments: Vec<&str> = std::iter::once("ca")
            .chain(arguments.iter().copied())
            .collect();
        tell(data.path(), &arguments)
    };
    assert!(
        ca(&["init", "--host", "127.0.0.1"])
            .unwrap_err()
            .contains("ca rotate")
    );
    assert!(ca(&["activate"]).unwrap_err().contains("ca rotate"));
    // A certificate two thirds of whose life are over, so that it is renewed at once.
    let old = signed_at(data.path(), "edge-1", now_ms() - CERTIFICATE_MS / 4 * 3).await;
    ca(&["rotate"]).unwrap();
    assert!(ca(&["rotate"]).unwrap_err().contains("ca activate"));
    assert!(
        ca(&["activate"]).unwrap_err().contains("edge-1"),
        "it does not know the new one"
    );

    let collector = Collector::start(data.path());
    let transport = way(&collector, &old);
    let mut sensor = stream(&transport, hello("edge-1", 5)).await.unwrap();
    is_taken(&mut sensor, 5).await;
    renewed(&transport, &old).await;
    ca(&["activate"]).unwrap();
    assert!(
        ca(&["retire"]).unwrap_err().contains("edge-1"),
        "it still shows the old one"
    );
    collector.stop();

    // The collector shows the new authority's certificate, which the sensor learned to trust.
    let collector = Collector::start(data.path());
    let mut sensor = stream(&way(&collector, &old), hello("edge-1", 6))
        .await
        .unwrap();
    is_taken(&mut sensor, 6).await;
    ca(&["retire", "--force"]).unwrap();
    let (path, _) = enrolled(data.path(), &collector, "edge-1").await;
    let mut sensor = stream(&way(&collector, &path), hello("edge-1", 7))
        .await
        .unwrap();
    is_taken(&mut sensor, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_collector_is_added_while_it_runs() {
    let data = tempfile::tempdir().unwrap();
    tell(data.path(), &["ca", "init", "--host", "elsewhere.example"]).unwrap();
    let collector = Collector::start(data.path());
    let edge = token(data.path(), "edge-1");
    let refused = transport::enroll(&collector.grpc, &edge).await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    tell(data.path(), &["ca", "host", "127.0.0.1"]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = transport::enroll(&collector.grpc, &edge).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn commands_say_what_is_wrong_with_them() {
    let data = tempfile::tempdir().unwrap();
    let none = tell(data.path(), &["enroll", "token", "--name", "a"]).unwrap_err();
    assert!(none.contains("ca init"), "{none}");
    let host = tell(data.path(), &["ca", "init", "--host", "no host"]).unwrap_err();
    assert!(host.contains("HOST") && host.contains("no host"), "{host}");
    tell(data.path(), &["ca", "init", "--host", "h.example"]).unwrap();
    for (arguments, said) in [
        (["enroll", "token", "--name", "a b"], "--name"),
        (["revoke", "--name", "", "--"], "--name"),
    ] {
        let arguments: Vec<&str> = arguments.into_iter().filter(|of| *of != "--").collect();
        let error = tell(data.path(), &arguments).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    for ttl in ["", "1", "1w", "31d", "0s", "-1h", "99999999999h"] {
        let ttl = format!("--ttl={ttl}");
        let error = tell(data.path(), &["enroll", "token", "--name", "a", &ttl]).unwrap_err();
        assert!(error.contains("--ttl"), "{error}");
    }
    tell(
        data.path(),
        &["enroll", "token", "--name", "a", "--ttl", "2h"],
    )
    .unwrap();
    let listed = tell(data.path(), &["enroll", "list"]).unwrap();
    assert!(listed.contains('a') && listed.contains("token") && listed.contains("2.0 h"));
}
