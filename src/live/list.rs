//! Lists of objects, page by page, of which only the fields that are wanted are kept.
//!
//! Objects may hold secrets and may be large, so what is not wanted is skipped while reading instead of being stored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::NoAnswer;
use super::api_server::{ApiServer, read, segment};

/// Objects asked for at once, where each is small.
pub(super) const PAGE: usize = 500;

/// Objects asked for at once, where each may be as large as etcd allows (1.5 MiB).
pub(super) const SMALL_PAGE: usize = 50;

/// A list that changed so much meanwhile that its rest cannot be had is begun anew that often.
const ATTEMPTS: usize = 3;

/// A list with more objects than this is none (one that never ends).
const MOST_OBJECTS: usize = 2_000_000;

/// An answer that holds nothing of the objects but their metadata.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    rest: Option<String>,
}

/// What most lists are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    #[serde(rename = "creationTimestamp")]
    pub(super) created_at: Option<String>,
    #[serde(rename = "deletionTimestamp")]
    pub(super) deleted_at: Option<String>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// An object of which only that is wanted.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    pub(super) metadata: Metadata,
}

impl ApiServer<'_> {
    /// Every object of the list at `path`, which may have a query, `page` at a time.
    ///
    /// # Errors
    /// When the server does not say, or with something that is no such list.
    pub(super) fn list<T: DeserializeOwned>(&self, path: &str, page: usize) -> Result<Vec<T>, NoAnswer> {
        let mut attempt = 1;
        loop {
            match self.whole_list(path, page) {
                // The place to go on from is gone (410): too much has changed, or it took too long.
                Err(error) if error.status() == Some(410) && attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    fn whole_list<T: DeserializeOwned>(&self, path: &str, page: usize) -> Result<Vec<T>, NoAnswer> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{joint}limit={page}");
        let (mut objects, mut next) = (Vec::new(), first.clone());
        loop {
            let answer: Page<T> = read(&self.raw("GET", &next, None)?)?;
            objects.extend(answer.items.into_iter().flatten());
            match answer.metadata.rest.filter(|rest| !rest.is_empty()) {
                Some(_) if objects.len() >= MOST_OBJECTS => {
                    return Err(NoAnswer::Malformed("a list that does not end".to_owned()));
                }
                Some(rest) => next = format!("{first}&continue={}", segment(&rest)),
                None => return Ok(objects),
            }
        }
    }

    /// Whether there is an object at `path`; nothing of its content is sent.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn exists(&self, path: &str) -> Result<bool, NoAnswer> {
        match read::<Value>(&self.raw_with("GET", path, &[("Accept", METADATA_ONLY)], None)?) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object at `path`, and says whether there was one.
    ///
    /// # Errors
    /// When it is not deleted.
    pub fn delete_if_there(&self, path: &str) -> Result<bool, NoAnswer> {
        match self.delete(path) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_what_is_wanted_and_an_empty_list_may_be_null() {
        let text = r#"{"metadata": {"continue": "x", "remainingItemCount": 3}, "items": [
            {"metadata": {"name": "a", "labels": {"b": "c"}}, "data": {"token": "s3cret"}}]}"#;
        let page: Page<Named> = serde_json::from_str(text).expect("a page");
        assert_eq!(page.metadata.rest.as_deref(), Some("x"));
        let items = page.items.expect("items");
        assert_eq!(items.len(), 1);
        assert_eq!((items[0].metadata.name.as_str(), items[0].metadata.namespace.as_str()), ("a", ""));
        let page: Page<Named> = serde_json::from_str(r#"{"items": null}"#).expect("a page");
        assert!(page.items.is_none() && page.metadata.rest.is_none());
    }
}
