//! Who still comes to the API servers with a certificate of the old CA, as far as they tell: by how long it is still good.
//!
//! Kubelets, leaders and controllers come every few seconds. A certificate whose end falls into the same span as that of a
//! new one cannot be told from it; nobody is blamed for those.

use std::ops::RangeInclusive;

use time::Duration;

use super::round::{Round, Seat};
use crate::error::{ExitCode, Failure};
use crate::live::client_lives::{ClientLives, Visits};
use crate::report::text::counted;
use crate::report::time_text::duration;

/// For how long it is watched who comes; kubelets renew their leases every ten seconds.
const WATCH: Duration = Duration::seconds(12);

/// Those who come, each API server on its own, in words. `known` is what is left of certificates of the new CA.
///
/// Those of whom it is not sure that they lose anything are warnings.
///
/// # Errors
/// 130 when interrupted. An API server that does not say is a warning: what else stands in the way has been asked for.
pub(super) fn look(round: &Round<'_>, known: &[RangeInclusive<Duration>]) -> anyhow::Result<Vec<String>> {
    let Some(cluster) = &round.material.cluster else { return Ok(Vec::new()) };
    let first: Vec<(&Seat<'_>, ClientLives)> =
        round.servers().filter_map(|seat| Some((seat, ask(round, seat)?))).collect();
    // What has never been since it started needs not be watched for.
    let is_silent = |lives: &ClientLives| {
        lives.strange_since(None, known).is_empty() && round.session.by_now() - lives.started_at > WATCH
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
    let are_others_trusted = !cluster.staying().is_empty();
    let mut found = Vec::new();
    for (seat, earlier) in first {
        let Some(later) = ask(round, seat) else { continue };
        let visits = later.strange_since(Some(&earlier), known);
        let told: Vec<String> = visits.iter().map(|visits| words(seat.name(), visits)).collect();
        let doubt = doubt(&visits, later.refused_since(Some(&earlier)), are_others_trusted);
        match doubt {
            Some(doubt) => told.iter().for_each(|one| round.session.ui.warning(&format!("{one}; {doubt}"))),
            None => found.extend(told),
        }
    }
    Ok(found)
}

/// Why those who came may have nothing to lose.
fn doubt(visits: &[Visits], refused: u64, are_others_trusted: bool) -> Option<&'static str> {
    if visits.iter().map(|visits| visits.requests).sum::<u64>() <= refused {
        return Some("as many were refused anyway, so that does not stand in the way");
    }
    are_others_trusted.then_some("it may be of another CA that stays trusted, so that does not stand in the way")
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

fn words(node: &str, visits: &Visits) -> String {
    let count = counted(usize::try_from(visits.requests).unwrap_or(usize::MAX), "request");
    let left = match visits.to {
        Some(to) if visits.from.is_zero() => format!("up to {}", duration(to)),
        Some(to) => format!("between {} and {}", duration(visits.from), duration(to)),
        None => format!("more than {}", duration(visits.from)),
    };
    format!(
        "somebody still comes to kube-apiserver on {node} with an old client certificate: {count} within {} with one that is \
         good for {left}, as nothing known of the new CA is (its audit log tells who)",
        duration(WATCH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_already_or_may_be_another_cas_does_not_stand_in_the_way() {
        let visits = |requests| Visits { from: Duration::DAY, to: None, requests };
        assert_eq!(doubt(&[visits(7), visits(5)], 11, false), None);
        assert!(doubt(&[visits(7), visits(5)], 12, false).expect("refused").contains("refused"));
        assert!(doubt(&[visits(7)], 0, true).expect("others").contains("another CA"));
    }

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
