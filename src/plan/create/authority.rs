//! How an authority stands: it is there and can sign, it is there without its key, it will be made, or it is in the way.

use std::path::Path;

use time::OffsetDateTime;

use super::{Builder, PUBLIC, Place, Refusal, Remedy, SECRET, Signer, below, existing};
use crate::pki::certificate::Certificate;
use crate::pki::private_key::KeyError;
use crate::pki::spec::Authority;
use crate::plan::blueprint::{Basis, CertificateRef, FileContent, IssuerPlan, KeySource};
use crate::plan::signed::{authority_words, readable};
use crate::snapshot::Artifact;

/// How an authority stands, once for all nodes.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It signs: its key is there, or will be.
    Signs {
        /// How a certificate names it as its issuer.
        plan: Box<IssuerPlan>,
        /// When it is valid.
        period: (OffsetDateTime, OffsetDateTime),
        /// Everything in its certificate file: what kubeconfigs trust.
        bundle: Vec<CertificateRef>,
        /// The certificates that are there already, against which existing leaves are held; none when it is new.
        known: Vec<Certificate>,
        /// Its own certificate and those above it up to the root, which is left out: what follows a leaf in its file.
        above: Vec<CertificateRef>,
    },
    /// Somebody else has its key: only requests can be written.
    External {
        /// Its certificates, if they are there.
        known: Vec<Certificate>,
    },
    /// It cannot sign, and the reason is among the problems.
    Unusable,
}

impl Standing {
    /// The certificates against which existing leaves are held.
    pub fn known(&self) -> &[Certificate] {
        match self {
            Self::Signs { known, .. } | Self::External { known } => known,
            Self::Unusable => &[],
        }
    }

    /// Whether its certificate is not there yet, so that no existing leaf can be its own.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::Signs { known, .. } if known.is_empty())
    }

    /// What kubeconfigs trust.
    pub fn bundle(&self) -> Vec<CertificateRef> {
        match self {
            Self::Signs { bundle, .. } => bundle.clone(),
            Self::External { known } => existing(known),
            Self::Unusable => Vec::new(),
        }
    }

    /// What follows a leaf in its file.
    pub fn above(&self) -> Vec<CertificateRef> {
        match self {
            Self::Signs { above, .. } => above.clone(),
            _ => Vec::new(),
        }
    }
}

/// What is at a place of an authority.
struct Found<'a> {
    place: &'a Place,
    certificates: Vec<Certificate>,
    /// The one that signs.
    signer: usize,
    has_key: bool,
}

impl<'a> Builder<'a> {
    /// How the authority `name` stands; plans its files when it is to be made.
    pub(super) fn authority(&mut self, name: &str) -> Result<Standing, Refusal> {
        if let Some(standing) = self.authorities.get(name) {
            return Ok(standing.clone());
        }
        let Some(entry) = self.request.spec.authority(name) else { return Ok(Standing::Unusable) };
        let standing = self.stand(entry)?;
        self.authorities.insert(name.to_owned(), standing.clone());
        Ok(standing)
    }

