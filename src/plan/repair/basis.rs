//! What a certificate that is made again shall say: what it said before, where that can be believed; else what a running
//! server still shows, a sibling on another node, or the spec.

use crate::diagnose::lacking_names;
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::catalog::Entry;
use crate::pki::certificate::Certificate;
use crate::pki::lifetime::Lifetime;
use crate::pki::name::Name;
use crate::pki::san::San;
use crate::pki::spec::ResolvedLeaf;
use crate::plan::blueprint::Basis;
use crate::snapshot::{NodeSnapshot, Part, Source};

use super::builder::{Builder, USUAL, leading};

/// What is issued, and what that follows.
pub(super) struct Wanted<'a> {
    pub(super) basis: Basis,
    pub(super) algorithm: KeyAlgorithm,
    /// Its predecessor, whose length of life it gets.
    pub(super) old: Option<&'a Certificate>,
    /// How long it lives without one.
    pub(super) usual: Lifetime,
    /// Where it comes from, in words.
    pub(super) source: &'static str,
}

/// What the certificate of `part` on `node` shall say; `design` is the spec's word. `None` when nobody says.
pub(super) fn wanted<'a>(
    builder: &Builder<'a>,
    node: usize,
    part: Part,
    on_disk: Option<&'a Certificate>,
    design: Option<&ResolvedLeaf>,
) -> Option<Wanted<'a>> {
    let entry = part.entry;
    let own = on_disk.filter(|old| is_plausible(builder, node, entry, old, design));
    let shown = || served(builder.node(node), entry).filter(|old| is_plausible(builder, node, entry, old, design));
    // What names a node is its own; everything else says the same everywhere.
    let sibling = || sibling(builder, node, entry).filter(|_| !entry.names_node && !is_of_node(entry));
    let (old, source) = match own {
        Some(old) => (Some(old), "from what it said"),
        None => match shown() {
            Some(old) => (Some(old), "from what its server still shows"),
            None => (sibling(), "from another node's"),
        },
    };
    let usual = design.map_or(USUAL, |design| design.validity);
    if let Some(old) = old {
        let algorithm = old.key_kind().algorithm().or(design.map(|design| design.algorithm));
        return Some(Wanted {
            basis: renewal(builder.node(node), part, old, design),
            algorithm: algorithm.unwrap_or(KeyAlgorithm::Rsa2048),
            old: Some(old),
            usual,
            source,
        });
    }
    let design = design?;
    let mut sans = design.sans.clone();
    for more in shared_names(builder, node, entry) {
        if !sans.contains(&more) {
            sans.push(more);
        }
    }
    let (subject, usages) = (design.subject.clone(), design.usages.clone());
    let basis = Basis::Leaf { subject, sans, usages };
    Some(Wanted { basis, algorithm: design.algorithm, old: None, usual, source: "from the spec" })
}

/// Subject, names and usages are kept; what the certificate lacks for its part is added.
fn renewal(node: &NodeSnapshot, part: Part, old: &Certificate, design: Option<&ResolvedLeaf>) -> Basis {
    let entry = part.entry;
    let lacking = if entry.names_node { lacking_names(node, part, old) } else { Vec::new() };
    let sans = (!lacking.is_empty()).then(|| {
        let mut sans: Vec<San> = old.sans().to_vec();
        sans.extend(lacking.into_iter().map(|(name, _)| name));
        sans
    });
    // Names of kinds that cannot be written are only ever carried over.
    let sans = sans.filter(|sans| !sans.iter().any(|san| matches!(san, San::Other(_))));
    let missing: Vec<_> = entry.usages.iter().filter(|usage| !old.allows(usage)).cloned().collect();
    let usages = (!missing.is_empty()).then(|| {
        let mut usages = old.extended_key_usage().unwrap_or_default().to_vec();
        usages.extend(missing);
        usages
    });
    let subject =
        if is_named_rightly(entry, old.subject()) { None } else { design.map(|design| design.subject.clone()) };
    Basis::Renewal { old: Box::new(old.clone()), subject, sans, usages }
}

