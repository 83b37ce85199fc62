//! What changes in kubepki's files of a prepared control-plane node when somebody is revoked: no component is restarted.
//!
//! Everybody is refused by the hash of the certificate. Members of `system:masters` are allowed before any authorizer is asked,
//! so for them client trust is narrowed to the good certificates one by one: everything else that the cluster's CA has
//! signed is believed no more, until that CA is replaced or nobody of them is revoked any longer.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::{API_SERVER, AUTHORIZATION, CLIENT_TRUST, CONTROLLER_MANAGER, Seat};
use crate::error::Failure;
use crate::pki::authorization::{self, Denied};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, issued};
use crate::pki::client_trust::ClientTrust;
use crate::pki::usage::ExtendedKeyUsage;
use crate::plan::blueprint::PlannedFile;

/// The group that kube-apiserver allows everything, before authorizers.
pub const MASTERS: &str = "system:masters";

/// Who is refused, and who is not.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// By hash and by group.
    pub denied: Denied,
    /// SHA-256 of revoked certificates that no authorizer is asked about, lower-case hex: members of `system:masters`.
    pub unstoppable: BTreeSet<String>,
    /// Every client certificate that is known and not revoked.
    pub good: Vec<Certificate>,
}

/// What happens on one node.
#[derive(Debug, Default)]
pub struct Enforcement {
    /// The files that change.
    pub files: Vec<PlannedFile>,
    /// The certificates to which client trust is narrowed; none when it is not.
    pub pinned: Vec<Certificate>,
}

/// Whether a revoked certificate needs client trust to be narrowed.
pub fn is_unstoppable(certificate: &Certificate) -> bool {
    certificate.subject().organizations().iter().any(|group| group == MASTERS)
}

/// Plans it for one node. Nodes that are not prepared get nothing: see [`Seat::without_authorization`] and
/// [`Seat::without_client_trust`].
///
/// # Errors
/// When kube-apiserver would not take the result, with the reason and the next step. Then nothing may change.
pub fn plan(seat: &Seat, verdict: &Verdict, now: OffsetDateTime) -> Result<Enforcement, Failure> {
    let mut enforcement = Enforcement::default();
    let wrong = |path: std::path::PathBuf, reason: String| {
        Failure::failed(format!("node {}: {}: {reason}", seat.node, path.display()))
            .hint("nothing was changed; `kubepki revoke --prepare` makes a file anew that is not there")
    };
    if seat.without_authorization().is_none() {
        let path = seat.authorization();
        let text = seat.text(&path).ok_or_else(|| wrong(path.clone(), "it is not UTF-8".to_owned()))?;
        let deny = seat.deny();
        if !seat.files.contains_key(&deny) {
            return Err(wrong(
                deny,
                "it is not there, and kube-apiserver would not take its authorizers without it".to_owned(),
            ));
        }
        let new = authorization::with_denied(text, &verdict.denied, &deny.display().to_string());
        let new = new.map_err(|reason| wrong(path.clone(), reason))?;
        enforcement.files.extend(seat.planned(path, AUTHORIZATION, new.into_bytes()));
    }
    if seat.without_client_trust().is_none() {
        let path = seat.client_trust();
        let (trust, is_same) = trust(seat, verdict, now).map_err(|reason| wrong(path.clone(), reason))?;
        if !is_same {
            let text = trust.to_text().map_err(|reason| wrong(path.clone(), reason))?;
            enforcement.files.extend(seat.planned(path, CLIENT_TRUST, text.into_bytes()));
        }
        enforcement.pinned = trust.pinned;
    }
    Ok(enforcement)
}