    fn stand(&mut self, entry: &'a Authority) -> Result<Standing, Refusal> {
        let request = self.request;
        let mut found: Vec<Found<'a>> = Vec::new();
        let before = self.problems.len();
        let mut is_broken = false;
        // Whoever is under a CA that is made anew has to be made anew with it.
        let above = match &entry.issuer {
            Some(issuer) => Some((issuer, self.authority(issuer)?)),
            None => None,
        };
        if let Some((issuer, Standing::Signs { .. })) = &above
            && above.as_ref().is_some_and(|(_, standing)| standing.is_new())
            && let Some(place) =
                request.nodes.iter().find(|place| self.is_there(place, &below(place, &entry.path, "crt")))
        {
            is_broken = true;
            let words = vec![format!("the CA that issued it is not there; `{issuer}` is made anew")];
            let remedy = Remedy::ForceByName { instead: format!("restore `{issuer}` from a backup") };
            self.problem(place, &below(place, &entry.path, "crt"), &entry.name, words, remedy);
        }
        for place in request.nodes {
            match self.look(place, entry) {
                Ok(Some(one)) => found.push(one),
                Ok(None) => {}
                Err((path, words, instead)) => {
                    is_broken = true;
                    let remedy = Remedy::ForceByName { instead };
                    self.problem(place, &path, &entry.name, words, remedy);
                }
            }
        }
        if is_broken {
            if !(request.force && self.is_named(&entry.name)) {
                return Ok(Standing::Unusable);
            }
            self.problems.truncate(before);
            return self.make(entry, true);
        }
        let Some(first) = found.iter().position(|one| one.has_key).or((!found.is_empty()).then_some(0)) else {
            return self.make(entry, false);
        };
        let chosen = found.swap_remove(first);
        if let Some(other) = found.iter().find(|other| other.certificates != chosen.certificates) {
            let words = vec![format!("it is another CA than on node {}", chosen.place.node)];
            let path = below(other.place, &entry.path, "crt");
            self.problem(other.place, &path, &entry.name, words, Remedy::ByHand("all nodes share a CA".to_owned()));
            return Ok(Standing::Unusable);
        }
        Ok(self.take(entry, &chosen))
    }

