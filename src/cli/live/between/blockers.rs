//! Right before the old is dropped: who still needs it.
//!
//! Files of the cluster, client certificates that the cluster issued lately, clients that come with an old one right now, pods
//! and Secrets with tokens of the old key stop the operation, unless it is told to go on. What belongs to others, in the cluster or
//! in people's folders, is told of.

use time::OffsetDateTime;

use super::Letting;
use super::copies::some_of;
use super::leftovers;
use super::material::Keys;
use super::round::Round;
use super::successors;
use super::visitors;
use crate::error::{ExitCode, Failure};
use crate::live::api_server::ApiServer;
use crate::live::trust_copies::TokenSecret;
use crate::plan::phase::Phase;
use crate::report::text::counted;
use crate::report::time_text::utc;

/// Lets the last round begin, or says who is in its way.
pub(super) fn settle(round: &Round<'_>, letting: Letting) -> anyhow::Result<()> {
    let ui = &round.session.ui;
    ui.step("cluster: looking who still needs the old authorities and keys");
    let left = leftovers::look(round)?;
    for person in left.people.iter().chain(&others(round)) {
        ui.warning(&format!("this stops working when the old is dropped: {person}"));
    }
    let mut blockers = left.files;
    blockers.extend(certificates(round)?);
    blockers.extend(visitors::look(round, &successors::of(round, &left.new_ends, switched_at(round)))?);
    if let Some(keys) = &round.material.keys {
        let is_at_once = letting.wait_for_tokens.is_some_and(|length| length.duration().is_zero());
        let secrets = secrets(round, keys)?;
        if is_at_once {
            secrets.iter().for_each(|one| ui.warning(&format!("this is cut off: {one}")));
        } else {
            blockers.extend(secrets);
        }
        let moment = switched_at(round);
        // What waiting does not mend is told at once.
        if blockers.is_empty() || letting.force {
            await_tokens(round, letting, moment)?;
        }
        let pods = pods(round, moment)?;
        if letting.wait_for_tokens.is_some() {
            pods.iter().for_each(|one| ui.warning(&format!("the time for tokens is over: {one}")));
        } else {
            blockers.extend(pods);
        }
    }
    if blockers.is_empty() {
        return Ok(());
    }
    if letting.force {
        blockers.iter().for_each(|one| ui.warning(&format!("dropping the old although it is needed: {one}")));
        return Ok(());
    }
    let message = format!("the old is still needed, so it was not dropped:\n  {}", blockers.join("\n  "));
    Err(Failure::partial(message)
        .hint(
            "old and new are both trusted, so nothing is broken; once these are renewed, --continue finishes it \
             (--wait-for-tokens 24h waits for tokens, --force drops the old anyway), --abort takes it back",
        )
        .into())
}

