//! The token that lets a sensor enrol: `netml1:NAME:AUTHORITY:SECRET`.
//!
//! It names the sensor it is for, carries the SHA-256 of the certificate authority's certificate,
//! so that a sensor knows the collector at the first connection, and a secret of 256 bits. Both are
//! in hexadecimal digits.

use std::fmt;

/// SHA-256 of a certificate in DER.
pub type Fingerprint = [u8; 32];

/// First part of every token.
const SCHEME: &str = "netml1";

/// A token in its parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The sensor it is for.
    pub sensor: String,
    /// SHA-256 of the authority's certificate.
    pub authority: Fingerprint,
    /// What only the one who was given the token knows.
    pub secret: [u8; 32],
}

impl Token {
    /// The token of a text; None where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split(':');
        let [scheme, sensor, authority, secret] = [(); 4].map(|()| parts.next());
        if scheme? != SCHEME || sensor?.is_empty() || parts.next().is_some() {
            return None;
        }
        Some(Self {
            sensor: sensor?.to_owned(),
            authority: from_hex(authority?)?,
            secret: from_hex(secret?)?,
        })
    }

    /// The whole text, secret included.
    #[must_use]
    pub fn reveal(&self) -> String {
        let Self {
            sensor,
            authority,
            secret,
        } = self;
        format!("{SCHEME}:{sensor}:{}:{}", hex(authority), hex(secret))
    }
}

/// Without the secret: logs are read by many.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Token({SCHEME}:{}:{}:…)",
            self.sensor,
            hex(&self.authority)
        )
    }
}

/// Hexadecimal digits of 32 bytes.
#[must_use]
pub fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes of 64 hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_hides_its_secret() {
        let token = Token {
            sensor: "edge-1.lab_x".into(),
            authority: [0xab; 32],
            secret: [7; 32],
        };
        let text = token.reveal();
        assert_eq!(Token::parse(&format!(" {text}\n")), Some(token.clone()));
        assert!(!format!("{token:?}").contains("0707"));
        for bad in [
            String::new(),
            text.replace("netml1", "netml2"),
            text.replace("edge-1.lab_x", ""),
            format!("{text}:x"),
            text[..text.len() - 1].to_owned(),
            text.replace("07", "0ü"),
        ] {
            assert_eq!(Token::parse(&bad), None, "{bad}");
        }
    }
}