    /// Reads what is there at one place.
    #[allow(clippy::type_complexity, reason = "path, words and next step of the one thing that is wrong")]
    fn look(
        &self,
        place: &'a Place,
        entry: &Authority,
    ) -> Result<Option<Found<'a>>, (std::path::PathBuf, Vec<String>, String)> {
        let (path, key_path) = (below(place, &entry.path, "crt"), below(place, &entry.path, "key"));
        let key = self.find(place, &key_path);
        let restore = "restore it from a backup".to_owned();
        let wrong = |path: &Path, words: String, instead: &str| Err((path.to_owned(), vec![words], instead.to_owned()));
        if !self.is_there(place, &path) {
            if self.is_there(place, &key_path) {
                let words = "there is a private key, but no certificate belongs to it".to_owned();
                return wrong(&key_path, words, &format!("restore {} from a backup", path.display()));
            }
            return Ok(None);
        }
        let certificates = match readable(self.find(place, &path)) {
            Ok(certificates) => certificates,
            Err(words) => return Err((path, vec![words], restore)),
        };
        let key = match key.and_then(Artifact::content).and_then(|content| content.private_key.as_ref()) {
            Some(Ok(key)) => Some(key),
            Some(Err(KeyError::Encrypted)) => {
                let plain = format!("decrypt it with `openssl pkey -in {0} -out {0}.plain`", key_path.display());
                return wrong(&key_path, "the private key is encrypted".to_owned(), &plain);
            }
            Some(Err(error)) => return wrong(&key_path, error.to_string(), &restore),
            None if self.is_there(place, &key_path) => {
                return wrong(&key_path, "there is no private key in it".to_owned(), &restore);
            }
            None => None,
        };
        let signer = match key {
            Some(key) => match certificates.iter().position(|certificate| certificate.certifies(&key.public_key)) {
                Some(signer) => signer,
                None => {
                    let words = format!("the private key does not belong to {}", path.display());
                    return wrong(&key_path, words, "restore the pair from a backup");
                }
            },
            None => 0,
        };
        let words = authority_words(&certificates[signer], self.request.now);
        if !words.is_empty() {
            return Err((path, words, "rotate it with `kubepki rotate-certs`".to_owned()));
        }
        Ok(Some(Found { place, has_key: key.is_some(), signer, certificates }))
    }

    /// An authority that is there stays as it is, and is copied to nodes that lack it.
    fn take(&mut self, entry: &'a Authority, chosen: &Found<'_>) -> Standing {
        let name = entry.name.to_string();
        let source = KeySource::File { node: chosen.place.node.clone(), path: below(chosen.place, &entry.path, "key") };
        let authority = &chosen.certificates[chosen.signer];
        let bundle = existing(&chosen.certificates);
        if self.is_wanted(&name, false) {
            for place in self.request.nodes {
                let (path, key_path) = (below(place, &entry.path, "crt"), below(place, &entry.path, "key"));
                if self.is_there(place, &key_path) {
                    self.keep(place, key_path, &name);
                } else if chosen.has_key {
                    self.key(&name, source.clone());
                    self.write(place, key_path, &name, (FileContent::PrivateKey(name.clone()), SECRET), None);
                }
                if self.is_there(place, &path) {
                    self.keep(place, path, &name);
                } else {
                    let content = FileContent::Certificates(bundle.clone());
                    self.write(place, path, &name, (content, PUBLIC), Some(authority.not_after()));
                }
            }
        }
        if !chosen.has_key || self.request.csr_only {
            return Standing::External { known: chosen.certificates.clone() };
        }
        self.key(&name, source);
        Standing::Signs {
            plan: Box::new(IssuerPlan::Existing { certificate: Box::new(authority.clone()), key: name }),
            period: (authority.not_before(), authority.not_after()),
            above: if authority.is_self_issued() { Vec::new() } else { existing(std::slice::from_ref(authority)) },
            bundle,
            known: chosen.certificates.clone(),
        }
    }

    /// Plans a new authority, unless it is nobody's wish or its key is to stay elsewhere.
    fn make(&mut self, entry: &'a Authority, is_replaced: bool) -> Result<Standing, Refusal> {
        let name = entry.name.to_string();
        let Some(first) = self.request.nodes.first() else { return Ok(Standing::Unusable) };
        if self.request.csr_only {
            return Ok(Standing::External { known: Vec::new() });
        }
        if !self.is_wanted(&name, false) {
            let words = vec!["the CA is not there".to_owned()];
            let remedy = Remedy::ByHand(format!("add --only {name} to make it, or put it there"));
            self.problem(first, &below(first, &entry.path, "crt"), &name, words, remedy);
            return Ok(Standing::Unusable);
        }
        let (signer, mut above) = match &entry.issuer {
            None => (Signer { plan: IssuerPlan::Itself, period: None }, None),
            Some(issuer) => match self.authority(issuer)? {
                Standing::Signs { plan, period, above, .. } => {
                    (Signer { plan: *plan, period: Some(period) }, Some(above))
                }
                Standing::Unusable => return Ok(Standing::Unusable),
                Standing::External { .. } => {
                    let words = vec![format!("its issuer `{issuer}` has no key here, so it cannot be made")];
                    let remedy = Remedy::ByHand("have it made where that key is, and put it there".to_owned());
                    self.problem(first, &below(first, &entry.path, "crt"), &name, words, remedy);
                    return Ok(Standing::Unusable);
                }
            },
        };
        let resolved = self.request.spec.resolve_authority(entry)?;
        for place in self.request.nodes {
            let (path, key_path) = (below(place, &entry.path, "crt"), below(place, &entry.path, "key"));
            if !self.can_replace(place, &[&path, &key_path], &name) {
                return Ok(Standing::Unusable);
            }
        }
        self.new_key(&name, resolved.algorithm);
        let basis = Basis::Authority { subject: resolved.subject, sans: resolved.sans };
        let not_after = self.certificate(&name, basis, resolved.validity, signer);
        let not_before = self.blueprint.certificates.last().map_or(self.request.now, |plan| plan.not_before);
        let own = CertificateRef::Planned(name.clone());
        for place in self.request.nodes {
            let key = (FileContent::PrivateKey(name.clone()), SECRET);
            self.write(place, below(place, &entry.path, "key"), &name, key, None);
            let content = (FileContent::Certificates(vec![own.clone()]), PUBLIC);
            self.write(place, below(place, &entry.path, "crt"), &name, content, Some(not_after));
        }
        if is_replaced {
            self.replaced_authority(&name);
        }
        if let Some(above) = &mut above {
            above.insert(0, own.clone());
        }
        Ok(Standing::Signs {
            plan: Box::new(IssuerPlan::Planned(name)),
            period: (not_before, not_after),
            bundle: vec![own],
            known: Vec::new(),
            above: above.unwrap_or_default(),
        })
    }
}
