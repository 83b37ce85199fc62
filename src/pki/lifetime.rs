//! Lengths of time as operators write them: `10y`, `90d`, `1d12h`, and thresholds that are a length or a share.
//!
//! A year is 365 days, as in kubeadm (its `87600h` are ten years): `10y` is exactly 3650 days.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

/// A positive length of time with second precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(Duration);

const UNITS: [(&str, i64); 6] =
    [("y", 365 * 86_400), ("w", 7 * 86_400), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

impl Lifetime {
    /// That many days.
    pub const fn days(days: i64) -> Self {
        Self(Duration::days(days))
    }

    /// That many hours.
    pub const fn hours(hours: i64) -> Self {
        Self(Duration::hours(hours))
    }

    /// That many minutes.
    pub const fn minutes(minutes: i64) -> Self {
        Self(Duration::minutes(minutes))
    }

    /// The length as a `time` value.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Lifetime {
    type Err = String;

    /// Reads a sum of numbers with units `y w d h m s`, largest first or not: `1y`, `1d12h`, `8760h0m0s`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no length of time; write it as 10y, 90d, 36h, 5m or 1d12h");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = rest[digits..].chars().next().ok_or_else(wrong)?;
            let (_, seconds) = UNITS.into_iter().find(|(name, _)| name.starts_with(unit)).ok_or_else(wrong)?;
            total = number.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        // A thousand years: far beyond any use, and safely inside what dates can hold.
        if total > 1000 * UNITS[0].1 {
            return Err(format!("`{text}` is longer than 1000 years"));
        }
        Ok(Self(Duration::seconds(total)))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seconds = self.0.whole_seconds();
        if seconds == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in UNITS.into_iter().filter(|(unit, _)| *unit != "w") {
            if seconds >= length {
                write!(f, "{}{unit}", seconds / length)?;
                seconds %= length;
            }
        }
        Ok(())
    }
}

impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How long before the moment of issuing a certificate begins, because clocks differ between machines: five minutes, as
/// with kubeadm, but never more than a tenth of `validity`, or a certificate of some minutes would be born used up.
pub fn backdating(validity: Lifetime) -> Lifetime {
    Lifetime(MOST_BACKDATING.min(Duration::seconds(validity.0.whole_seconds() / 10)))
}

const MOST_BACKDATING: Duration = Duration::minutes(5);

/// The last second of certificates that are not to end (RFC 5280 section 4.1.2.5), and the last there is.
const NO_END: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// First and last second of a certificate issued at `now` for `validity`; the backdating comes on top.
pub fn period(now: OffsetDateTime, validity: Lifetime) -> (OffsetDateTime, OffsetDateTime) {
    (now - backdating(validity).0, now + validity.0)
}

/// As [`period`], with another backdating than five minutes, but still no more than a tenth of `validity`.
pub fn period_backdated(
    now: OffsetDateTime,
    validity: Lifetime,
    backdating: Lifetime,
) -> (OffsetDateTime, OffsetDateTime) {
    (now - backdating.0.min(Duration::seconds(validity.0.whole_seconds() / 10)), now + validity.0)
}

/// The period of a certificate issued at `now` that is valid for as long, backdating included, as one from `not_before`
/// to `not_after`. Renewing again and again changes nothing about the length; one without an end has none again.
pub fn same_period(
    now: OffsetDateTime,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> (OffsetDateTime, OffsetDateTime) {
    let whole = (not_after - not_before).max(Duration::ZERO);
    let share = Duration::seconds(whole.whole_seconds() / 11);
    let start = now - MOST_BACKDATING.min(share);
    (start, start.checked_add(whole).unwrap_or(NO_END))
}

/// When something counts as due: so much of its lifetime is used, or so little is left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// Share of the lifetime that is used, in percent (`80%`).
    UsedPercent(f64),
    /// Time left (`30d`).
    Remaining(Lifetime),
}

impl Threshold {
    /// Whether a certificate valid from `not_before` to `not_after` has reached the threshold at `now`.
    pub fn reached(self, not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
        match self {
            Self::UsedPercent(limit) => used_percent(not_before, not_after, now) >= limit,
            Self::Remaining(left) => not_after - now <= left.duration(),
        }
    }
}