/// Whom the node is to believe, and whether it does so already.
fn trust(seat: &Seat, verdict: &Verdict, now: OffsetDateTime) -> Result<(ClientTrust, bool), String> {
    let there = seat.files.get(&seat.client_trust()).ok_or("it is not there")?;
    let there = ClientTrust::read(there)?;
    let cluster = seat.files.get(&seat.pki_dir.join("ca.crt")).ok_or("the cluster's CA is not there")?;
    let cluster = ClientTrust::read(cluster)?.authorities;
    let is_cluster = |one: &Certificate| cluster.iter().any(|authority| authority.fingerprint() == one.fingerprint());
    // Authorities that somebody put there besides the cluster's stay: nobody of theirs is revoked here.
    let others: Vec<Certificate> = there.authorities.iter().filter(|one| !is_cluster(one)).cloned().collect();
    let wanted = if verdict.unstoppable.is_empty() {
        ClientTrust { authorities: others.into_iter().chain(cluster).collect(), pinned: Vec::new() }
    } else {
        let hash = |one: &Certificate| one.fingerprint_hex();
        let is_signed = |one: &&Certificate| cluster.iter().any(|ca| issued(one, ca) == Signature::Good);
        let is_good = |one: &&Certificate| {
            let ends = now < one.not_after();
            ends && one.allows(&ExtendedKeyUsage::ClientAuth) && !verdict.unstoppable.contains(&hash(one))
        };
        let kept = verdict.good.iter().chain(&there.pinned).filter(is_good).filter(is_signed);
        let kept = kept.filter(|one| !verdict.denied.fingerprints.contains(&hash(one)));
        let mut pinned: Vec<Certificate> = kept.cloned().collect();
        pinned.sort_by_key(|one| one.fingerprint());
        pinned.dedup_by_key(|one| one.fingerprint());
        if pinned.is_empty() {
            return Err("no good client certificate is known, so everybody would be cut off".to_owned());
        }
        ClientTrust { authorities: others, pinned }
    };
    let key = |trust: &ClientTrust| {
        let all = trust.authorities.iter().chain(&trust.pinned);
        all.map(|one| one.fingerprint()).collect::<BTreeSet<_>>()
    };
    let is_same = key(&wanted) == key(&there);
    Ok((wanted, is_same))
}

/// One component's state on a node, in the words of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// `kube-apiserver`, `kube-controller-manager` or `kubelet`.
    pub component: &'static str,
    /// Whether it refuses everything that is revoked; `None` needs `--prepare` first.
    pub enforced: Option<bool>,
    /// What has to be known besides.
    pub reason: Option<String>,
}

/// What kube-apiserver of a node does about these revocations once the plan is carried out, and who else believes them.
pub fn states(seat: &Seat, verdict: &Verdict) -> Vec<Held> {
    if seat.manifest(API_SERVER).is_none() {
        return Vec::new();
    }
    let mut states = Vec::new();
    let is_unstoppable = !verdict.unstoppable.is_empty();
    let missing =
        seat.without_authorization().or_else(|| is_unstoppable.then(|| seat.without_client_trust()).flatten());
    states.push(match missing {
        Some(reason) => Held {
            component: API_SERVER,
            enforced: None,
            reason: Some(format!("{reason}; `kubepki revoke --prepare` changes that once, with a rolling restart")),
        },
        None => Held {
            component: API_SERVER,
            enforced: Some(true),
            reason: Some(if is_unstoppable {
                "members of system:masters are believed no more, and neither is any client certificate that was not known; open \
                 watches go on until their connection ends"
                    .to_owned()
            } else {
                "refused by certificate hash; open watches go on until their connection ends".to_owned()
            }),
        },
    });
    if is_unstoppable {
        states.push(Held {
            component: "kubelet",
            enforced: Some(false),
            reason: Some(
                "kubelets believe everything that the cluster's CA signed, and kube-apiserver allows system:masters everything: \
                 port 10250 of every node still obeys the certificate; `kubepki rotate-certs --only cluster-ca` ends that"
                    .to_owned(),
            ),
        });
        let trusts = seat.flag(CONTROLLER_MANAGER, super::CLIENT_CA);
        if trusts.is_some_and(|path| std::path::Path::new(path) != seat.client_trust()) {
            states.push(Held { component: CONTROLLER_MANAGER, enforced: None, reason: None });
        }
    }
    states
}
