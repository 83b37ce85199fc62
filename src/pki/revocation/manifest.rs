//! `RenewRevocation` manifests as text: read strictly, with line and column of every fault, and written again.
//!
//! A misspelt field would revoke something else than was meant, so what is not known is refused. What a cluster adds to an
//! object (`uid`, `managedFields`, …) is passed over.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_saphyr::budget::BudgetBreach;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry::{self, DnsPattern};
use super::{API_VERSION, Entry, KIND, Kind, NAMESPACE, Revocation, flat};
use crate::pki::spec::{Place, SpecError, Text};

/// Larger manifests are refused (bytes).
const LARGEST: usize = 4 * 1024 * 1024;

/// More documents in one text are refused.
const MOST_DOCUMENTS: usize = 4096;

/// What is wrong with a manifest, and where.
pub type ManifestError = SpecError;

/// One document as written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: Text,
    kind: Text,
    metadata: Metadata,
    spec: Spec,
    #[serde(default, rename = "status")]
    _status: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: Text,
    namespace: Option<Text>,
    creation_timestamp: Option<Text>,
    #[serde(default, rename = "labels")]
    _labels: serde::de::IgnoredAny,
    #[serde(default, rename = "annotations")]
    _annotations: serde::de::IgnoredAny,
    #[serde(default, rename = "generation")]
    _generation: serde::de::IgnoredAny,
    #[serde(default, rename = "managedFields")]
    _managed_fields: serde::de::IgnoredAny,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: serde::de::IgnoredAny,
    #[serde(default, rename = "finalizers")]
    _finalizers: serde::de::IgnoredAny,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: serde::de::IgnoredAny,
    #[serde(default, rename = "selfLink")]
    _self_link: serde::de::IgnoredAny,
    #[serde(default, rename = "uid")]
    _uid: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    description: Option<Text>,
    revocations: Vec<serde_saphyr::Spanned<Item>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    kind: Text,
    description: Option<Text>,
    not_before: Option<Text>,
    serial_number: Option<Text>,
    group: Option<Text>,
    dns: Option<Text>,
    ip: Option<Text>,
}

/// Reads every document of a text; empty ones are passed over.
///
/// # Errors
/// At the first fault, with its place: no YAML, an unknown field, a value that is none, two documents of one name, entries
/// that overlap, no document at all.
pub fn read(text: &[u8]) -> Result<Vec<Revocation>, ManifestError> {
    if text.len() > LARGEST {
        return Err(ManifestError::at(None, format!("the manifest is longer than {} MiB", LARGEST / 1024 / 1024)));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = text[..error.valid_up_to()].split(|byte| *byte == b'\n').count() as u64;
        ManifestError::at(Some(Place { line, column: 1 }), "the manifest is not UTF-8")
    })?;
    let Some(flat) = flat::indented(text) else { return documents(text) };
    documents(&flat.text).map_err(|mut fault| {
        if let Some(place) = &mut fault.place {
            let line = usize::try_from(place.line).unwrap_or_default().saturating_sub(1);
            let moved = flat.moved.get(line).copied().unwrap_or_default();
            place.column = place.column.saturating_sub(moved).max(1);
        }
        fault
    })
}

fn documents(text: &str) -> Result<Vec<Revocation>, ManifestError> {
    // Anchors are of no use in so flat a document, and a few of them can be made to stand for gigabytes.
    let budget =
        serde_saphyr::budget! { max_documents: MOST_DOCUMENTS, max_anchors: 0, max_aliases: 0, max_merge_keys: 0 };
    let options = serde_saphyr::options! { budget: budget, with_snippet: false };
    let documents: Vec<Document> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| fault(&error))?;
    let mut names: HashMap<String, Option<Place>> = HashMap::new();
    let mut revocations = Vec::new();
    for document in documents {
        let at = document.metadata.name.place();
        let revocation = revocation(document)?;
        if let Some(first) = names.insert(revocation.name.clone(), at) {
            let first = first.map_or(String::new(), |place| format!(", first in {place}"));
            return Err(ManifestError::at(at, format!("two documents are called `{}`{first}", revocation.name)));
        }
        revocations.push(revocation);
    }
    if revocations.is_empty() {
        return Err(ManifestError::at(None, "there is no document in it")
            .hint(format!("it begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`")));
    }
    Ok(revocations)
}

fn revocation(document: Document) -> Result<Revocation, ManifestError> {
    expect(&document.api_version, API_VERSION, "apiVersion")?;
    expect(&document.kind, KIND, "kind")?;
    let Metadata { name, namespace, creation_timestamp, .. } = document.metadata;
    let namespace = namespace.unwrap_or_else(|| NAMESPACE.into());
    for (field, text) in [("name", &name), ("namespace", &namespace)] {
        if !Revocation::is_name(text) {
            return Err(ManifestError::at(text.place(), format!("metadata.{field} `{text}` is no name of an object"))
                .hint("lower-case letters, digits, `-` and `.`"));
        }
    }
    let created = creation_timestamp.map(|text| valid(&text, entry::not_before)).transpose()?;
    let places: Vec<Place> = document.spec.revocations.iter().map(place).collect();
    let items = document.spec.revocations.into_iter().map(|item| entry_of(place(&item), item.value));
    let revocation = Revocation {
        created,
        description: document.spec.description.map(|text| text.to_string()),
        entries: items.collect::<Result<_, _>>()?,
        namespace: namespace.to_string(),
        name: name.to_string(),
    };
    if revocation.entries.is_empty() {
        let message = format!("`{}` has no entry under spec.revocations", revocation.name);
        return Err(ManifestError::at(name.place(), message));
    }
    if let Some((at, other)) = revocation.overlap() {
        let (own, line) = (&revocation.entries[at], places.get(other).map_or(0, |place| place.line));
        let other = &revocation.entries[other];
        let message = format!("the entry {own} overlaps with {other} in line {line}");
        return Err(ManifestError::at(places.get(at).copied(), message).hint("leave one of them out"));
    }
    Ok(revocation)
}

