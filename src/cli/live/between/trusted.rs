//! After the first round: everybody trusts old and new, so certificates and tokens of the new may come into use.

use super::copies;
use super::material::At;
use super::round::{Round, accepted};
use crate::live::component::Component;
use crate::plan::phase::Phase;

/// What will be in use after the next round.
const NEW: At = At::After(Phase::IssueNew);

/// Waits until every API server and etcd member accepts what the new authorities issue, and until the copies of trust in the
/// cluster hold both.
pub(super) fn prove(round: &Round<'_>) -> anyhow::Result<()> {
    round.etcd_healthy()?;
    if let Some(etcd) = &round.material.etcd {
        for seat in round.members() {
            let Some(client) = round.pair(seat.node, "etcd/healthcheck-client", NEW, &etcd.both)? else { continue };
            round.wait(seat.name(), "etcd accepts a client certificate of the new etcd CA", || {
                seat.show(Component::Etcd, &client).and_then(accepted)
            })?;
        }
    }
    round.everywhere("is ready", &|_, api| api.ready().map_err(|error| error.to_string()))?;
    if round.material.cluster.is_some() {
        for seat in round.servers() {
            let Some(client) = round.administrator(seat.node, NEW, seat.authorities())? else { continue };
            round.wait(seat.name(), "kube-apiserver accepts a client certificate of the new CA", || {
                seat.show(Component::ApiServer, &client).and_then(accepted)
            })?;
        }
    }
    if round.material.front_proxy.is_some() {
        front_proxy(round)?;
    }
    if let Some(keys) = &round.material.keys {
        let wanted = keys.both();
        round.everywhere("checks tokens with the old and the new key", &|_, api| {
            let found = api.token_keys().map_err(|error| error.to_string())?;
            if wanted.is_subset(&found) { Ok(()) } else { Err(format!("it knows {} keys", found.len())) }
        })?;
    }
    if let Some(exchange) = &round.material.cluster {
        copies::cluster_authority(round, exchange, &exchange.both)?;
    }
    Ok(())
}

/// Every API server believes a front proxy with a certificate of the new CA.
fn front_proxy(round: &Round<'_>) -> anyhow::Result<()> {
    for seat in round.servers() {
        let Some(proxy) = round.pair(seat.node, "front-proxy-client", NEW, &seat.authorities())? else { continue };
        round.wait(seat.name(), "kube-apiserver believes a front proxy of the new front-proxy CA", || {
            match seat.vouched(&proxy) {
                Ok(true) => Ok(()),
                Ok(false) => Err("it takes the proxy for its own user".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })?;
    }
    Ok(())
}

/// After the first round was taken back: the copies of trust hold the old alone again.
pub(super) fn take_back(round: &Round<'_>) -> anyhow::Result<()> {
    round.etcd_healthy()?;
    round.everywhere("is ready", &|_, api| api.ready().map_err(|error| error.to_string()))?;
    if let Some(exchange) = &round.material.cluster {
        copies::cluster_authority(round, exchange, &exchange.start)?;
    }
    // The key of an authority that never came into use is thrown away; nobody should go on trusting it.
    let clients = round.material.cluster.as_ref().map(|one| (one.start.as_slice(), one.coming()));
    let proxies = round.material.front_proxy.as_ref().map(|one| (one.start.as_slice(), one.coming()));
    copies::aggregation(round, clients, proxies)
}
