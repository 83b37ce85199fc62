//! Keys and certificates in memory, before any effect: the last chance to fail for free.
//!
//! Keys are made side by side, because an RSA key takes from 60 ms to seconds and everything else takes nothing.
//! Certificates are issued in the blueprint's order, issuers first. This is the only place where keys are made.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow};
use rayon::prelude::*;

use super::bans;
use crate::error::Failure;
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::certificate::Certificate;
use crate::pki::issue::{Issuer, Template};
use crate::pki::private_key::PrivateKey;
use crate::plan::blueprint::{
    Basis, Blueprint, CertificatePlan, CertificateRef, Id, IssuerPlan, KeyPlan, KeySource, PublicKeyRef,
};

/// What happened while minting, for a progress bar.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// So many new keys are to be made.
    Started {
        /// Number of new keys.
        keys: usize,
    },
    /// One of them is done.
    KeyMade {
        /// Its id in the blueprint.
        id: &'a str,
    },
}

/// All keys and certificates of a blueprint.
#[derive(Debug, Default)]
pub struct Minted {
    keys: HashMap<Id, PrivateKey>,
    certificates: HashMap<Id, Certificate>,
    templates: HashMap<Id, Template>,
    certified: HashMap<Id, Id>,
}

/// A key that is never stored: for a signing request that only shows who signs.
///
/// # Errors
/// When the library cannot make it.
pub fn passing_key(algorithm: KeyAlgorithm) -> anyhow::Result<PrivateKey> {
    Ok(PrivateKey::generate(algorithm)?)
}

