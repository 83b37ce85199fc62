//! Which certificate and key each authority really has, where files are gone, damaged, or disagree: told by what it signed.
//!
//! An authority is never replaced. Its files are brought back from another node, or out of a kubeconfig, and only where the
//! certificates around it prove it right; anything else is a guess, which is shown, and acted upon only with `--force`.

use std::path::PathBuf;

use time::OffsetDateTime;

use super::builder::{Builder, PUBLIC, SECRET, SHORTEST, Stage, leading};
use super::cases::{Case, Unit};
use crate::pki::catalog::{Catalog, Entry, Kind};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::pki::layout::Role;
use crate::plan::blueprint::{Basis, CertificatePlan, CertificateRef, FileContent, IssuerPlan, KeySource};
use crate::snapshot::{Artifact, FoundKey};

/// Who signs a certificate, and when that authority is valid.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) plan: IssuerPlan,
    /// First and last second.
    pub(super) period: (OffsetDateTime, OffsetDateTime),
    /// What follows a certificate in its file.
    pub(super) above: Vec<CertificateRef>,
}

/// One authority.
#[derive(Debug)]
struct Authority {
    id: &'static str,
    /// The right certificate.
    certificate: Certificate,
    /// Everything in its file: more than one while one authority takes over from another.
    bundle: Vec<CertificateRef>,
    /// Where its key is, if it is anywhere.
    key: Option<KeySource>,
    /// Id of the certificate that takes its place with the same key.
    renewed: Option<(String, OffsetDateTime, OffsetDateTime)>,
    /// Whether its time is over.
    has_ended: bool,
    /// Why nothing is done with it.
    blocked: Option<String>,
}

/// What to do where an authority's key is kept elsewhere.
const ELSEWHERE: &str = "have a signing request of `kubepki create-certs --csr-only` signed where it is, and take the \
                         certificate in with --import-signed";

/// All authorities.
#[derive(Debug, Default)]
pub(super) struct Authorities(Vec<Authority>);

/// An authority as some file has it, and what speaks for it.
struct Candidate<'a> {
    certificate: &'a Certificate,
    /// Files of authorities that begin with it.
    files: usize,
    /// Certificates that it signed.
    leaves: usize,
    key: Option<KeySource>,
}

