//! What servers said, as a table and as a document.

use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use crate::error::ExitCode;
use crate::live::component::Component;
use crate::report::time_text::rfc3339;
use crate::report::{Cell, Report, Table, Tone, View};

/// One credential before one server.
#[derive(Debug)]
pub(super) struct Proof {
    /// `HOST:PORT` as the node knows it; empty when the node was not reached.
    pub(super) endpoint: String,
    pub(super) node: String,
    pub(super) component: Component,
    pub(super) credential: String,
    pub(super) expected: bool,
    /// `None` when the server did not say.
    pub(super) accepted: Option<bool>,
    /// Whom the server takes the holder for, or why there is no yes.
    pub(super) reason: String,
    pub(super) at: OffsetDateTime,
}

impl Proof {
    /// A node that could not be asked anything.
    pub(super) fn lost(node: &str, reason: String, at: OffsetDateTime) -> Self {
        let (endpoint, credential) = (String::new(), String::new());
        let node = node.to_owned();
        Self { endpoint, node, component: Component::Kubelet, credential, expected: true, accepted: None, reason, at }
    }

    fn is_lost(&self) -> bool {
        self.endpoint.is_empty()
    }

    fn is_kept(&self) -> Option<bool> {
        self.accepted.map(|accepted| accepted == self.expected)
    }
}

/// Everything that was asked.
#[derive(Debug)]
pub(super) struct VerificationResult {
    proofs: Vec<Proof>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    endpoint: Option<&'a str>,
    node: &'a str,
    component: Option<&'static str>,
    credential: Option<&'a str>,
    expected: bool,
    accepted: Option<bool>,
    reason: &'a str,
    at: String,
}

impl VerificationResult {
    pub(super) fn new(proofs: Vec<Proof>) -> Self {
        Self { proofs }
    }

    fn count(&self, kept: Option<bool>) -> usize {
        self.proofs.iter().filter(|proof| proof.is_kept() == kept).count()
    }

    /// What was proved wrong weighs more than what was not proved.
    pub(super) fn exit_code(&self) -> ExitCode {
        match (self.count(Some(false)), self.count(None)) {
            (0, 0) => ExitCode::Done,
            (0, _) => ExitCode::Partial,
            _ => ExitCode::Broken,
        }
    }
}

impl Report for VerificationResult {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        let endpoints: Vec<_> = self
            .proofs
            .iter()
            .map(|proof| Endpoint {
                endpoint: (!proof.is_lost()).then_some(proof.endpoint.as_str()),
                node: &proof.node,
                component: (!proof.is_lost()).then_some(proof.component.name()),
                credential: (!proof.is_lost()).then_some(proof.credential.as_str()),
                expected: proof.expected,
                accepted: proof.accepted,
                reason: &proof.reason,
                at: rfc3339(proof.at),
            })
            .collect();
        Ok(json!({"apiVersion": "kubepki.io/v1", "kind": "VerificationResult", "endpoints": endpoints}))
    }

    fn view(&self, _now: OffsetDateTime) -> View {
        let mut table = Table::new(["NODE", "COMPONENT", "ENDPOINT", "CREDENTIAL", "EXPECTED", "RESULT", "REASON"])
            .dispensable(["ENDPOINT"]);
        for proof in &self.proofs {
            let word = match proof.accepted {
                Some(true) => "accepted",
                Some(false) => "refused",
                None => "not known",
            };
            let tone = match proof.is_kept() {
                Some(true) => Tone::Good,
                Some(false) => Tone::Bad,
                None => Tone::Attention,
            };
            let dash = |text: &str| if proof.is_lost() { "-".to_owned() } else { text.to_owned() };
            table.push([
                proof.node.as_str().into(),
                dash(proof.component.name()).into(),
                dash(&proof.endpoint).into(),
                dash(&proof.credential).into(),
                dash(if proof.expected { "accepted" } else { "refused" }).into(),
                Cell::toned(word, tone),
                proof.reason.as_str().into(),
            ]);
        }
        let (kept, broken, unknown) = (self.count(Some(true)), self.count(Some(false)), self.count(None));
        let tone = match (broken, unknown) {
            (0, 0) => Tone::Good,
            (0, _) => Tone::Attention,
            _ => Tone::Bad,
        };
        let line = Cell::toned(format!("{kept} as they must be, {broken} not, {unknown} not known"), tone);
        View::default().table(table).line(line)
    }

    fn rows(&self) -> anyhow::Result<serde_json::Value> {
        Ok(self.to_value()?["endpoints"].take())
    }
}
