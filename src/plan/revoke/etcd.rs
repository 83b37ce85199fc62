//! etcd: refuses by serial number, read from a revocation list at every handshake.
//!
//! etcd takes one list for clients and one for peers and looks at nothing in them but serial numbers. So one list, signed by
//! the CA whose key is here, holds those of every CA that etcd trusts. A list has to be there and has to be DER, or etcd
//! lets nobody in (etcd 3.6: a PEM file is "malformed"); it is written even when it is empty. Copies as PEM are for others.

use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};

use super::known::Known;
use super::result::{ComponentState, Enforcement};
use super::{Case, Part, Seat, planned};
use crate::error::Failure;
use crate::pki::certificate::{Certificate, SerialNumber};
use crate::pki::chain::{Signature, issued};
use crate::pki::component::flag;
use crate::pki::crl::{self, Reason, RevocationList, Revoked};
use crate::pki::hex;
use crate::pki::revocation::Kind;
use crate::plan::blueprint::{CertificateRef, FileContent, KeyPlan, KeySource, PlannedFile};
use crate::snapshot::NodeSnapshot;

/// For how long others believe in a list (etcd does not ask); it is renewed when a third of that is left.
const VALIDITY: Duration = Duration::days(365);

/// The flags, and the list that each of them names.
const FLAGS: [(&str, &str); 2] = [("--client-crl-file", "client.crl"), ("--peer-crl-file", "peer.crl")];

/// What etcd reads, and the same for others.
const NAMES: [&str; 4] = ["client.crl", "client.crl.pem", "peer.crl", "peer.crl.pem"];

/// Where the lists are: the only folder that etcd's pod mounts is that of its own certificates.
pub fn folder(pki_dir: &Path) -> PathBuf {
    pki_dir.join("etcd/kubepki")
}

