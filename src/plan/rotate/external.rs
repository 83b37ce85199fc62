//! What authorities sign whose key is elsewhere: under which names requests go out and certificates come back, and which of
//! those that came back are good.
//!
//! Nothing that came back is believed. A leaf has to be for the key in use and to say what the plan wants; an authority's new
//! certificate has to be one that can take the place of the old one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};

use super::difference;
use super::fate::{Fate, Left};
use super::held::Spared;
use super::inventory::{Authority, Home, Inventory, KeyFound, Leaf, certificates};
use super::request::{External, Offered, Request};
use crate::error::Failure;
use crate::pki::catalog::Base;
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::plan::compare::Wish;
use crate::plan::problem::{Problem, Remedy};
use crate::plan::signed::{self, Issuer, Signed, authority_words, readable};
use crate::snapshot::Artifact;

/// What came back: the good, and what is wrong with the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Returned {
    /// New certificates of authorities, by their place in the inventory.
    pub authorities: BTreeMap<usize, Successor>,
    /// New certificates of leaves, by their place in the inventory.
    pub leaves: BTreeMap<usize, Signed>,
    /// How many came back that are in use already.
    pub known: usize,
    /// What is wrong, and the authority that cannot be replaced as long as it is.
    pub problems: Vec<(Option<usize>, Problem)>,
    /// The node whose clock is the furthest behind, and what it shows, where that matters.
    slowest: Option<(String, OffsetDateTime)>,
}

/// Clocks of nodes are read to the second, over a connection: less than that says nothing.
const TELLING: Duration = Duration::seconds(5);

/// What takes the place of an authority's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Successor {
    /// The new certificate.
    pub certificate: Certificate,
    /// Whether it is for another key.
    pub has_new_key: bool,
    /// A certificate of that key by the old one, for those who know only that.
    pub cross: Option<Certificate>,
}

/// What the request of a leaf and its signed certificate are called, without their ending, in the folder of its node.
pub(super) fn file_name(inventory: &Inventory<'_>, at: usize) -> String {
    let Some(home) = inventory.leaves.get(at).and_then(|leaf| leaf.homes.first()) else { return String::new() };
    let own = plain_name(home);
    let is_same = |other: &&Leaf<'_>| {
        other.homes.first().is_some_and(|with| with.node.name == home.node.name && plain_name(with) == own)
    };
    match inventory.leaves[..at].iter().filter(is_same).count() {
        0 => own,
        before => format!("{own}-{}", before + 1),
    }
}

/// The folder of a node's requests and certificates below that of all nodes.
pub(super) fn folder_of(folder: &Path, node: &str) -> PathBuf {
    folder.join(if node.starts_with('.') { format!("node-{node}") } else { node.to_owned() }.replace('/', "-"))
}

/// kubeadm's id, or the name of the file without its ending.
fn plain_name(home: &Home<'_>) -> String {
    let is_unknown = home.catalog.is_none() && home.user.is_none();
    let stem = home.path.file_stem().filter(|_| is_unknown).map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| home.name.clone()).replace(['/', '#'], "-")
}

/// Where it lies in the certificate folder of its catalog, without its ending: `etcd/server`.
fn relative(home: &Home<'_>) -> Option<String> {
    let entry = home.catalog?.entry(&home.name).filter(|entry| entry.base == Base::Pki)?;
    Some(Path::new(entry.path).with_extension("").to_string_lossy().into_owned())
}

impl Returned {
    /// Looks at the certificates of authorities that came back.
    pub(super) fn of(inventory: &Inventory<'_>, request: &Request, now: OffsetDateTime) -> Self {
        let mut returned = Self::default();
        let External::Offered(offered) = &request.external else { return returned };
        returned.slowest = slowest(inventory, now);
        for (at, authority) in inventory.authorities.iter().enumerate() {
            if authority.candidates().any(|candidate| request.only.contain(candidate)) {
                returned.authority((inventory, at), authority, offered, now);
            }
        }
        returned
    }

