//! After the last round: the old is trusted nowhere any more, which those who trusted it say themselves.

use super::copies;
use super::kubelets::{client as kubelet_client, each, serves_nobody};
use super::material::At;
use super::round::{LIMITS, Round, refused};
use crate::live::component::Component;
use crate::live::proof::prove as show;

/// Waits until the old is refused everywhere and the copies of trust hold the new alone.
pub(super) fn prove(round: &Round<'_>) -> anyhow::Result<()> {
    round.etcd_healthy()?;
    round.everywhere("is ready", &|_, api| api.ready().map_err(|error| error.to_string()))?;
    if let Some(cluster) = &round.material.cluster {
        copies::cluster_authority(round, cluster, &cluster.end)?;
        round.anywhere("no CAs of old wait for control-plane nodes that join", &|api| {
            api.delete_uploaded_authorities().map(drop).map_err(|error| error.to_string())
        })?;
    }
    old_is_refused(round)?;
    if let Some(keys) = &round.material.keys {
        round.everywhere("checks tokens with the new key alone", &|_, api| {
            let found = api.token_keys().map_err(|error| error.to_string())?;
            if found == keys.end { Ok(()) } else { Err(format!("it knows {} keys", found.len())) }
        })?;
    }
    // Last: each API server writes what it trusts itself, which is the new alone by now.
    let clients = round.material.cluster.as_ref().map(|one| (one.end.as_slice(), one.going()));
    let proxies = round.material.front_proxy.as_ref().map(|one| (one.end.as_slice(), one.going()));
    copies::aggregation(round, clients, proxies)
}

/// What the old authorities issued is refused by all who accepted it before.
fn old_is_refused(round: &Round<'_>) -> anyhow::Result<()> {
    if round.material.cluster.is_some() {
        for seat in round.servers() {
            let Some(old) = round.administrator(seat.node, At::Start, seat.authorities())? else { continue };
            round.wait(seat.name(), "kube-apiserver refuses client certificates of the old CA", || {
                seat.show(Component::ApiServer, &old).and_then(refused)
            })?;
        }
        if let Some(old) = kubelet_client(round, At::Start)? {
            each(round, &|node, listener| {
                round.wait(node.node.name(), "the kubelet refuses client certificates of the old CA", || {
                    let verdict = show(&*node.node, Component::Kubelet, &listener.endpoint, &old, LIMITS);
                    if serves_nobody(&verdict, node, listener) {
                        return Ok(());
                    }
                    refused(verdict)
                })
            })?;
        }
    }
    if round.material.front_proxy.is_some() {
        for seat in round.servers() {
            let Some(proxy) = round.pair(seat.node, "front-proxy-client", At::Start, &seat.authorities())? else {
                continue;
            };
            round.wait(
                seat.name(),
                "kube-apiserver believes no front proxy of the old front-proxy CA",
                || match seat.vouched(&proxy) {
                    Ok(true) => Err("it still believes it".to_owned()),
                    Ok(false) => Ok(()),
                    Err(error) if error.is_unauthenticated() => Ok(()),
                    Err(error) => Err(error.to_string()),
                },
            )?;
        }
    }
    if let Some(etcd) = &round.material.etcd {
        for seat in round.members() {
            let Some(old) = round.pair(seat.node, "etcd/healthcheck-client", At::Start, &etcd.end)? else { continue };
            round.wait(seat.name(), "etcd refuses client certificates of the old etcd CA", || {
                seat.show(Component::Etcd, &old).and_then(refused)
            })?;
        }
    }
    Ok(())
}
