//! `cluster-info` in `kube-public`: the CA certificates that machines which join learn about, before they know anybody.
//!
//! kubeadm writes it once, and the bootstrapsigner of kube-controller-manager signs it anew whenever it changes. Only the
//! CA data of its kubeconfig is exchanged here; every other byte stays.

use std::path::Path;

use serde_json::{Value, json};

use super::NoAnswer;
use super::api_server::{ApiServer, Patch};
use super::authority_set::{AuthoritySet, bundle};
use crate::pki::kubeconfig::{DataField, Kubeconfig, Replacement, Source};

const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// The text in it.
const KEY: &str = "kubeconfig";

/// The bootstrapsigner writes the same object; a change that it was faster with is tried again that often.
const ATTEMPTS: usize = 5;

/// What became of an object that was to hold certain authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewritten {
    /// It holds them now.
    Changed,
    /// It held them already.
    Same,
    /// There is no such object.
    Absent,
    /// It holds none of ours, but these: it was left alone.
    Foreign(AuthoritySet),
}

impl ApiServer<'_> {
    /// The CA certificates that `cluster-info` tells of; `None` when there is no such object.
    ///
    /// # Errors
    /// When the server does not say, or its text is no kubeconfig.
    pub fn cluster_info(&self) -> Result<Option<AuthoritySet>, NoAnswer> {
        let Some(object) = self.cluster_info_object()? else { return Ok(None) };
        let clusters = clusters(text(&object)?)?;
        Ok(Some(clusters.into_iter().flat_map(|(_, set)| set.iter().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()))
    }

    /// Makes `cluster-info` tell of exactly the certificates `wanted` (DER, in that order), if it tells of one of `ours`
    /// now, or of another certificate of the same authority.
    ///
    /// # Errors
    /// When it is not changed, or its text is no kubeconfig.
    pub fn set_cluster_info(&self, wanted: &[Vec<u8>], ours: &AuthoritySet) -> Result<Rewritten, NoAnswer> {
        let mut attempt = 1;
        loop {
            let Some(object) = self.cluster_info_object()? else { return Ok(Rewritten::Absent) };
            let text = match exchanged(text(&object)?, wanted, ours)? {
                Ok(text) => text,
                Err(left) => return Ok(left),
            };
            let version = &object["metadata"]["resourceVersion"];
            let change = json!({"metadata": {"resourceVersion": version}, "data": {KEY: text}});
            match self.patch(PATH, Patch::Merge, &change) {
                Ok(_) => return Ok(Rewritten::Changed),
                Err(error) if error.status() == Some(409) && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn cluster_info_object(&self) -> Result<Option<Value>, NoAnswer> {
        match self.get(PATH) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn text(object: &Value) -> Result<&str, NoAnswer> {
    object["data"][KEY].as_str().ok_or_else(|| NoAnswer::Malformed(format!("cluster-info has no {KEY}")))
}

/// The clusters of the text with what each is trusted by; one without embedded authorities has none.
fn clusters(text: &str) -> Result<Vec<(String, AuthoritySet)>, NoAnswer> {
    let config = Kubeconfig::parse(text.as_bytes(), Path::new("/"))
        .map_err(|problem| NoAnswer::Malformed(format!("cluster-info: {problem}")))?;
    let read = |cluster: crate::pki::kubeconfig::Cluster| match cluster.certificate_authority.source() {
        Source::Embedded(pem) => (cluster.name, AuthoritySet::from_pem(pem)),
        _ => (cluster.name, AuthoritySet::default()),
    };
    Ok(config.clusters.into_iter().map(read).collect())
}

/// The text with the authorities exchanged, or why there is nothing to be exchanged.
fn exchanged(text: &str, wanted: &[Vec<u8>], ours: &AuthoritySet) -> Result<Result<String, Rewritten>, NoAnswer> {
    let clusters = clusters(text)?;
    let wanted_set: AuthoritySet = wanted.iter().cloned().collect();
    let known = ours.with(&wanted_set);
    let own: Vec<&(String, AuthoritySet)> = clusters.iter().filter(|(_, set)| set.is_akin_to(&known)).collect();
    if own.is_empty() {
        let all = clusters.iter().fold(AuthoritySet::default(), |all, (_, set)| all.with(set));
        return Ok(Err(Rewritten::Foreign(all)));
    }
    let pem = bundle(wanted);
    let replacements: Vec<Replacement<'_>> = own
        .iter()
        .filter(|(_, set)| *set != wanted_set)
        .map(|(name, _)| Replacement { field: DataField::CertificateAuthority, entry: name, pem: pem.as_bytes() })
        .collect();
    if replacements.is_empty() {
        return Ok(Err(Rewritten::Same));
    }
    let changed = Kubeconfig::replace_data(text.as_bytes(), &replacements)
        .map_err(|error| NoAnswer::Malformed(format!("cluster-info cannot be changed in place: {error}")))?;
    let changed =
        std::str::from_utf8(&changed).map_err(|_| NoAnswer::Malformed("cluster-info is no text".to_owned()))?;
    Ok(Ok(changed.to_owned()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn ders(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    fn set(names: &[&str]) -> AuthoritySet {
        ders(names).into_iter().collect()
    }

    /// As kubeadm writes it: the cluster's name is empty.
    fn info(names: &[&str]) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://10.0.0.1:6443\n  \
             name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\nusers: null\n",
            STANDARD.encode(bundle(&ders(names)))
        )
    }

    #[test]
    fn only_the_authorities_of_our_cluster_are_exchanged() {
        let ours = set(&["old", "new"]);
        let changed = exchanged(&info(&["old"]), &ders(&["old", "new"]), &ours).expect("read").expect("changed");
        assert_eq!(changed, info(&["old", "new"]), "every other byte stays");
        assert_eq!(exchanged(&changed, &ders(&["old", "new"]), &ours).expect("read"), Err(Rewritten::Same));
        let changed = exchanged(&changed, &ders(&["new"]), &ours).expect("read").expect("changed");
        assert_eq!(changed, info(&["new"]));
        let left = exchanged(&info(&["theirs"]), &ders(&["new"]), &ours).expect("read");
        assert_eq!(left, Err(Rewritten::Foreign(set(&["theirs"]))));
        assert!(exchanged("[", &ders(&["new"]), &ours).is_err());
    }
}
