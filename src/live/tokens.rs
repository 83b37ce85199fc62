//! Service-account tokens: which keys an API server checks them with, which one it signs with, and new ones to prove it.
//!
//! A key is named as Kubernetes names it in tokens and key sets (`kid`): base64url, without padding, of the SHA-256 of its
//! `SubjectPublicKeyInfo` (pkg/serviceaccount/jwt.go).

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::NoAnswer;
use super::api_server::{ApiServer, read, segment};
use crate::pki::kubeconfig::Token;

/// The name of a key by its public half (`SubjectPublicKeyInfo` DER).
pub fn key_id(public_key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, public_key))
}

/// The name of the key that a token (compact JWS, RFC 7515) says it is signed with. Nothing is verified.
pub fn signed_with(token: &Token) -> Option<String> {
    key_id_of(token.reveal())
}

pub(super) fn key_id_of(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let head = URL_SAFE_NO_PAD.decode(parts.next()?.trim_end_matches('=')).ok()?;
    if parts.count() != 2 {
        return None;
    }
    let head: Value = serde_json::from_slice(&head).ok()?;
    Some(super::tidy(head["kid"].as_str().filter(|name| !name.is_empty())?))
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    #[serde(deserialize_with = "wiped")]
    token: Zeroizing<String>,
}

fn wiped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

impl ApiServer<'_> {
    /// The names of the keys with which the server checks tokens, as its process has them (`/openid/v1/jwks`).
    ///
    /// # Errors
    /// When the server does not say.
    pub fn token_keys(&self) -> Result<BTreeSet<String>, NoAnswer> {
        let set: KeySet = read(&self.raw_with("GET", "/openid/v1/jwks", &[("Accept", "*/*")], None)?)?;
        Ok(set.keys.into_iter().map(|key| super::tidy(&key.kid)).filter(|name| !name.is_empty()).collect())
    }

    /// A new token for a service account, good for `seconds` (600 at least), signed by this server.
    ///
    /// # Errors
    /// When there is none, because there is no such account for example.
    pub fn new_token(&self, namespace: &str, account: &str, seconds: u32) -> Result<Token, NoAnswer> {
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", segment(namespace), segment(account));
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds},
        })
        .to_string();
        let content = Some(("application/json", request.as_bytes()));
        let answer: TokenRequest = read(&self.raw("POST", &path, content)?)?;
        Token::new(&answer.status.token).ok_or_else(|| NoAnswer::Malformed("there is no token in it".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_the_digest_of_its_public_half() {
        // SHA-256 of nothing, in base64url.
        assert_eq!(key_id(b""), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn only_something_like_a_token_has_a_key() {
        let head = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let of = |text: &str| Token::new(text).and_then(|token| signed_with(&token));
        assert_eq!(of(&format!("{}.e30.c2ln", head(r#"{"kid":"abc"}"#))).as_deref(), Some("abc"));
        for odd in [head(r#"{"kid":"abc"}"#), format!("{}.a.b", head("{}")), format!("{}.a.b", head("[")), "..".into()]
        {
            assert_eq!(of(&odd), None, "{odd}");
        }
    }
}
