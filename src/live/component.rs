//! The processes of a node, asked on their own ports: whether they are well, which version they are, and since when they
//! run.
//!
//! kube-controller-manager, kube-scheduler and the kubelet may sign their serving certificates themselves, so those are not
//! checked; what is asked is no secret, and only a certificate is shown to them, never a token.

use time::{Duration, OffsetDateTime};

use super::api_server::{refusal, unusable};
use super::credential::Credential;
use super::places::Places;
use super::{NoAnswer, places::Listener};
use crate::node::Node;
use crate::node::http::{Limits, Request, Response, ask};

pub use crate::pki::component::Component;

/// Clocks that are set while a process runs move its reported start by a little.
const TOLERANCE: Duration = Duration::seconds(2);

/// The metrics of a large cluster's API server are tens of megabytes.
const LARGEST_METRICS: usize = 256 * 1024 * 1024;

/// A process as it runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// When it was started, by the node's clock.
    pub started_at: OffsetDateTime,
    /// As `v1.36.2`, of etcd `3.6.10`.
    pub version: Option<String>,
}

impl Running {
    /// Whether this is a later process than `before`: it was started since.
    pub fn is_newer_than(&self, before: &Self) -> bool {
        self.started_at > before.started_at + TOLERANCE
    }
}

/// Since when a component of `node` runs, and its version: from its metrics.
///
/// The credential needs the right to read `/metrics`, as administrators have; kubelet, kube-controller-manager and
/// kube-scheduler ask the API server about that.
///
/// # Errors
/// When it does not say.
pub fn running(
    node: &dyn Node,
    component: Component,
    places: &Places,
    credential: &Credential,
    limits: Limits,
) -> Result<Running, NoAnswer> {
    let limits = Limits { size: LARGEST_METRICS, ..limits };
    let listener = match (component, &places.etcd_metrics) {
        (Component::Etcd, Some(metrics)) => Some(metrics),
        _ => places.of(component),
    };
    let answer = get(node, component, listener, "/metrics", credential, limits)?;
    if answer.status != 200 {
        return Err(refusal(&answer));
    }
    let text = String::from_utf8_lossy(&answer.body);
    let started_at =
        started_at(&text).ok_or_else(|| NoAnswer::Malformed("no process_start_time_seconds".to_owned()))?;
    Ok(Running { started_at, version: version(&text, component) })
}

/// Whether a component says that it is well: `/healthz`, of etcd `/health`.
///
/// # Errors
/// When it is not, or does not answer.
pub fn healthy(
    node: &dyn Node,
    component: Component,
    places: &Places,
    credential: &Credential,
    limits: Limits,
) -> Result<(), NoAnswer> {
    let path = if component == Component::Etcd { "/health" } else { "/healthz" };
    let answer = get(node, component, places.of(component), path, credential, limits)?;
    let is_well = answer.status == 200 && (component != Component::Etcd || contains(&answer.body, b"\"true\""));
    if is_well { Ok(()) } else { Err(refusal(&answer)) }
}

fn get(
    node: &dyn Node,
    component: Component,
    listener: Option<&Listener>,
    path: &str,
    credential: &Credential,
    limits: Limits,
) -> Result<Response, NoAnswer> {
    let listener = listener.ok_or_else(|| unusable(format!("{component} does not run on this node")))?;
    let signs_itself = !matches!(component, Component::ApiServer | Component::Etcd);
    let tls = match (listener.tls, signs_itself) {
        (false, _) => None,
        (true, true) => Some(credential.tls_with_anybody()),
        (true, false) => Some(credential.tls()),
    };
    let tls = tls.transpose().map_err(unusable)?;
    // Only those whose certificate is checked may see a token.
    let authorization = if listener.tls && !signs_itself { credential.authorization() } else { None };
    let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
    let request = Request { headers: &headers, ..Request::get(path) };
    Ok(ask(node, &listener.endpoint, tls.as_ref(), &request, limits)?)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reads the Prometheus text format.
pub(super) fn started_at(metrics: &str) -> Option<OffsetDateTime> {
    let line = metrics.lines().find(|line| line.starts_with("process_start_time_seconds"))?;
    let value = line.rsplit(' ').next()?.parse::<f64>().ok()?;
    let since = Duration::checked_seconds_f64(value).filter(|_| value > 0.0)?;
    OffsetDateTime::UNIX_EPOCH.checked_add(since)
}

/// The metric that has a component's version as a label.
fn version_metric(component: Component) -> (&'static str, &'static str) {
    match component {
        Component::Etcd => ("etcd_server_version{", "server_version=\""),
        _ => ("kubernetes_build_info{", "git_version=\""),
    }
}

fn version(metrics: &str, component: Component) -> Option<String> {
    let (metric, label) = version_metric(component);
    let line = metrics.lines().find(|line| line.starts_with(metric))?;
    let (value, _) = line.split_once(label)?.1.split_once('"')?;
    Some(super::tidy(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn start_and_version_are_read_from_the_metrics() {
        let text = "# HELP process_start_time_seconds Start time\n# TYPE process_start_time_seconds gauge\n\
                    process_start_time_seconds 1.76385e+09\n\
                    kubernetes_build_info{build_date=\"x\",git_version=\"v1.36.2\",major=\"1\"} 1\n\
                    etcd_server_version{server_version=\"3.6.10\"} 1\n";
        assert_eq!(started_at(text), Some(datetime!(2025-11-22 22:20 UTC)));
        assert_eq!(version(text, Component::Kubelet).as_deref(), Some("v1.36.2"));
        assert_eq!(version(text, Component::Etcd).as_deref(), Some("3.6.10"));
        for odd in [
            "",
            "process_start_time_seconds",
            "process_start_time_seconds NaN",
            "process_start_time_seconds 0",
            "process_start_time_seconds 1e300",
            "process_start_time_seconds -5",
        ] {
            assert_eq!(started_at(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_start_that_a_corrected_clock_moved_is_no_restart() {
        let at = |seconds| Running {
            started_at: datetime!(2026-01-01 00:00 UTC) + Duration::seconds_f64(seconds),
            version: None,
        };
        assert!(!at(0.9).is_newer_than(&at(0.0)) && !at(0.0).is_newer_than(&at(5.0)));
        assert!(at(3.0).is_newer_than(&at(0.0)));
    }
}
