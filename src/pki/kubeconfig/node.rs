//! The values of a kubeconfig as a tree: what each says to kubectl, and where its text stands.
//!
//! Nodes made here for a change that is still to come have no place.

use std::ops::Range;

use zeroize::Zeroizing;

use super::Problem;
use super::scalar::{self, Meaning};

/// One node and the place of its text.
#[derive(Clone)]
pub(in crate::pki) struct Node {
    pub(in crate::pki) body: Body,
    /// Bytes of the text from the first to past the last character; of a block scalar only its content.
    pub(in crate::pki) span: Range<usize>,
    pub(super) line: usize,
    pub(in crate::pki) column: usize,
    /// Written with braces, brackets or inside such.
    pub(in crate::pki) flow: bool,
}

#[derive(Clone)]
pub(in crate::pki) enum Body {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// A single value as written.
#[derive(Clone)]
pub(in crate::pki) struct Scalar {
    pub(super) text: Zeroizing<String>,
    pub(super) style: Style,
    /// The tag in full, as `tag:yaml.org,2002:str`.
    pub(super) tag: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::pki) enum Style {
    Plain,
    Quoted,
    Block,
}

impl Scalar {
    pub(super) fn is_tagged(&self) -> bool {
        self.meaning() == Meaning::Tagged
    }

    pub(super) fn meaning(&self) -> Meaning {
        match (self.tag.as_deref(), self.style) {
            (Some("tag:yaml.org,2002:str" | "!"), _) | (None, Style::Quoted | Style::Block) => Meaning::Text,
            (Some(_), _) => Meaning::Tagged,
            (None, Style::Plain) => scalar::meaning(&self.text),
        }
    }
}

impl Node {
    fn made(body: Body) -> Self {
        Self { body, span: 0..0, line: 0, column: 0, flow: false }
    }

    /// A string that is not in any text yet.
    pub(super) fn string(text: impl Into<String>) -> Self {
        Self::made(Body::Scalar(Scalar { text: Zeroizing::new(text.into()), style: Style::Quoted, tag: None }))
    }

    /// A number, truth value or null that is not in any text yet.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::made(Body::Scalar(Scalar { text: Zeroizing::new(text.into()), style: Style::Plain, tag: None }))
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::made(Body::List(items))
    }

    pub(super) fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::made(Body::Map(entries.into_iter().map(|(key, value)| (Self::string(key), value)).collect()))
    }

    /// The text when it is a string to kubectl, else nothing.
    pub(in crate::pki) fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Scalar(scalar) if scalar.meaning() == Meaning::Text => Some(&scalar.text),
            _ => None,
        }
    }

    pub(in crate::pki) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    pub(in crate::pki) fn entries(&self) -> Option<&[(Self, Self)]> {
        match &self.body {
            Body::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(in crate::pki) fn items(&self) -> Option<&[Self]> {
        match &self.body {
            Body::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of `key`; of repeated keys the last, as kubectl takes it.
    pub(in crate::pki) fn get(&self, key: &str) -> Option<&Self> {
        self.pair(key).map(|(_, value)| value)
    }

    /// Key and value of `key`.
    pub(in crate::pki) fn pair(&self, key: &str) -> Option<&(Self, Self)> {
        self.entries()?.iter().rev().find(|(found, _)| found.text() == Some(key))
    }

    /// Puts `value` at `key`, at the end when the key is new. Does nothing to anything but a mapping.
    pub(super) fn set(&mut self, key: &str, value: Self) {
        match self.get_mut(key) {
            Some(old) => *old = value,
            None => {
                if let Body::Map(entries) = &mut self.body {
                    entries.push((Self::string(key), value));
                }
            }
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Body::Map(entries) = &mut self.body else { return None };
        entries.iter_mut().rev().find(|(found, _)| found.text() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Body::Map(entries) = &mut self.body {
            entries.retain(|(found, _)| found.text() != Some(key));
        }
    }

    /// The problem `message` at this place.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { message: message.into(), line: self.line, column: self.column }
    }

    /// Whether both say the same to kubectl, with the keys in any order.
    pub(super) fn equivalent(&self, other: &Self) -> bool {
        match (&self.body, &other.body) {
            (Body::Map(one), Body::Map(two)) => {
                one.len() == two.len()
                    && one
                        .iter()
                        .all(|(key, value)| two.iter().any(|(found, other)| key.same(found) && value.equivalent(other)))
            }
            (Body::List(one), Body::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.equivalent(two))
            }
            _ => self.same(other),
        }
    }

    /// Whether both say the same to kubectl, wherever and however they are written.
    pub(in crate::pki) fn same(&self, other: &Self) -> bool {
        match (&self.body, &other.body) {
            (Body::Scalar(one), Body::Scalar(two)) => {
                let meaning = one.meaning();
                meaning == two.meaning()
                    && (matches!(meaning, Meaning::Null | Meaning::Truth(_)) || one.text == two.text)
            }
            (Body::List(one), Body::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.same(two))
            }
            (Body::Map(one), Body::Map(two)) => {
                let same = |(one, two): (&(Self, Self), &(Self, Self))| one.0.same(&two.0) && one.1.same(&two.1);
                one.len() == two.len() && one.iter().zip(two).all(same)
            }
            _ => false,
        }
    }
}
