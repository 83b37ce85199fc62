//! What the fields of a cluster file may say beyond their type.
//!
//! Each check runs inside a visitor, because only there does the parser know line and column.

use std::path::PathBuf;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use super::{ClusterNode, ProfileChoice};
use crate::pki::profile::Profile;

/// A string that a check accepts.
struct Checked<F>(F);

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Checked<F> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

fn exactly(expected: &str, found: &str) -> Result<String, String> {
    if found == expected { Ok(found.to_owned()) } else { Err(format!("{found:?} should be {expected}")) }
}

pub(super) fn api_version<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    input.deserialize_str(Checked(|text: &str| exactly("kubepki.io/v1", text)))
}

pub(super) fn kind<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    input.deserialize_str(Checked(|text: &str| exactly("Cluster", text)))
}

pub(super) fn filled<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let check = |text: &str| if text.trim().is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) };
    input.deserialize_str(Checked(check))
}

pub(super) fn absolute<'de, D: Deserializer<'de>>(input: D) -> Result<PathBuf, D::Error> {
    let check = |text: &str| match PathBuf::from(text) {
        path if path.is_absolute() => Ok(path),
        _ => Err(format!("{text:?} is not an absolute path")),
    };
    input.deserialize_str(Checked(check))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn profile_name<S: Serializer>(profile: &Profile, output: S) -> Result<S::Ok, S::Error> {
    output.serialize_str(profile.name())
}

impl<'de> Deserialize<'de> for ProfileChoice {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(NameOrFields)
    }
}

/// The name of a built-in profile, or the fields of a spec.
struct NameOrFields;

impl<'de> Visitor<'de> for NameOrFields {
    type Value = ProfileChoice;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a profile, or the fields of a certificate spec")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ProfileChoice, E> {
        name.parse().map(ProfileChoice::Named).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<ProfileChoice, A::Error> {
        Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(fields)).map(ProfileChoice::Inline)
    }
}

pub(super) fn distinct_nodes<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<ClusterNode>, D::Error> {
    input.deserialize_seq(DistinctNodes)
}

/// At least one node, and no two of the same name.
struct DistinctNodes;

impl<'de> Visitor<'de> for DistinctNodes {
    type Value = Vec<ClusterNode>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut nodes: Vec<ClusterNode> = Vec::new();
        while let Some(node) = elements.next_element_seed(NewNode(&nodes))? {
            nodes.push(node);
        }
        if nodes.is_empty() { Err(A::Error::custom("a cluster has at least one node")) } else { Ok(nodes) }
    }
}

/// A node whose name none of those before it has.
struct NewNode<'a>(&'a [ClusterNode]);

impl<'de> DeserializeSeed<'de> for NewNode<'_> {
    type Value = ClusterNode;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<ClusterNode, D::Error> {
        let node = ClusterNode::deserialize(input)?;
        if self.0.iter().any(|other| other.name == node.name) {
            return Err(D::Error::custom(format!("two nodes are called {:?}", node.name)));
        }
        Ok(node)
    }
}
