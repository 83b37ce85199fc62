//! API servers behind the API server: what they trust, whether they are there, and whether a front proxy is believed.
//!
//! Aggregated API servers (and the scheduler) take their trust from `extension-apiserver-authentication` in `kube-system`.
//! Each kube-apiserver adds its own authorities to it and takes away none but expired ones, so it only ever shrinks by being
//! deleted: then each writes anew what it has (pkg/controlplane/controller/clusterauthenticationtrust).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::NoAnswer;
use super::api_server::{ApiServer, json as success};
use super::authority_set::AuthoritySet;
use super::cluster::{User, user};
use super::list::{Metadata, PAGE};

const TRUST: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// What aggregated API servers trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AggregationTrust {
    /// Authorities of clients (`client-ca-file`).
    pub clients: AuthoritySet,
    /// Authorities of front proxies (`requestheader-client-ca-file`).
    pub front_proxies: AuthoritySet,
}

/// What they are to trust; `None` where it does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedTrust {
    /// Authorities of clients.
    pub clients: Option<AuthoritySet>,
    /// Authorities of front proxies.
    pub front_proxies: Option<AuthoritySet>,
}

impl WantedTrust {
    /// Whether `found` is exactly that.
    pub fn is_met_by(&self, found: &AggregationTrust) -> bool {
        self.clients.as_ref().is_none_or(|wanted| *wanted == found.clients)
            && self.front_proxies.as_ref().is_none_or(|wanted| *wanted == found.front_proxies)
    }

    /// Whether `found` is that, and perhaps more.
    pub fn is_held_by(&self, found: &AggregationTrust) -> bool {
        self.clients.as_ref().is_none_or(|wanted| found.clients.contains_all(wanted))
            && self.front_proxies.as_ref().is_none_or(|wanted| found.front_proxies.contains_all(wanted))
    }
}

#[derive(Deserialize)]
struct ApiService {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl ApiServer<'_> {
    /// What aggregated API servers trust; `None` while that is written nowhere.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn aggregation_trust(&self) -> Result<Option<AggregationTrust>, NoAnswer> {
        match self.get(TRUST) {
            Ok(object) => {
                let set =
                    |key: &str| AuthoritySet::from_pem(object["data"][key].as_str().unwrap_or_default().as_bytes());
                let (clients, front_proxies) = (set("client-ca-file"), set("requestheader-client-ca-file"));
                Ok(Some(AggregationTrust { clients, front_proxies }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes what is written about it, so that every kube-apiserver writes anew what it has; says whether there was
    /// anything.
    ///
    /// # Errors
    /// When it is not deleted.
    pub fn delete_aggregation_trust(&self) -> Result<bool, NoAnswer> {
        self.delete_if_there(TRUST)
    }

    /// Whom the server takes somebody for whom a front proxy vouches: the credential's certificate is the proxy's, `name` and
    /// `group` what it says about its user.
    ///
    /// # Errors
    /// When the server does not believe it, or does not say.
    pub fn who_am_i_behind_proxy(&self, name: &str, group: &str) -> Result<User, NoAnswer> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        let headers = [("Accept", "application/json"), ("X-Remote-User", name), ("X-Remote-Group", group)];
        let content = Some(("application/json", review.as_bytes()));
        let answer = self.raw_with("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &headers, content)?;
        user(&success(&answer)?)
    }

    /// Aggregated APIs that are not available, as `v1beta1.metrics.k8s.io`, and why not.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn unavailable_apis(&self) -> Result<BTreeMap<String, String>, NoAnswer> {
        let all: Vec<ApiService> = self.list(API_SERVICES, PAGE)?;
        Ok(all.iter().filter_map(unavailable).collect())
    }
}

fn unavailable(one: &ApiService) -> Option<(String, String)> {
    // One without a service is the API server's own.
    if one.spec["service"].is_null() {
        return None;
    }
    let conditions = one.status["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == "Available");
    let why = match found {
        Some(condition) if condition["status"] == "True" => return None,
        Some(condition) => super::tidy(condition["message"].as_str().unwrap_or("it does not say why")),
        None => "nobody has looked yet".to_owned(),
    };
    Some((super::tidy(&one.metadata.name), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_apis_that_others_serve_can_be_unavailable() {
        let read = |object: Value| unavailable(&serde_json::from_value(object).expect("an APIService"));
        assert_eq!(read(json!({"metadata": {"name": "v1."}, "spec": {"service": null}})), None);
        let with = |status: &str| {
            json!({"metadata": {"name": "v1.x"}, "spec": {"service": {"name": "s"}}, "status": {
                "conditions": [{"type": "Available", "status": status, "message": "no route"}]}})
        };
        assert_eq!(read(with("True")), None);
        let away = |why: &str| Some(("v1.x".to_owned(), why.to_owned()));
        assert_eq!(read(with("False")), away("no route"));
        let fresh = json!({"metadata": {"name": "v1.x"}, "spec": {"service": {}}});
        assert_eq!(read(fresh), away("nobody has looked yet"));
    }

    #[test]
    fn what_does_not_matter_is_met_by_anything() {
        let set = |name: &str| std::iter::once(name.as_bytes().to_vec()).collect::<AuthoritySet>();
        let found = AggregationTrust { clients: set("a"), front_proxies: set("f") };
        assert!(WantedTrust::default().is_met_by(&found));
        assert!(WantedTrust { clients: Some(set("a")), front_proxies: None }.is_met_by(&found));
        assert!(!WantedTrust { clients: Some(set("a")), front_proxies: Some(set("g")) }.is_met_by(&found));
        let more = AggregationTrust { clients: set("a").with(&set("b")), front_proxies: set("f") };
        let wanted = WantedTrust { clients: Some(set("a")), front_proxies: Some(set("f")) };
        assert!(
            wanted.is_held_by(&more) && !wanted.is_met_by(&more) && !wanted.is_held_by(&AggregationTrust::default())
        );
    }
}
