//! A TLS handshake for the sake of the certificates a server shows: also an expired, foreign or misnamed one's.
//!
//! Nothing is sent but the handshake, and nothing is trusted. One deadline bounds the whole attempt, name look-up
//! included, so that a silent or a dripping server cannot hold anybody up.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

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

/// Asks the server at `endpoint` for its certificates, leaf first, as DER. `server_name` is the name it is asked for
/// (SNI); the host if there is none. Everything together takes `limit` at most.
///
/// # Errors
/// Why there are none, in words: nobody listens, no answer, no TLS.
pub fn chain(endpoint: &Endpoint, server_name: Option<&str>, limit: Duration) -> Result<Vec<Vec<u8>>, String> {
    let deadline = Deadline { at: Instant::now() + limit, limit };
    let mut reason = "its name has no address".to_owned();
    for address in resolve(endpoint, deadline)? {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => return handshake(stream, address, endpoint, server_name, deadline),
            Err(error) => {
                reason = match error.kind() {
                    ErrorKind::ConnectionRefused => "nothing listens there: connection refused".to_owned(),
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => deadline.words(),
                    _ => format!("cannot connect: {}", super::reading::words(&error)),
                }
            }
        }
    }
    Err(reason)
}

#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    fn left(self) -> Result<Duration, String> {
        match self.at.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(self.words()),
        }
    }

    fn words(self) -> String {
        format!("no answer within {} s", self.limit.as_secs_f32())
    }
}

/// Looks the name up on a thread of its own: the system's look-up cannot be bounded otherwise.
fn resolve(endpoint: &Endpoint, deadline: Deadline) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = endpoint.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, endpoint.port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    std::thread::spawn(move || {
        // Nobody may be listening any more.
        let _ = sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    });
    match receiver.recv_timeout(deadline.left()?) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => Err(format!("the name {} is not known", endpoint.host)),
        Err(_) => Err(format!("the name {} was not looked up in time", endpoint.host)),
    }
}

fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    endpoint: &Endpoint,
    server_name: Option<&str>,
    deadline: Deadline,
) -> Result<Vec<Vec<u8>>, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let witness = Arc::new(Witness { seen: Mutex::default(), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    // What is no name for TLS (an interface in an address, for one) is reached by address, without SNI.
    let wanted = server_name.unwrap_or(&endpoint.host).trim_end_matches('.').to_owned();
    let name = ServerName::try_from(wanted).unwrap_or_else(|_| ServerName::from(address.ip()));
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let mut wire = Wire { stream, deadline, first: Vec::new() };
    let outcome = shake(&mut connection, &mut wire);
    let seen = std::mem::take(&mut *witness.seen.lock().unwrap_or_else(PoisonError::into_inner));
    match outcome {
        // A server that wants a client certificate has shown its own by then.
        _ if !seen.is_empty() => Ok(seen),
        Ok(()) => Err("the server showed no certificate".to_owned()),
        Err(error) => Err(words(&error, &wire.first, deadline)),
    }
}

fn shake(connection: &mut ClientConnection, wire: &mut Wire) -> std::io::Result<()> {
    while connection.is_handshaking() {
        if connection.complete_io(wire)? == (0, 0) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    // Leave properly: servers log an error otherwise. A refusal that comes now changes nothing any more.
    wire.deadline.at = wire.deadline.at.min(Instant::now() + AFTERTHOUGHT);
    connection.send_close_notify();
    let _ = connection.complete_io(wire);
    Ok(())
}

fn words(error: &std::io::Error, first: &[u8], deadline: Deadline) -> String {
    if first.starts_with(b"HTTP/") {
        return "it answers in plain HTTP, without TLS".to_owned();
    }
    if first.starts_with(b"SSH-") {
        return "it is an SSH server".to_owned();
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (tls, error.kind()) {
        (Some(Error::AlertReceived(AlertDescription::ProtocolVersion)), _) => {
            "it speaks only versions of TLS older than 1.2".to_owned()
        }
        (Some(Error::AlertReceived(AlertDescription::UnrecognisedName)), _) => {
            "it knows no certificate for this name; try --server-name".to_owned()
        }
        (Some(Error::AlertReceived(alert)), _) => format!("it refused the handshake: {alert:?}"),
        (Some(Error::InvalidMessage(_)), _) => "it does not speak TLS".to_owned(),
        (Some(Error::PeerIncompatible(why)), _) => format!("it has no kind of TLS in common with us: {why:?}"),
        (Some(other), _) => format!("the handshake failed: {other}"),
        (None, ErrorKind::WouldBlock | ErrorKind::TimedOut) => deadline.words(),
        (None, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            "it closed the connection instead of answering; it may not speak TLS".to_owned()
        }
        (None, _) => format!("the connection broke: {}", super::reading::words(error)),
    }
}

/// A connection of which each read and write waits no longer than the deadline allows, and which remembers how the
/// other side began.
struct Wire {
    stream: TcpStream,
    deadline: Deadline,
    first: Vec<u8>,
}

impl Wire {
    fn left(&self) -> std::io::Result<Option<Duration>> {
        self.deadline.left().map(Some).map_err(|_| ErrorKind::TimedOut.into())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        let count = self.stream.read(buffer)?;
        let wanted = 8_usize.saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(&buffer[..wanted]);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Takes down whatever certificates are shown. The handshake's own signature is still checked: the server must have the
/// key.
#[derive(Debug)]
struct Witness {
    seen: Mutex<Vec<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others).map(|der| der.to_vec()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
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
