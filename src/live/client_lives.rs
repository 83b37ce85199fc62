//! For how long the certificates are still good with which clients come to an API server just now.
//!
//! kube-apiserver tells nobody which connection came with which certificate. But it counts every request with a client
//! certificate by the time that is left of it (`apiserver_client_certificate_expiration_seconds`, k8s.io/apiserver
//! pkg/authentication/request/x509/x509.go). Whoever has more or less time left than anything of a new CA came with
//! something older. It counts before it looks whether the certificate is any good, so those that it refuses are among them.

use std::ops::RangeInclusive;

use time::{Duration, OffsetDateTime};

use super::NoAnswer;
use super::api_server::{ApiServer, refusal};
use super::component::started_at;

const METRIC: &str = "apiserver_client_certificate_expiration_seconds_bucket{";

/// Requests whose credential was wrong (k8s.io/apiserver pkg/endpoints/filters/metrics.go).
const REFUSED: &str = "authentication_attempts{result=\"error\"} ";

/// Clocks differ, and a certificate may be looked at a while before it is counted.
const TOLERANCE: Duration = Duration::hours(1);

/// What an API server has counted since it started.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientLives {
    /// When the process started, UTC.
    pub started_at: OffsetDateTime,
    /// Upper ends (`None` is without end), ascending, and how many requests came with as much or less.
    upto: Vec<(Option<Duration>, u64)>,
    /// How many requests came with a certificate or token that it did not believe.
    refused: u64,
}

/// Requests whose certificates have between `from` (not included) and `to` left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visits {
    /// The lower end of what is left.
    pub from: Duration,
    /// The upper end; `None` is without end.
    pub to: Option<Duration>,
    /// How many there were.
    pub requests: u64,
}

impl ClientLives {
    /// Reads the Prometheus text format; `None` when it does not say when the process started.
    fn parse(metrics: &str) -> Option<Self> {
        let started_at = started_at(metrics)?;
        let mut upto: Vec<(Option<Duration>, u64)> = metrics.lines().filter_map(bucket).collect();
        upto.sort_by_key(|(end, _)| (end.is_none(), *end));
        let refused = metrics.lines().find_map(|line| number(line.strip_prefix(REFUSED)?)).unwrap_or_default();
        Some(Self { started_at, upto, refused })
    }

    /// Those counts of `earlier` from which this process went on; another one has counted anew.
    fn same_process<'e>(&self, earlier: Option<&'e Self>) -> Option<&'e Self> {
        earlier.filter(|earlier| earlier.started_at == self.started_at)
    }

    /// How many requests came since `earlier` with a token or certificate that was refused, but not because the certificate
    /// had ended.
    pub fn refused_since(&self, earlier: Option<&Self>) -> u64 {
        let refused = |lives: &Self| {
            let ended = lives.upto.iter().rev().find(|(end, _)| has_ended(*end)).map_or(0, |(_, count)| *count);
            lives.refused.saturating_sub(ended)
        };
        refused(self).saturating_sub(self.same_process(earlier).map_or(0, refused))
    }

    /// How many requests came since `earlier` with certificates that have as little or much left as none of `known` has.
    /// Where several lives share a span they cannot be told apart, and are taken for known. What has ended already opens no
    /// door, whoever issued it.
    pub fn strange_since(&self, earlier: Option<&Self>, known: &[RangeInclusive<Duration>]) -> Vec<Visits> {
        let earlier = self.same_process(earlier);
        let before = |end: &Option<Duration>| {
            let found = earlier.and_then(|earlier| earlier.upto.iter().find(|(other, _)| other == end));
            found.map_or(0, |(_, count)| *count)
        };
        let mut visits = Vec::new();
        let (mut from, mut below) = (Duration::ZERO, 0);
        for (end, count) in &self.upto {
            let so_far = count.saturating_sub(before(end));
            let requests = so_far.saturating_sub(below);
            let is_known = |lives: &RangeInclusive<Duration>| {
                *lives.end() + TOLERANCE > from && end.is_none_or(|end| *lives.start() - TOLERANCE <= end)
            };
            if requests > 0 && !has_ended(*end) && !known.iter().any(is_known) {
                visits.push(Visits { from, to: *end, requests });
            }
            (from, below) = (end.unwrap_or(from), so_far);
        }
        visits
    }
}

/// Whether everything up to that end is over.
fn has_ended(end: Option<Duration>) -> bool {
    end.is_some_and(|end| !end.is_positive())
}

/// One line `NAME_bucket{le="SECONDS"} COUNT`.
fn bucket(line: &str) -> Option<(Option<Duration>, u64)> {
    let (labels, count) = line.strip_prefix(METRIC)?.split_once("} ")?;
    let end = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))?;
    let end = match end {
        "+Inf" => None,
        number => Some(Duration::checked_seconds_f64(number.parse().ok()?)?),
    };
    Some((end, number(count)?))
}

/// A count, with or without the time after it.
fn number(text: &str) -> Option<u64> {
    let count: f64 = text.split(' ').next()?.parse().ok()?;
    if !(0.0..9e15).contains(&count) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right above")]
    Some(count as u64)
}

