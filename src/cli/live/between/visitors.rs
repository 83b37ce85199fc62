//! Who still comes to the API servers with a certificate of the old CA, as far as they tell: by how long it is still good.
//!
//! Kubelets, leaders and controllers come every few seconds. A certificate whose end falls into the same span as that of a
//! new one cannot be told from it; nobody is blamed for those.

use time::Duration;

use super::material::Exchange;
use super::round::{Round, Seat};
use crate::error::{ExitCode, Failure};
use crate::live::client_lives::{ClientLives, Visits};
use crate::report::text::counted;
use crate::report::time_text::duration;

/// For how long it is watched who comes; kubelets renew their leases every ten seconds.
const WATCH: Duration = Duration::seconds(12);

/// Those who come, each API server on its own, in words.
///
/// # Errors
/// 130 when interrupted. An API server that does not say is a warning: what else stands in the way has been asked for.
pub(super) fn look(round: &Round<'_>) -> anyhow::Result<Vec<String>> {
    let Some(cluster) = &round.material.cluster else { return Ok(Vec::new()) };
    let known = known(round, cluster);
    let first: Vec<(&Seat<'_>, ClientLives)> =
        round.servers().filter_map(|seat| Some((seat, ask(round, seat)?))).collect();
    // What has never been since it started needs not be watched for.
    let is_silent = |lives: &ClientLives| {
        lives.strange_since(None, &known).is_empty() && round.session.by_now() - lives.started_at > WATCH
    };
    if first.iter().all(|(_, lives)| is_silent(lives)) {
        return Ok(Vec::new());
    }
    round.session.ui.step(&format!("cluster: watching for {} who comes with an old certificate", duration(WATCH)));
    if !round.session.wait(WATCH) {
        return Err(Failure::new(ExitCode::Interrupted, "interrupted; what is done is kept")
            .hint("--continue goes on, --abort takes it back")
            .into());
    }
    let mut found = Vec::new();
    for (seat, earlier) in first {
        let Some(later) = ask(round, seat) else { continue };
        found.extend(later.strange_since(Some(&earlier), &known).iter().map(|visits| words(seat.name(), visits)));
    }
    Ok(found)
}

fn ask(round: &Round<'_>, seat: &Seat<'_>) -> Option<ClientLives> {
    let said = seat.api().and_then(|api| api.client_lives().map_err(|error| error.to_string()));
    said.map_err(|reason| {
        let name = seat.name();
        round
            .session
            .ui
            .warning(&format!("{name}: kube-apiserver does not say how old its clients' certificates are: {reason}"));
    })
    .ok()
}

/// How long everything is still good that the new CA is known to have issued.
fn known(round: &Round<'_>, cluster: &Exchange) -> Vec<Duration> {
    let now = round.session.by_now();
    let reports = round.legs.iter().flat_map(|(_, journal)| &journal.operation.nodes).flat_map(|node| &node.files);
    let mut ends: Vec<_> = reports.filter_map(|file| file.not_after).collect();
    let issued = round
        .now(&|api| api.issued_certificates(&cluster.coming_certificates(), now).map_err(|error| error.to_string()));
    match issued {
        Ok(issued) => ends.extend(issued.into_iter().flatten().map(|one| one.not_after)),
        Err(reason) => round.session.ui.debug(&format!("nobody says what the new CA has issued: {reason}")),
    }
    ends.into_iter().map(|end| end - now).collect()
}

fn words(node: &str, visits: &Visits) -> String {
    let count = counted(usize::try_from(visits.requests).unwrap_or(usize::MAX), "request");
    let left = match visits.to {
        Some(to) if visits.from.is_zero() => format!("up to {}", duration(to)),
        Some(to) => format!("between {} and {}", duration(visits.from), duration(to)),
        None => format!("more than {}", duration(visits.from)),
    };
    format!(
        "somebody still comes to kube-apiserver on {node} with an old client certificate: {count} within {} with one that is \
         good for {left}, as none of the new CA is (its audit log tells who)",
        duration(WATCH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_long_the_old_certificate_is_still_good() {
        let visits = |from, to| Visits { from, to, requests: 7 };
        let day = Duration::DAY;
        let cases = [
            (visits(Duration::ZERO, Some(day)), "good for up to 1 d,"),
            (visits(day * 30, Some(day * 90)), "good for between 30 d and 90 d,"),
            (visits(day * 360, None), "good for more than 360 d,"),
        ];
        for (visits, part) in cases {
            let text = words("cp2", &visits);
            assert!(
                text.contains(part) && text.contains("on cp2") && text.contains("7 requests within 12 s"),
                "{text}"
            );
        }
    }
}
