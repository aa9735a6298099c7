//! A client for the collector's API: one GET a connection, JSON answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most pages read of one list.
const PAGES_MAX: usize = 40;

/// The dashboard's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api(pub(crate) SocketAddr);

impl Api {
    /// Body of a GET.
    ///
    /// # Errors
    /// No connection, no answer, or another status than 200.
    pub(crate) fn text(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.0, PATIENCE)
            .with_context(|| format!("cannot reach the collector at {}", self.0))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.0
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let split = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .with_context(|| format!("GET {path}: the answer is no HTTP"))?;
        let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
        let mut body = answer.split_off(split + 4);
        if head.contains("transfer-encoding: chunked") {
            body = unchunked(&body)?;
        }
        let body = String::from_utf8(body)?;
        ensure!(
            head.starts_with("http/1.1 200"),
            "GET {path}: {} {body}",
            head.lines().next().unwrap_or_default()
        );
        Ok(body)
    }

    /// A JSON answer.
    ///
    /// # Errors
    /// As [`Self::text`], or the body is no JSON.
    pub(crate) fn json(&self, path: &str) -> anyhow::Result<Value> {
        serde_json::from_str(&self.text(path)?).with_context(|| format!("GET {path}: no JSON"))
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`Self::json`], or the list has no end.
    pub(crate) fn items(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut before = String::new();
        for _ in 0..PAGES_MAX {
            let page = self.json(&format!("{path}{before}"))?;
            let list = page["items"].as_array().context("a list without items")?;
            items.extend(list.iter().cloned());
            match page["next"].as_str() {
                Some(next) if !list.is_empty() => before = format!("&before={next}"),
                _ => return Ok(items),
            }
        }
        bail!("GET {path}: more than {PAGES_MAX} pages")
    }
}

/// Joins the chunks of a body (RFC 9112 §7.1).
fn unchunked(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body
            .windows(2)
            .position(|window| window == b"\r\n")
            .context("a chunk without a length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line])?, 16)?;
        let rest = &body[line + 2..];
        if length == 0 {
            return Ok(whole);
        }
        let chunk = rest.get(..length).context("a chunk is cut")?;
        whole.extend_from_slice(chunk);
        body = rest.get(length + 2..).context("a chunk without an end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::unchunked;

    #[test]
    fn chunks_are_joined_and_a_cut_one_is_refused() {
        assert_eq!(
            unchunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(),
            b"abcde"
        );
        assert!(unchunked(b"5\r\nabc\r\n").is_err());
    }
}
