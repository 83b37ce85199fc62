//! Points in time for people: in UTC, and how far away.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// `2026-01-02 03:04 UTC`.
pub fn utc(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    universal(at).format(format).unwrap_or_else(|_| at.to_string())
}

/// `2026-01-02T03:04:05Z`, as in result objects; whole seconds.
pub fn rfc3339(at: OffsetDateTime) -> String {
    let at = universal(at);
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// In UTC. A time from a file may be so near to the last there is that it has none there; then it stays as it is.
fn universal(at: OffsetDateTime) -> OffsetDateTime {
    at.checked_to_offset(time::UtcOffset::UTC).unwrap_or(at)
}

/// `in 3 d 4 h` before `at`, `4 h ago` after it, `now` within the same second.
pub fn relative(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let distance = at - now;
    match distance.whole_seconds() {
        0 => "now".into(),
        seconds if seconds > 0 => format!("in {}", duration(distance)),
        _ => format!("{} ago", duration(distance)),
    }
}

pub use crate::pki::lifetime::words as duration;

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    #[test]
    fn the_two_largest_units_are_shown_and_nothing_is_rounded_up() {
        let cases = [
            (Duration::days(3) + Duration::hours(4) + Duration::minutes(59), "3 d 4 h"),
            (Duration::days(365 * 10) - Duration::seconds(1), "9 y 364 d"),
            (Duration::days(365), "1 y"),
            (Duration::hours(4), "4 h"),
            (Duration::seconds(725), "12 m 5 s"),
            (Duration::seconds(59), "59 s"),
            (Duration::ZERO, "0 s"),
            (-Duration::days(2), "2 d"),
        ];
        for (length, text) in cases {
            assert_eq!(duration(length), text);
        }
    }

    #[test]
    fn before_and_after_are_told_apart() {
        let now = datetime!(2026-01-02 03:04:05 UTC);
        assert_eq!(relative(now + Duration::hours(76), now), "in 3 d 4 h");
        assert_eq!(relative(now - Duration::hours(4), now), "4 h ago");
        assert_eq!(relative(now, now), "now");
    }

    #[test]
    fn times_are_utc_whatever_their_offset_and_survive_the_year_9999() {
        assert_eq!(utc(datetime!(2026-01-02 05:04:05 +02:00)), "2026-01-02 03:04 UTC");
        assert_eq!(rfc3339(datetime!(2026-01-02 05:04:05.7 +02:00)), "2026-01-02T03:04:05Z");
        assert_eq!(utc(datetime!(9999-12-31 23:59:59 UTC)), "9999-12-31 23:59 UTC");
        let beyond = datetime!(9999-12-31 23:59:59 -01:00);
        assert_eq!(rfc3339(beyond), "9999-12-31T23:59:59-01:00");
        assert!(utc(beyond).starts_with("9999-12-31 23:59"));
    }
}
