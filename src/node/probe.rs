//! A TLS handshake for the sake of the certificates a server shows: also an expired, foreign or misnamed one's.
//!
//! Nothing is sent but the handshake, and nothing is trusted. One deadline bounds the whole attempt, name look-up
//! included, so that a silent or a dripping server cannot hold anybody up.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, ClientConnection, crypto};

use super::Node;
use super::tls::{self, Witness};
use super::wire::{self, Deadline, Timed};

/// Port of an endpoint that names none: the API server's.
const API_SERVER: u16 = 6443;

/// How long after the handshake a server may still say that it wants a client certificate (TLS 1.3).
const AFTERTHOUGHT: Duration = Duration::from_millis(300);

/// A TLS server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads `HOST:PORT`, `[IPV6]:PORT`, `HOST` (port 6443) and the `https://` address of an API server.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no HOST:PORT, as 10.0.0.1:6443 or [fd00::1]:6443");
        let text = text.trim();
        let (rest, default) = text.strip_prefix("https://").map_or((text, API_SERVER), |rest| (rest, 443));
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, port) = bracketed.split_once(']').ok_or_else(wrong)?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
            (host, port)
        } else if rest.parse::<IpAddr>().is_ok() {
            (rest, None)
        } else {
            rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
        };
        let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| wrong()))?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
        if host.is_empty() || port == 0 || !host.bytes().all(is_name) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Asks the server at `endpoint`, as this machine reaches it, for its certificates, leaf first, as DER. `server_name` is
/// the name it is asked for (SNI); the host if there is none. Everything together takes `limit` at most.
///
/// # Errors
/// Why there are none, in words: nobody listens, no answer, no TLS.
pub fn chain(endpoint: &Endpoint, server_name: Option<&str>, limit: Duration) -> Result<Vec<Vec<u8>>, String> {
    let deadline = Deadline::new(limit);
    let stream = wire::connect(&endpoint.host, endpoint.port, limit)?;
    handshake(Timed::new(Box::new(stream), deadline), server_name.unwrap_or(&endpoint.host))
}

/// Asks the server at `endpoint`, as `node` reaches it, for its certificates; otherwise as [`chain`]. `limit` bounds the
/// connection from the node and the handshake; logging in to the node, where that is yet to be done, has its own time.
///
/// # Errors
/// As [`chain`].
pub fn chain_through(
    node: &dyn Node,
    endpoint: &Endpoint,
    server_name: Option<&str>,
    limit: Duration,
) -> Result<Vec<Vec<u8>>, String> {
    let wire = node.dial(&endpoint.host, endpoint.port, limit)?;
    handshake(Timed::new(wire, Deadline::new(limit)), server_name.unwrap_or(&endpoint.host))
}

/// Asks the server at `endpoint`, as `node` reaches it, whose certificates it would take from a client: the names (DER) in its
/// request for one, in no order. None when it asks for no certificate.
///
/// # Errors
/// As [`chain`].
pub fn acceptable_through(node: &dyn Node, endpoint: &Endpoint, limit: Duration) -> Result<Vec<Vec<u8>>, String> {
    let wire = node.dial(&endpoint.host, endpoint.port, limit)?;
    let (tls, names) = tls::Tls::listening()?;
    let mut wire = Timed::new(wire, Deadline::new(limit));
    let mut connection = tls.connection(&endpoint.host)?;
    let outcome = tls::shake(&mut connection, &mut wire);
    if outcome.is_ok() {
        leave(&mut connection, &mut wire);
    }
    match (names.take(), outcome) {
        (Some(names), _) => Ok(names),
        (None, Ok(())) => Ok(Vec::new()),
        (None, Err(error)) => Err(tls::words(&error, &wire.first, wire.deadline)),
    }
}

fn handshake(mut wire: Timed, name: &str) -> Result<Vec<Vec<u8>>, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let witness = Arc::new(Witness::new(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), tls::tls_name(name))
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let outcome = tls::shake(&mut connection, &mut wire);
    if outcome.is_ok() {
        leave(&mut connection, &mut wire);
    }
    match (witness.take(), outcome) {
        // A server that wants a client certificate has shown its own by then.
        (seen, _) if !seen.is_empty() => Ok(seen),
        (_, Ok(())) => Err("the server showed no certificate".to_owned()),
        (_, Err(error)) => Err(tls::words(&error, &wire.first, wire.deadline)),
    }
}

/// Leaves properly: servers log an error otherwise. A refusal that comes now changes nothing any more.
fn leave(connection: &mut ClientConnection, wire: &mut Timed) {
    wire.deadline.at = wire.deadline.at.min(Instant::now() + AFTERTHOUGHT);
    connection.send_close_notify();
    let _ = connection.complete_io(wire);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_operators_write_them() {
        for (text, shown) in [
            ("10.0.0.1:6443", "10.0.0.1:6443"),
            ("[::1]:6443", "[::1]:6443"),
            ("[fe80::1%eth0]:10250", "[fe80::1%eth0]:10250"),
            ("::1", "[::1]:6443"),
            ("[fd00::1]", "[fd00::1]:6443"),
            ("api.example.com", "api.example.com:6443"),
            ("https://api.example.com/k8s", "api.example.com:443"),
            ("https://10.0.0.1:6443", "10.0.0.1:6443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), shown);
        }
        for wrong in ["", ":6443", "host:", "host:0", "host:70000", "[::1", "[::1]6443", "a b:1", "host:x"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
