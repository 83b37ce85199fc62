//! CertificateSigningRequests: the cluster's own way to a certificate signed by its CA, without anybody's touching the
//! CA's key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::NoAnswer;
use super::api_server::{ApiServer, segment};
use super::cluster::texts;

const LIST: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A request as it is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Name of the object.
    pub name: &'a str,
    /// PKCS#10 request (PEM).
    pub request: &'a str,
    /// As `kubernetes.io/kube-apiserver-client`.
    pub signer: &'a str,
    /// As `client auth`, `digital signature`.
    pub usages: &'a [&'a str],
    /// How long the certificate shall live (seconds, 600 at least); the signer decides.
    pub lifetime: Option<u32>,
}

/// A request as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// Name of the object.
    pub name: String,
    /// Who asked: the API server's word, not the request's.
    pub user: String,
    /// That user's groups.
    pub groups: Vec<String>,
    /// Who is to sign.
    pub signer: String,
    /// Usages asked for.
    pub usages: Vec<String>,
    /// PKCS#10 request (PEM, or whatever was sent).
    pub request: Vec<u8>,
    /// When it was made.
    pub created_at: Option<OffsetDateTime>,
    /// What has become of it.
    pub state: State,
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided.
    Pending,
    /// Approved, and the signer has not signed yet.
    Approved,
    /// Signed: the certificate with its chain (PEM).
    Issued(Vec<u8>),
    /// Denied, with the reason.
    Denied(String),
    /// The signer could not sign, with the reason.
    Failed(String),
}

impl ApiServer<'_> {
    /// Makes a request.
    ///
    /// # Errors
    /// When it is not made; status 409 when the name is taken.
    pub fn request_certificate(&self, wanted: &Wanted<'_>) -> Result<SigningRequest, NoAnswer> {
        let mut spec = json!({
            "request": STANDARD.encode(wanted.request), "signerName": wanted.signer, "usages": wanted.usages,
        });
        if let Some(lifetime) = wanted.lifetime {
            spec["expirationSeconds"] = lifetime.into();
        }
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": wanted.name}, "spec": spec,
        });
        read(&self.post(LIST, &object)?)
    }

    /// One request, as it stands now.
    ///
    /// # Errors
    /// When there is no such, or no answer.
    pub fn signing_request(&self, name: &str) -> Result<SigningRequest, NoAnswer> {
        read(&self.get(&format!("{LIST}/{}", segment(name)))?)
    }

    /// Every request there is. What is not understood is left out.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn signing_requests(&self) -> Result<Vec<SigningRequest>, NoAnswer> {
        let list = self.get(LIST)?;
        Ok(list["items"].as_array().into_iter().flatten().filter_map(|object| read(object).ok()).collect())
    }

    /// Approves a request that nobody has decided. `reason` is one word, `message` a sentence.
    ///
    /// # Errors
    /// When it is not approved, as with status 409 when it changed meanwhile.
    pub fn approve(&self, name: &str, reason: &str, message: &str) -> Result<SigningRequest, NoAnswer> {
        let mut object = self.get(&format!("{LIST}/{}", segment(name)))?;
        let condition = json!({"type": "Approved", "status": "True", "reason": reason, "message": message});
        add_condition(&mut object, condition)?;
        read(&self.put(&format!("{LIST}/{}/approval", segment(name)), &object)?)
    }

    /// Deletes a request; none there is fine.
    ///
    /// # Errors
    /// When it is not deleted.
    pub fn delete_signing_request(&self, name: &str) -> Result<(), NoAnswer> {
        self.delete_if_there(&format!("{LIST}/{}", segment(name))).map(drop)
    }
}

fn add_condition(object: &mut Value, condition: Value) -> Result<(), NoAnswer> {
    let wrong = |what: &str| NoAnswer::Malformed(format!("{what} is no object"));
    let fields = object.as_object_mut().ok_or_else(|| wrong("the request"))?;
    let status = fields.entry("status").or_insert(Value::Null);
    if status.is_null() {
        *status = json!({});
    }
    let status = status.as_object_mut().ok_or_else(|| wrong("its status"))?;
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => conditions.push(condition),
        None => drop(status.insert("conditions".to_owned(), json!([condition]))),
    }
    Ok(())
}

pub(super) fn read(object: &Value) -> Result<SigningRequest, NoAnswer> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let encoded = |value: &Value, what: &str| {
        STANDARD
            .decode(value.as_str().unwrap_or_default())
            .map_err(|_| NoAnswer::Malformed(format!("{what} is not base64")))
    };
    let condition = |kind: &str| {
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind)?;
        Some(super::tidy(&format!("{}: {}", word(&found["reason"]), word(&found["message"]))))
    };
    let certificate = encoded(&object["status"]["certificate"], "the certificate")?;
    let state = match (condition("Denied"), condition("Failed"), condition("Approved")) {
        (Some(reason), _, _) => State::Denied(reason),
        (_, Some(reason), _) => State::Failed(reason),
        (_, _, Some(_)) if certificate.is_empty() => State::Approved,
        (_, _, Some(_)) => State::Issued(certificate),
        _ => State::Pending,
    };
    Ok(SigningRequest {
        name: word(&metadata["name"]),
        user: word(&spec["username"]),
        groups: texts(&spec["groups"]),
        signer: word(&spec["signerName"]),
        usages: texts(&spec["usages"]),
        request: encoded(&spec["request"], "the request")?,
        created_at: metadata["creationTimestamp"].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()),
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_added_to_any_request_and_to_nothing_else() {
        let added = |mut object: Value| add_condition(&mut object, json!("new")).map(|()| object);
        for (object, expected) in [
            (json!({}), json!({"status": {"conditions": ["new"]}})),
            (json!({"status": null}), json!({"status": {"conditions": ["new"]}})),
            (json!({"status": {"conditions": null}}), json!({"status": {"conditions": ["new"]}})),
            (
                json!({"status": {"conditions": ["old"]}, "a": 1}),
                json!({"status": {"conditions": ["old", "new"]}, "a": 1}),
            ),
        ] {
            assert_eq!(added(object).expect("a request"), expected);
        }
        for odd in [json!([]), json!("x"), json!(null), json!({"status": "x"}), json!({"status": [1]})] {
            assert!(matches!(added(odd), Err(NoAnswer::Malformed(_))));
        }
    }

    #[test]
    fn the_state_is_that_of_the_conditions() {
        let with = |conditions: &[&str], certificate: &str| {
            let conditions: Vec<Value> = conditions.iter().map(|kind| json!({"type": kind, "reason": "R"})).collect();
            let object =
                json!({"spec": {"request": "aGk="}, "status": {"conditions": conditions, "certificate": certificate}});
            read(&object).expect("a request").state
        };
        assert_eq!(with(&[], ""), State::Pending);
        assert_eq!(with(&["Approved"], ""), State::Approved);
        assert_eq!(with(&["Approved"], "aGk="), State::Issued(b"hi".to_vec()));
        assert!(matches!(with(&["Approved", "Failed"], ""), State::Failed(reason) if reason.starts_with('R')));
        assert!(matches!(with(&["Denied"], "aGk="), State::Denied(_)));
        assert!(read(&json!({"spec": {"request": "!"}})).is_err());
    }
}