    fn authority(
        &mut self,
        (inventory, at): (&Inventory<'_>, usize),
        authority: &Authority<'_>,
        offered: &Offered,
        now: OffsetDateTime,
    ) {
        let Some(home) = authority.homes.first() else { return };
        let names: Vec<String> = relative(home).into_iter().chain([home.name.clone()]).collect();
        let Some(artifact) = in_folders(offered, std::slice::from_ref(&offered.folder), &names) else { return };
        let mut reject = |path: &Path, words: Vec<String>, prevents: Option<usize>| {
            let remedy = Remedy::ByHand(format!(
                "put the certificate that takes the place of `{}` there, or take the file away",
                home.name
            ));
            let (node, path, name) = (home.node.name.clone(), path.to_owned(), home.name.clone());
            self.problems.push((prevents, Problem { node, path, name, words, remedy }));
        };
        let all = match readable(Some(artifact)) {
            Ok(all) => all,
            Err(words) => return reject(&artifact.path, vec![words], None),
        };
        let (new, rest) = (&all[0], &all[1..]);
        if authority.all.iter().any(|known| known.der() == new.der()) {
            return;
        }
        let mut words = successor_words(inventory, authority, (new, rest), now);
        words.extend(early(self.slowest.as_ref(), new));
        if !words.is_empty() {
            return reject(&artifact.path, words, None);
        }
        let has_new_key = !authority.certificate.certifies(new.public_key());
        let names: Vec<String> = names.iter().map(|name| format!("{name}-cross")).collect();
        let mut cross = None;
        if has_new_key && let Some(artifact) = in_folders(offered, std::slice::from_ref(&offered.folder), &names) {
            match cross_certificate(authority, new, artifact, now) {
                Ok(certificate) => cross = Some(certificate),
                Err(words) => reject(&artifact.path, words, Some(at)),
            }
        }
        self.authorities.insert(at, Successor { certificate: new.clone(), has_new_key, cross });
    }

    /// Looks at what came back for the leaf at a place of the inventory. `issuer` has the certificates that will be trusted as its
    /// authority's; `prevents` is that authority, where it cannot be replaced without this leaf.
    ///
    /// # Errors
    /// When names of the leaf are to change that cannot be written.
    pub(super) fn leaf(
        &mut self,
        inventory: &Inventory<'_>,
        at: usize,
        (issuer, prevents): (Issuer<'_>, Option<usize>),
        (request, offered): (&Request, &Offered),
        now: OffsetDateTime,
    ) -> Result<Fate, Failure> {
        let leaf = &inventory.leaves[at];
        let slowest = self.slowest.clone();
        let Some(home) = leaf.homes.first() else { return Ok(Fate::Untouched) };
        let own = file_name(inventory, at);
        let names: Vec<String> = std::iter::once(own.clone()).chain(leaf.homes.iter().filter_map(relative)).collect();
        let mut folders: Vec<PathBuf> =
            leaf.homes.iter().map(|home| folder_of(&offered.folder, &home.node.name)).collect();
        if inventory.is_of_one_node() {
            folders.push(offered.folder.clone());
        }
        let mut reject = |path: PathBuf, words: Vec<String>, remedy: &str| {
            let remedy = Remedy::ByHand(remedy.to_owned());
            let problem = Problem { node: home.node.name.clone(), path, name: home.name.clone(), words, remedy };
            self.problems.push((prevents, problem));
            Ok(Fate::Left(Left::NotReturned))
        };
        let Some(artifact) = in_folders(offered, &folders, &names) else {
            let file = Path::new(&home.node.name).join(format!("{own}.crt"));
            let words =
                format!("no signed certificate: there is no {} in {}", file.display(), offered.folder.display());
            let remedy = "have it signed, put the certificate there and run the same command again";
            return reject(home.place(), vec![words], remedy);
        };
        let public_key = match leaf.key() {
            KeyFound::Matching(_) => Ok(leaf.certificate.public_key()),
            KeyFound::Missing(_) => Err("the private key of the one in use is not here".to_owned()),
            KeyFound::Foreign(_) => Err("the private key that is here belongs to another certificate".to_owned()),
            KeyFound::Broken(_, error) => Err(format!("the private key of the one in use: {error}")),
        };
        let change = difference::of(leaf, request)?;
        let old = leaf.certificate;
        let wish = Wish {
            subject: change.subject.as_ref().unwrap_or(old.subject()),
            sans: change.sans.as_deref().unwrap_or(old.sans()),
            usages: change.usages.as_deref().unwrap_or(old.extended_key_usage().unwrap_or_default()),
        };
        let judged = signed::judge(artifact, wish, public_key, issuer, now);
        match judged
            .and_then(|signed| early(slowest.as_ref(), &signed.certificate).map_or(Ok(signed), |it| Err(vec![it])))
        {
            Ok(signed) if signed.certificate.der() == old.der() => {
                self.known += 1;
                Ok(Fate::Untouched)
            }
            Ok(signed) => {
                self.leaves.insert(at, signed);
                Ok(Fate::New { same_key: true })
            }
            Err(words) => {
                let remedy = "have the request signed again and run the same command again";
                reject(artifact.path.clone(), words, remedy)
            }
        }
    }
}

fn in_folders<'a>(offered: &'a Offered, folders: &[PathBuf], names: &[String]) -> Option<&'a Artifact> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    signed::find(&offered.found, folders, &names)
}

/// The node whose clock is the furthest behind, and what it shows.
fn slowest(inventory: &Inventory<'_>, now: OffsetDateTime) -> Option<(String, OffsetDateTime)> {
    let clocks = inventory.files.iter().filter_map(|file| Some((file.node, file.node.facts.as_ref()?.clock_skew)));
    let (node, skew) = clocks.min_by_key(|(_, skew)| *skew).filter(|(_, skew)| *skew <= -TELLING)?;
    Some((node.name.clone(), now + skew))
}

