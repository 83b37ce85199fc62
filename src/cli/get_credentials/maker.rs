//! The credential itself: the administrator's copied, a new certificate issued, or a plugin that signs in.
//!
//! Which one is the operator's choice; what stands in it is decided in `plan/credentials.rs` and `plan/sign_in.rs`.

use std::cell::OnceCell;

use anyhow::Context as _;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::source::{Absent, NodeKubeconfig, Sources};
use super::{CredentialFormat, GetCredentialsArgs};
use crate::apply::existing;
use crate::apply::mint::mint;
use crate::apply::register;
use crate::cli::session::Session;
use crate::error::Failure;
use crate::pki::certificate::Certificate;
use crate::pki::kubeconfig::{Authentication, Credential, Names, Source, User};
use crate::pki::private_key::PrivateKey;
use crate::pki::register::Issued as Issuance;
use crate::pki::revocation::{Traits, matching};
use crate::plan::blueprint::{Bans, KeySource};
use crate::plan::credentials::{self, Client, Standing};
use crate::plan::sign_in::{self, SignIn};

/// Behind sudo a new file still gets the owner of its folder.
const AS_ROOT: &str = "only root may read it: sudo kubepki get-credentials --file ~/.kube/config";

/// Which cluster, as the operator and the cluster file call it.
pub(super) struct ClusterIdentity {
    pub(super) name: Option<String>,
    pub(super) group: Option<String>,
    /// `HOST[:PORT]` of the cluster file.
    pub(super) endpoint: Option<String>,
}

/// Writes down what was issued.
type Keep<'a> = dyn Fn(&Issuance) -> anyhow::Result<()> + 'a;

/// What must not be issued, and where it is written down what is.
pub(super) struct Records<'a> {
    pub(super) bans: Bans,
    pub(super) keep: Box<Keep<'a>>,
}

/// Makes the credential that the options ask for.
pub(super) struct Maker<'a> {
    args: &'a GetCredentialsArgs,
    session: &'a Session,
    sources: &'a Sources<'a>,
    cluster: ClusterIdentity,
    operator: String,
    records: Records<'a>,
    signer: OnceCell<PrivateKey>,
    issued: OnceCell<Issued>,
}

/// A new client certificate with its key (PEM).
struct Issued {
    certificate: Vec<u8>,
    key: Zeroizing<String>,
}

/// The pair in a user entry (PEM).
struct Held {
    standing: Standing,
    not_after: OffsetDateTime,
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

/// A credential and what is to be said about it.
pub(super) struct Made {
    pub(super) credential: Credential,
    /// When its client certificate ends.
    pub(super) not_after: Option<OffsetDateTime>,
    /// Whether it only takes the place of a worn certificate that said the same.
    pub(super) is_renewal: bool,
    pub(super) warnings: Vec<String>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(
        args: &'a GetCredentialsArgs,
        session: &'a Session,
        sources: &'a Sources<'a>,
        cluster: ClusterIdentity,
        operator: String,
        records: Records<'a>,
    ) -> Self {
        Self { args, session, sources, cluster, operator, records, signer: OnceCell::new(), issued: OnceCell::new() }
    }

    /// The credential for somebody who has `old` so far, by the user entry's name. Called again it issues nothing new.
    pub(super) fn make(&self, old: &dyn Fn(&str) -> Option<User>) -> anyhow::Result<Made> {
        let mut made = if self.args.admin {
            self.copy()?
        } else if self.args.format == CredentialFormat::Exec {
            self.plugin()?
        } else if self.sources.has_key {
            self.issue(old)?
        } else {
            self.stand_in()?
        };
        if self.guessed_endpoint().is_some() {
            made.warnings.push(format!(
                "the server {} is a guess from the API server's certificate: a cluster file with \
                 spec.controlPlaneEndpoint says for certain",
                made.credential.server()
            ));
        } else if self.args.public_fqdn {
            made.credential = self.with_public_name(made.credential, &mut made.warnings);
        }
        Ok(made)
    }

    /// Copies the administrator's credential.
    fn copy(&self) -> anyhow::Result<Made> {
        let admin = self.admin()?;
        let file = |path: &std::path::Path| self.sources.file(path);
        let credential = Credential::copied(&admin.bytes, admin.folder(), None, &file)
            .map_err(|problem| self.sources.problem(admin, &problem))?;
        let names = self.names(Some(&credential));
        let mut made =
            Made { credential: credential.named(names), not_after: None, is_renewal: false, warnings: Vec::new() };
        if let Some(client) = admin.client(self.sources) {
            made.not_after = Some(client.not_after());
            if client.not_after() < self.session.now {
                made.warnings.push(format!(
                    "the certificate in {} has expired: kubepki rotate-certs --only leaf renews it",
                    admin.path.display()
                ));
            }
            made.warnings.extend(masters_warning(&client));
        }
        Ok(made)
    }

