//! What a new certificate shall say otherwise than the old one: names added and taken out, or everything from a spec.
//!
//! Without a wish everything is carried over. Every difference is put into words for the plan.

use super::inventory::Leaf;
use super::request::{Request, Wanted};
use crate::error::Failure;
use crate::pki::name::Name;
use crate::pki::san::San;
use crate::pki::usage::ExtendedKeyUsage;

/// What is not carried over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Another subject.
    pub subject: Option<Name>,
    /// Other names.
    pub sans: Option<Vec<San>>,
    /// Other extended key usages.
    pub usages: Option<Vec<ExtendedKeyUsage>>,
    /// All of it in words.
    pub words: Vec<String>,
}

/// Compares what `leaf` says with what `request` wants of it.
///
/// # Errors
/// When names of a certificate are to change that has names of a kind that cannot be written.
pub(super) fn of(leaf: &Leaf<'_>, request: &Request) -> Result<Difference, Failure> {
    let mut difference = Difference::default();
    let old = leaf.certificate;
    let wanted = leaf.homes.iter().find_map(|home| {
        request.wanted.iter().find(|wanted| wanted.node == home.node.name && wanted.name == home.name)
    });
    let mut sans = old.sans().to_vec();
    if let Some(wanted) = wanted {
        difference.follow(old, wanted);
        if !same_set(&sans, &wanted.sans) {
            sans.clone_from(&wanted.sans);
        }
    }
    if serves(leaf) {
        sans.retain(|san| !request.remove_sans.contains(san));
        let missing: Vec<San> = request.add_sans.iter().filter(|san| !sans.contains(san)).cloned().collect();
        for san in missing {
            if !sans.contains(&san) {
                sans.push(san);
            }
        }
    }
    if !same_set(&sans, old.sans()) {
        if let Some(San::Other(kind)) = old.sans().iter().find(|san| matches!(san, San::Other(_))) {
            return Err(Failure::failed(format!(
                "`{}` has an alternative name of a kind that kubepki does not write ({kind}), so its names cannot change",
                leaf.name()
            ))
            .hint("leave the options that change names away: on a plain renewal all names are carried over"));
        }
        if sans.is_empty() && old.subject().is_empty() {
            return Err(Failure::failed(format!("`{}` would have neither a subject nor a name", leaf.name())));
        }
        difference.words.extend(sans.iter().filter(|san| !old.sans().contains(san)).map(|san| format!("+ {san}")));
        difference.words.extend(old.sans().iter().filter(|san| !sans.contains(san)).map(|san| format!("- {san}")));
        difference.sans = Some(sans);
    }
    Ok(difference)
}

impl Difference {
    fn follow(&mut self, old: &crate::pki::certificate::Certificate, wanted: &Wanted) {
        let same_subject = old.subject().common_name() == wanted.subject.common_name()
            && same_set(old.subject().organizations(), wanted.subject.organizations());
        // The same name in other bytes stays as it is: there are peers that compare bytes.
        if !same_subject {
            self.words.push(format!("subject {} becomes {}", old.subject().text(), wanted.subject.text()));
            self.subject = Some(wanted.subject.clone());
        }
        let usages = old.extended_key_usage().unwrap_or_default();
        if !same_set(usages, &wanted.usages) {
            let list = |usages: &[ExtendedKeyUsage]| match usages {
                [] => "none".to_owned(),
                some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            };
            self.words.push(format!("usages {} become {}", list(usages), list(&wanted.usages)));
            self.usages = Some(wanted.usages.clone());
        }
    }
}

/// Whether servers present the certificate: the only ones whose names clients look at.
pub(super) fn serves(leaf: &Leaf<'_>) -> bool {
    leaf.certificate.extended_key_usage().is_some_and(|usages| usages.contains(&ExtendedKeyUsage::ServerAuth))
}

fn same_set<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.iter().all(|item| other.contains(item)) && other.iter().all(|item| one.contains(item))
}
