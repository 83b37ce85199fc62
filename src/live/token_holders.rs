//! Pods that may still hold a service-account token from before a certain moment.
//!
//! The kubelet gets a pod a new token when four fifths of its life are over, or after a day, whichever is first
//! (pkg/kubelet/token/token_manager.go). What a process in the pod keeps in memory nobody can see; clients of Kubernetes
//! read their token anew every minute.

use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::NoAnswer;
use super::api_server::ApiServer;
use super::list::{Metadata, PAGE};

const PODS: &str = "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";

/// The life of a token that a volume does not say otherwise about (seconds).
const USUAL_LIFE: i64 = 3600;

/// The longest that a kubelet keeps a token.
const LONGEST_KEPT: Duration = Duration::days(1);

/// The kubelet looks after a pod's volumes every minute or so, at a moment it chooses, and clients look again a minute later.
const LEEWAY: Duration = Duration::minutes(5);

/// A pod with a token of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHolder {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How long its kubelet keeps a token at most before it gets a new one.
    pub keeps_for: Duration,
}

impl TokenHolder {
    /// Whether the pod, which is older than `moment`, may at `now` still hold a token from before `moment`.
    pub fn holds_token_from_before(&self, moment: OffsetDateTime, now: OffsetDateTime) -> bool {
        now < moment + self.keeps_for
    }
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
struct Volume {
    #[serde(default)]
    projected: Option<Projected>,
}

#[derive(Deserialize)]
struct Projected {
    #[serde(default)]
    sources: Option<Vec<ProjectedSource>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProjectedSource {
    #[serde(default)]
    service_account_token: Option<ServiceAccountToken>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAccountToken {
    #[serde(default)]
    expiration_seconds: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    start_time: Option<String>,
}

impl Pod {
    /// When its kubelet began with it; for a pod that is not told of yet, when it was made.
    fn started_at(&self) -> Option<OffsetDateTime> {
        let text = self.status.start_time.as_ref().or(self.metadata.created_at.as_ref())?;
        OffsetDateTime::parse(text, &Rfc3339).ok()
    }

    /// The longest life of its tokens (seconds); `None` without any.
    fn longest_life(&self) -> Option<i64> {
        let volumes = self.spec.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
        let tokens =
            volumes.flat_map(|one| one.sources.iter().flatten()).filter_map(|one| one.service_account_token.as_ref());
        tokens.map(|token| token.expiration_seconds.unwrap_or(USUAL_LIFE)).max()
    }
}

impl ApiServer<'_> {
    /// Pods with tokens in projected volumes that were started before `moment` and still run. Static pods have none.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn token_holders(&self, moment: OffsetDateTime) -> Result<Vec<TokenHolder>, NoAnswer> {
        let pods: Vec<Pod> = self.list(PODS, PAGE)?;
        Ok(pods.into_iter().filter_map(|pod| holder(pod, moment)).collect())
    }
}

fn holder(pod: Pod, moment: OffsetDateTime) -> Option<TokenHolder> {
    let is_mirror =
        pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
    // Who does not say when he started may be older than anything.
    let is_older = pod.started_at().is_none_or(|started| started < moment);
    let life = pod.longest_life().filter(|_| !is_mirror && is_older)?;
    let four_fifths = Duration::seconds(life.max(0) / 5 * 4);
    let keeps_for = four_fifths.min(LONGEST_KEPT) + LEEWAY;
    Some(TokenHolder { namespace: pod.metadata.namespace, name: pod.metadata.name, keeps_for })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    const MOMENT: OffsetDateTime = datetime!(2026-01-02 03:00 UTC);

    fn judged(started: &str, sources: &serde_json::Value, annotations: &serde_json::Value) -> Option<TokenHolder> {
        let object = json!({
            "metadata": {"namespace": "n", "name": "p", "annotations": annotations},
            "spec": {"volumes": [{"name": "x", "emptyDir": {}}, {"name": "t", "projected": {"sources": sources}}]},
            "status": {"startTime": started},
        });
        holder(serde_json::from_value(object).expect("a pod"), MOMENT)
    }

    #[test]
    fn pods_from_before_that_have_a_token_hold_it_until_the_kubelet_gets_them_another() {
        let token = |seconds: i64| json!([{"configMap": {}}, {"serviceAccountToken": {"expirationSeconds": seconds}}]);
        let usual = judged("2026-01-02T02:59:59Z", &token(3607), &json!(null)).expect("a holder");
        assert_eq!(usual.keeps_for, Duration::seconds(2884) + LEEWAY);
        assert!(usual.holds_token_from_before(MOMENT, MOMENT + Duration::minutes(50)));
        assert!(!usual.holds_token_from_before(MOMENT, MOMENT + Duration::minutes(54)));
        let long = judged("2025-01-02T02:59:59Z", &token(31_536_000), &json!({})).expect("a holder");
        assert_eq!(long.keeps_for, LONGEST_KEPT + LEEWAY);
        assert_eq!(judged("2026-01-02T03:00:00Z", &token(3607), &json!(null)), None, "started since");
        assert_eq!(judged("2026-01-02T02:00:00Z", &json!([{"configMap": {}}]), &json!(null)), None, "no token");
        let mirror = json!({"kubernetes.io/config.mirror": "x"});
        assert_eq!(judged("2026-01-02T02:00:00Z", &token(3607), &mirror), None);
        assert!(judged("odd", &token(3607), &json!(null)).is_some(), "nobody knows since when");
    }
}
