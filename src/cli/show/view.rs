//! The result of `show`, as a value and as people see it.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use super::super::state;
use super::services::Switch;
use crate::plan::operation::ProvisioningState;
use crate::report::time_text::{relative, utc};
use crate::report::{Cell, Report, Table, Tone, View, value_of};

/// Where a cluster stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterState {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource_group: Option<String>,
    pub(super) provisioning_state: ProvisioningState,
    pub(super) operation: Option<LastOperation>,
    pub(super) created_at: Option<String>,
    pub(super) last_updated: Option<String>,
    pub(super) certificate_authorities: Vec<Authority>,
    #[serde(serialize_with = "as_map")]
    pub(super) counts: Vec<(&'static str, usize)>,
    pub(super) auto_rotation: Switch,
    pub(super) kubelet_serving: Switch,
    pub(super) tls_bootstrap: Switch,
}

/// The last operation that left a trace on a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastOperation {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) provisioning_state: ProvisioningState,
    pub(super) phase: Option<String>,
    pub(super) started_at: Option<String>,
    pub(super) ended_at: Option<String>,
    pub(super) finished_nodes: Vec<String>,
    pub(super) pending_nodes: Vec<String>,
    pub(super) error: Option<String>,
}

/// One certificate authority.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authority {
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) subject: Option<String>,
    pub(super) serial_number: Option<String>,
    pub(super) fingerprint_sha256: Option<String>,
    pub(super) key_algorithm: Option<String>,
    pub(super) not_before: Option<String>,
    pub(super) not_after: Option<String>,
    #[serde(skip)]
    pub(super) ends: Option<OffsetDateTime>,
    pub(super) externally_managed: bool,
}

fn as_map<S: Serializer>(counts: &[(&'static str, usize)], output: S) -> Result<S::Ok, S::Error> {
    output.collect_map(counts.iter().copied())
}

impl Report for ClusterState {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(self)
    }

    fn view(&self, now: OffsetDateTime) -> View {
        let word = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
        let head = Table::new(["NAME", "RESOURCE GROUP", "PROVISIONING STATE", "CREATED", "LAST UPDATED"]);
        let head = head.row([
            self.name.as_str().into(),
            word(&self.resource_group).into(),
            state::cell(self.provisioning_state),
            word(&self.created_at).into(),
            word(&self.last_updated).into(),
        ]);
        let mut authorities = Table::new(["AUTHORITY", "STATUS", "KEY", "NOT AFTER", "RESIDUAL", "SUBJECT"])
            .dispensable(["SUBJECT", "KEY"]);
        for ca in &self.certificate_authorities {
            authorities.push([
                ca.name.as_str().into(),
                status_cell(ca.status),
                match (&ca.key_algorithm, ca.externally_managed) {
                    (Some(algorithm), true) => format!("{algorithm}, kept elsewhere").into(),
                    (algorithm, _) => word(algorithm).into(),
                },
                ca.ends.map_or("-".into(), |end| utc(end).into()),
                ca.ends.map_or("-".into(), |end| relative(end, now).into()),
                word(&ca.subject).into(),
            ]);
        }
        let mut view = View::default().table(head.without_blank_columns()).table(authorities);
        let counts: Vec<String> =
            self.counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")).collect();
        view = view.line(format!("Certificates: {}", counts.join(", ")));
        if let Some(operation) = &self.operation {
            view = view.line(operation.line());
        }
        for (what, switch) in [
            ("Auto-rotation", &self.auto_rotation),
            ("Kubelet serving certificates from the API", &self.kubelet_serving),
            ("Kubelet client certificates from the API", &self.tls_bootstrap),
        ] {
            let state = switch.enabled.map_or("not known", |enabled| if enabled { "on" } else { "off" });
            view = view.line(format!("{what}: {state} ({})", switch.reason));
        }
        view
    }
}

impl LastOperation {
    fn line(&self) -> Cell {
        let mut parts = vec![format!("Last operation: {} {:?}", self.kind, self.provisioning_state)];
        for (word, value) in [("in", &self.phase), ("begun", &self.started_at), ("ended", &self.ended_at)] {
            parts.extend(value.as_ref().map(|value| format!("{word} {value}")));
        }
        if !self.pending_nodes.is_empty() {
            parts.push(format!("not finished on {}", self.pending_nodes.join(", ")));
        }
        let line = parts.join(", ");
        match (self.provisioning_state, &self.error) {
            (ProvisioningState::Succeeded | ProvisioningState::Canceled, _) => line.into(),
            (_, error) => {
                let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                let ways = format!("`kubepki {0} --continue` finishes it, `kubepki {0} --abort` goes back", self.kind);
                Cell::toned(format!("{line}{why}; {ways}"), Tone::Attention)
            }
        }
    }
}

fn status_cell(status: &'static str) -> Cell {
    let tone = match status {
        "ok" => Tone::Good,
        "attention" => Tone::Attention,
        _ => Tone::Bad,
    };
    Cell::toned(status, tone)
}