/// Makes or reads every key of `blueprint` and issues its certificates.
///
/// `read` loads a key that exists; it is called once for each.
///
/// # Errors
/// When a key cannot be read or made, does not belong to its CA, or the blueprint refers to what it does not have.
pub fn mint(
    blueprint: &Blueprint,
    read: &(dyn Fn(&KeySource) -> anyhow::Result<PrivateKey> + Sync),
    progress: &(dyn Fn(Event<'_>) + Sync),
) -> anyhow::Result<Minted> {
    let mut minted = Minted { keys: keys(&blueprint.keys, read, progress)?, ..Minted::default() };
    for plan in &blueprint.certificates {
        if let IssuerPlan::Taken(taken) = &plan.issuer {
            take(plan, &taken.certificate, blueprint, &mut minted)?;
            continue;
        }
        let mut template = template(plan, &minted)?;
        if let Some(bans) = &blueprint.bans {
            template = bans::obey(plan, template, bans, &minted)?;
        }
        if let Some(certificate) =
            issue(plan, &template, blueprint, &minted).with_context(|| format!("issuing {}", plan.id))?
        {
            minted.certificates.insert(plan.id.clone(), certificate);
        }
        minted.templates.insert(plan.id.clone(), template);
        minted.certified.insert(plan.id.clone(), plan.key.clone());
    }
    Ok(minted)
}

/// A certificate that was signed elsewhere, if it may be used and is for its key. Where that key is not read, the plan has
/// compared it with the public half, and what is written is looked at again.
fn take(
    plan: &CertificatePlan,
    certificate: &Certificate,
    blueprint: &Blueprint,
    minted: &mut Minted,
) -> anyhow::Result<()> {
    if let Some(bans) = &blueprint.bans {
        bans::permit(plan, certificate, bans)?;
    }
    if minted.keys.get(&plan.key).is_some_and(|key| !certificate.certifies(key.public_key())) {
        let message = format!("{}: the signed certificate is for another key than the one that is there now", plan.id);
        return Err(Failure::failed(message).hint("write a new signing request and have that signed").into());
    }
    minted.certificates.insert(plan.id.clone(), certificate.clone());
    Ok(())
}

fn keys(
    plans: &[KeyPlan],
    read: &(dyn Fn(&KeySource) -> anyhow::Result<PrivateKey> + Sync),
    progress: &(dyn Fn(Event<'_>) + Sync),
) -> anyhow::Result<HashMap<Id, PrivateKey>> {
    // Files first: a key that cannot be read should not cost a minute of key generation.
    let mut keys = HashMap::new();
    for plan in plans {
        if !matches!(plan.source, KeySource::New(_)) {
            keys.insert(plan.id.clone(), read(&plan.source)?);
        }
    }
    let mut new: Vec<(&Id, KeyAlgorithm)> = plans
        .iter()
        .filter_map(|plan| match plan.source {
            KeySource::New(algorithm) => Some((&plan.id, algorithm)),
            _ => None,
        })
        .collect();
    // The slowest first, one at a time, so that no core is left alone with a large key at the end.
    new.sort_by_key(|(_, algorithm)| std::cmp::Reverse(cost(*algorithm)));
    progress(Event::Started { keys: new.len() });
    let made: Vec<(Id, PrivateKey)> = new
        .par_iter()
        .with_max_len(1)
        .map(|(id, algorithm)| {
            let key = PrivateKey::generate(*algorithm).with_context(|| format!("making the key of {id}"))?;
            progress(Event::KeyMade { id });
            Ok(((*id).to_owned(), key))
        })
        .collect::<anyhow::Result<_>>()?;
    keys.extend(made);
    Ok(keys)
}

const fn cost(algorithm: KeyAlgorithm) -> u32 {
    match algorithm {
        KeyAlgorithm::Rsa4096 => 3,
        KeyAlgorithm::Rsa3072 => 2,
        KeyAlgorithm::Rsa2048 => 1,
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => 0,
    }
}

fn template(plan: &CertificatePlan, minted: &Minted) -> anyhow::Result<Template> {
    let public_key = minted.key(&plan.key)?.public_key();
    let validity = (plan.not_before, plan.not_after);
    Ok(match &plan.basis {
        Basis::Authority { subject, sans } => Template::authority(subject.clone(), sans, public_key, validity),
        Basis::Leaf { subject, sans, usages } => Template::leaf(subject.clone(), usages, sans, public_key, validity),
        Basis::Renewal { old, subject, sans, usages } => {
            let mut template = Template::renewing(old, public_key, validity);
            if old.is_ca() {
                template = template.with_authority_key_usage(old.key_usage());
            }
            if let Some(subject) = subject {
                template.subject = subject.clone();
            }
            if let Some(usages) = usages {
                template = template.with_usages(usages);
            }
            if let Some(sans) = sans {
                template = template.with_sans(sans);
            }
            template
        }
    })
}

fn issue(
    plan: &CertificatePlan,
    template: &Template,
    blueprint: &Blueprint,
    minted: &Minted,
) -> anyhow::Result<Option<Certificate>> {
    let (certificate, key) = match &plan.issuer {
        IssuerPlan::External | IssuerPlan::Taken(_) => return Ok(None),
        IssuerPlan::Itself => return Ok(Some(template.self_sign(minted.key(&plan.key)?)?)),
        IssuerPlan::Existing { certificate, key } => (&**certificate, minted.key(key)?),
        IssuerPlan::Planned(id) => {
            let issuer = blueprint.certificates.iter().find(|candidate| candidate.id == *id);
            let issuer = issuer.ok_or_else(|| anyhow!("the plan has no certificate `{id}`"))?;
            (minted.certificate(id)?, minted.key(&issuer.key)?)
        }
    };
    let issuer = Issuer::new(certificate, key)
        .map_err(|reason| anyhow!("{} cannot sign: {reason}", certificate.subject().text()))?;
    Ok(Some(template.sign(issuer)?))
}

impl Minted {
    /// A key of the blueprint.
    ///
    /// # Errors
    /// When the blueprint names none.
    pub fn key(&self, id: &str) -> anyhow::Result<&PrivateKey> {
        self.keys.get(id).ok_or_else(|| anyhow!("the plan has no key `{id}`"))
    }

    /// A certificate of the blueprint.
    ///
    /// # Errors
    /// When the blueprint names none, or an external CA is to issue it.
    pub fn certificate(&self, id: &str) -> anyhow::Result<&Certificate> {
        self.certificates.get(id).ok_or_else(|| anyhow!("the plan has no certificate `{id}`, or not yet"))
    }

    /// What a certificate says, issued or not: the content of a signing request.
    ///
    /// # Errors
    /// When the blueprint names none.
    pub fn template(&self, id: &str) -> anyhow::Result<&Template> {
        self.templates.get(id).ok_or_else(|| anyhow!("the plan has no certificate `{id}`"))
    }

    /// The id of the key that a certificate certifies.
    ///
    /// # Errors
    /// When the blueprint names no such certificate.
    pub fn key_of(&self, id: &str) -> anyhow::Result<&str> {
        self.certified.get(id).map(String::as_str).ok_or_else(|| anyhow!("the plan has no certificate `{id}`"))
    }

    /// The certificate a file refers to.
    ///
    /// # Errors
    /// As [`Minted::certificate`].
    pub fn resolve<'a>(&'a self, reference: &'a CertificateRef) -> anyhow::Result<&'a Certificate> {
        match reference {
            CertificateRef::Planned(id) => self.certificate(id),
            CertificateRef::Existing(certificate) => Ok(certificate),
        }
    }

    /// The public key a file refers to, `SubjectPublicKeyInfo` DER.
    ///
    /// # Errors
    /// As [`Minted::key`].
    pub fn resolve_public_key<'a>(&'a self, reference: &'a PublicKeyRef) -> anyhow::Result<&'a [u8]> {
        match reference {
            PublicKeyRef::Planned(id) => Ok(self.key(id)?.public_key()),
            PublicKeyRef::Existing(public_key) => Ok(public_key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::chain::{self, Signature};
    use crate::pki::name::Name;
    use crate::pki::san::San;
    use crate::pki::usage::ExtendedKeyUsage;
    use time::macros::datetime;

    fn blueprint(ca_key: KeySource) -> Blueprint {
        let key = |id: &str, source| KeyPlan { id: id.into(), source };
        let certificate = |id: &str, basis, issuer| CertificatePlan {
            id: id.into(),
            key: id.into(),
            basis,
            issuer,
            not_before: datetime!(2026-01-01 0:00 UTC),
            not_after: datetime!(2027-01-01 0:00 UTC),
        };
        let ca = Basis::Authority { subject: Name::new("kubernetes", &[]), sans: vec![San::Dns("kubernetes".into())] };
        let leaf = Basis::Leaf {
            subject: Name::new("jane", &["dev".into()]),
            sans: vec![],
            usages: vec![ExtendedKeyUsage::ClientAuth],
        };
        Blueprint {
            keys: vec![key("ca", ca_key), key("jane", KeySource::New(KeyAlgorithm::EcdsaP256))],
            certificates: vec![
                certificate("ca", ca, IssuerPlan::Itself),
                certificate("jane", leaf, IssuerPlan::Planned("ca".into())),
            ],
            ..Blueprint::default()
        }
    }

    fn no_files(source: &KeySource) -> anyhow::Result<PrivateKey> {
        Err(anyhow!("no key at {source:?}"))
    }

    #[test]
    fn a_planned_authority_issues_the_planned_leaf() {
        let made = std::sync::Mutex::new(Vec::new());
        let progress = |event: Event<'_>| {
            if let Event::KeyMade { id } = event {
                made.lock().expect("one thread at a time").push(id.to_owned());
            }
        };
        let minted = mint(&blueprint(KeySource::New(KeyAlgorithm::EcdsaP384)), &no_files, &progress).expect("mints");
        let (ca, jane) = (minted.certificate("ca").expect("ca"), minted.certificate("jane").expect("jane"));
        assert_eq!(chain::issued(jane, ca), Signature::Good);
        assert!(jane.certifies(minted.key("jane").expect("key").public_key()));
        assert_eq!(made.into_inner().expect("done").len(), 2);
    }

    #[test]
    fn a_key_that_cannot_be_read_fails_before_any_is_made() {
        let source = KeySource::File { node: "local".into(), path: "/nowhere".into() };
        let progress = |event: Event<'_>| panic!("{event:?}");
        assert!(mint(&blueprint(source), &no_files, &progress).is_err());
    }
}
