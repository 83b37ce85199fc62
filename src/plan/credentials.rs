//! A credential for a person: how it is named, what its certificate says, whether the one they have will do.
//!
//! Names are az's, but for its defect that two clusters could share a user entry. The certificate is short-lived,
//! because nothing takes a client certificate back before it ends but a change of CA.

use std::path::Path;

use time::OffsetDateTime;

use super::blueprint::{Basis, Blueprint, CertificatePlan, IssuerPlan, KeyPlan, KeySource};
use crate::error::Failure;
use crate::pki::algorithm::{KeyAlgorithm, KeyKind};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::pki::kubeconfig::Names;
use crate::pki::lifetime::{self, Lifetime, Threshold};
use crate::pki::name::Name;
use crate::pki::san::San;
use crate::pki::usage::ExtendedKeyUsage;

/// How long a certificate is valid unless the operator says otherwise: a working day and the night after it.
pub const VALIDITY: Lifetime = Lifetime::hours(24);

/// The group kubeadm gives its own administrator since 1.29; RBAC can take its rights away.
pub const ADMINISTRATORS: &str = "kubeadm:cluster-admins";

/// The group that no RBAC rule and no authorizer can refuse anything.
pub const MASTERS: &str = "system:masters";

/// Names the new client's key and certificate in the blueprint.
pub const CLIENT: &str = "client";

const AUTHORITY_KEY: &str = "ca";

/// From this share of its lifetime on, a certificate is renewed instead of kept.
const WORN: Threshold = Threshold::UsedPercent(80.0);

/// The names of a credential's entries, as az gives them: cluster and context are called as the cluster, or as `context`
/// where that is given; the user `clusterUser_GROUP_NAME`, an administrator `clusterAdmin_GROUP_NAME` with the context
/// `NAME-admin`.
///
/// With `context` the user is named after that too, so that two clusters of one name stay apart.
pub fn names(cluster: &str, group: Option<&str>, context: Option<&str>, is_admin: bool) -> Names {
    let base = context.unwrap_or(cluster);
    let prefix = if is_admin { "clusterAdmin" } else { "clusterUser" };
    let parts: Vec<&str> = [Some(prefix), group, Some(base)].into_iter().flatten().collect();
    Names {
        cluster: base.to_owned(),
        user: parts.join("_"),
        context: if is_admin { format!("{base}-admin") } else { base.to_owned() },
    }
}

/// What a client certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Common name: Kubernetes' user.
    pub user_name: String,
    /// Organizations: Kubernetes' groups.
    pub groups: Vec<String>,
    /// For how long.
    pub validity: Lifetime,
}

/// What is to be thought of a certificate somebody has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It says what is wanted and lasts: nothing to do.
    Good,
    /// It says what is wanted, but has come to its end: exchanging it takes nothing away from anybody.
    Worn,
    /// It is another one.
    Other,
}

impl Client {
    /// The key and the certificate to make, signed by `authority` with the key in `key_file` on `node`. The end is never
    /// past the authority's; where that shortens it, the blueprint's warnings say so.
    ///
    /// # Errors
    /// When the authority has ended or has not begun, or the wish is empty.
    pub fn blueprint(
        &self,
        authority: &Certificate,
        node: &str,
        key_file: &Path,
        now: OffsetDateTime,
    ) -> Result<Blueprint, Failure> {
        let signer = authority.subject().text();
        if self.user_name.is_empty() {
            return Err(Failure::usage("the user name is empty").hint("--user-name NAME"));
        }
        if self.validity.duration().is_zero() {
            return Err(Failure::usage("a validity of 0 makes no certificate").hint("--validity 24h"));
        }
        if now > authority.not_after() {
            return Err(Failure::failed(format!("{node}: the CA {signer} has expired and can sign nothing any more"))
                .hint("kubepki rotate-certs --only ca"));
        }
        if now < authority.not_before() {
            return Err(Failure::failed(format!("{node}: the CA {signer} is not valid yet"))
                .hint("look at this machine's clock, then kubepki check-expiry"));
        }
        let (start, wanted) = lifetime::period(now, self.validity);
        let (not_before, not_after) = (start.max(authority.not_before()), wanted.min(authority.not_after()));
        let mut warnings = Vec::new();
        if not_after < wanted {
            warnings.push(format!("the certificate ends with its CA ({signer}), not after {}", self.validity));
        }
        if self.groups.iter().any(|group| group == MASTERS) {
            warnings.push(format!(
                "the group {MASTERS} may do everything, and nothing in the cluster can take that away from this \
                 certificate before it ends"
            ));
        }
        let key = |id: &str, source| KeyPlan { id: id.to_owned(), source };
        Ok(Blueprint {
            command: "get-credentials".to_owned(),
            keys: vec![
                key(AUTHORITY_KEY, KeySource::File { node: node.to_owned(), path: key_file.to_owned() }),
                key(CLIENT, KeySource::New(algorithm(authority))),
            ],
            certificates: vec![CertificatePlan {
                id: CLIENT.to_owned(),
                key: CLIENT.to_owned(),
                basis: Basis::Leaf {
                    subject: Name::new(&self.user_name, &self.groups),
                    sans: Vec::new(),
                    usages: vec![ExtendedKeyUsage::ClientAuth],
                },
                issuer: IssuerPlan::Existing {
                    certificate: Box::new(authority.clone()),
                    key: AUTHORITY_KEY.to_owned(),
                },
                not_before,
                not_after,
            }],
            warnings,
            ..Blueprint::default()
        })
    }

