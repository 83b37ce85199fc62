//! `--at`: a moment as operators write it.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

use crate::pki::lifetime::Lifetime;

/// A moment, or a distance from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// UTC.
    Fixed(OffsetDateTime),
    /// That long from now.
    Ahead(Lifetime),
    /// That long ago.
    Back(Lifetime),
}

impl Moment {
    /// The moment itself.
    pub fn seen_from(self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Fixed(at) => at,
            Self::Ahead(distance) => now.saturating_add(distance.duration()),
            Self::Back(distance) => now.saturating_sub(distance.duration()),
        }
    }
}

/// Reads RFC 3339, a date (its first second in UTC), a date and a time of day in UTC, or a distance as `+30d`.
///
/// # Errors
/// A sentence on how to write it.
pub fn parse(text: &str) -> Result<Moment, String> {
    let wrong = || "write it as 2027-01-01, 2027-01-01T12:00:00Z or +30d".to_owned();
    let text = text.trim();
    if text == "now" {
        return Ok(Moment::Ahead(Lifetime::days(0)));
    }
    if let Some(distance) = text.strip_prefix('+') {
        return distance.parse().map(Moment::Ahead);
    }
    if let Some(distance) = text.strip_prefix('-') {
        return distance.parse().map(Moment::Back);
    }
    let upper = text.to_ascii_uppercase();
    if let Ok(at) = OffsetDateTime::parse(&upper, &Rfc3339) {
        // The last hours of the year 9999 west of Greenwich are in a year that dates do not reach.
        return at.checked_to_offset(time::UtcOffset::UTC).map(Moment::Fixed).ok_or_else(wrong);
    }
    let plain = upper.trim_end_matches('Z').trim_end_matches("UTC").trim_end();
    let spaced = plain.replacen('T', " ", 1);
    let spaced = spaced.as_str();
    if let Ok(date) = Date::parse(spaced, format_description!("[year]-[month]-[day]")) {
        return Ok(Moment::Fixed(date.midnight().assume_utc()));
    }
    let times = [
        PrimitiveDateTime::parse(spaced, format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")),
        PrimitiveDateTime::parse(spaced, format_description!("[year]-[month]-[day] [hour]:[minute]")),
    ];
    match times.into_iter().find_map(Result::ok) {
        Some(at) => Ok(Moment::Fixed(at.assume_utc())),
        None => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn moments_are_read_as_operators_write_them() {
        let now = datetime!(2026-01-01 00:00 UTC);
        for (text, at) in [
            ("2027-01-02", datetime!(2027-01-02 00:00 UTC)),
            ("2027-01-02T03:04:05Z", datetime!(2027-01-02 03:04:05 UTC)),
            ("2027-01-02t03:04:05z", datetime!(2027-01-02 03:04:05 UTC)),
            ("2027-01-02T03:04:05+02:00", datetime!(2027-01-02 01:04:05 UTC)),
            ("2027-01-02 03:04", datetime!(2027-01-02 03:04 UTC)),
            ("2027-01-02 03:04:05 UTC", datetime!(2027-01-02 03:04:05 UTC)),
            ("+30d", datetime!(2026-01-31 00:00 UTC)),
            ("-1d", datetime!(2025-12-31 00:00 UTC)),
            ("now", now),
        ] {
            assert_eq!(parse(text).expect(text).seen_from(now), at, "{text}");
        }
        assert_eq!(parse("9999-12-31").expect("the last day").seen_from(now), datetime!(9999-12-31 00:00 UTC));
        for wrong in [
            "",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+24:00",
            "tomorrow",
            "2027-13-01",
            "2027-01-02T25:00:00Z",
            "+x",
            "01/02/2027",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
