//! The result of `check-expiry`: a document that holds everything kubeadm's does, and a table for tired eyes.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::text::counted;
use super::time_text::{relative, rfc3339, utc};
use super::{Cell, Report, Table, Tone, View};
use crate::diagnose::{Finding, FindingId, Member, Row, Severity, Status};
use crate::pki::certificate::Certificate;
use crate::snapshot::{NodeSnapshot, Snapshot};

/// kubeadm's own version of the document, which this one is a superset of (Kubernetes:
/// `cmd/kubeadm/app/apis/output/v1alpha3`).
const API_VERSION: &str = "output.kubeadm.k8s.io/v1alpha3";

/// Findings shown under the table; the rest is counted.
const MOST_SHOWN: usize = 20;

/// Certificates with their state at one moment.
#[derive(Debug)]
pub struct ExpiryReport<'a> {
    /// The rows to show, in the order of the snapshot.
    pub rows: Vec<&'a Row<'a>>,
    /// What was looked at.
    pub snapshot: &'a Snapshot,
    /// The moment that is judged, UTC.
    pub at: OffsetDateTime,
    /// When the report was made, UTC.
    pub made_at: OffsetDateTime,
    /// The command that renews all that is due.
    pub renew_all: String,
}

impl ExpiryReport<'_> {
    /// How many rows have each status; every status is there.
    pub fn counts(&self) -> [(Status, usize); 9] {
        let mut counts = Status::ALL.map(|status| (status, 0));
        for status in self.rows.iter().map(|row| row.status()) {
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == status) {
                *count += 1;
            }
        }
        counts
    }

    /// The severity of the worst finding.
    pub fn severity(&self) -> Option<Severity> {
        self.rows.iter().filter_map(|row| row.severity()).max()
    }

    fn document(&self, row: &Row<'_>) -> Value {
        let certificate = row.certificate;
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("name", row.name.as_str().into());
        put("expirationDate", certificate.map_or(Value::Null, |one| rfc3339(one.not_after()).into()));
        put("residualTime", certificate.map_or(0, |one| (one.not_after() - self.at).whole_seconds()).into());
        put("externallyManaged", row.externally_managed.into());
        put("caName", row.ca_name.as_deref().filter(|_| !row.is_missing() && !row.is_authority).into());
        put("missing", row.is_missing().into());
        put("node", row.node_name.into());
        put("path", row.path.as_str().into());
        put("source", row.artifact.source.name().into());
        let text = |what: fn(&Certificate) -> String| certificate.map_or(Value::Null, |one| what(one).into());
        put("subject", text(|one| one.subject().text().to_owned()));
        put("issuer", text(|one| one.issuer().text().to_owned()));
        put("serialNumber", text(|one| one.serial().to_string()));
        put("fingerprintSha256", text(Certificate::fingerprint_hex));
        put("notBefore", text(|one| rfc3339(one.not_before())));
        put("notAfter", text(|one| rfc3339(one.not_after())));
        let sans = certificate.map(Certificate::sans).unwrap_or_default();
        put("sans", sans.iter().map(|san| Value::from(san.to_string())).collect());
        put("keyAlgorithm", text(|one| one.key_kind().to_string()));
        let used = row.used_percent(self.at).map(|used| (used * 100.0).round() / 100.0);
        put("usedPercent", used.map_or(Value::Null, Value::from));
        put("managed", row.managed.into());
        put("status", row.status().name().into());
        put("findings", row.findings.iter().map(finding).collect());
        Value::Object(object)
    }

    /// The rows, most urgent first: by status, then by what is left, then in the order of the snapshot.
    fn by_urgency(&self) -> Vec<&Row<'_>> {
        let mut rows: Vec<&Row<'_>> = self.rows.clone();
        let end = |row: &Row<'_>| row.certificate.map(Certificate::not_after);
        rows.sort_by(|one, other| {
            let calm = |row: &Row<'_>| row.status() == Status::Ok;
            match (calm(one), calm(other)) {
                // What is well stays in the order of the catalog, where people look for it.
                (true, true) => std::cmp::Ordering::Equal,
                _ => (other.severity(), other.status())
                    .cmp(&(one.severity(), one.status()))
                    .then_with(|| end(one).cmp(&end(other))),
            }
        });
        rows
    }

    fn table(&self, heading: &'static str, rows: &[&Row<'_>]) -> Table {
        let several_nodes = self.snapshot.nodes.len() > 1;
        let mut header = vec!["STATUS", heading, "EXPIRES", "RESIDUAL", "USED", "AUTHORITY"];
        if several_nodes {
            header.insert(2, "NODE");
        }
        header.push("PATH");
        let mut table = Table::new(header).dispensable(["PATH", "USED", "AUTHORITY"]);
        for row in rows {
            let tone = tone(row.severity());
            let mut cells = vec![Cell::toned(status_word(row), tone), row.name.as_str().into()];
            if several_nodes {
                cells.push(row.node_name.into());
            }
            let (expires, residual) = match row.certificate {
                Some(one) => (utc(one.not_after()), relative(one.not_after(), self.at)),
                None if row.is_missing() => ("missing".to_owned(), "-".to_owned()),
                None => ("unreadable".to_owned(), "-".to_owned()),
            };
            cells.push(expires.into());
            cells.push(Cell::toned(residual, if tone == Tone::Good { Tone::Plain } else { tone }));
            cells
                .push(row.used_percent(self.at).map_or("-".into(), |used| format!("{} %", whole_percent(used)).into()));
            let authority = match (&row.ca_name, row.externally_managed) {
                (Some(name), true) => format!("{name} (external)"),
                (Some(name), false) => name.clone(),
                (None, true) => "external".to_owned(),
                (None, false) => "-".to_owned(),
            };
            cells.push(Cell::toned(authority, Tone::Faint));
            cells.push(Cell::toned(row.path.as_str(), Tone::Faint));
            table.push(cells);
        }
        table
    }

    fn summary(&self) -> String {
        let counts = self.counts();
        let wrong: Vec<String> = counts
            .iter()
            .rev()
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        let all = counted(self.rows.len(), "certificate");
        let unreachable: Vec<&str> =
            self.snapshot.nodes.iter().filter(|node| node.error.is_some()).map(|node| node.name.as_str()).collect();
        let mut text = format!("{all}: {}", wrong.join(", "));
        if !unreachable.is_empty() {
            let _ = write!(text, "; not reached: {}", unreachable.join(", "));
        }
        if self.at != self.made_at {
            let _ = write!(text, " (as of {})", utc(self.at));
        }
        text
    }

    /// What to do next, in one line.
    fn next_step(&self) -> String {
        let urgent = self.by_urgency();
        let worst = urgent.first().filter(|row| row.severity() > Some(Severity::Notice));
        let worst = worst.and_then(|row| worst_finding(row));
        let is_due = |row: &&&Row<'_>| row.managed && worst_finding(row).is_some_and(is_about_time);
        if urgent.iter().filter(is_due).count() > 1 && worst.is_some_and(is_about_time) {
            return format!("next: {}", self.renew_all);
        }
        if let Some(finding) = worst {
            return format!("next: {}", finding.remedy);
        }
        let ends = self.rows.iter().filter_map(|row| Some((row.certificate?.not_after(), &row.name)));
        match ends.min_by_key(|(end, _)| *end) {
            Some((end, name)) => format!("nothing to do; {name} is the first to expire, {}", relative(end, self.at)),
            None => "nothing to do".to_owned(),
        }
    }
}

