//! Certificates that the cluster itself has issued on request, and that certain authorities stand behind.
//!
//! kube-controller-manager forgets requests an hour after they were approved (pkg/controller/certificates/cleaner), so
//! only the latest are told of.

use time::OffsetDateTime;

use super::NoAnswer;
use super::api_server::ApiServer;
use super::list::PAGE;
use super::signing::{SigningRequest, State, read};
use crate::live::credential::certificates;
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, issued};
use crate::pki::usage::ExtendedKeyUsage;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A certificate out of a CertificateSigningRequest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Name of the request.
    pub request: String,
    /// Who asked for it.
    pub user: String,
    /// Whom it is for: the common name.
    pub common_name: String,
    /// Who signed it, as `kubernetes.io/kube-apiserver-client`.
    pub signer: String,
    /// Its last second.
    pub not_after: OffsetDateTime,
    /// Whether one can log in with it: it is for clients, and not only for a server.
    pub is_client: bool,
    /// The certificate itself.
    pub certificate: Certificate,
}

impl IssuedCertificate {
    /// The node, if it is that of a kubelet.
    pub fn node(&self) -> Option<&str> {
        self.common_name.strip_prefix("system:node:")
    }
}

impl ApiServer<'_> {
    /// Certificates of signing requests that one of `authorities` has signed and that have not ended at `now`.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn issued_certificates(
        &self,
        authorities: &[Certificate],
        now: OffsetDateTime,
    ) -> Result<Vec<IssuedCertificate>, NoAnswer> {
        let objects: Vec<serde_json::Value> = self.list(REQUESTS, PAGE)?;
        let requests = objects.iter().filter_map(|object| read(object).ok());
        Ok(requests.filter_map(|request| of(request, authorities, now)).collect())
    }
}

fn of(request: SigningRequest, authorities: &[Certificate], now: OffsetDateTime) -> Option<IssuedCertificate> {
    let State::Issued(pem) = &request.state else { return None };
    let certificate = Certificate::from_der(certificates(pem).first()?).ok()?;
    let is_theirs = authorities.iter().any(|authority| issued(&certificate, authority) == Signature::Good);
    if !is_theirs || certificate.not_after() < now {
        return None;
    }
    Some(IssuedCertificate {
        common_name: super::tidy(certificate.subject().common_name().unwrap_or_default()),
        not_after: certificate.not_after(),
        is_client: certificate.allows(&ExtendedKeyUsage::ClientAuth),
        request: request.name,
        user: super::tidy(&request.user),
        signer: request.signer,
        certificate,
    })
}