    /// Copies the administrator's credential because the key that could sign a new one is elsewhere.
    fn stand_in(&self) -> anyhow::Result<Made> {
        let (node, key) = (self.sources.node.name(), self.sources.key_file.display());
        if self.args.user_name.is_some() || !self.args.groups.is_empty() || self.args.validity.is_some() {
            return Err(Failure::failed(format!(
                "{node}: there is no CA key {key}, so no certificate can be issued here"
            ))
            .hint("have it signed where the CA's key is, or use --admin, which copies admin.conf")
            .into());
        }
        let mut made =
            self.copy().with_context(|| format!("{node}: there is no CA key {key} to issue a certificate with"))?;
        made.warnings.insert(
            0,
            format!("there is no CA key {key} on {node} to issue a certificate with: admin.conf's own was copied"),
        );
        Ok(made)
    }

    /// A kubeconfig whose user signs in through a plugin.
    fn plugin(&self) -> anyhow::Result<Made> {
        let sign_in = SignIn::for_server(self.sources.manifest.as_deref());
        let authentication = Authentication::Plugin {
            command: sign_in::COMMAND,
            args: &sign_in.args,
            install_hint: &sign_in.install_hint,
        };
        let credential = self.for_cluster(authentication)?;
        let mut warnings = Vec::new();
        if !sign_in.is_complete {
            warnings.push(format!(
                "the API server's manifest names no OIDC provider: complete the arguments of user {:?} in the kubeconfig",
                credential.names().user
            ));
        }
        if !super::file::is_on_path(sign_in::COMMAND)? {
            warnings.push(format!("{} is not on PATH; {}", sign_in::COMMAND, sign_in.install_hint));
        }
        Ok(Made { credential, not_after: None, is_renewal: false, warnings })
    }

    /// Issues a certificate, unless `old` has one that will do.
    fn issue(&self, old: &dyn Fn(&str) -> Option<User>) -> anyhow::Result<Made> {
        let client = self.client();
        let key = self.signer()?;
        let authority = self.sources.authority(key)?;
        let (node, now) = (self.sources.node.name(), self.session.now);
        let mut blueprint = client.blueprint(authority, node, &self.sources.key_file, now)?;
        blueprint.bans = Some(self.records.bans.clone());
        let planned = blueprint.certificates.first().map(|certificate| certificate.not_after);
        let nothing = Authentication::Embedded { certificate: &[], key: &[] };
        let unfinished = self.for_cluster(nothing)?;
        let held = old(&unfinished.names().user).and_then(|user| self.judge(&user, &client, authority));
        let warnings = blueprint.warnings.clone();
        if let Some(held) = &held
            && held.standing == Standing::Good
            && !self.args.overwrite_existing
        {
            let authentication = Authentication::Embedded { certificate: &held.certificate, key: &held.key };
            let credential = self.for_cluster(authentication)?;
            return Ok(Made { credential, not_after: Some(held.not_after), is_renewal: true, warnings });
        }
        let is_renewal = held.is_some_and(|held| held.standing != Standing::Other);
        if self.args.change.what_if {
            return Ok(Made { credential: unfinished, not_after: planned, is_renewal, warnings });
        }
        let issued = self.issued(&blueprint)?;
        let authentication = Authentication::Embedded { certificate: &issued.certificate, key: issued.key.as_bytes() };
        let credential = self.for_cluster(authentication)?;
        Ok(Made { credential, not_after: planned, is_renewal, warnings })
    }

    fn issued(&self, blueprint: &crate::plan::blueprint::Blueprint) -> anyhow::Result<&Issued> {
        if let Some(issued) = self.issued.get() {
            return Ok(issued);
        }
        let read = |source: &KeySource| existing::key(&[self.sources.node], source);
        let minted = mint(blueprint, &read, &|_| {}).context("issuing the client certificate")?;
        let client = blueprint.certificates.first().context("nothing to issue")?;
        let whom = format!("get-credentials: {}", self.operator);
        if let Some(issued) = register::record(blueprint, client, &minted, &whom, self.session.now) {
            (self.records.keep)(&issued)?;
        }
        let certificate = minted.certificate(credentials::CLIENT)?.to_pem().into_bytes();
        let key = minted.key(credentials::CLIENT)?.to_pem();
        Ok(self.issued.get_or_init(|| Issued { certificate, key }))
    }

    fn signer(&self) -> anyhow::Result<&PrivateKey> {
        if let Some(key) = self.signer.get() {
            return Ok(key);
        }
        let node = self.sources.node;
        let source = KeySource::File { node: node.name().to_owned(), path: self.sources.key_file.clone() };
        let key = existing::key(&[node], &source)?;
        Ok(self.signer.get_or_init(|| key))
    }

    /// What the certificate is to say: by default the operator's name and the rights of the node's administrator.
    fn client(&self) -> Client {
        let groups = if self.args.groups.is_empty() {
            let admin = self.sources.admin.as_ref().ok().and_then(|admin| admin.client(self.sources));
            let groups = admin.map(|admin| admin.subject().organizations().to_vec()).unwrap_or_default();
            if groups.is_empty() { vec![credentials::ADMINISTRATORS.to_owned()] } else { groups }
        } else {
            self.args.groups.clone()
        };
        Client {
            user_name: self.args.user_name.clone().unwrap_or_else(|| self.operator.clone()),
            groups,
            validity: self.args.validity.unwrap_or(credentials::VALIDITY),
        }
    }