impl Authorities {
    /// Decides which authorities are right, and plans their files.
    pub(super) fn mend(builder: &mut Builder<'_>, cases: &mut [Case<'_>]) -> Self {
        let mut authorities = Self::default();
        let mut ids: Vec<&'static str> = Vec::new();
        for (_, artifact) in builder.snapshot.artifacts() {
            let Some(part) = artifact.part.filter(|part| matches!(part.catalog, Catalog::Kubeadm | Catalog::Aks))
            else {
                continue;
            };
            if part.entry.kind == Kind::Authority && !ids.contains(&part.entry.id) {
                ids.push(part.entry.id);
            }
        }
        for id in ids {
            authorities.one(builder, cases, id);
        }
        builder.tokens(cases);
        authorities
    }

    fn one(&mut self, builder: &mut Builder<'_>, cases: &mut [Case<'_>], id: &'static str) {
        let mut own: Vec<&mut Case<'_>> = cases.iter_mut().filter(|case| case.unit == Unit::Authority(id)).collect();
        let (certificate, key, guess) = match chosen(builder, id) {
            Ok(found) => found,
            Err(reason) => return own.iter_mut().for_each(|case| case.settle(&Err(reason.clone()))),
        };
        let has_ended = certificate.not_after() < builder.request.now;
        let blocked = guess.filter(|_| !builder.request.force);
        let bundle = healthy_bundle(builder, id, &certificate);
        let mut authority = Authority { id, certificate, bundle, key, renewed: None, has_ended, blocked };
        if has_ended && authority.blocked.is_none() {
            authority.renew(builder);
        } else if authority.certificate.not_before() > builder.request.now {
            let words = format!("`{id}` is not valid yet: compare the clocks with `timedatectl`");
            authority.blocked = Some(words);
        }
        for case in &mut own {
            let outcome = authority.mend(builder, case.node);
            case.settle(&outcome);
        }
        if authority.renewed.is_some() {
            // Whoever trusts it has to know its new certificate.
            let others = 0..builder.snapshot.nodes.len();
            let others = others.filter(|node| !own.iter().any(|case| case.node == *node) && builder.is_chosen(*node));
            for node in others.collect::<Vec<_>>() {
                let has_file = builder.node(node).entry(id).is_some_and(|one| one.content().is_some());
                if has_file && let Err(reason) = authority.mend(builder, node) {
                    authority.blocked = Some(reason);
                }
            }
        }
        self.0.push(authority);
    }

    /// Who signs what `entry` of the catalog is; `old` was signed by it, if one of several may.
    pub(super) fn signer(
        &self,
        builder: &mut Builder<'_>,
        ids: &[&str],
        old: Option<&Certificate>,
    ) -> Result<Signer, String> {
        let known = |id: &&&str| self.0.iter().find(|authority| authority.id == **id);
        let signed_old = ids
            .iter()
            .filter_map(|id| known(&id))
            .find(|authority| old.is_some_and(|old| chain::issued(old, &authority.certificate) == Signature::Good));
        let first = ids.iter().find_map(|id| known(&id));
        let authority = signed_old.or(first).ok_or_else(|| {
            format!(
                "its authority `{}` is not here: bring it back from a backup",
                ids.first().copied().unwrap_or_default()
            )
        })?;
        authority.signs(builder)
    }

    /// What peers trust of the cluster's authority.
    pub(super) fn bundle(&self) -> Result<Vec<CertificateRef>, String> {
        let missing =
            "the cluster's authority is not here: bring ca.crt back from a control-plane node, or from a backup";
        let authority = self.0.iter().find(|authority| authority.id == "ca").ok_or(missing)?;
        match &authority.blocked {
            // Trust in what has ended helps nobody.
            Some(reason) if authority.has_ended => Err(reason.clone()),
            _ => Ok(authority.trusted()),
        }
    }

    /// Why nothing that runs can get well: the time of an authority on which everything depends is over, and stays so.
    pub(super) fn ended(&self) -> Option<String> {
        let vital = self.0.iter().filter(|authority| ["ca", "etcd-ca"].contains(&authority.id) && authority.has_ended);
        let reasons: Vec<&str> = vital.filter_map(|authority| authority.blocked.as_deref()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Whether trust in an authority has to be written anew wherever it is.
    pub(super) fn is_renewed(&self, id: &str) -> bool {
        self.0.iter().any(|authority| authority.id == id && authority.renewed.is_some())
    }
}

impl Authority {
    fn trusted(&self) -> Vec<CertificateRef> {
        match &self.renewed {
            Some((id, ..)) => vec![CertificateRef::Planned(id.clone())],
            None => self.bundle.clone(),
        }
    }

    fn signs(&self, builder: &mut Builder<'_>) -> Result<Signer, String> {
        if let Some(reason) = &self.blocked {
            return Err(reason.clone());
        }
        let id = self.id.to_owned();
        let key = self.key.clone();
        let key = key.ok_or_else(|| format!("the key of its authority `{id}` is not here: {ELSEWHERE}"))?;
        builder.key(&id, key);
        let own = &self.certificate;
        let (plan, period) = match &self.renewed {
            Some((id, from, to)) => (IssuerPlan::Planned(id.clone()), (*from, *to)),
            None => {
                let certificate = Box::new(own.clone());
                (IssuerPlan::Existing { certificate, key: id }, (own.not_before(), own.not_after()))
            }
        };
        let above =
            if own.is_self_issued() { Vec::new() } else { vec![CertificateRef::Existing(Box::new(own.clone()))] };
        Ok(Signer { plan, period, above })
    }

    /// Its time is over: with `--force` it gets a new certificate for its key, and stays the same authority.
    fn renew(&mut self, builder: &mut Builder<'_>) {
        let id = self.id;
        let scope = if id == "ca" { "cluster-ca" } else { id };
        let ended = format!("`{id}` ended on {}", self.certificate.not_after().date());
        let key = match self.key.clone() {
            None => Err(format!("{ended}, and its key is not here: {ELSEWHERE}")),
            Some(_) if !self.certificate.is_self_issued() => {
                Err(format!("{ended}, and another authority signs it: {ELSEWHERE}"))
            }
            Some(_) if !builder.request.force => Err(format!(
                "{ended}: --force renews it with its own key here; a cluster that still answers takes `kubepki rotate-certs \
                 --only {scope} --same-key`"
            )),
            Some(key) => Ok(key),
        };
        let key = match key {
            Ok(key) => key,
            Err(reason) => return self.blocked = Some(reason),
        };
        let old = &self.certificate;
        let (not_before, not_after) =
            crate::pki::lifetime::same_period(builder.request.now, old.not_before(), old.not_after());
        let not_after = not_after.max(builder.request.now.saturating_add(SHORTEST.duration()));
        builder.key(id, key);
        let basis = Basis::Renewal { old: Box::new(old.clone()), subject: None, sans: None, usages: None };
        let (name, key, issuer) = (id.to_owned(), id.to_owned(), IssuerPlan::Itself);
        builder.blueprint.certificates.push(CertificatePlan { id: name, key, basis, issuer, not_before, not_after });
        self.renewed = Some((id.to_owned(), not_before, not_after));
        builder.blueprint.warnings.push(format!("`{id}` is renewed with its own key, because its time is over"));
    }

    /// Its files on one node.
    fn mend(&self, builder: &mut Builder<'_>, node: usize) -> Result<String, String> {
        if let Some(reason) = &self.blocked {
            return Err(reason.clone());
        }
        let Some((path, key_path)) = self.places(builder, node) else {
            return Err("nobody knows where it belongs on this node".to_owned());
        };
        let mut done: Vec<&str> = Vec::new();
        let first =
            builder.found(node, &path).and_then(|one| one.content()).filter(|content| content.damaged_blocks == 0);
        let leading = first.and_then(|content| content.found_certificates.first()).and_then(|one| one.as_ref().ok());
        let is_right = leading.is_some_and(|leading| is_same(leading, &self.certificate)) && self.renewed.is_none();
        if !is_right {
            let end = self.renewed.as_ref().map_or(self.certificate.not_after(), |(_, _, to)| *to);
            let content = (FileContent::Certificates(self.trusted()), PUBLIC);
            builder.write(node, Stage::Authorities, (&path, self.id), content, Some(end))?;
            done.push(if self.renewed.is_some() {
                "it is renewed with its own key"
            } else {
                "its certificate is brought back"
            });
        }
        let is_ruling = builder.design(node).is_some_and(|design| design.role == Role::ControlPlane);
        let key = key_of(builder.found(node, &key_path));
        let fits = key.is_some_and(|key| self.certificate.certifies(&key.public_key));
        match &self.key {
            Some(source) if !fits && (is_ruling || builder.found(node, &key_path).is_some()) => {
                builder.key(self.id, source.clone());
                let content = (FileContent::PrivateKey(self.id.to_owned()), SECRET);
                builder.write(node, Stage::Authorities, (&key_path, self.id), content, None)?;
                done.push("its key is brought back");
            }
            None if builder.found(node, &key_path).is_some() => {
                return Err(format!(
                    "no file has the key of this authority: bring {} back from a backup, or replace the authority with \
                     `kubepki rotate-certs` once a new one was made",
                    key_path.display()
                ));
            }
            _ => {}
        }
        if done.is_empty() {
            return Ok("it is right; what differs from it is corrected".to_owned());
        }
        Ok(done.join(" and "))
    }

    /// Where its certificate and key belong on a node.
    fn places(&self, builder: &Builder<'_>, node: usize) -> Option<(PathBuf, PathBuf)> {
        let found = builder.node(node).entry(self.id).map(|one| one.path.clone());
        let entry = Catalog::Kubeadm.entry(self.id);
        let path = found.or_else(|| Some(builder.design(node)?.pki_dir.join(entry?.path)))?;
        let key = path.with_extension("key");
        Some((path, key))
    }
}

/// Same name and same key: one is the other renewed.
fn is_same(one: &Certificate, other: &Certificate) -> bool {
    one.subject().der() == other.subject().der() && one.certifies(other.public_key())
}

fn key_of(artifact: Option<&Artifact>) -> Option<&FoundKey> {
    artifact?.content()?.private_key.as_ref()?.as_ref().ok()
}

/// Everything that a good file of the authority holds.
fn healthy_bundle(builder: &Builder<'_>, id: &str, certificate: &Certificate) -> Vec<CertificateRef> {
    let files = builder.snapshot.nodes.iter().filter_map(|node| node.entry(id)?.content());
    let whole = files.filter(|content| {
        let first = content.found_certificates.first().and_then(|one| one.as_ref().ok());
        content.damaged_blocks == 0
            && content.found_certificates.iter().all(Result::is_ok)
            && first.is_some_and(|first| first == certificate)
    });
    let longest = whole.max_by_key(|content| content.found_certificates.len());
    let all = longest.map_or_else(|| vec![certificate.clone()], |content| content.certificates().cloned().collect());
    all.into_iter().map(|one| CertificateRef::Existing(Box::new(one))).collect()
}

type Choice = (Certificate, Option<KeySource>, Option<String>);

/// The right certificate of an authority, where its key is, and why that is a guess, if it is one.
fn chosen(builder: &Builder<'_>, id: &'static str) -> Result<Choice, String> {
    let mut candidates = candidates(builder, id);
    if candidates.is_empty() {
        return Err(format!(
            "nothing here has the certificate of the authority `{id}`: bring it back from a backup; if it is lost, `kubepki \
             create-certs --only {id} --force` makes another one, and everything it signed has to be made anew"
        ));
    }
    candidates.sort_by_key(|one| std::cmp::Reverse((one.leaves, one.key.is_some(), one.files)));
    let best = candidates.remove(0);
    let rivals: Vec<&Candidate<'_>> = candidates.iter().filter(|one| one.files > 0).collect();
    let is_proven = |rival: &&Candidate<'_>| {
        best.leaves > rival.leaves && (best.files > rival.files || best.key.is_some() && rival.key.is_none())
    };
    let is_proven_alone = best.files > 0 || best.leaves > 0 || best.key.is_some();
    let guess = (!rivals.iter().all(is_proven) || !is_proven_alone).then(|| {
        let told = |one: &Candidate<'_>| {
            let key = if one.key.is_some() { "its key is here" } else { "without a key" };
            let (serial, files, leaves) = (one.certificate.serial(), one.files, one.leaves);
            format!("serial number {serial} in {files} file(s), signed {leaves} certificates, {key}")
        };
        let rivals: Vec<String> = rivals.iter().map(|rival| told(rival)).collect();
        format!(
            "nothing proves which `{id}` is the right one ({}; {}): --force takes the first",
            told(&best),
            rivals.join("; ")
        )
    });
    Ok((best.certificate.clone(), best.key, guess))
}

