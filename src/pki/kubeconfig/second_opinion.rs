//! What another YAML parser reads in the same text.
//!
//! The tree comes from a parser that knows where everything stands, but kubectl's is a descendant of libyaml, and so
//! is this one. Text is only ever changed, and a change only ever accepted, where both read the same.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Problem;
use super::node::{Body, Node, Style};

/// Demands that libyaml finds in the first document of `text` what `root` says.
pub(super) fn agrees(text: &str, root: &Node) -> Result<(), Problem> {
    // A byte order mark is YAML's business, and kubectl's parser skips it; this one is only given the text behind it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(document) = serde_yaml::Deserializer::from_str(text).next() else {
        return if root.is_null() { Ok(()) } else { Err(Problem::whole("YAML parsers disagree about the kubeconfig")) };
    };
    Expected(root).deserialize(document).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        // The error's own text could quote a value.
        Problem { message: "YAML that parsers read in different ways".into(), line, column }
    })
}

struct Expected<'n>(&'n Node);

impl<'de> DeserializeSeed<'de> for Expected<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match &self.0.body {
            Body::Scalar(scalar) if scalar.is_tagged() => deserializer.deserialize_any(IgnoredAny).map(drop),
            Body::Scalar(_) => deserializer.deserialize_str(self),
            Body::List(_) => deserializer.deserialize_seq(self),
            Body::Map(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Expected<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the same value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match &self.0.body {
            Body::Scalar(scalar) if *scalar.text == text => Ok(()),
            // A block scalar on the last line of a text that has no line break at its end: libyaml adds none.
            Body::Scalar(scalar) if scalar.style == Style::Block && scalar.text.strip_suffix('\n') == Some(text) => {
                Ok(())
            }
            _ => Err(E::custom("another value")),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.0.is_null() { Ok(()) } else { Err(E::custom("null")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut found: A) -> Result<(), A::Error> {
        for item in self.0.items().unwrap_or_default() {
            found.next_element_seed(Expected(item))?.ok_or_else(|| A::Error::custom("a shorter list"))?;
        }
        match found.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("a longer list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut found: A) -> Result<(), A::Error> {
        for (key, value) in self.0.entries().unwrap_or_default() {
            found.next_key_seed(Expected(key))?.ok_or_else(|| A::Error::custom("fewer keys"))?;
            found.next_value_seed(Expected(value))?;
        }
        match found.next_key::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("more keys")),
        }
    }
}