    /// What is to be thought of the certificate in a user entry.
    fn judge(&self, user: &User, client: &Client, authority: &Certificate) -> Option<Held> {
        let bytes = |source: Source<'_>| match source {
            Source::Embedded(bytes) => Some(Zeroizing::new(bytes.to_vec())),
            _ => None,
        };
        let (certificate, key) = (bytes(user.client_certificate.source())?, bytes(user.client_key.source())?);
        let first = super::source::certificates(&certificate).into_iter().next()?;
        let public = PrivateKey::from_pem(&key).ok()?;
        let exactly_as_long = self.args.validity.is_some();
        let standing = client.standing((&first, public.public_key()), authority, exactly_as_long, self.session.now);
        // One that somebody took back is of no use, whatever it says.
        let is_revoked = matching::hit(&self.records.bans.revocations, &Traits::from(&first)).is_some();
        let standing = if is_revoked && standing == Standing::Good { Standing::Worn } else { standing };
        Some(Held { standing, not_after: first.not_after(), certificate, key })
    }

    /// A credential for this node's cluster.
    fn for_cluster(&self, authentication: Authentication<'_>) -> anyhow::Result<Credential> {
        let file = |path: &std::path::Path| self.sources.file(path);
        if let Some(known) = self.sources.admin.as_ref().ok().or(self.sources.any.as_ref()) {
            let credential = Credential::for_cluster_of(&known.bytes, known.folder(), None, &file, authentication)
                .map_err(|problem| self.sources.problem(known, &problem))?;
            let names = self.names(Some(&credential));
            return Ok(credential.named(names));
        }
        let node = self.sources.node.name();
        let endpoint = self.cluster.endpoint.clone().or_else(|| self.guessed_endpoint()).ok_or_else(|| {
            let absent = self.no_admin();
            let hint = match absent {
                Some(Absent { is_denied: true, .. }) => AS_ROOT,
                _ => "give a cluster file with spec.controlPlaneEndpoint: --cluster-file FILE",
            };
            let reason = absent.map_or("", |absent| absent.reason.as_str());
            Failure::failed(format!("node {node}: nothing here says where the API server is: {reason}")).hint(hint)
        })?;
        if self.sources.authorities.is_empty() {
            let shown = self.sources.authority_file.display();
            return Err(Failure::failed(format!("node {node}: {shown} holds no certificate that can be read")).into());
        }
        let authorities: String = self.sources.authorities.iter().map(Certificate::to_pem).collect();
        let server = credentials::with_endpoint("", &endpoint);
        Ok(Credential::new(self.names(None), &server, authorities.as_bytes(), authentication))
    }

    /// Where the API server's own certificate puts it, when nothing else is known.
    fn guessed_endpoint(&self) -> Option<String> {
        let is_known = self.sources.admin.is_ok() || self.sources.any.is_some() || self.cluster.endpoint.is_some();
        if is_known { None } else { self.sources.serving.as_ref().and_then(credentials::likely_endpoint) }
    }

    fn names(&self, found: Option<&Credential>) -> Names {
        let found = found.map(|credential| credential.names().cluster.as_str()).filter(|name| !name.is_empty());
        let cluster = self.cluster.name.as_deref().or(found).unwrap_or("kubernetes");
        credentials::names(cluster, self.cluster.group.as_deref(), self.args.context.as_deref(), self.args.admin)
    }

    fn with_public_name(&self, credential: Credential, warnings: &mut Vec<String>) -> Credential {
        let is_name =
            |endpoint: &&str| endpoint.contains(|c: char| c.is_ascii_alphabetic()) && !endpoint.contains("::");
        let endpoint = self.cluster.endpoint.as_deref();
        let serving = self.sources.serving.as_ref().and_then(credentials::public_name);
        if let Some(public) = endpoint.filter(is_name).or(serving).or(endpoint) {
            let server = credentials::with_endpoint(credential.server(), public);
            return credential.with_server(&server);
        }
        warnings.push(format!("this cluster has no public name; the server stays {}", credential.server()));
        credential
    }

    fn admin(&self) -> anyhow::Result<&NodeKubeconfig> {
        self.sources.admin.as_ref().map_err(|absent| {
            let hint = if absent.is_denied {
                AS_ROOT
            } else {
                "run it on a control-plane node, or kubepki create-certs makes the file"
            };
            Failure::failed(format!("node {}: {}", self.sources.node.name(), absent.reason)).hint(hint).into()
        })
    }

    fn no_admin(&self) -> Option<&Absent> {
        self.sources.admin.as_ref().err()
    }
}

fn masters_warning(client: &Certificate) -> Option<String> {
    let is_master = client.subject().organizations().iter().any(|group| group == credentials::MASTERS);
    is_master.then(|| {
        format!(
            "this credential belongs to {}: it may do everything, and nothing in the cluster can take that away",
            credentials::MASTERS
        )
    })
}
