//! After the round of issuing: what running components serve, sign and sign with comes from the new authorities and keys.

use time::OffsetDateTime;

use super::material::{At, Exchange, changes_in};
use super::round::{LIMITS, Round, Seat, on_disk};
use crate::apply::mint::passing_key;
use crate::live::NoAnswer;
use crate::live::api_server::ApiServer;
use crate::live::component::Component;
use crate::live::credential::{Credential, certificates};
use crate::live::etcd::Etcd;
use crate::live::signing::{State, Wanted};
use crate::live::tokens::signed_with;
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::certificate::Certificate;
use crate::pki::csr;
use crate::pki::issue::Template;
use crate::pki::name::Name;
use crate::pki::usage::ExtendedKeyUsage;
use crate::plan::compare::leads_to;
use crate::plan::phase::Phase;

/// Whom the throw-away certificate is for: nobody has rights under this name.
const NOBODY: &str = "kubepki:probe";

/// How long throw-away tokens and certificates live (seconds); less is not to be had.
const SHORTEST: u32 = 600;

/// Waits until everything comes from the new.
pub(super) fn prove(round: &Round<'_>) -> anyhow::Result<()> {
    round.etcd_healthy()?;
    if let Some(etcd) = &round.material.etcd {
        for seat in round.members().filter(|seat| is_changed(round, seat, "etcd/server.crt")) {
            round.wait(seat.name(), "etcd serves a certificate of the new etcd CA", || {
                member_serves(round, seat, etcd)
            })?;
        }
    }
    round.everywhere("is ready", &|_, api| api.ready().map_err(|error| error.to_string()))?;
    if let Some(cluster) = &round.material.cluster {
        let new = cluster.coming_certificates();
        for seat in round.servers().filter(|seat| is_changed(round, seat, "apiserver.crt")) {
            round.wait(seat.name(), "kube-apiserver serves a certificate of the new CA", || {
                is_of(&seat.api()?.served().map_err(|error| error.to_string())?, &new, round.session.by_now())
            })?;
        }
    }
    if let Some(keys) = &round.material.keys {
        let new = keys.coming();
        round.everywhere("signs tokens with the new key", &|_, api| {
            let token = api.new_token("default", "default", SHORTEST).map_err(|error| error.to_string())?;
            match signed_with(&token) {
                Some(key) if new.contains(&key) => Ok(()),
                Some(key) => Err(format!("it signs with {key}")),
                None => Err("its tokens name no key".to_owned()),
            }
        })?;
    }
    if let Some(cluster) = &round.material.cluster {
        signs(round, cluster)?;
    }
    Ok(())
}

/// Whether that file of the node's PKI folder is changed by this round.
fn is_changed(round: &Round<'_>, seat: &Seat<'_>, name: &str) -> bool {
    let path = seat.node.layout.pki_dir.join(name);
    let own = round.legs.iter().filter(|(node, _)| node.node.name() == seat.name());
    own.into_iter().any(|(_, journal)| changes_in(journal, &path, Phase::IssueNew))
}

fn member_serves(round: &Round<'_>, seat: &Seat<'_>, etcd: &Exchange) -> Result<(), String> {
    let endpoint = seat.endpoint(Component::Etcd).ok_or("there is no etcd on this node")?;
    let folder = seat.node.layout.pki_dir.join("etcd");
    let client = Credential::read_pair(&*seat.node.node, &folder.join("healthcheck-client"), &folder.join("ca.crt"))?
        .trusting(on_disk(seat.node, "etcd/ca.crt"));
    round.session.ui.debug(&format!("{}: asking etcd at {endpoint} what it serves", seat.name()));
    let member = Etcd::new(&*seat.node.node, endpoint.clone(), &client, LIMITS)?;
    is_of(&member.served().map_err(|error| error.to_string())?, &etcd.coming_certificates(), round.session.by_now())
}

/// Whether the first of the certificates shown is one of `authorities`', over intermediates that are shown with it if need be.
fn is_of(shown: &[Vec<u8>], authorities: &[Certificate], now: OffsetDateTime) -> Result<(), String> {
    let (leaf, rest) = shown.split_first().ok_or("it shows no certificate")?;
    let leaf = Certificate::from_der(leaf)?;
    let rest: Vec<Certificate> = rest.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    if leads_to(&leaf, &rest, authorities, now) {
        return Ok(());
    }
    Err(format!("the certificate with serial number {} is not signed by it", leaf.serial()))
}

/// kube-controller-manager signs with the new CA: shown by a certificate that nobody uses.
fn signs(round: &Round<'_>, cluster: &Exchange) -> anyhow::Result<()> {
    // Where the CA's key is kept elsewhere nobody signs requests.
    if round.servers().next().is_none() || !round.has("ca.key", At::After(Phase::IssueNew))? {
        return Ok(());
    }
    let key = passing_key(KeyAlgorithm::EcdsaP256)?;
    let subject = Name::new(NOBODY, &[]);
    let now = round.session.by_now();
    let template = Template::leaf(subject, &[ExtendedKeyUsage::ClientAuth], &[], key.public_key(), (now, now));
    let request = csr::request(&template, &key)?;
    let new = cluster.coming_certificates();
    round.anywhere("kube-controller-manager signs requests with the new CA", &|api| sign(api, &request, &new, now))
}

/// One attempt: a request of this name is made, approved, awaited and taken away.
fn sign(api: &ApiServer<'_>, request: &str, new: &[Certificate], now: OffsetDateTime) -> Result<(), String> {
    const NAME: &str = "kubepki-probe";
    let words = |error: NoAnswer| error.to_string();
    let found = match api.signing_request(NAME) {
        Ok(found) if found.request == request.as_bytes() => Some(found),
        // Left behind by an earlier run.
        Ok(_) => {
            api.delete_signing_request(NAME).map_err(words)?;
            None
        }
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(words(error)),
    };
    let found = match found {
        Some(found) => found,
        None => api
            .request_certificate(&Wanted {
                name: NAME,
                request,
                signer: "kubernetes.io/kube-apiserver-client",
                usages: &["client auth", "digital signature"],
                lifetime: Some(SHORTEST),
            })
            .map_err(words)?,
    };
    match found.state {
        State::Pending => {
            api.approve(NAME, "KubepkiProbe", "shows which CA signs; the certificate is not used").map_err(words)?;
            Err("it is approved and not signed yet".to_owned())
        }
        State::Approved => Err("it is not signed yet".to_owned()),
        State::Issued(pem) => {
            // Whatever it is, the next attempt begins anew.
            api.delete_signing_request(NAME).map_err(words)?;
            is_of(&certificates(&pem), new, now)
        }
        State::Denied(reason) | State::Failed(reason) => {
            api.delete_signing_request(NAME).map_err(words)?;
            Err(reason)
        }
    }
}