impl ApiServer<'_> {
    /// What it has counted so far. Whoever asks needs the right to read `/metrics`, as administrators have.
    ///
    /// # Errors
    /// When it does not say.
    pub fn client_lives(&self) -> Result<ClientLives, NoAnswer> {
        let answer = self.raw("GET", "/metrics", None)?;
        if answer.status != 200 {
            return Err(refusal(&answer));
        }
        let text = String::from_utf8_lossy(&answer.body);
        ClientLives::parse(&text).ok_or_else(|| NoAnswer::Malformed("no process_start_time_seconds".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::DAY;

    /// As kube-apiserver writes it, with three of its spans.
    fn metrics(started: u32, counts: [u32; 4]) -> String {
        let [day, month, year, all] = counts;
        format!(
            "# HELP apiserver_client_certificate_expiration_seconds [ALPHA] Distribution of the remaining lifetime\n\
             # TYPE apiserver_client_certificate_expiration_seconds histogram\n\
             apiserver_client_certificate_expiration_seconds_bucket{{le=\"0\"}} 0\n\
             apiserver_client_certificate_expiration_seconds_bucket{{le=\"86400\"}} {day}\n\
             apiserver_client_certificate_expiration_seconds_bucket{{le=\"2.592e+06\"}} {month}\n\
             apiserver_client_certificate_expiration_seconds_bucket{{le=\"3.1104e+07\"}} {year}\n\
             apiserver_client_certificate_expiration_seconds_bucket{{le=\"+Inf\"}} {all}\n\
             apiserver_client_certificate_expiration_seconds_sum 1e9\n\
             apiserver_client_certificate_expiration_seconds_count {all}\n\
             authentication_attempts{{result=\"error\"}} {year}\n\
             authentication_attempts{{result=\"success\"}} 1.5e+06\n\
             process_start_time_seconds {started}\n"
        )
    }

    fn known(lives: &[Duration]) -> Vec<RangeInclusive<Duration>> {
        lives.iter().map(|life| *life..=*life).collect()
    }

    fn lives(started: u32, counts: [u32; 4]) -> ClientLives {
        ClientLives::parse(&metrics(started, counts)).expect("metrics")
    }

    #[test]
    fn who_comes_with_less_time_left_than_anything_new_is_noticed() {
        let (earlier, later) = (lives(1000, [2, 5, 9, 100]), lives(1000, [2, 5, 16, 150]));
        let new = known(&[DAY * 365]);
        assert_eq!(
            later.strange_since(Some(&earlier), &new),
            [Visits { from: DAY * 30, to: Some(DAY * 360), requests: 7 }]
        );
        assert_eq!(earlier.strange_since(Some(&earlier), &new), []);
        let since_its_start = later.strange_since(None, &new).iter().map(|visits| visits.requests).sum::<u64>();
        assert_eq!(since_its_start, 16);
    }

    #[test]
    fn who_comes_with_more_time_left_is_noticed_too() {
        let visits = lives(1000, [7, 7, 7, 10]).strange_since(None, &known(&[DAY / 2]));
        assert_eq!(visits, [Visits { from: DAY * 360, to: None, requests: 3 }]);
    }

    #[test]
    fn lives_that_share_a_span_with_a_new_one_are_not_told_apart() {
        assert_eq!(lives(1000, [0, 5, 5, 8]).strange_since(None, &known(&[DAY * 10, DAY * 365])), []);
        // A little less than a day may be counted on either side of it.
        assert_eq!(lives(1000, [3, 3, 3, 3]).strange_since(None, &known(&[DAY + Duration::MINUTE])), []);
    }

    #[test]
    fn lives_between_two_that_are_known_are_known_too() {
        let known = vec![DAY * 20..=DAY * 365];
        assert_eq!(lives(1000, [0, 5, 6, 8]).strange_since(None, &known), []);
        assert_eq!(lives(1000, [4, 5, 6, 8]).strange_since(None, &known)[0].requests, 4);
    }

    #[test]
    fn certificates_that_have_ended_are_nobodys_who_could_be_cut_off() {
        let text = metrics(1000, [5, 5, 8, 8]).replace("{le=\"0\"} 0", "{le=\"0\"} 5");
        let lives = ClientLives::parse(&text).expect("metrics");
        assert_eq!(lives.strange_since(None, &known(&[DAY * 300])), []);
        // Those are refused, which says nothing about others.
        assert_eq!(lives.refused_since(None), 3);
    }

    #[test]
    fn requests_that_were_refused_are_counted() {
        let (earlier, later) = (lives(1000, [0, 0, 3, 9]), lives(1000, [0, 0, 8, 20]));
        assert_eq!((later.refused_since(Some(&earlier)), later.refused_since(None)), (5, 8));
        assert_eq!(lives(2000, [0, 0, 2, 2]).refused_since(Some(&earlier)), 2);
        assert_eq!(ClientLives::parse("process_start_time_seconds 5\n").expect("a start").refused_since(None), 0);
    }

    #[test]
    fn a_server_that_started_anew_in_between_has_counted_from_nothing() {
        let (earlier, later) = (lives(1000, [0, 50, 50, 50]), lives(2000, [0, 4, 4, 4]));
        assert_eq!(later.strange_since(Some(&earlier), &known(&[DAY * 365]))[0].requests, 4);
    }

    #[test]
    fn metrics_of_another_form_count_nothing() {
        for line in ["{le=\"x\"} 1", "{le=\"1\"} -1", "{le=\"1\"} NaN", "{le=\"1\"}", "{} 1", "{le=\"1e999\"} 1"] {
            let line = format!("{}{line}", METRIC.trim_end_matches('{'));
            assert_eq!(bucket(&line), None, "{line}");
        }
        assert_eq!(ClientLives::parse("process_start_time_seconds 5\n").expect("a start").strange_since(None, &[]), []);
        assert_eq!(ClientLives::parse(""), None);
    }
}
