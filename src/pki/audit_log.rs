//! Audit logs of kube-apiserver: with which certificates somebody was let in.
//!
//! Since Kubernetes 1.32 an event names the certificate of its user by SHA-256, with the user's name and groups. That is
//! enough to find certificates that lie on no node and in no register, and to refuse them by their hash.

use std::collections::HashMap;

use serde::Deserialize;
use time::OffsetDateTime;

use super::register::{Issued, Origin};

/// Extra field of a user, and how a certificate's value in it begins (Kubernetes:
/// `apiserver/pkg/authentication/request/x509`).
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";
const CERTIFICATE: &str = "X509SHA256=";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    user: User,
    #[serde(with = "time::serde::rfc3339")]
    request_received_timestamp: OffsetDateTime,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: HashMap<String, Vec<String>>,
}

/// What a log tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Every certificate, with the first time that it was used.
    pub certificates: Vec<Issued>,
    /// Lines that are events and could be read.
    pub events: usize,
    /// Lines that could not.
    pub unreadable: usize,
}

/// Reads a log of JSON lines. Lines that are something else are counted and passed over.
pub fn read(text: &[u8]) -> Told {
    let mut told = Told::default();
    let mut at: HashMap<String, usize> = HashMap::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            told.unreadable += 1;
            continue;
        };
        told.events += 1;
        let ids = event.user.extra.get(CREDENTIAL).into_iter().flatten();
        for sha256 in ids.filter_map(|id| id.strip_prefix(CERTIFICATE)).filter(|sum| is_sum(sum)) {
            match at.get(sha256).and_then(|place| told.certificates.get_mut(*place)) {
                Some(known) => known.recorded_at = known.recorded_at.min(event.request_received_timestamp),
                None => {
                    at.insert(sha256.to_owned(), told.certificates.len());
                    told.certificates.push(issued(sha256, &event));
                }
            }
        }
    }
    told
}

fn is_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn issued(sha256: &str, event: &Event) -> Issued {
    // The server adds this one to everybody; no certificate says it.
    let groups = event.user.groups.iter().filter(|group| *group != "system:authenticated");
    Issued {
        sha256: sha256.to_owned(),
        twins: Vec::new(),
        serial_number: None,
        subject: None,
        common_name: (!event.user.username.is_empty()).then(|| event.user.username.clone()),
        organizations: groups.cloned().collect(),
        sans: Vec::new(),
        issuer: None,
        issuer_key_id: None,
        not_before: None,
        not_after: None,
        is_ca: false,
        is_client: true,
        recorded_at: event.request_received_timestamp,
        source: Origin::AuditLog,
        for_whom: String::new(),
        der: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn line(id: &str, at: &str) -> String {
        format!(
            r#"{{"kind":"Event","user":{{"username":"jane","groups":["dev","system:authenticated"],"extra":{{"{CREDENTIAL}":["{id}"]}}}},"requestReceivedTimestamp":"{at}"}}"#
        )
    }

    #[test]
    fn every_certificate_is_told_once_with_its_first_use() {
        let sum = "7c".repeat(32);
        let text = [
            line(&format!("X509SHA256={sum}"), "2026-01-02T00:00:00.123456Z"),
            line(&format!("X509SHA256={sum}"), "2026-01-01T00:00:00Z"),
            line("JTI=abc", "2026-01-01T00:00:00Z"),
            line("X509SHA256=zz", "2026-01-01T00:00:00Z"),
            "not JSON".to_owned(),
            String::new(),
            r#"{"user":{"username":"system:anonymous"},"requestReceivedTimestamp":"2026-01-01T00:00:00Z"}"#.to_owned(),
        ]
        .join("\n");
        let told = read(text.as_bytes());
        assert_eq!((told.events, told.unreadable), (5, 1));
        let [jane] = &told.certificates[..] else { panic!("{:?}", told.certificates) };
        assert_eq!(jane.sha256, sum);
        assert_eq!(
            (jane.common_name.as_deref(), jane.organizations.as_slice()),
            (Some("jane"), &["dev".to_owned()][..])
        );
        assert_eq!(jane.recorded_at, datetime!(2026-01-01 0:00 UTC));
    }
}