fn entry_of(at: Place, item: Item) -> Result<Entry, ManifestError> {
    let word: String = item.kind.chars().filter(|letter| !"-_ ".contains(*letter)).collect();
    let values = [
        ("serialNumber", "serialnumber", item.serial_number),
        ("group", "group", item.group),
        ("dns", "dns", item.dns),
        ("ip", "ip", item.ip),
    ];
    let Some(own) = values.iter().position(|(_, kind, _)| word.eq_ignore_ascii_case(kind)) else {
        return Err(ManifestError::at(item.kind.place(), format!("there is no kind `{}`", item.kind))
            .hint("SerialNumber, Group, DNS or IP"));
    };
    let mut foreign = values.iter().enumerate().filter(|(place, _)| *place != own);
    if let Some((field, text)) = foreign.find_map(|(_, (field, _, text))| Some((field, text.as_ref()?))) {
        let message = format!("an entry of kind {} has no field `{field}`", item.kind);
        return Err(ManifestError::at(text.place(), message).hint("one entry for each"));
    }
    let (field, _, value) = &values[own];
    let Some(text) = value else {
        return Err(ManifestError::at(Some(at), format!("the entry of kind {} has no `{field}`", item.kind)));
    };
    let kind = match own {
        0 => Kind::Serial(valid(text, entry::serial)?),
        1 => Kind::Group(valid(text, entry::group)?),
        2 => Kind::Dns(valid(text, DnsPattern::parse)?),
        _ => Kind::Ip(valid(text, entry::ip)?),
    };
    let not_before = item.not_before.map(|text| valid(&text, entry::not_before)).transpose()?;
    Ok(Entry { kind, not_before, description: item.description.map(|text| text.to_string()) })
}

fn valid<T>(text: &Text, read: impl Fn(&str) -> Result<T, String>) -> Result<T, ManifestError> {
    read(text).map_err(|reason| ManifestError::at(text.place(), reason))
}

fn expect(found: &Text, wanted: &str, field: &str) -> Result<(), ManifestError> {
    if **found == *wanted {
        return Ok(());
    }
    Err(ManifestError::at(found.place(), format!("{field} is `{found}`, expected `{wanted}`")))
}

fn place<T>(spanned: &serde_saphyr::Spanned<T>) -> Place {
    Place { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

fn fault(error: &serde_saphyr::Error) -> ManifestError {
    let location = error.location().filter(|location| location.line() > 0);
    let place = location.map(|location| Place { line: location.line(), column: location.column() });
    let message = match error.without_snippet() {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => {
            "anchors and aliases are not for manifests; write the value out".to_owned()
        }
        other => {
            let formatter = serde_saphyr::DefaultMessageFormatter;
            serde_saphyr::MessageFormatter::format_message(&formatter, other).into_owned()
        }
    };
    ManifestError::at(place, message)
}

/// One document as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: WrittenMetadata<'a>,
    spec: WrittenSpec<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_timestamp: Option<String>,
}

#[derive(Debug, Serialize)]
struct WrittenSpec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    revocations: Vec<WrittenItem<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenItem<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

impl<'a> Written<'a> {
    fn of(revocation: &'a Revocation) -> Self {
        let moment = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        let item = |entry: &'a Entry| {
            let is = |kind: &str| (entry.kind.name() == kind).then(|| entry.kind.value());
            WrittenItem {
                kind: entry.kind.name(),
                serial_number: is("SerialNumber"),
                group: is("Group"),
                dns: is("DNS"),
                ip: is("IP"),
                not_before: entry.not_before.map(moment),
                description: entry.description.as_deref(),
            }
        };
        Self {
            api_version: API_VERSION,
            kind: KIND,
            metadata: WrittenMetadata {
                name: &revocation.name,
                namespace: &revocation.namespace,
                creation_timestamp: revocation.created.map(moment),
            },
            spec: WrittenSpec {
                description: revocation.description.as_deref(),
                revocations: revocation.entries.iter().map(item).collect(),
            },
        }
    }
}

/// The objects as one YAML text, which [`read`] reads again, and kubectl too; empty for none.
///
/// # Errors
/// When the library cannot write a value, which is a defect.
pub fn write(revocations: &[Revocation]) -> Result<String, String> {
    let options = || serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = String::new();
    for revocation in revocations {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let document = serde_saphyr::to_string_with_options(&Written::of(revocation), options());
        text.push_str(&document.map_err(|error| error.to_string())?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// One object as a JSON value, for results and for the cluster.
///
/// # Errors
/// When the library cannot write a value, which is a defect.
pub fn value(revocation: &Revocation) -> Result<serde_json::Value, String> {
    serde_json::to_value(Written::of(revocation)).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