/// A question to the cluster that has to be answered; nothing without an API.
fn ask<T: Default>(
    round: &Round<'_>,
    what: &str,
    question: &dyn Fn(&ApiServer<'_>) -> Result<T, String>,
) -> anyhow::Result<T> {
    match round.now(question) {
        Ok(answer) => Ok(answer.unwrap_or_default()),
        Err(reason) => Err(Failure::failed(format!("cluster: nobody says {what}: {reason}"))
            .hint("the old is not dropped before it is known who needs it; --continue looks again")
            .into()),
    }
}

/// Client certificates of old that the cluster issued and that have not ended.
fn certificates(round: &Round<'_>) -> anyhow::Result<Vec<String>> {
    let Some(cluster) = &round.material.cluster else { return Ok(Vec::new()) };
    let (old, now) = (cluster.going_certificates(), round.session.by_now());
    let found = ask(round, "which certificates the cluster has issued", &|api| {
        api.issued_certificates(&old, now).map_err(|error| error.to_string())
    })?;
    let own: Vec<&str> = round.target.nodes.iter().map(|node| node.node.name()).collect();
    let mut blockers = Vec::new();
    for one in found.into_iter().filter(|one| one.is_client) {
        let until = utc(one.not_after);
        match one.node() {
            // What their kubelets use now is in their files, which have been looked at.
            Some(node) if own.contains(&node) => {}
            Some(node) => blockers.push(format!(
                "the kubelet of {node}, which is no node of this operation, has a certificate of the old CA until {until} \
                 (CertificateSigningRequest {})",
                one.request
            )),
            None => blockers.push(format!(
                "{} has a client certificate of the old CA until {until} (CertificateSigningRequest {}, asked for by {}, \
                 signer {})",
                one.common_name, one.request, one.user, one.signer
            )),
        }
    }
    Ok(blockers)
}

/// Since when every API server signs with the new key.
fn switched_at(round: &Round<'_>) -> OffsetDateTime {
    let reports = round.legs.iter().flat_map(|(_, journal)| &journal.operation.phases);
    let ends = reports.filter(|report| report.name == Phase::IssueNew.name()).filter_map(|report| report.ended_at);
    // Without a note of it, all that is known is that it is so now.
    ends.max().unwrap_or_else(|| round.session.by_now())
}

/// Waits as long as the operator wants tokens to be waited for.
fn await_tokens(round: &Round<'_>, letting: Letting, moment: OffsetDateTime) -> anyhow::Result<()> {
    let Some(length) = letting.wait_for_tokens else { return Ok(()) };
    let end = moment + length.duration();
    let left = end - round.session.by_now();
    if !left.is_positive() {
        return Ok(());
    }
    let message = format!("old and new are both trusted; waiting until {} for tokens to be renewed", utc(end));
    round.session.ui.status(&message);
    if round.session.wait(left) {
        return Ok(());
    }
    Err(Failure::new(ExitCode::Interrupted, "interrupted while waiting for tokens to be renewed; what is done is kept")
        .hint(
            "--continue goes on, with --wait-for-tokens it waits for what is left of that time; --abort takes it back",
        )
        .into())
}

/// Pods that may hold tokens from before `moment`.
fn pods(round: &Round<'_>, moment: OffsetDateTime) -> anyhow::Result<Option<String>> {
    let now = round.session.by_now();
    let holders =
        ask(round, "which pods hold tokens", &|api| api.token_holders(moment).map_err(|error| error.to_string()))?;
    let holders: Vec<_> = holders.into_iter().filter(|pod| pod.holds_token_from_before(moment, now)).collect();
    let last = holders.iter().map(|pod| moment + pod.keeps_for).max();
    let names: Vec<String> = holders.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
    Ok(last.map(|last| {
        let count = counted(names.len(), "pod");
        let at = utc(last);
        format!("{count} may hold a token of the old key, until {at} at the latest: {}", some_of(&names))
    }))
}

/// Secrets that hold tokens of the old key, which do not end by themselves.
fn secrets(round: &Round<'_>, keys: &Keys) -> anyhow::Result<Vec<String>> {
    let old = keys.going();
    let secrets =
        ask(round, "which Secrets hold tokens", &|api| api.token_secrets().map_err(|error| error.to_string()))?;
    let is_old = |secret: &TokenSecret| secret.key_id.as_ref().is_some_and(|key| old.contains(key));
    let words = |secret: TokenSecret| {
        format!(
            "Secret {}/{} has a token of the old key for the service account {}: delete its token, and a new one is made",
            secret.namespace, secret.name, secret.account
        )
    };
    Ok(secrets.into_iter().filter(is_old).map(words).collect())
}

/// Copies of old authorities in the cluster that belong to others.
fn others(round: &Round<'_>) -> Vec<String> {
    let old = round
        .material
        .exchanges()
        .fold(crate::live::authority_set::AuthoritySet::default(), |all, one| all.with(&one.going()));
    if old.is_empty() {
        return Vec::new();
    }
    let found = round.now(&|api| api.holders_of(&old).map_err(|error| error.to_string()));
    match found {
        Ok(found) => {
            let found = found.unwrap_or_default();
            for unread in &found.unread {
                round.session.ui.warning(&format!("copies of the old authorities were not looked for in {unread}"));
            }
            found.found.into_iter().map(|place| format!("{place} has a copy of the old CA")).collect()
        }
        Err(reason) => {
            round.session.ui.warning(&format!("nobody says who else has a copy of the old authorities: {reason}"));
            Vec::new()
        }
    }
}
