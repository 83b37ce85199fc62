//! TLS over a wire: whom we trust, who we are, and what a failure means.
//!
//! Sessions are never resumed and nothing is kept between two connections: each is a proof of its own that the server
//! has the certificate it shows and accepts the one it is shown. A client certificate is sent whenever the server asks
//! for any, also when the server would not expect its issuer: the refusal has to be the server's.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use zeroize::Zeroizing;

use super::wire::{Deadline, Timed};

/// Which servers are believed to be who they say.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Any that has the key of the certificate it shows. For servers that sign their own certificates, and where
    /// nothing secret is sent.
    Anybody,
    /// Those with a certificate for their name that one of these CA certificates (DER) leads to, today.
    Authorities(&'a [Vec<u8>]),
}

/// A certificate to show to servers, and its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate and its intermediates, leaf first, as DER.
    pub chain: Vec<Vec<u8>>,
    /// The key as DER: PKCS#8, PKCS#1 or SEC1.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// How TLS is spoken with some servers.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Trusts as `trust` says, and shows `identity` to servers that ask for a certificate.
    ///
    /// # Errors
    /// In words: when none of the authorities, or not the identity, can be used.
    pub fn new(trust: Trust<'_>, identity: Option<&Identity>) -> Result<Self, String> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anybody => Arc::new(Witness::new(Arc::clone(&provider))),
            Trust::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                let ders = authorities.iter().map(|der| CertificateDer::from(der.as_slice()));
                let (usable, _) = roots.add_parsable_certificates(ders);
                if usable == 0 {
                    return Err("there is no CA certificate to check the server with".to_owned());
                }
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| format!("the CA certificates cannot be used: {error}"))?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(Arc::new(certified(identity)?)),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: None })
    }

    /// Believes anybody, shows nothing, and takes down whose certificates a server would take.
    pub(super) fn listening() -> Result<(Self, Arc<Acceptable>), String> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let names = Arc::new(Acceptable::default());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Witness::new(provider)))
            .with_client_cert_resolver(Arc::clone(&names) as Arc<dyn ResolvesClientCert>);
        config.resumption = Resumption::disabled();
        Ok((Self { config: Arc::new(config), server_name: None }, names))
    }

    /// Expects `name` in the server's certificate instead of the host that is connected to.
    #[must_use]
    pub fn for_server(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Begins a connection to `host`.
    pub(super) fn connection(&self, host: &str) -> Result<ClientConnection, String> {
        let name = tls_name(self.server_name.as_deref().unwrap_or(host));
        ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| format!("TLS cannot be set up: {error}"))
    }
}

/// Takes down the names in a server's request for a client certificate, and has none to show.
#[derive(Debug, Default)]
pub(super) struct Acceptable(Mutex<Option<Vec<Vec<u8>>>>);

impl Acceptable {
    /// What a server has asked for; `None` when it has not.
    pub(super) fn take(&self) -> Option<Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ResolvesClientCert for Acceptable {
    fn resolve(&self, names: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let names = names.iter().map(|name| name.to_vec()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(identity: &Identity) -> Result<SingleCertAndKey, String> {
    let key = PrivateKeyDer::try_from(identity.key.as_slice())
        .map_err(|_| "the client key is of no kind that TLS can use".to_owned())?;
    let key = crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| "the client key is of no kind that TLS can use".to_owned())?;
    let chain: Vec<_> = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    if chain.is_empty() {
        return Err("there is no client certificate".to_owned());
    }
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(_)) => Err("the client key does not belong to the client certificate".to_owned()),
        // A certificate that is too odd to be compared is the server's to judge.
        _ => Ok(SingleCertAndKey::from(certified)),
    }
}

/// The name that TLS is told for `host`. What is none for TLS (an interface in an address, for one) goes without SNI.
pub(super) fn tls_name(host: &str) -> ServerName<'static> {
    let bare = host.split('%').next().unwrap_or(host).trim_end_matches('.').to_owned();
    ServerName::try_from(bare).unwrap_or_else(|_| ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// Shakes hands.
pub(super) fn shake(connection: &mut ClientConnection, wire: &mut Timed) -> std::io::Result<()> {
    while connection.is_handshaking() {
        if connection.complete_io(wire)? == (0, 0) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// What a failure says about the two certificates in play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// We do not believe the server.
    Untrusted,
    /// The server does not accept our certificate, or wants one.
    Refused,
    /// Neither.
    Broken,
}

/// Sorts an error by whose certificate was refused.
pub(super) fn verdict(error: &std::io::Error) -> Verdict {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_)) => Verdict::Untrusted,
        Some(Error::AlertReceived(
            AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        )) => Verdict::Refused,
        _ => Verdict::Broken,
    }
}

/// An error in words. `first` is how the other side began.
pub(super) fn words(error: &std::io::Error, first: &[u8], deadline: Deadline) -> String {
    if first.starts_with(b"HTTP/") {
        return "it answers in plain HTTP, without TLS".to_owned();
    }
    if first.starts_with(b"SSH-") {
        return "it is an SSH server".to_owned();
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (tls, error.kind()) {
        (Some(Error::AlertReceived(alert)), _) => alert_words(*alert),
        (Some(Error::InvalidCertificate(why)), _) => certificate_words(why),
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

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::ProtocolVersion => "it speaks only versions of TLS older than 1.2".to_owned(),
        AlertDescription::UnrecognisedName => "it knows no certificate for this name; try --server-name".to_owned(),
        AlertDescription::UnknownCA => "it does not trust the issuer of our certificate (UnknownCA)".to_owned(),
        AlertDescription::CertificateExpired => "it finds our certificate expired (CertificateExpired)".to_owned(),
        AlertDescription::CertificateRevoked => "it finds our certificate revoked (CertificateRevoked)".to_owned(),
        AlertDescription::CertificateRequired => "it wants a client certificate (CertificateRequired)".to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => format!("it does not accept our certificate ({alert:?})"),
        other => format!("it refused the handshake: {other:?}"),
    }
}

fn certificate_words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "its certificate is signed by no CA that is trusted here".to_owned(),
        CertificateError::BadSignature => {
            "its certificate is signed by another key than that of the trusted CA of this name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("its certificate is not for {}", expected.to_str())
        }
        other => format!("its certificate is not accepted here: {other}"),
    }
}

/// Takes down whatever certificates are shown. The handshake's own signature is still checked: the server must have the
/// key.
#[derive(Debug)]
pub(super) struct Witness {
    seen: Mutex<Vec<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl Witness {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { seen: Mutex::default(), provider }
    }

    /// What was shown last, leaf first.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