/// The flags that let etcd read the lists, as `--client-crl-file=/etc/…`.
pub fn flags(pki_dir: &Path) -> [(&'static str, PathBuf); 2] {
    FLAGS.map(|(flag, name)| (flag, folder(pki_dir).join(name)))
}

/// The files that the plan has to see.
pub fn reads(seat: &Seat) -> Vec<PathBuf> {
    NAMES.iter().map(|name| folder(&seat.pki_dir).join(name)).collect()
}

/// The CAs that etcd trusts on a node, and the one that signs.
struct Authorities<'a> {
    trusted: Vec<&'a Certificate>,
    /// The CA whose key is here, with that key's file.
    signer: Option<(&'a Certificate, PathBuf)>,
}

impl<'a> Authorities<'a> {
    fn on(found: &'a NodeSnapshot, pki_dir: &Path) -> Option<Self> {
        let file = found.at(&pki_dir.join("etcd/ca.crt"))?.content()?;
        let trusted: Vec<&Certificate> = file.certificates().collect();
        if trusted.is_empty() {
            return None;
        }
        let key_file = pki_dir.join("etcd/ca.key");
        let key = found.at(&key_file).and_then(|artifact| artifact.content()?.private_key.as_ref()?.as_ref().ok());
        let signer = key.and_then(|key| trusted.iter().find(|certificate| certificate.certifies(&key.public_key)));
        let signer = signer.map(|certificate| (*certificate, key_file));
        Some(Self { trusted, signer })
    }

    fn has_issued(&self, known: &Known) -> bool {
        self.trusted.iter().any(|authority| match &known.certificate {
            Some(certificate) => issued(certificate, authority) == Signature::Good,
            None => {
                let key_id = authority.subject_key_id().map(hex);
                known.issued.issuer.as_deref() == Some(authority.subject().text())
                    && (known.issued.issuer_key_id.is_none() || known.issued.issuer_key_id == key_id)
            }
        })
    }
}

/// An empty list for a node's etcd as DER, and the key that signs it; `None` where that key is not.
pub fn empty(found: &NodeSnapshot, pki_dir: &Path, now: OffsetDateTime) -> Option<(FileContent, KeyPlan)> {
    let (signer, path) = Authorities::on(found, pki_dir)?.signer?;
    let next_update = (now + VALIDITY).min(signer.not_after());
    let list = RevocationList { number: 1, this_update: now, next_update, entries: Vec::new() };
    let key = format!("{}/etcd-ca", found.name);
    let content = FileContent::RevocationList {
        list: Box::new(list),
        authority: CertificateRef::Existing(Box::new(signer.clone())),
        key: key.clone(),
        pem: false,
    };
    Some((content, KeyPlan { id: key, source: KeySource::File { node: found.name.clone(), path } }))
}

/// The lists on every control-plane node.
///
/// # Errors
/// Never; all components' plans have the same form.
pub fn plan(case: &Case<'_>) -> Result<Part, Failure> {
    let mut part = Part::default();
    let number = next_number(case);
    for seat in case.seats {
        let authorities = case.snapshot.node(&seat.node).and_then(|found| Authorities::on(found, &seat.pki_dir));
        let state = |state, reason: String| ComponentState {
            component: "etcd",
            node: Some(seat.node.clone()),
            state,
            reason,
            since: None,
        };
        let Some(authorities) = authorities else {
            let reason = "there is no CA of etcd on this node: an external etcd needs a list of its own".to_owned();
            part.states.push(state(Enforcement::NotEnforceable, reason));
            continue;
        };
        let Some((signer, key_file)) = &authorities.signer else {
            let reason = format!(
                "the key of etcd's CA is not on this node, so it can sign no list: have one signed where the key is, and put \
                 it into {}",
                folder(&seat.pki_dir).display()
            );
            part.states.push(state(Enforcement::NotEnforceable, reason));
            continue;
        };
        let entries = entries(case, &authorities);
        let list = RevocationList {
            number,
            this_update: case.now,
            next_update: (case.now + VALIDITY).min(signer.not_after()),
            entries,
        };
        let id = format!("{}/etcd-ca", seat.node);
        let files = files(case, seat, &list, signer, &id);
        if !files.is_empty() {
            let source = KeySource::File { node: seat.node.clone(), path: key_file.clone() };
            part.keys.push(KeyPlan { id, source });
            part.files.extend(files.into_iter().map(|file| (seat.node.clone(), file)));
        }
        part.states.push(judge(case, seat, &list, signer, &state));
    }
    Ok(part)
}

fn judge(
    case: &Case<'_>,
    seat: &Seat,
    list: &RevocationList,
    signer: &Certificate,
    state: &dyn Fn(Enforcement, String) -> ComponentState,
) -> ComponentState {
    let flags = flags(&seat.pki_dir);
    let wanted: Vec<String> = flags.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    let others = if crl::may_sign(signer) {
        ""
    } else {
        "; its CA's key usage does not allow lists, which etcd does not mind and other programs do"
    };
    let listed = format!("serial numbers on its lists: {}{others}", list.entries.len());
    let Some(manifest) = case.manifest(&seat.node, "etcd") else {
        let reason = format!("{listed}; it has to be started with {}", wanted.join(" "));
        return state(Enforcement::NeedsPrepare, reason);
    };
    let is_set = |(name, path): &(&str, PathBuf)| flag(&manifest.text, name).map(Path::new) == Some(path.as_path());
    if flags.iter().all(is_set) {
        let reason = format!("{listed}; new connections are refused, those that are open stay open");
        return state(Enforcement::Enforced, reason);
    }
    let foreign = flags.iter().find_map(|flag| other_list(&manifest.text, flag));
    match foreign {
        Some(other) => state(Enforcement::NeedsPrepare, format!("{listed}; but it reads {other}")),
        None => {
            state(Enforcement::NeedsPrepare, format!("{listed}; it does not read them yet: `kubepki revoke --prepare`"))
        }
    }
}

/// The list that a flag names, where that is not ours.
fn other_list(manifest: &str, (name, path): &(&str, PathBuf)) -> Option<String> {
    let value = flag(manifest, name)?;
    (Path::new(value) != path).then(|| format!("{name}={value}"))
}

/// What the ledger revokes of what these CAs have issued. A number that belongs to no known certificate may well be one of
/// theirs: it is listed, for two certificates never share one by chance.
fn entries(case: &Case<'_>, authorities: &Authorities<'_>) -> Vec<Revoked> {
    let since = |name: &str| {
        let revocation = case.ledger.iter().find(|revocation| revocation.name == name);
        revocation.and_then(|revocation| revocation.created).unwrap_or(case.now)
    };
    let entry_of =
        |name: &str, place: usize| case.ledger.iter().find(|revocation| revocation.name == name)?.entries.get(place);
    let reason = |not_before: Option<OffsetDateTime>| match not_before {
        Some(_) => Reason::Superseded,
        None => Reason::PrivilegeWithdrawn,
    };
    let mut all: Vec<Revoked> = Vec::new();
    let mut put = |serial: SerialNumber, since, reason| {
        if !all.iter().any(|entry| entry.serial == serial) {
            all.push(Revoked { serial, since, reason });
        }
    };
    for known in case.revoked().filter(|known| !known.issued.is_ca && authorities.has_issued(known)) {
        let serial = known.certificate.as_ref().map(|one| one.serial().clone()).or_else(|| known.issued.serial());
        if let (Some(serial), Some((name, place))) = (serial, known.by.first()) {
            put(serial, since(name), reason(entry_of(name, *place).and_then(|entry| entry.not_before)));
        }
    }
    for revocation in case.ledger {
        for entry in revocation.entries.iter().filter(|entry| entry.not_before.is_none()) {
            let Kind::Serial(serial) = &entry.kind else { continue };
            let is_known = case.known.iter().any(|known| known.issued.serial().as_ref() == Some(serial));
            if !is_known {
                put(serial.clone(), since(&revocation.name), Reason::PrivilegeWithdrawn);
            }
        }
    }
    all.sort_by(|one, other| one.serial.cmp(&other.serial));
    all
}

/// The files that do not say the same yet.
fn files(case: &Case<'_>, seat: &Seat, list: &RevocationList, signer: &Certificate, key: &str) -> Vec<PlannedFile> {
    let wanted: Vec<&SerialNumber> = list.entries.iter().map(|entry| &entry.serial).collect();
    let is_good = |bytes: &[u8], pem: bool| {
        let Ok(found) = crl::read(bytes) else { return false };
        let lasts = found.next_update.is_some_and(|end| {
            // One that can be no longer than its CA is as long as it gets.
            end >= case.now + VALIDITY / 3 || end >= signer.not_after() && end > case.now
        });
        bytes.starts_with(b"-----") == pem
            && lasts
            && found.serials.iter().eq(wanted.iter().copied())
            && found.is_of(signer)
    };
    let mut files = Vec::new();
    for path in reads(seat) {
        let pem = path.extension().is_some_and(|ending| ending == "pem");
        let existing = case.existing(&seat.node, &path);
        if existing.is_some_and(|existing| is_good(&existing.bytes, pem)) {
            continue;
        }
        let content = FileContent::RevocationList {
            list: Box::new(list.clone()),
            authority: CertificateRef::Existing(Box::new(signer.clone())),
            key: key.to_owned(),
            pem,
        };
        files.push(planned(path, content, 0o644, existing.map(|existing| existing.sha256.clone())));
    }
    files
}

/// Greater than every number of a list that is there.
fn next_number(case: &Case<'_>) -> u64 {
    let ours = |seat: &Seat| reads(seat).into_iter().map(|path| (seat.node.clone(), path)).collect::<Vec<_>>();
    let found = case.seats.iter().flat_map(ours).filter_map(|(node, path)| case.existing(&node, &path));
    let last = found.filter_map(|existing| crl::read(&existing.bytes).ok()).map(|list| list.number).max();
    last.unwrap_or_default() + 1
}