fn is_named_rightly(entry: &Entry, subject: &Name) -> bool {
    let has = |wanted: &str| subject.organizations().iter().any(|own| own == wanted);
    entry.common_name.fits(subject.common_name().unwrap_or_default()) && entry.organization.is_none_or(has)
}

/// Whether a certificate found in a place could be the one that belongs there, however old or damaged the rest is: files
/// get mixed up.
fn is_plausible(
    builder: &Builder<'_>,
    node: usize,
    entry: &Entry,
    found: &Certificate,
    design: Option<&ResolvedLeaf>,
) -> bool {
    if found.is_ca() {
        return false;
    }
    let name = found.subject().common_name();
    if design.is_some_and(|design| design.subject.common_name() == name) {
        return true;
    }
    let own = &builder.node(node).name;
    let elsewhere = builder.request.designs.iter().any(|other| {
        let leaves = other.leaves.iter().map(|(id, _, leaf)| (id, leaf));
        let clients = other.kubeconfigs.iter().map(|(id, kubeconfig)| (id, &kubeconfig.client));
        leaves
            .chain(clients)
            .any(|(id, leaf)| (id != entry.id || other.node != *own) && leaf.subject.common_name() == name)
    });
    let is_usable = entry.usages.iter().all(|usage| found.allows(usage));
    is_usable && !elsewhere && is_named_rightly(entry, found.subject())
}

/// The certificate that the server of this part shows at this moment.
fn served<'a>(node: &'a NodeSnapshot, entry: &Entry) -> Option<&'a Certificate> {
    let servers = node.artifacts.iter().filter(|one| one.source == Source::Endpoint);
    let mut own = servers.filter(|one| one.server.is_some_and(|server| server.shows().contains(&entry.id)));
    own.find_map(|one| one.content()?.certificates().next())
}

/// Whether a kubeconfig's client is the node itself.
fn is_of_node(entry: &Entry) -> bool {
    entry.id == "kubelet.conf" || entry.id.starts_with("kubelet-")
}

/// The same certificate on another node.
fn sibling<'a>(builder: &Builder<'a>, node: usize, entry: &Entry) -> Option<&'a Certificate> {
    let others = builder.snapshot.nodes.iter().enumerate().filter(|(index, _)| *index != node);
    let mut found = others.filter_map(|(_, other)| leading(other.entry(entry.id)?));
    found.find(|one| {
        !one.is_ca() && entry.usages.iter().all(|usage| one.allows(usage)) && is_named_rightly(entry, one.subject())
    })
}

/// Names that every other node has in its certificate of that kind, as those of a load balancer.
fn shared_names(builder: &Builder<'_>, node: usize, entry: &Entry) -> Vec<San> {
    let others = builder.snapshot.nodes.iter().enumerate().filter(|(index, _)| *index != node);
    let others: Vec<&Certificate> = others.filter_map(|(_, other)| leading(other.entry(entry.id)?)).collect();
    let Some((first, rest)) = others.split_first() else { return Vec::new() };
    if rest.is_empty() {
        // With one other node nobody can tell its own names from those of all; its design can.
        return first.sans().iter().filter(|name| !is_other_nodes(builder, name)).cloned().collect();
    }
    let is_everywhere = |name: &&San| rest.iter().all(|other| other.sans().contains(name));
    first.sans().iter().filter(is_everywhere).cloned().collect()
}

/// Whether a name belongs to one node alone.
fn is_other_nodes(builder: &Builder<'_>, name: &San) -> bool {
    let of_node = |node: &NodeSnapshot| {
        let addresses = node.facts.as_ref().map(|facts| facts.addresses.as_slice()).unwrap_or_default();
        match name {
            San::Ip(address) => addresses.contains(address),
            San::Dns(text) => *text == node.name || node.facts.as_ref().is_some_and(|facts| facts.host_name == *text),
            _ => true,
        }
    };
    builder.snapshot.nodes.iter().any(of_node)
}
