//! What kubectl takes an unquoted YAML value for, and how to write a value so that kubectl reads it back.
//!
//! kubectl reads YAML 1.1 with the habits of go-yaml v2: `yes`, `on` and `n` are truth values, `1_000`, `0x1f` and
//! `08` are numbers, and a name of that kind must be quoted or kubectl refuses the whole file.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What a value is to kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Null,
    Truth(bool),
    Number,
    Text,
    /// Has a YAML tag that no kubeconfig field has a use for.
    Tagged,
}

/// What kubectl takes the unquoted `text` for. Dates and `1:30` are text to it.
pub(super) fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Meaning::Truth(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Meaning::Truth(false),
        _ if is_number(text) => Meaning::Number,
        _ => Meaning::Text,
    }
}

fn is_number(text: &str) -> bool {
    if let ".nan" | ".NaN" | ".NAN" = text {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let ".inf" | ".Inf" | ".INF" = unsigned {
        return true;
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return false;
    }
    if text.starts_with('.') && text.contains('_') {
        return false;
    }
    let digits: String = unsigned.chars().filter(|c| *c != '_').collect();
    let based = |prefix: [&str; 2], radix: u32| {
        let rest = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix));
        rest.is_some_and(|rest| !rest.starts_with(['+', '-']) && u64::from_str_radix(rest, radix).is_ok())
    };
    based(["0x", "0X"], 16) || based(["0o", "0O"], 8) || based(["0b", "0B"], 2) || is_decimal(&digits)
}

/// Digits with at most one point, at least one digit, and an exponent if any.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && all_digits(exponent)
    });
    !(whole.is_empty() && fraction.is_empty()) && all_digits(whole) && all_digits(fraction) && exponent_fits
}

/// The string `text` as a YAML value in block style: bare where every YAML reader takes it for that string, else
/// quoted, in the way kubeadm writes it.
pub(super) fn written(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{85}' | '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}')) {
        return Cow::Owned(json(text));
    }
    if looks_like_something_else(text) {
        return Cow::Owned(format!("\"{text}\""));
    }
    let bare_start = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '+');
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '+' | '-' | '=' | '@' | ':' | ',');
    if text.starts_with(bare_start) && text.chars().all(bare) && !text.ends_with(':') {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', "''")))
    }
}

/// Whether `text` without quotes is a number, truth value, null, date or base 60 number to any YAML reader in use.
fn looks_like_something_else(text: &str) -> bool {
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '_' | ':' | ',');
    meaning(text) != Meaning::Text
        || matches!(text, "=" | "<<")
        || ["0x", "0X", "0o"].iter().any(|prefix| text.starts_with(prefix))
        || (text.starts_with(numeric)
            && text.contains(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| numeric(c) || matches!(c, 'e' | 'E' | 't' | 'T' | 'z' | 'Z' | 'x' | 'o' | 'b')))
}

/// The string `text` as JSON writes it, which is YAML in flow style too.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Always within the basic plane: neither YAML nor these readers know surrogate pairs.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_values_mean_what_kubectl_takes_them_for() {
        for number in
            ["0", "1_000", "0x1f", "0o17", "0b11", "08", "1e3", "1.10", ".5", "-.5", "+1", ".inf", "-.INF", "1."]
        {
            assert_eq!(meaning(number), Meaning::Number, "{number}");
        }
        for text in
            ["1:30", "2026-01-01", "0xg", "1e", "nan", "_1", ".", "-", "10.0.0.1", "v1", "None", "yEs", "0x", "+-5"]
        {
            assert_eq!(meaning(text), Meaning::Text, "{text}");
        }
        assert_eq!(meaning("Off"), Meaning::Truth(false));
        assert_eq!(meaning("~"), Meaning::Null);
    }

    #[test]
    fn a_string_that_could_be_read_as_something_else_is_quoted() {
        for text in
            ["yes", "on", "N", "1_000", "0x1f", "1e3", "null", "~", "", "2026-01-01", "1:30", "08", "=", "10.0.0.1"]
        {
            assert_eq!(written(text), format!("\"{text}\""));
        }
        for (text, expected) in [("@x", "'@x'"), ("it's", "'it''s'"), ("a b", "'a b'"), ("a:", "'a:'"), ("ü", "'ü'")]
        {
            assert_eq!(written(text), expected);
        }
        for text in ["https://10.0.0.1:6443", "kubernetes-admin@kubernetes", "system:node:n1", "LS0t+/==", "/a/b"] {
            assert_eq!(written(text), text);
        }
        assert_eq!(written("a\nb\u{2028}"), "\"a\\nb\\u2028\"");
    }
}