/// Why a certificate that is valid here is not yet valid to everybody: other CAs do not always begin a little earlier.
fn early(slowest: Option<&(String, OffsetDateTime)>, certificate: &Certificate) -> Option<String> {
    let (node, clock) = slowest.filter(|(_, clock)| certificate.not_before() > *clock)?;
    Some(format!(
        "it is not valid before {}, and the clock of {node} shows {clock}: set it, or wait",
        certificate.not_before()
    ))
}

/// What keeps a certificate from taking the place of an authority's.
fn successor_words(
    inventory: &Inventory<'_>,
    authority: &Authority<'_>,
    (new, rest): (&Certificate, &[Certificate]),
    now: OffsetDateTime,
) -> Vec<String> {
    let old = authority.certificate;
    let mut words = authority_words(new, now);
    if authority.has_key() {
        words.push(
            "its key is here, so it is replaced from here; one that is kept elsewhere from now on may not leave a key behind"
                .to_owned(),
        );
    }
    if new.is_self_issued() && chain::signature(new, new) == Signature::Bad {
        words.push("its signature is not that of its own key".to_owned());
    }
    let in_place = |certificate: &Certificate| {
        let homes = authority.homes.iter().map(|home| (&home.node.name, home.path));
        let files = inventory.files.iter().filter(|file| homes.clone().any(|at| at == (&file.node.name, file.path)));
        files.flat_map(certificates).any(|known| known.der() == certificate.der())
    };
    if rest.iter().any(|certificate| !in_place(certificate)) {
        words.push("others come with it that are not in place; only the authority's own belongs there".to_owned());
    }
    if old.certifies(new.public_key()) {
        // What it has signed names it by these.
        if new.subject().der() != old.subject().der() {
            words.push(format!(
                "it is for the key in use, but its subject is {}, not {}",
                new.subject().text(),
                old.subject().text()
            ));
        }
        if old.subject_key_id().is_some() && new.subject_key_id() != old.subject_key_id() {
            words.push("it is for the key in use, but has another subject key identifier".to_owned());
        }
    } else if let Some(file) =
        inventory.files.iter().filter(|file| file.spared != Some(Spared::Personal)).find(|file| {
            let held = certificates(file);
            let holds = |wanted: &Certificate| held.iter().any(|one| one.der() == wanted.der());
            holds(new) && authority.all.iter().any(|one| holds(one))
        })
    {
        words.push(format!(
            "node {}: {} holds it already beside the old one: take it out there, it is brought in when everybody can have it",
            file.node.name,
            file.path.display()
        ));
    }
    words
}

/// The certificate of an authority's new key by its old one.
fn cross_certificate(
    authority: &Authority<'_>,
    new: &Certificate,
    artifact: &Artifact,
    now: OffsetDateTime,
) -> Result<Certificate, Vec<String>> {
    let cross = readable(Some(artifact)).map_err(|words| vec![words])?.remove(0);
    let mut words = authority_words(&cross, now);
    if !cross.certifies(new.public_key()) {
        words.push("it is not for the key of the new authority".to_owned());
    }
    if cross.subject().der() != new.subject().der() {
        words.push(format!("its subject is {}, not {}", cross.subject().text(), new.subject().text()));
    }
    if !authority.all.iter().any(|old| chain::issued(&cross, old) == Signature::Good) {
        words.push("it is not signed by the old authority".to_owned());
    }
    if words.is_empty() { Ok(cross) } else { Err(words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::catalog::{Catalog, Keeper};
    use crate::snapshot::NodeSnapshot;

    #[test]
    fn the_folder_of_a_node_is_in_the_folder() {
        let folder = |node: &str| folder_of(Path::new("/r"), node).display().to_string();
        assert_eq!(folder("cp1.example.com"), "/r/cp1.example.com");
        assert_eq!(
            (folder(".."), folder("../../etc"), folder("/etc")),
            ("/r/node-..".into(), "/r/node-..-..-etc".into(), "/r/-etc".into())
        );
    }

    #[test]
    fn names_are_kubeadms_or_those_of_files_and_never_lead_elsewhere() {
        let node = NodeSnapshot::empty("cp1");
        let name = |name: &str, path: &str, user: Option<&str>, catalog| {
            let (name, path, keeper) = (name.to_owned(), Path::new(path), Keeper::Kubepki);
            let home = Home { node: &node, name, path, user, keeper, catalog, key: KeyFound::Missing(None) };
            (plain_name(&home), relative(&home))
        };
        let kubeadm = Some(Catalog::Kubeadm);
        assert_eq!(name("etcd-server", "/p/etcd/server.crt", None, kubeadm).1.as_deref(), Some("etcd/server"));
        assert_eq!(name("admin.conf", "/k/admin.conf", Some("a"), kubeadm), ("admin.conf".to_owned(), None));
        assert_eq!(name("web.crt", "/srv/web.crt", None, None).0, "web");
        assert_eq!(name("x.conf#user/../../y", "/k/x.conf", Some("../../y"), None).0, "x.conf-user-..-..-y");
    }
}
