//! Copies of the cluster CA that the cluster itself keeps: `kube-root-ca.crt` in every namespace, legacy token Secrets,
//! and what `kubeadm init --upload-certs` leaves for machines that join.
//!
//! kube-controller-manager writes the first two from its `--root-ca-file` when it starts. They are looked at here, never
//! written: it would put back what it holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::NoAnswer;
use super::api_server::ApiServer;
use super::authority_set::AuthoritySet;
use super::list::{Metadata, Named, PAGE};
use super::tokens::key_id_of;

/// Where `kubeadm init --upload-certs` puts all CAs with their keys, encrypted, for two hours.
const UPLOADED: &str = "/api/v1/namespaces/kube-system/secrets/kubeadm-certs";

const NAMESPACES: &str = "/api/v1/namespaces";

const ROOT_AUTHORITIES: &str = "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt";

const TOKEN_SECRETS: &str = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token";

/// A Secret with a token that does not end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The account the token is for.
    pub account: String,
    /// What its `ca.crt` holds; `None` when it has none (yet).
    pub authorities: Option<AuthoritySet>,
    /// The key that its token is signed with, as [`super::tokens::key_id`] names it; `None` when it has no token (yet).
    pub key_id: Option<String>,
}

#[derive(Deserialize)]
struct RootAuthority {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: Option<RootData>,
}

#[derive(Default, Deserialize)]
struct RootData {
    #[serde(default, rename = "ca.crt")]
    authorities: Option<String>,
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: Option<SecretData>,
}

/// Of a Secret's data only what is no secret: certificates, and which key signed the token.
#[derive(Default, Deserialize)]
struct SecretData {
    #[serde(default, rename = "ca.crt")]
    authorities: Option<String>,
    #[serde(default, rename = "token", deserialize_with = "key_id_in")]
    key_id: Option<String>,
}

/// Reads the key id out of a token (base64) and forgets the token.
fn key_id_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let encoded = Option::<String>::deserialize(deserializer)?.map(Zeroizing::new);
    let token = encoded.and_then(|encoded| STANDARD.decode(encoded.as_bytes()).ok()).map(Zeroizing::new);
    Ok(token.and_then(|token| key_id_of(std::str::from_utf8(&token).ok()?)))
}

impl ApiServer<'_> {
    /// The namespaces whose `kube-root-ca.crt` does not hold exactly `wanted`, in the API's order. Namespaces that are being
    /// deleted do not count: nothing is written into them any more.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn namespaces_not_trusting(&self, wanted: &AuthoritySet) -> Result<Vec<String>, NoAnswer> {
        let namespaces: Vec<Named> = self.list(NAMESPACES, PAGE)?;
        let found: Vec<RootAuthority> = self.list(ROOT_AUTHORITIES, PAGE)?;
        let good: std::collections::HashSet<String> = found
            .into_iter()
            .filter(|one| {
                let text = one.data.as_ref().and_then(|data| data.authorities.as_deref()).unwrap_or_default();
                AuthoritySet::from_pem(text.as_bytes()) == *wanted
            })
            .map(|one| one.metadata.namespace)
            .collect();
        let living = namespaces.into_iter().map(|one| one.metadata).filter(|one| one.deleted_at.is_none());
        Ok(living.map(|one| one.name).filter(|name| !good.contains(name)).collect())
    }

    /// Every Secret of type `kubernetes.io/service-account-token`.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn token_secrets(&self) -> Result<Vec<TokenSecret>, NoAnswer> {
        let found: Vec<Secret> = self.list(TOKEN_SECRETS, PAGE)?;
        let account = |metadata: &Metadata| {
            let name = metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/service-account.name"));
            name.cloned().unwrap_or_default()
        };
        let read = |secret: Secret| {
            let data = secret.data.unwrap_or_default();
            let pem = data.authorities.and_then(|encoded| STANDARD.decode(encoded).ok());
            TokenSecret {
                account: account(&secret.metadata),
                namespace: secret.metadata.namespace,
                name: secret.metadata.name,
                authorities: pem.map(|pem| AuthoritySet::from_pem(&pem)),
                key_id: data.key_id,
            }
        };
        Ok(found.into_iter().map(read).collect())
    }

    /// Whether CAs are uploaded for control-plane nodes that join.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn has_uploaded_authorities(&self) -> Result<bool, NoAnswer> {
        self.exists(UPLOADED)
    }

    /// Deletes them, and says whether there were any.
    ///
    /// # Errors
    /// When they are not deleted.
    pub fn delete_uploaded_authorities(&self) -> Result<bool, NoAnswer> {
        self.delete_if_there(UPLOADED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_token_only_the_name_of_its_key_is_kept() {
        let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k1"}"#);
        let token = STANDARD.encode(format!("{head}.body.signature"));
        let read = |data: &str| serde_json::from_str::<Secret>(&format!("{{\"data\": {data}}}")).expect("a secret");
        let data = read(&format!(r#"{{"token": "{token}", "namespace": "eA=="}}"#)).data.expect("data");
        assert_eq!((data.key_id.as_deref(), data.authorities), (Some("k1"), None));
        for odd in [r#"{"token": "!"}"#, r#"{"token": "eA=="}"#, r#"{"token": null}"#, "{}"] {
            assert_eq!(read(odd).data.expect("data").key_id, None, "{odd}");
        }
        assert!(read("null").data.is_none());
    }
}