impl Report for ExpiryReport<'_> {
    fn to_value(&self) -> anyhow::Result<Value> {
        let rows = |authorities: bool| -> Value {
            self.rows.iter().filter(|row| row.is_authority == authorities).map(|row| self.document(row)).collect()
        };
        let mut document = Map::new();
        document.insert("kind".to_owned(), "CertificateExpirationInfo".into());
        document.insert("apiVersion".to_owned(), API_VERSION.into());
        document.insert("generatedAt".to_owned(), rfc3339(self.made_at).into());
        if self.at != self.made_at {
            document.insert("evaluatedAt".to_owned(), rfc3339(self.at).into());
        }
        document.insert("certificates".to_owned(), rows(false));
        document.insert("certificateAuthorities".to_owned(), rows(true));
        let nodes = self.snapshot.nodes.iter().map(|node| {
            json!({
                "name": node.name,
                "reachable": node.error.is_none(),
                "error": node.error,
                "clockSkewSeconds": clock_skew(node),
            })
        });
        document.insert("nodes".to_owned(), nodes.collect());
        let counts: Map<String, Value> =
            self.counts().into_iter().map(|(status, count)| (status.name().to_owned(), count.into())).collect();
        document.insert("summary".to_owned(), Value::Object(counts));
        Ok(Value::Object(document))
    }

    fn view(&self, _now: OffsetDateTime) -> View {
        let rows = self.by_urgency();
        let (authorities, certificates): (Vec<&Row<'_>>, Vec<&Row<'_>>) = rows.iter().partition(|row| row.is_authority);
        let mut view = View::default();
        for (heading, part) in [("CERTIFICATE", certificates), ("CERTIFICATE AUTHORITY", without_copies(&authorities))]
        {
            if !part.is_empty() {
                view = view.table(self.table(heading, &part));
            }
        }
        let told = rows.iter().flat_map(|row| row.findings.iter().map(move |finding| (*row, finding)));
        // What the table says already is not repeated.
        let is_news = |it: &Finding| it.severity() > Severity::Notice && !is_about_time(it);
        let told: Vec<(&Row<'_>, &Finding)> = told.filter(|(_, it)| is_news(it)).collect();
        let several_nodes = self.snapshot.nodes.len() > 1;
        for (row, finding) in told.iter().take(MOST_SHOWN) {
            let place = if several_nodes { format!("{} on {}", row.name, row.node_name) } else { row.name.clone() };
            let line = format!("{place}: {}", finding.message);
            view = view.line(Cell::toned(line, tone(Some(finding.severity()))));
        }
        if told.len() > MOST_SHOWN {
            let more = format!("and {} more, see -o json", told.len() - MOST_SHOWN);
            view = view.line(Cell::toned(more, Tone::Faint));
        }
        for node in &self.snapshot.nodes {
            if let Some(reason) = &node.error {
                view = view.line(Cell::toned(format!("node {}: {reason}", node.name), Tone::Bad));
            }
        }
        view.gap().line(Cell::toned(self.summary(), tone(self.severity()))).line(self.next_step())
    }

    fn rows(&self) -> anyhow::Result<Value> {
        let line = |row: &&Row<'_>| {
            let end = row.certificate.map(|one| rfc3339(one.not_after()));
            let days = row.certificate.map(|one| (one.not_after() - self.at).whole_days());
            json!([row.status().name(), row.name, end, days, row.ca_name, row.node_name, row.path])
        };
        Ok(self.by_urgency().iter().map(line).collect())
    }
}

