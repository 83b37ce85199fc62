//! Gauges for Prometheus' text format, named and labelled as x509-certificate-exporter's, so that its alerts and
//! dashboards work: `x509_cert_not_after` and its siblings, `x509_read_errors`.
//!
//! Labels beyond that exporter's are `node`, `name`, `source` and `member`, which tell members of a bundle apart. The serial
//! number is decimal there, so it is here.

use std::fmt::Write as _;
use std::path::Path;

use time::OffsetDateTime;

use super::expiry::ExpiryReport;
use super::text::printable;
use crate::diagnose::{Member, Row, Status};
use crate::pki::certificate::{Certificate, SerialNumber};

type Value = fn(&Certificate, OffsetDateTime) -> i64;

/// Per-certificate gauges: name, help, value.
const GAUGES: [(&str, &str, Value); 5] = [
    ("x509_cert_not_before", "Beginning of the certificate's validity, Unix seconds", |one, _| {
        one.not_before().unix_timestamp()
    }),
    ("x509_cert_not_after", "End of the certificate's validity, Unix seconds", |one, _| {
        one.not_after().unix_timestamp()
    }),
    ("x509_cert_expired", "1 when the certificate has expired", |one, at| i64::from(at > one.not_after())),
    ("x509_cert_expires_in_seconds", "Seconds until the certificate expires", |one, at| {
        (one.not_after() - at).whole_seconds()
    }),
    ("x509_cert_valid_since_seconds", "Seconds since the certificate became valid", |one, at| {
        (at - one.not_before()).whole_seconds()
    }),
];

/// The whole text, each metric with its help and type, ending with a line break.
pub fn text(report: &ExpiryReport<'_>) -> String {
    let labels: Vec<String> = report.rows.iter().map(|row| labels(row)).collect();
    let mut text = String::new();
    for (name, help, value) in GAUGES {
        head(&mut text, name, help);
        for (row, labels) in report.rows.iter().zip(&labels) {
            if let Some(certificate) = row.certificate {
                let _ = writeln!(text, "{name}{{{labels}}} {}", value(certificate, report.at));
            }
        }
    }
    head(&mut text, "x509_cert_error", "1 when the certificate could not be read");
    for (row, labels) in
        report.rows.iter().zip(&labels).filter(|(row, _)| row.status() != Status::Ok || !row.is_missing())
    {
        let _ = writeln!(text, "x509_cert_error{{{labels}}} {}", i32::from(row.certificate.is_none()));
    }
    head(&mut text, "kubepki_cert_status", "1 for the status that the certificate has");
    for (row, labels) in report.rows.iter().zip(&labels) {
        let _ = writeln!(text, "kubepki_cert_status{{{labels},status=\"{}\"}} 1", row.status());
    }
    head(&mut text, "x509_read_errors", "Files and servers that could not be read");
    for node in &report.snapshot.nodes {
        let failed = report.rows.iter().filter(|row| row.node_name == node.name).filter(|row| is_unread(row)).count();
        let failed = failed + usize::from(node.error.is_some());
        let _ = writeln!(text, "x509_read_errors{{node=\"{}\"}} {failed}", escape(&node.name));
    }
    head(&mut text, "kubepki_check_timestamp_seconds", "When the certificates were looked at, Unix seconds");
    let _ = writeln!(text, "kubepki_check_timestamp_seconds {}", report.made_at.unix_timestamp());
    text
}

fn head(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn is_unread(row: &Row<'_>) -> bool {
    row.certificate.is_none() && matches!(row.status(), Status::Missing | Status::Unreadable)
}

fn labels(row: &Row<'_>) -> String {
    let path = &row.artifact.path;
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let (kind, key, member) = match row.member {
        Member::User(name, member) => ("user", name, member),
        Member::Cluster(name, member) => ("cluster", name, member),
        Member::Certificate(member) => ("", "", member),
        Member::Damaged => ("", "", row.artifact.content().map_or(0, |content| content.found_certificates.len())),
        Member::Whole | Member::Keys => ("", "", 0),
    };
    let certificate = row.certificate;
    let name = |what: fn(&Certificate) -> Option<&str>| certificate.and_then(what).unwrap_or_default().to_owned();
    let groups = |what: fn(&Certificate) -> &[String]| certificate.map(what).unwrap_or_default().join(",");
    let all = [
        ("node", row.node_name.to_owned()),
        ("name", row.name.clone()),
        ("source", row.artifact.source.name().to_owned()),
        ("filename", file),
        ("filepath", shown(path)),
        ("embedded_kind", kind.to_owned()),
        ("embedded_key", key.to_owned()),
        ("member", member.to_string()),
        ("serial_number", certificate.map(|one| decimal(one.serial())).unwrap_or_default()),
        ("subject_CN", name(|one| one.subject().common_name())),
        ("subject_O", groups(|one| one.subject().organizations())),
        ("issuer_CN", name(|one| one.issuer().common_name())),
        ("issuer_O", groups(|one| one.issuer().organizations())),
    ];
    let pairs: Vec<String> = all.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
    pairs.join(",")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Label values: backslash, quote and line feed are escaped (Prometheus, "Exposition formats"). A subject may hold anything:
/// what could end a line elsewhere or move a terminal's cursor is written as [`printable`] does.
fn escape(value: &str) -> String {
    let lines: Vec<String> = value.split('\n').map(|line| printable(line, false)).collect();
    lines.join("\n").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A serial number in decimal digits.
fn decimal(serial: &SerialNumber) -> String {
    let mut digits = vec![0_u8];
    for byte in serial.as_bytes() {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = u8::try_from(value % 10).unwrap_or_default();
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or_default());
            carry /= 10;
        }
    }
    let sign = if serial.to_string().starts_with('-') { "-" } else { "" };
    digits.iter().rev().fold(sign.to_owned(), |mut text, digit| {
        text.push(char::from(b'0' + digit));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_decimal_as_the_exporters() {
        for (bytes, shown) in [
            (&[][..], "0"),
            (&[0x07], "7"),
            (&[0xff], "255"),
            (&[0x01, 0x00], "256"),
            (&[0xff; 8], "18446744073709551615"),
            (&[0x77, 0xfd, 0xf4, 0xb1, 0x03, 0x3b, 0x38, 0x7a], "8646335900721821818"),
        ] {
            assert_eq!(decimal(&SerialNumber::from_bytes(bytes)), shown);
        }
    }

    #[test]
    fn label_values_cannot_end_the_label() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert_eq!(escape("a\u{16}\r\tb\u{1b}[2J"), r"a\\u{16}\\u{d}\\u{9}b\\u{1b}[2J");
    }
}
