//! The dashboard over HTTPS: by files and by the collector's own authority, asked by a TLS client.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netml_collector::pki::verifier::provider;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::harness::{Answer, Collector, PATIENCE, command_at, failing};
use super::tls::tell;

const DAY_S: i64 = 86_400;

/// A browser that trusts these certificates only.
struct Browser(Arc<ClientConfig>);

impl Browser {
    fn trusting(pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// Asks the collector by a name; `Err` where the connection does not come about.
    fn ask(
        &self,
        collector: &Collector,
        name: &str,
        line: &str,
        headers: &str,
    ) -> std::io::Result<Answer> {
        let (_, port) = collector.web.rsplit_once(':').unwrap();
        let stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.0), server).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let request =
            format!("{line} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(Answer::parse(&String::from_utf8(answer).unwrap()))
    }

    fn get(&self, collector: &Collector, name: &str, path: &str) -> Answer {
        let asked = self.ask(collector, name, &format!("GET {path}"), "");
        asked.unwrap()
    }
}

/// A certificate for these names, begun and ended so many seconds from now, and its key.
fn made(names: &[&str], from_s: i64, to_s: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_s = i64::try_from(now.as_secs()).unwrap();
    let at = |s| time::OffsetDateTime::from_unix_timestamp(now_s + s).unwrap();
    (params.not_before, params.not_after) = (at(from_s), at(to_s));
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

struct Files {
    directory: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            certificate: directory.path().join("web.pem"),
            key: directory.path().join("web.key"),
            directory,
        }
    }

    fn hold(&self, (certificate, key): &(String, String)) {
        fs::write(&self.certificate, certificate).unwrap();
        fs::write(&self.key, key).unwrap();
    }

    fn command(&self, web: &str) -> Command {
        let mut command = command_at(&self.data(), web, "127.0.0.1:0");
        command
            .arg("--web-certificate")
            .arg(&self.certificate)
            .arg("--web-key")
            .arg(&self.key);
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

fn own(data: &Path, web: &str) -> Command {
    let mut command = command_at(data, web, "127.0.0.1:0");
    command.arg("--web-tls");
    command
}

#[test]
fn a_certificate_of_the_own_authority_is_good_for_its_hosts_and_the_loopback() {
    let data = tempfile::tempdir().unwrap();
    tell(data.path(), &["ca", "init", "--host", "netml.example"]).unwrap();
    let authority = tell(data.path(), &["ca", "certificate"]).unwrap();
    let collector = Collector::start_by(own(data.path(), "127.0.0.1:0"));
    let browser = Browser::trusting(&authority);
    for name in ["127.0.0.1", "localhost", "netml.example"] {
        let answer = browser.get(&collector, name, "/api/status");
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
    let other = browser.ask(&collector, "other.example", "GET /", "");
    assert!(other.is_err(), "a name that is not in the certificate");
    let stranger = Browser::trusting(&made(&["netml.example"], -60, 60).0);
    let distrusted = stranger.ask(&collector, "netml.example", "GET /", "");
    assert!(distrusted.is_err());

    // Never again in plain text, but for the loopback, whose other services would suffer.
    let strict = |name| {
        let answer = browser.get(&collector, name, "/");
        answer.headers.contains_key("strict-transport-security")
    };
    assert!(strict("netml.example") && !strict("localhost") && !strict("127.0.0.1"));
    let path = format!("/?token={}", collector.token);
    let entered = browser.get(&collector, "netml.example", &path);
    assert_eq!(entered.status, 303);
    let cookie = &entered.headers["set-cookie"];
    assert!(cookie.contains("; Secure") && cookie.contains("; HttpOnly"));

    // Plain text gets no answer.
    let mut plain = TcpStream::connect(&collector.web).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // It may end in a reset.
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let status = browser.get(&collector, "localhost", "/api/status").body;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(
        status["books"]["tls_failed"].as_u64() >= Some(1),
        "{status}"
    );
    assert_eq!(collector.stop(), Some(0));
}

#[test]
fn a_certificate_that_changes_is_taken_and_a_bad_one_is_not() {
    let files = Files::new();
    let first = made(&["a.example"], -60, DAY_S);
    files.hold(&first);
    let collector = Collector::start_by(files.command("127.0.0.1:0"));
    let asks = |pair: &(String, String), name: &str| {
        let browser = Browser::trusting(&pair.0);
        browser.ask(&collector, name, "GET /healthz", "").is_ok()
    };
    assert!(asks(&first, "a.example"));
    let hang_up = || {
        let id = collector.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status();
        assert!(sent.unwrap().success());
    };
    // Another key than the certificate's: the old pair stays.
    let second = made(&["b.example"], -60, DAY_S);
    fs::write(&files.key, &second.1).unwrap();
    hang_up();
    assert!(asks(&first, "a.example"));
    fs::write(&files.certificate, &second.0).unwrap();
    hang_up();
    eventually(|| asks(&second, "b.example"));
    assert!(!asks(&first, "a.example"));
    // By itself, without a word.
    let third = made(&["c.example"], -60, DAY_S);
    files.hold(&third);
    eventually(|| asks(&third, "c.example"));
    assert_eq!(collector.stop(), Some(0));
}

fn eventually(fits: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn where_other_hosts_reach_it_reading_needs_the_token() {
    let files = Files::new();
    let pair = made(&["netml.example"], -60, DAY_S);
    files.hold(&pair);
    let collector = Collector::start_by(files.command("0.0.0.0:0"));
    assert!(
        collector.web.starts_with("netml.example:"),
        "{}",
        collector.web
    );
    let browser = Browser::trusting(&pair.0);
    let ask = |path: &str, headers: &str| {
        let asked = browser.ask(&collector, "netml.example", &format!("GET {path}"), headers);
        asked.unwrap().status
    };
    let bearer = format!("Authorization: Bearer {}\r\n", collector.token);
    for path in ["/api/status", "/api/flows", "/metrics"] {
        assert_eq!(ask(path, ""), 401, "{path}");
        assert_eq!(ask(path, &bearer), 200, "{path}");
    }
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(ask(path, ""), 200, "{path}");
    }
    assert_eq!(collector.stop(), Some(0));
}

fn refused(command: &mut Command, code: i32, parts: &[&str]) {
    let output = failing(command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn what_cannot_be_served_is_told_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let mut command = command_at(data.path(), address, "127.0.0.1:0");
        let parts = ["--web-certificate", "--web-tls", "127.0.0.1"];
        refused(&mut command, 2, &parts);
    }
    refused(&mut own(data.path(), "127.0.0.1:0"), 2, &["ca init"]);
    let mut half = command_at(data.path(), "127.0.0.1:0", "127.0.0.1:0");
    refused(half.args(["--web-certificate", "x"]), 2, &["--web-key"]);

    let files = Files::new();
    let certificate = files.certificate.to_str().unwrap();
    let key = files.key.to_str().unwrap();
    let started = |parts: &[&str]| refused(&mut files.command("127.0.0.1:0"), 1, parts);
    started(&[certificate, "cannot read", "--web-certificate"]);
    files.hold(&made(&["a.example"], -2 * DAY_S, -DAY_S));
    started(&[certificate, "good from", "get a new one"]);
    files.hold(&made(&["a.example"], -60, DAY_S));
    fs::write(&files.key, made(&["a.example"], -60, DAY_S).1).unwrap();
    started(&[certificate, key, "is not that of"]);
    fs::write(&files.key, "none").unwrap();
    started(&[key, "--web-key"]);
    fs::write(&files.certificate, "none").unwrap();
    started(&[certificate, "holds no certificate"]);
}