    /// Whether `certificate`, whose key has the public half `public_key`, is what [`Client::blueprint`] would make. Its
    /// length counts only with `exactly_as_long`.
    pub fn standing(
        &self,
        (certificate, public_key): (&Certificate, &[u8]),
        authority: &Certificate,
        exactly_as_long: bool,
        now: OffsetDateTime,
    ) -> Standing {
        let subject = Name::new(&self.user_name, &self.groups);
        let is_ours = certificate.subject().der() == subject.der()
            && certificate.certifies(public_key)
            && certificate.allows(&ExtendedKeyUsage::ClientAuth)
            && matches!(chain::issued(certificate, authority), Signature::Good);
        let (start, end) = lifetime::period(now, self.validity);
        let whole = (certificate.not_after() - certificate.not_before()).whole_seconds();
        // One that ends with its CA is shorter than asked for and still all there is to have.
        let is_as_long = whole == (end - start).whole_seconds() || certificate.not_after() == authority.not_after();
        if !is_ours || (exactly_as_long && !is_as_long) {
            return Standing::Other;
        }
        let (from, to) = (certificate.not_before(), certificate.not_after());
        let will_do = from <= now && !WORN.reached(from, to, now);
        if will_do { Standing::Good } else { Standing::Worn }
    }
}

/// Elliptic curves take no time to make and every API server knows them; the curve of the CA where it has one.
fn algorithm(authority: &Certificate) -> KeyAlgorithm {
    match authority.key_kind() {
        KeyKind::EcdsaP384 => KeyAlgorithm::EcdsaP384,
        _ => KeyAlgorithm::EcdsaP256,
    }
}

/// The name under which the API server is known outside its cluster: the first DNS name in its certificate with a dot in
/// it that is none of the cluster's own.
pub fn public_name(serving: &Certificate) -> Option<&str> {
    serving.sans().iter().find_map(|san| match san {
        San::Dns(name) => {
            let (first, rest) = name.split_once('.')?;
            let is_own = matches!(first, "kubernetes" | "localhost" | "*") || rest.rsplit('.').next() == Some("local");
            (!is_own).then_some(name.as_str())
        }
        _ => None,
    })
}

/// Where the API server probably is, when only its certificate tells: under its public name, else at its last address.
/// Before it stands that of the `kubernetes` service, which is reached inside the cluster only.
pub fn likely_endpoint(serving: &Certificate) -> Option<String> {
    let addresses = serving.sans().iter().rev();
    let address = addresses.filter_map(|san| match san {
        San::Ip(address) if !address.is_loopback() => Some(address.to_string()),
        _ => None,
    });
    public_name(serving).map(str::to_owned).or_else(|| address.into_iter().next())
}

/// The URL `server` with another host, and another port where `endpoint` (`HOST[:PORT]`) names one.
pub fn with_endpoint(server: &str, endpoint: &str) -> String {
    let has_port = match endpoint.rsplit_once(':') {
        Some((host, port)) => {
            !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
        }
        None => false,
    };
    let is_bare_ipv6 = endpoint.matches(':').count() > 1 && !endpoint.starts_with('[');
    let host = if is_bare_ipv6 { format!("[{endpoint}]") } else { endpoint.to_owned() };
    if has_port {
        return format!("https://{host}");
    }
    let authority = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
    format!("https://{host}:{}", port.unwrap_or("6443"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_as_az_names_them_and_never_shared_by_two_clusters() {
        let names = |group, context, is_admin| {
            let names = names("lab", group, context, is_admin);
            format!("{} {} {}", names.cluster, names.user, names.context)
        };
        assert_eq!(names(Some("rg"), None, false), "lab clusterUser_rg_lab lab");
        assert_eq!(names(Some("rg"), None, true), "lab clusterAdmin_rg_lab lab-admin");
        assert_eq!(names(None, None, false), "lab clusterUser_lab lab");
        assert_eq!(names(None, Some("mine"), true), "mine clusterAdmin_mine mine-admin");
    }

    #[test]
    fn an_endpoint_takes_the_place_of_the_server_with_its_port_or_the_old_one() {
        for (server, endpoint, expected) in [
            ("https://10.0.0.1:6443", "api.example.com", "https://api.example.com:6443"),
            ("https://10.0.0.1:6443", "api.example.com:443", "https://api.example.com:443"),
            ("https://10.0.0.1", "api.example.com", "https://api.example.com:6443"),
            ("https://[fd00::1]:8443/", "fd00::2", "https://[fd00::2]:8443"),
            ("https://[fd00::1]", "[fd00::2]:443", "https://[fd00::2]:443"),
        ] {
            assert_eq!(with_endpoint(server, endpoint), expected);
        }
    }
}
