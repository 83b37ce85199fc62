//! The copies of trust in the cluster itself, at any moment: written where nobody else does, awaited where somebody does.

use std::cell::Cell;

use super::material::{Exchange, set};
use super::round::Round;
use crate::live::aggregation::{AggregationTrust, WantedTrust};
use crate::live::authority_set::AuthoritySet;
use crate::live::cluster_info::Rewritten;
use crate::live::trust_copies::TokenSecret;
use crate::report::text::counted;

/// So many names are told of a list.
const SHOWN: usize = 5;

/// Makes `cluster-info` tell of `wanted` (DER).
pub(super) fn cluster_info(round: &Round<'_>, exchange: &Exchange, wanted: &[Vec<u8>]) -> anyhow::Result<()> {
    let (ours, wanted_set) = (exchange.all(), set(wanted));
    let foreign: Cell<Option<AuthoritySet>> = Cell::new(None);
    round.anywhere(&format!("cluster-info tells of {wanted_set}"), &|api| {
        match api.set_cluster_info(wanted, &ours).map_err(|error| error.to_string())? {
            Rewritten::Changed | Rewritten::Same => {}
            Rewritten::Absent => round.session.ui.debug("there is no cluster-info in kube-public"),
            Rewritten::Foreign(found) => foreign.set(Some(found)),
        }
        Ok(())
    })?;
    if let Some(found) = foreign.take() {
        round.session.ui.warning(&format!(
            "cluster-info in kube-public tells of {found}, not of this cluster's CA: it was left as it is"
        ));
    }
    Ok(())
}

/// Makes `cluster-info` tell of `wanted` (DER), and waits until every namespace and token Secret has it too.
pub(super) fn cluster_authority(round: &Round<'_>, exchange: &Exchange, wanted: &[Vec<u8>]) -> anyhow::Result<()> {
    cluster_info(round, exchange, wanted)?;
    let wanted_set = set(wanted);
    round.anywhere("kube-root-ca.crt is right in every namespace", &|api| {
        let missing = api.namespaces_not_trusting(&wanted_set).map_err(|error| error.to_string())?;
        none_left(&missing, "namespace", "without exactly that")
    })?;
    round.anywhere("ca.crt is right in every token Secret", &|api| {
        let secrets = api.token_secrets().map_err(|error| error.to_string())?;
        // One without authorities is new, and gets the present ones.
        let is_wrong = |secret: &&TokenSecret| secret.authorities.as_ref().is_some_and(|held| *held != wanted_set);
        let wrong: Vec<String> =
            secrets.iter().filter(is_wrong).map(|secret| format!("{}/{}", secret.namespace, secret.name)).collect();
        none_left(&wrong, "Secret", "with something else")
    })
}

/// Waits until aggregated API servers are told to trust what the API servers themselves do, and nothing that went. What is
/// written there is deleted first if it is not that.
pub(super) fn aggregation(
    round: &Round<'_>,
    clients: Option<(&[Vec<u8>], AuthoritySet)>,
    proxies: Option<(&[Vec<u8>], AuthoritySet)>,
) -> anyhow::Result<()> {
    if clients.is_none() && proxies.is_none() {
        return Ok(());
    }
    let now = round.session.by_now();
    // API servers leave out what has expired.
    let of =
        |domain: &Option<(&[Vec<u8>], AuthoritySet)>| domain.as_ref().map(|(wanted, _)| set(wanted).unexpired(now));
    let wanted = WantedTrust { clients: of(&clients), front_proxies: of(&proxies) };
    let gone = |domain: Option<(&[Vec<u8>], AuthoritySet)>| domain.map(|(_, gone)| gone).unwrap_or_default();
    let (clients_gone, proxies_gone) = (gone(clients), gone(proxies));
    let deleted = Cell::new(false);
    // An API server may have been told to trust more than the bundle: what is written anew is what it was told.
    let is_fit = |found: &AggregationTrust| {
        wanted.is_met_by(found)
            || (deleted.get()
                && wanted.is_held_by(found)
                && !found.clients.meets(&clients_gone)
                && !found.front_proxies.meets(&proxies_gone))
    };
    round.anywhere("extension-apiserver-authentication holds what is trusted now and nothing else", &|api| match api
        .aggregation_trust()
        .map_err(|error| error.to_string())?
    {
        Some(found) if is_fit(&found) => Ok(()),
        Some(found) => {
            api.delete_aggregation_trust().map_err(|error| error.to_string())?;
            deleted.set(true);
            Err(format!("it held {} and {}, and was deleted", found.clients, found.front_proxies))
        }
        None => {
            deleted.set(true);
            Err("no API server has written it anew yet".to_owned())
        }
    })
}

/// Nothing may be left on a list.
pub(super) fn none_left(names: &[String], noun: &str, what: &str) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    Err(format!("{} {what}: {}", counted(names.len(), noun), some_of(names)))
}

/// The first names of a list.
pub(super) fn some_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_told_in_part() {
        let names: Vec<String> = (1..=7).map(|number| format!("n{number}")).collect();
        assert_eq!(none_left(&[], "namespace", "x"), Ok(()));
        assert_eq!(none_left(&names[..1], "namespace", "x"), Err("1 namespace x: n1".to_owned()));
        assert_eq!(
            none_left(&names, "namespace", "x"),
            Err("7 namespaces x: n1, n2, n3, n4, n5 and 2 more".to_owned())
        );
    }
}