/// The two largest units of a length of time, without its sign: `9 y 364 d`, `3 d 4 h`, `12 m 5 s`. A year counts 365
/// days. Smaller units are cut off, so that what is left is never overstated.
pub fn words(length: Duration) -> String {
    let seconds = length.whole_seconds().unsigned_abs();
    let units = [
        (seconds / 31_536_000, "y"),
        (seconds % 31_536_000 / 86_400, "d"),
        (seconds % 86_400 / 3_600, "h"),
        (seconds % 3_600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units[first..].iter().take(2).filter(|(count, _)| *count > 0);
    let words: Vec<String> = shown.map(|(count, unit)| format!("{count} {unit}")).collect();
    if words.is_empty() { "0 s".into() } else { words.join(" ") }
}

/// How much of a lifetime is used at `now`, in percent: below 0 before it began, above 100 after it ended.
pub fn used_percent(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> f64 {
    let whole = (not_after - not_before).as_seconds_f64();
    if whole <= 0.0 {
        return 100.0;
    }
    (now - not_before).as_seconds_f64() / whole * 100.0
}

impl FromStr for Threshold {
    type Err = String;

    /// Reads `80%` as a share of the lifetime used, anything else as a length of time left.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().strip_suffix('%') {
            Some(number) => match number.trim().parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::UsedPercent(percent)),
                _ => Err(format!("`{text}` is no share of a lifetime; write 0% to 100%, or a length as 30d")),
            },
            None => text.parse().map(Self::Remaining).map_err(|error: String| format!("{error}, or a share as 80%")),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsedPercent(percent) => write!(f, "{percent}%"),
            Self::Remaining(left) => write!(f, "{left}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written() {
        for (text, seconds, shown) in [
            ("10y", 315_360_000, "10y"),
            ("8760h", 31_536_000, "1y"),
            ("8760h0m0s", 31_536_000, "1y"),
            ("1d12h", 129_600, "1d12h"),
            ("5m", 300, "5m"),
            ("0d", 0, "0s"),
        ] {
            let lifetime: Lifetime = text.parse().expect(text);
            assert_eq!(lifetime.duration().whole_seconds(), seconds, "{text}");
            assert_eq!(lifetime.to_string(), shown);
        }
        for wrong in ["", "10", "d", "-1d", "1x", "1.5d", "99999999999999999999y", "2000y", "1d é"] {
            assert!(wrong.parse::<Lifetime>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn renewed_periods_are_as_long_as_those_before() {
        let now = datetime!(2026-06-01 12:00 UTC);
        for text in ["10y", "1y", "4d", "50m", "7m", "60s", "9s"] {
            let validity: Lifetime = text.parse().expect(text);
            let (from, to) = period(datetime!(2026-01-01 0:00 UTC), validity);
            let (start, end) = same_period(now, from, to);
            assert_eq!(end - start, to - from, "{text}");
            assert_eq!(end, now + validity.duration(), "{text}");
            assert!(used_percent(start, end, now) < 10.0, "{text}");
        }
        // 365 days and five minutes, as kubeadm has them.
        assert_eq!(period(now, Lifetime::days(365)).0, datetime!(2026-06-01 11:55 UTC));
        assert_eq!(same_period(now, now, now), (now, now));
    }

    #[test]
    fn certificates_without_an_end_are_renewed_without_an_end() {
        let now = datetime!(2026-06-01 12:00 UTC);
        for from in [datetime!(2020-01-01 0:00 UTC), datetime!(0000-01-01 0:00 UTC)] {
            assert_eq!(same_period(now, from, NO_END), (now - MOST_BACKDATING, NO_END));
        }
    }

    #[test]
    fn a_share_is_reached_exactly_when_that_much_is_used() {
        let (from, to) = (datetime!(2026-01-01 0:00 UTC), datetime!(2026-01-11 0:00 UTC));
        let eighty: Threshold = "80%".parse().expect("share");
        assert!(!eighty.reached(from, to, datetime!(2026-01-08 23:59:59 UTC)));
        assert!(eighty.reached(from, to, datetime!(2026-01-09 0:00 UTC)));
        let two_days: Threshold = "2d".parse().expect("length");
        assert!(!two_days.reached(from, to, datetime!(2026-01-08 23:59:59 UTC)));
        assert!(two_days.reached(from, to, datetime!(2026-01-09 0:00 UTC)));
        assert!("101%".parse::<Threshold>().is_err());
        assert!("NaN%".parse::<Threshold>().is_err());
    }
}
