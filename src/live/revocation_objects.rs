//! RenewRevocation objects in a cluster, and the definition of their kind.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::NoAnswer;
use super::api_server::{ApiServer, Patch, segment};
use super::wait::until;
use crate::node::interrupt::Interrupt;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP: &str = "/apis/certificates.microsoft.com/v1";
const VERSION: &str = "v1";
const PLURAL: &str = "renewrevocations";

/// How long an API server may take to serve a new kind.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was not there.
    Created,
    /// It was there and says the same or something else now.
    Updated,
}

impl ApiServer<'_> {
    /// Defines the kind where the cluster has no such, and waits until it is served. A definition that is there stays as it
    /// is: it may be somebody else's.
    ///
    /// # Errors
    /// When it is not defined, or not served in time.
    pub fn define_revocations(&self, definition: &Value) -> Result<(), NoAnswer> {
        match self.post(DEFINITIONS, definition) {
            Ok(_) => {}
            Err(error) if error.status() == Some(409) => self.refuse_other_definition(definition)?,
            Err(error) => return Err(error),
        }
        let served =
            until(Instant::now() + PATIENCE, &Interrupt::default(), || self.get(&format!("{GROUP}/{PLURAL}?limit=1")));
        served.map(drop).map_err(|error| match error {
            super::wait::Stopped::Late(error) => error,
            super::wait::Stopped::Interrupted => NoAnswer::Malformed("interrupted".to_owned()),
        })
    }

    /// Refuses a definition that is there and knows no such version: waiting would not help.
    fn refuse_other_definition(&self, definition: &Value) -> Result<(), NoAnswer> {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        let there = self.get(&format!("{DEFINITIONS}/{}", segment(name)))?;
        let versions = there["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        if versions.iter().any(|version| version["name"] == VERSION && version["served"] == true) {
            return Ok(());
        }
        Err(NoAnswer::Malformed(format!("the definition {name} in the cluster serves no version {VERSION}")))
    }

    /// Creates an object, or makes the one of its name say what it says; other metadata of that stays.
    ///
    /// # Errors
    /// When it is not stored.
    pub fn store_revocation(&self, object: &Value) -> Result<Stored, NoAnswer> {
        let word = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let list = objects(word("namespace"));
        match self.post(&list, object) {
            Ok(_) => Ok(Stored::Created),
            Err(error) if error.status() == Some(409) => {
                // A merge patch would keep fields of the old spec.
                let there = self.get(&format!("{list}/{}", segment(word("name"))))?;
                let op = if there.get("spec").is_some() { "replace" } else { "add" };
                let change = json!([{"op": op, "path": "/spec", "value": object["spec"]}]);
                self.patch(&format!("{list}/{}", segment(word("name"))), Patch::Json, &change)?;
                Ok(Stored::Updated)
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes an object; false when there is none.
    ///
    /// # Errors
    /// When it is not deleted.
    pub fn delete_revocation(&self, namespace: &str, name: &str) -> Result<bool, NoAnswer> {
        match self.delete(&format!("{}/{}", objects(namespace), segment(name))) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn objects(namespace: &str) -> String {
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    format!("{GROUP}/namespaces/{}/{PLURAL}", segment(namespace))
}
