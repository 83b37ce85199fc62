//! Whether an API server refuses what is revoked: which authorizers it works by, whose certificates it believes, what it
//! would say to somebody; and kubeadm's own note of its flags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::NoAnswer;
use super::api_server::ApiServer;
use super::cluster::texts;

/// How kube-apiserver tells which configuration of authorizers is in force.
const IN_FORCE: &str = "apiserver_authorization_config_controller_last_config_info{";

/// Where users of certificates carry its hash.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

const SUBJECT_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const RULES_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const KUBEADM: (&str, &str) = ("kube-system", "kubeadm-config");
const CLUSTER: &str = "ClusterConfiguration";

/// What an API server would say to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it would do what was asked.
    pub allowed: bool,
    /// Whether an authorizer has said no, after which no other one is asked.
    pub denied: bool,
    /// Its words.
    pub reason: String,
}

/// A user of a certificate, as an API server takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder<'a> {
    /// Common name.
    pub name: &'a str,
    /// Organizations.
    pub groups: &'a [String],
    /// SHA-256 of the certificate, lower-case hex.
    pub sha256: &'a str,
}

impl ApiServer<'_> {
    /// SHA-256 (lower-case hex) of the file of authorizers that is in force; `None` where there is none. The metrics may be
    /// tens of megabytes: the limits have to allow for that.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn authorizers_in_force(&self) -> Result<Option<String>, NoAnswer> {
        let answer = self.raw("GET", "/metrics", None)?;
        if answer.status != 200 {
            return Err(super::api_server::refusal(&answer));
        }
        Ok(in_force(&String::from_utf8_lossy(&answer.body)))
    }

    /// What the server would say if that user read `/version`, which everybody may.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn judge(&self, holder: &Holder<'_>) -> Result<Judgement, NoAnswer> {
        let groups: Vec<&str> = holder.groups.iter().map(String::as_str).chain(["system:authenticated"]).collect();
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": holder.name, "groups": groups,
                "extra": {CREDENTIAL: [format!("X509SHA256={}", holder.sha256)]},
                "nonResourceAttributes": {"path": "/version", "verb": "get"},
            },
        });
        let answer = self.post(SUBJECT_REVIEWS, &review)?;
        let status = &answer["status"];
        let words = [&status["reason"], &status["evaluationError"]].map(|text| text.as_str().unwrap_or_default());
        Ok(Judgement {
            allowed: status["allowed"].as_bool().unwrap_or_default(),
            denied: status["denied"].as_bool().unwrap_or_default(),
            reason: super::tidy(&words.join(" ")),
        })
    }

    /// What whoever asks may do in namespace `default`, one line for each rule, as `get, list: pods, services`.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn own_rules(&self) -> Result<Vec<String>, NoAnswer> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"},
        });
        let answer = self.post(RULES_REVIEWS, &review)?;
        Ok(rules(&answer["status"]))
    }

    /// kubeadm's ClusterConfiguration; `None` in a cluster that kubeadm did not make.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn kubeadm_configuration(&self) -> Result<Option<String>, NoAnswer> {
        let found = self.config_map(KUBEADM.0, KUBEADM.1)?;
        Ok(found.and_then(|mut texts| texts.remove(CLUSTER)))
    }

    /// Writes kubeadm's ClusterConfiguration; what else is in the config map stays.
    ///
    /// # Errors
    /// When it is not written.
    pub fn write_kubeadm_configuration(&self, text: &str) -> Result<(), NoAnswer> {
        let texts = BTreeMap::from([(CLUSTER.to_owned(), text.to_owned())]);
        self.write_config_map(KUBEADM.0, KUBEADM.1, &texts)
    }
}

/// Reads the Prometheus text format; a server that has changed over has one line with the value 1.
fn in_force(metrics: &str) -> Option<String> {
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(IN_FORCE));
    let line = lines.rfind(|line| line.ends_with(" 1"))?;
    let (hash, _) = line.split([',', '{']).find_map(|label| label.strip_prefix("hash=\""))?.split_once('"')?;
    Some(hash.strip_prefix("sha256:").unwrap_or(hash).to_ascii_lowercase())
}

fn rules(status: &Value) -> Vec<String> {
    let list = |rule: &Value, name: &str| texts(&rule[name]).join(", ");
    let mut lines = Vec::new();
    for rule in status["resourceRules"].as_array().into_iter().flatten() {
        let (verbs, resources, names) = (list(rule, "verbs"), list(rule, "resources"), list(rule, "resourceNames"));
        let line = match (verbs.as_str(), resources.as_str(), list(rule, "apiGroups").as_str()) {
            ("*", "*", "*") => "everything".to_owned(),
            _ if names.is_empty() => format!("{verbs}: {resources}"),
            _ => format!("{verbs}: {resources} named {names}"),
        };
        lines.push(super::tidy(&line));
    }
    lines.dedup();
    if lines.iter().any(|line| line == "everything") { vec!["everything".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_in_force_is_the_one_that_the_metrics_name() {
        let text = format!(
            "# TYPE x gauge\n{IN_FORCE}apiserver_id_hash=\"sha256:aa\",hash=\"sha256:00\"}} 0\n\
             {IN_FORCE}apiserver_id_hash=\"sha256:aa\",hash=\"sha256:0B\"}} 1\nother 1\n"
        );
        assert_eq!(in_force(&text).as_deref(), Some("0b"));
        for odd in ["", IN_FORCE, "apiserver_authorization_config_controller_last_config_info{hash=\"x 1"] {
            assert_eq!(in_force(odd), None, "{odd}");
        }
    }

    #[test]
    fn rights_are_told_in_lines() {
        let all = json!({"resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["get"], "resources": ["pods"]}]});
        assert_eq!(rules(&all), ["everything"]);
        let some = json!({"resourceRules": [
            {"verbs": ["get", "list"], "resources": ["pods"]}, {"verbs": ["get"], "resources": ["secrets"], "resourceNames": ["a"]}]});
        assert_eq!(rules(&some), ["get, list: pods", "get: secrets named a"]);
        assert!(rules(&json!({})).is_empty());
    }
}
