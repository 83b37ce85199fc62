//! Nodes to text: block style in kubeadm's form, or flow style, which is JSON.

use zeroize::Zeroizing;

use super::node::{Body, Node, Scalar};
use super::scalar::{self, Meaning};

/// Text under construction. It may hold keys, so it is wiped; sized generously up front, because a string that grows
/// leaves copies behind.
pub(super) type Text = Zeroizing<String>;

/// How lines end and where they begin.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) newline: &'a str,
    /// Spaces before each line but the first.
    pub(super) indent: usize,
}

impl Lines<'_> {
    fn deeper(self, by: usize) -> Self {
        Self { indent: self.indent + by, ..self }
    }

    pub(super) fn next(self, out: &mut Text) {
        out.push_str(self.newline);
        out.extend(std::iter::repeat_n(' ', self.indent));
    }
}

/// An upper bound for the text of `node`, good enough to reserve (bytes).
pub(super) fn size(node: &Node) -> usize {
    match &node.body {
        Body::Scalar(scalar) => scalar.text.len() + 16,
        Body::List(items) => items.iter().map(|item| size(item) + 32).sum::<usize>() + 16,
        Body::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value) + 32).sum::<usize>() + 16,
    }
}

/// Appends `node` in block style. The first line starts where `out` ends; there is no line break at the end.
pub(super) fn block(node: &Node, lines: Lines<'_>, out: &mut Text) {
    match &node.body {
        Body::Scalar(value) => out.push_str(&block_scalar(value)),
        Body::List(items) if items.is_empty() => out.push_str("[]"),
        Body::Map(entries) if entries.is_empty() => out.push_str("{}"),
        Body::List(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    lines.next(out);
                }
                out.push_str("- ");
                block(item, lines.deeper(2), out);
            }
        }
        Body::Map(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    lines.next(out);
                }
                // Keys that are no scalars cannot be said in JSON, so no kubeconfig that kubectl reads has them.
                if let Body::Scalar(key) = &key.body {
                    out.push_str(&block_scalar(key));
                }
                out.push(':');
                match &value.body {
                    Body::List(items) if !items.is_empty() => {
                        lines.next(out);
                        block(value, lines, out);
                    }
                    Body::Map(entries) if !entries.is_empty() => {
                        let lines = lines.deeper(2);
                        lines.next(out);
                        block(value, lines, out);
                    }
                    _ => {
                        out.push(' ');
                        block(value, lines, out);
                    }
                }
            }
        }
    }
}

fn block_scalar(scalar: &Scalar) -> Zeroizing<String> {
    Zeroizing::new(match scalar.meaning() {
        Meaning::Text => scalar::written(&scalar.text).into_owned(),
        Meaning::Null => "null".into(),
        _ => scalar.text.to_string(),
    })
}

/// Appends `node` as JSON. With `lines` it is laid out over several lines, two spaces deeper each level.
pub(super) fn flow(node: &Node, lines: Option<Lines<'_>>, out: &mut Text) {
    let deeper = lines.map(|lines| lines.deeper(2));
    let step = |to: Option<Lines<'_>>, first: bool, out: &mut Text| {
        if !first {
            out.push_str(if to.is_some() { "," } else { ", " });
        }
        if let Some(lines) = to {
            lines.next(out);
        }
    };
    match &node.body {
        Body::Scalar(scalar) => match scalar.meaning() {
            Meaning::Text => out.push_str(&Zeroizing::new(scalar::json(&scalar.text))),
            Meaning::Null => out.push_str("null"),
            Meaning::Truth(true) => out.push_str("true"),
            Meaning::Truth(false) => out.push_str("false"),
            Meaning::Number | Meaning::Tagged => out.push_str(&scalar.text),
        },
        Body::List(items) if items.is_empty() => out.push_str("[]"),
        Body::Map(entries) if entries.is_empty() => out.push_str("{}"),
        Body::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                step(deeper, index == 0, out);
                flow(item, deeper, out);
            }
            if let Some(lines) = lines {
                lines.next(out);
            }
            out.push(']');
        }
        Body::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                step(deeper, index == 0, out);
                flow(key, None, out);
                out.push_str(": ");
                flow(value, deeper, out);
            }
            if let Some(lines) = lines {
                lines.next(out);
            }
            out.push('}');
        }
    }
}
