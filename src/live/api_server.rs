//! One API server, the one that a node reaches at an address: requests with JSON, and whether it is ready.
//!
//! Each request is a connection of its own, so an answer is always that of the process which runs now. Nothing goes
//! through a load balancer unless the address is one's.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::credential::Credential;
use super::{NoAnswer, tidy};
use crate::node::Node;
use crate::node::http::{Limits, Request, Response, Unanswered, ask};
use crate::node::probe::Endpoint;
use crate::node::tls::Tls;

/// How the content of a PATCH is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// JSON merge patch (RFC 7396).
    Merge,
    /// JSON patch (RFC 6902).
    Json,
    /// Kubernetes' strategic merge patch.
    Strategic,
}

impl Patch {
    fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// An API server and who asks it.
#[derive(Debug)]
pub struct ApiServer<'a> {
    node: &'a dyn Node,
    endpoint: Endpoint,
    tls: Tls,
    credential: &'a Credential,
    limits: Limits,
}

impl<'a> ApiServer<'a> {
    /// The server at `endpoint` as `node` reaches it, asked with `credential`. Each request keeps to `limits`.
    ///
    /// # Errors
    /// In words, when the credential's key or authorities are of no use.
    pub fn new(
        node: &'a dyn Node,
        endpoint: Endpoint,
        credential: &'a Credential,
        limits: Limits,
    ) -> Result<Self, String> {
        Ok(Self { node, endpoint, tls: credential.tls()?, credential, limits })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The certificates it serves just now, leaf first, as DER; proof of a handshake that checked them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn served(&self) -> Result<Vec<Vec<u8>>, NoAnswer> {
        Ok(self.raw("GET", "/version", None)?.shown)
    }

    /// Whether it is ready to serve, as `/readyz` says.
    ///
    /// # Errors
    /// When it is not; the text names the checks that fail.
    pub fn ready(&self) -> Result<(), NoAnswer> {
        let answer = self.raw("GET", "/readyz?verbose", None)?;
        if answer.status == 200 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&answer.body);
        let failing: Vec<&str> = text.lines().filter(|line| line.starts_with("[-]")).collect();
        let message = if failing.is_empty() { tidy(&text) } else { tidy(&failing.join("\n")) };
        Err(NoAnswer::Status { status: answer.status, reason: String::new(), message })
    }

    /// Its version, as `v1.36.2`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn version(&self) -> Result<String, NoAnswer> {
        let version = self.get("/version")?;
        version["gitVersion"].as_str().map(str::to_owned).ok_or_else(|| NoAnswer::Malformed("no gitVersion".to_owned()))
    }

    /// Reads an object or a list. `path` is encoded already, with its query.
    ///
    /// # Errors
    /// When it is not given out.
    pub fn get(&self, path: &str) -> Result<Value, NoAnswer> {
        json(&self.raw("GET", path, None)?)
    }

    /// Creates an object in the list at `path`; returns it as stored.
    ///
    /// # Errors
    /// When it is not created; after [`Unanswered::Broken`] it may be.
    pub fn post(&self, path: &str, object: &Value) -> Result<Value, NoAnswer> {
        self.send("POST", path, "application/json", object)
    }

    /// Replaces the object at `path`; returns it as stored.
    ///
    /// # Errors
    /// When it is not replaced, as with status 409 when somebody else was faster.
    pub fn put(&self, path: &str, object: &Value) -> Result<Value, NoAnswer> {
        self.send("PUT", path, "application/json", object)
    }

    /// Changes the object at `path`; returns it as stored.
    ///
    /// # Errors
    /// When it is not changed.
    pub fn patch(&self, path: &str, kind: Patch, change: &Value) -> Result<Value, NoAnswer> {
        self.send("PATCH", path, kind.content_type(), change)
    }

    /// Deletes the object at `path`.
    ///
    /// # Errors
    /// When it is not deleted, because it is not there for example.
    pub fn delete(&self, path: &str) -> Result<Value, NoAnswer> {
        json(&self.raw("DELETE", path, None)?)
    }

    fn send(&self, method: &str, path: &str, kind: &str, object: &Value) -> Result<Value, NoAnswer> {
        let content = zeroize::Zeroizing::new(object.to_string());
        json(&self.raw(method, path, Some((kind, content.as_bytes())))?)
    }

    /// Sends any request; every status is an answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn raw(&self, method: &str, path: &str, content: Option<(&str, &[u8])>) -> Result<Response, NoAnswer> {
        self.raw_with(method, path, &[("Accept", "application/json")], content)
    }

    /// The same with header lines of one's own, `Accept` among them.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn raw_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content: Option<(&str, &[u8])>,
    ) -> Result<Response, NoAnswer> {
        let authorization = self.credential.authorization();
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_ref().map(|value| ("Authorization", value.as_str())));
        let request = Request { method, path, headers: &headers, content };
        Ok(ask(self.node, &self.endpoint, Some(&self.tls), &request, self.limits)?)
    }
}

/// The JSON of a success, the [`NoAnswer::Status`] of anything else.
pub(super) fn json(answer: &Response) -> Result<Value, NoAnswer> {
    read(answer)
}

/// The same, of which only what `T` has is kept: secrets in other fields are never copied.
pub(super) fn read<T: DeserializeOwned>(answer: &Response) -> Result<T, NoAnswer> {
    if !(200..300).contains(&answer.status) {
        return Err(refusal(answer));
    }
    serde_json::from_slice(&answer.body).map_err(|error| NoAnswer::Malformed(error.to_string()))
}

/// What a server says with a status that is no success: a Kubernetes `Status` object, or any text.
pub(super) fn refusal(answer: &Response) -> NoAnswer {
    let status = answer.status;
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(object) if object["kind"] == "Status" => NoAnswer::Status {
            status,
            reason: tidy(object["reason"].as_str().unwrap_or_default()),
            message: tidy(object["message"].as_str().unwrap_or_default()),
        },
        _ => NoAnswer::Status { status, reason: String::new(), message: tidy(&String::from_utf8_lossy(&answer.body)) },
    }
}

/// One component of a path, encoded (RFC 3986 section 2.1).
pub fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The error of a question that could not even be put.
pub(super) fn unusable(why: String) -> NoAnswer {
    NoAnswer::Unanswered(Unanswered::Broken(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_component_of_a_path() {
        assert_eq!(segment("system:node:cp1"), "system:node:cp1");
        assert_eq!(segment("a/../b?c=ü d"), "a%2F..%2Fb%3Fc%3D%C3%BC%20d");
    }

    #[test]
    fn a_refusal_is_one_line_whatever_the_server_says() {
        let answer = |status, body: &str| Response {
            status,
            headers: Vec::new(),
            body: zeroize::Zeroizing::new(body.as_bytes().to_vec()),
            shown: Vec::new(),
        };
        let object = r#"{"kind": "Status", "reason": "NotFound", "message": "leases \"x\" not found"}"#;
        let refused = json(&answer(404, object)).expect_err("no success");
        assert_eq!(refused.to_string(), "leases \"x\" not found (404 NotFound)");
        assert!(refused.is_not_found() && !refused.is_unauthenticated());
        let refused = json(&answer(500, "a\n\u{1b}[31mb\r\n\r\n")).expect_err("no success");
        assert_eq!(refused.to_string(), "a; [31mb (HTTP status 500)");
        assert_eq!(json(&answer(403, "")).expect_err("no success").to_string(), "HTTP status 403");
        assert!(matches!(json(&answer(200, "{")), Err(NoAnswer::Malformed(_))));
        assert!(json(&answer(502, &"x".repeat(9000))).expect_err("long").to_string().chars().count() < 500);
    }
}