/// Seconds that the node's clock is ahead. Where nobody was asked it is this machine's; unknown where nobody answered.
fn clock_skew(node: &NodeSnapshot) -> Option<i64> {
    let told = node.facts.as_ref().map_or(0, |facts| facts.clock_skew.whole_seconds());
    node.error.is_none().then_some(told)
}

fn finding(finding: &Finding) -> Value {
    json!({
        "id": finding.id.name(),
        "severity": finding.severity().name(),
        "message": finding.message,
        "remedy": finding.remedy,
    })
}

fn worst_finding<'a>(row: &'a Row<'_>) -> Option<&'a Finding> {
    row.findings.iter().max_by_key(|finding| (finding.severity(), finding.id.status()))
}

/// Whether renewing all that is due settles it.
fn is_about_time(finding: &Finding) -> bool {
    use FindingId::{CertificateCritical, CertificateExpired, CertificateExpiring};
    matches!(finding.id, CertificateExpired | CertificateExpiring | CertificateCritical)
}

/// The rows without those CAs of kubeconfigs that are well and stand in a row of their own already, and without what a
/// server of a node shows behind its own certificate.
fn without_copies<'r, 'a>(rows: &[&'r Row<'a>]) -> Vec<&'r Row<'a>> {
    let is_copy = |row: &Row<'_>| matches!(row.member, Member::Cluster(..)) && row.status() == Status::Ok;
    let shown: HashSet<&[u8]> =
        rows.iter().filter(|row| !is_copy(row)).filter_map(|row| row.certificate.map(Certificate::der)).collect();
    let is_known = |row: &Row<'_>| row.certificate.is_some_and(|one| shown.contains(one.der()));
    let is_behind = |row: &Row<'_>| row.artifact.server.is_some() && !row.is_first() && row.status() == Status::Ok;
    rows.iter().copied().filter(|row| !(is_behind(row) || is_copy(row) && is_known(row))).collect()
}

/// The status, and `absent` where kubeadm lists a file that is not there and need not be.
fn status_word(row: &Row<'_>) -> &'static str {
    if row.is_missing() && row.status() == Status::Ok { "absent" } else { row.status().name() }
}

fn tone(severity: Option<Severity>) -> Tone {
    match severity {
        None | Some(Severity::Notice) => Tone::Good,
        Some(Severity::Warning | Severity::Unknown) => Tone::Attention,
        Some(Severity::Broken) => Tone::Bad,
    }
}

/// Percent without fraction, cut off, so that 99.9 is not shown as the end.
fn whole_percent(used: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "bounded to what a table can show")]
    {
        used.floor().clamp(-9999.0, 9999.0) as i64
    }
}