fn candidates<'a>(builder: &Builder<'a>, id: &'static str) -> Vec<Candidate<'a>> {
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    let mut add = |certificate: &'a Certificate, files: usize| match candidates
        .iter_mut()
        .find(|one| is_same(one.certificate, certificate))
    {
        Some(known) => {
            known.files += files;
            if certificate.not_after() > known.certificate.not_after() {
                known.certificate = certificate;
            }
        }
        None => candidates.push(Candidate { certificate, files, leaves: 0, key: None }),
    };
    for node in &builder.snapshot.nodes {
        let content = node.entry(id).and_then(Artifact::content);
        let certificates = content.into_iter().flat_map(|content| content.certificates());
        for (index, certificate) in certificates.filter(|one| one.is_ca()).enumerate() {
            add(certificate, usize::from(index == 0));
        }
    }
    if id == "ca" {
        let kubeconfigs = builder.snapshot.artifacts().filter(|(_, one)| {
            one.part.is_some_and(|part| part.catalog == Catalog::Kubeadm && part.entry.kind == Kind::Kubeconfig)
        });
        let found = kubeconfigs.filter_map(|(_, one)| one.content()?.kubeconfig.as_ref()?.as_ref().ok());
        let clusters = found.flat_map(|kubeconfig| &kubeconfig.clusters);
        for certificate in clusters.flat_map(|cluster| cluster.authority.certificates()).filter(|one| one.is_ca()) {
            add(certificate, 0);
        }
    }
    let signs = |entry: &Entry| entry.issuer == Some(id) || entry.also_issued_by.contains(&id);
    let leaves: Vec<&Certificate> = builder
        .snapshot
        .artifacts()
        .filter(|(_, one)| one.part.is_some_and(|part| !part.is_key && signs(part.entry)))
        .filter_map(|(_, one)| leading(one))
        .collect();
    for candidate in &mut candidates {
        let own = leaves.iter().filter(|leaf| chain::issued(leaf, candidate.certificate) == Signature::Good);
        candidate.leaves = own.count();
        candidate.key = builder.snapshot.nodes.iter().find_map(|node| {
            let artifact = node.key_of(id)?;
            let key = key_of(Some(artifact))?;
            let source = KeySource::File { node: node.name.clone(), path: artifact.path.clone() };
            candidate.certificate.certifies(&key.public_key).then_some(source)
        });
    }
    candidates
}
