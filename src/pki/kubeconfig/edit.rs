//! Changes to a kubeconfig's text, each with the value it must lead to.
//!
//! Every change is made twice: in the text, as a splice that leaves all other bytes alone, and in the tree of values.
//! [`Edit::finish`] reads the new text with two YAML parsers and demands that both find exactly the expected tree. So
//! a layout nobody thought of ends in an error and never in a damaged file.

use std::ops::Range;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::Problem;
use super::emit::{self, Lines, Text};
use super::node::{Body, Node, Style};
use super::scalar;
use super::second_opinion;
use super::tree::{self, Document};

/// One step from a node to a node below it.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

struct Splice {
    range: Range<usize>,
    with: Text,
    /// Of two insertions at one place, the one that belongs deeper into the document comes first.
    at_top: bool,
}

/// A document with changes not yet made.
pub(super) struct Edit<'t> {
    text: &'t str,
    newline: &'static str,
    root: Rc<Node>,
    expected: Node,
    splices: Vec<Splice>,
}

impl<'t> Edit<'t> {
    /// Begins changing `document`, which must have a mapping at its top.
    pub(super) fn new(document: Document<'t>) -> Result<Self, Problem> {
        let Some(root) = document.root else { return Err(Problem::whole("the kubeconfig is empty")) };
        second_opinion::agrees(document.text, &root)?;
        Ok(Self {
            text: document.text,
            newline: newline(document.text),
            expected: root.clone(),
            root: Rc::new(root),
            splices: Vec::new(),
        })
    }

    /// The document before all changes.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// Makes the node at `path` say what `wanted` says, keeping as much of its text as possible.
    pub(super) fn update(&mut self, path: &[Step<'_>], wanted: &Node) -> Result<(), Problem> {
        let old =
            follow(&self.root, path).ok_or_else(|| Problem::whole("an entry to be changed is not there"))?.clone();
        if old.same(wanted) {
            return Ok(());
        }
        if let (Body::Map(olds), Body::Map(news)) = (&old.body, &wanted.body)
            && olds.iter().all(|(key, value)| {
                let mut same = news.iter().filter(|(new, _)| new.same(key));
                same.any(|(_, new)| key.text().is_some() || new.same(value))
            })
        {
            let mut added = Vec::new();
            for (key, value) in news {
                let Some(key) = key.text() else { continue };
                let inner: Vec<Step<'_>> = path.iter().copied().chain([Step::Key(key)]).collect();
                match old.get(key) {
                    Some(_) => self.update(&inner, value)?,
                    None => added.push((key, value.clone())),
                }
            }
            if !added.is_empty() {
                self.insert(path, &old, &added)?;
            }
            return Ok(());
        }
        self.overwrite(path, &old, wanted)
    }

    /// Adds `item` at the end of the list `key` at the top, which is made when it is absent, null or empty.
    pub(super) fn append(&mut self, key: &str, item: &Node) -> Result<(), Problem> {
        let root = Rc::clone(&self.root);
        match self.expected.get_mut(key).map(|list| &mut list.body) {
            Some(Body::List(items)) => items.push(item.clone()),
            _ => self.expected.set(key, Node::list(vec![item.clone()])),
        }
        let alone = Node::list(vec![item.clone()]);
        match root.pair(key) {
            None => self.add_at_top(&root, key, &alone),
            Some((_, list)) if list.items().is_some_and(|items| !items.is_empty()) => {
                self.append_item(&root, key, item)
            }
            Some((_, list)) if list.flow && list.items().is_some() && (root.flow || self.has_words(list)) => {
                let mut text = Text::default();
                emit::flow(item, None, &mut text);
                self.splice(list.span.end - 1..list.span.end - 1, text);
                Ok(())
            }
            Some((_, value)) if root.flow => {
                let mut text = Text::default();
                emit::flow(&alone, None, &mut text);
                self.put_value(&root, key, value, text)
            }
            Some((at, value)) => {
                let colon = self.colon(at)?;
                self.splice(value.span.clone(), Text::default());
                let lines = Lines { newline: self.newline, indent: at.column - 1 };
                self.add_lines(value.span.end.max(colon), lines, &alone, false);
                Ok(())
            }
        }
    }

    /// Sets the string `key` at the top.
    pub(super) fn set_top(&mut self, key: &str, value: &Node) -> Result<(), Problem> {
        let root = Rc::clone(&self.root);
        if root.get(key).is_some() {
            return self.update(&[Step::Key(key)], value);
        }
        self.expected.set(key, value.clone());
        self.add_at_top(&root, key, value)
    }

    /// The new text, after both parsers found the expected values in it.
    pub(super) fn finish(mut self) -> Result<Zeroizing<Vec<u8>>, Problem> {
        self.splices.sort_by_key(|splice| (splice.range.start, splice.range.end, splice.at_top));
        let grown: usize = self.splices.iter().map(|splice| splice.with.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(self.text.len() + grown));
        let mut at = 0;
        for splice in &self.splices {
            let kept = self.text.as_bytes().get(at..splice.range.start).ok_or_else(unusual)?;
            out.extend_from_slice(kept);
            out.extend_from_slice(splice.with.as_bytes());
            at = splice.range.end;
        }
        out.extend_from_slice(&self.text.as_bytes()[at..]);
        verify(&out, &self.expected)?;
        Ok(out)
    }

    fn splice(&mut self, range: Range<usize>, with: Text) {
        if !(range.is_empty() && with.is_empty()) {
            self.splices.push(Splice { range, with, at_top: false });
        }
    }

    /// Whether anything but space stands between the brackets of an empty collection.
    fn has_words(&self, node: &Node) -> bool {
        let inside = self.text.get(node.span.start + 1..node.span.end.saturating_sub(1)).unwrap_or_default();
        !inside.trim().is_empty()
    }

    /// Past the colon after `key`.
    fn colon(&self, key: &Node) -> Result<usize, Problem> {
        tree::colon(self.text, key.span.end).ok_or_else(|| key.problem(UNUSUAL))
    }

    /// Replaces the whole text of a value.
    fn overwrite(&mut self, path: &[Step<'_>], old: &Node, wanted: &Node) -> Result<(), Problem> {
        let mut text = Text::default();
        match (&old.body, &wanted.body) {
            (Body::Scalar(was), Body::Scalar(new)) if new.style == Style::Quoted => {
                text.push_str(&in_the_style_of(self.text, old, was.style, &new.text));
            }
            (Body::Map(_) | Body::List(_), _) if !old.flow => {
                emit::block(wanted, Lines { newline: self.newline, indent: old.column - 1 }, &mut text);
            }
            _ => emit::flow(wanted, None, &mut text),
        }
        if let Some(place) = follow_mut(&mut self.expected, path) {
            *place = wanted.clone();
        }
        match path {
            [parents @ .., Step::Key(key)] => {
                let parent = follow(&self.root, parents).ok_or_else(unusual)?.clone();
                self.put_value(&parent, key, old, text)
            }
            _ => {
                self.splice(self.visible(old), text);
                Ok(())
            }
        }
    }

    /// Puts `text` in the place of the value of `key`.
    fn put_value(&mut self, parent: &Node, key: &str, old: &Node, mut text: Text) -> Result<(), Problem> {
        if old.span.is_empty() {
            let (at, _) = parent.pair(key).ok_or_else(unusual)?;
            let colon = self.colon(at)?;
            text.insert(0, ' ');
            self.splice(colon..colon, text);
            return Ok(());
        }
        let mut range = self.visible(old);
        if matches!(&old.body, Body::Scalar(scalar) if scalar.style == Style::Block) {
            // The header may carry a comment, which stays: only the indicator and the lines below it go.
            let (at, _) = parent.pair(key).ok_or_else(unusual)?;
            let colon = self.colon(at)?;
            let header = self.text.get(colon..old.span.start).ok_or_else(unusual)?;
            let first = header.find(['|', '>']).filter(|at| header[..*at].trim().is_empty());
            let indicator = colon + first.ok_or_else(|| old.problem(UNUSUAL))?;
            let length = self.text[indicator..].find(|c: char| c.is_ascii_whitespace()).ok_or_else(unusual)?;
            self.splice(indicator..indicator + length, text);
            text = Text::default();
            range.start = indicator + self.text[indicator..].find(['\r', '\n']).ok_or_else(unusual)?;
        }
        self.splice(range, text);
        Ok(())
    }

    /// The span without the line breaks that end a block scalar.
    fn visible(&self, node: &Node) -> Range<usize> {
        let text = self.text[node.span.clone()].trim_end();
        node.span.start..node.span.start + text.len()
    }

    /// Adds fields at the front of the mapping at `path`: the one place that never depends on what follows it.
    fn insert(&mut self, path: &[Step<'_>], map: &Node, added: &[(&str, Node)]) -> Result<(), Problem> {
        let first = map.entries().and_then(<[_]>::first);
        let fields = Node::map(added.iter().cloned());
        let mut text = Text::default();
        let at = match first {
            Some((first, _)) if !map.flow => {
                let lines = Lines { newline: self.newline, indent: map.column - 1 };
                emit::block(&fields, lines, &mut text);
                lines.next(&mut text);
                first.span.start
            }
            _ => {
                let mut braces = Text::default();
                emit::flow(&fields, None, &mut braces);
                text.push_str(&braces[1..braces.len() - 1]);
                if first.is_some() {
                    text.push_str(", ");
                }
                let open = self.text[map.span.clone()].find('{').ok_or_else(|| map.problem(UNUSUAL))?;
                map.span.start + open + 1
            }
        };
        self.splice(at..at, text);
        if let Some(Body::Map(entries)) = follow_mut(&mut self.expected, path).map(|place| &mut place.body) {
            let added = added.iter().map(|(key, value)| (Node::string(*key), value.clone()));
            entries.splice(0..0, added);
        }
        Ok(())
    }

    fn append_item(&mut self, root: &Node, key: &str, item: &Node) -> Result<(), Problem> {
        let place = root.get(key).ok_or_else(unusual)?;
        let items = place.items().unwrap_or_default();
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return Err(unusual()) };
        if place.flow {
            let (mut text, lines) = self.comma(first);
            emit::flow(item, lines, &mut text);
            self.splice(last.span.end..last.span.end, text);
            return Ok(());
        }
        let lines = Lines { newline: self.newline, indent: place.column - 1 };
        self.add_lines(place.span.end, lines, &Node::list(vec![item.clone()]), false);
        Ok(())
    }

    /// A comma and what stands between it and one more neighbour of `first`, which is laid out as that is.
    fn comma(&self, first: &Node) -> (Text, Option<Lines<'static>>) {
        let lines = self.starts_line(first).then_some(Lines { newline: self.newline, indent: first.column - 1 });
        let mut text = Text::from(",".to_owned());
        match lines {
            Some(lines) => lines.next(&mut text),
            None => text.push(' '),
        }
        (text, lines)
    }

    fn add_at_top(&mut self, root: &Node, key: &str, value: &Node) -> Result<(), Problem> {
        let field = Node::map([(key, value.clone())]);
        if !root.flow {
            self.add_lines(root.span.end, Lines { newline: self.newline, indent: root.column - 1 }, &field, true);
            return Ok(());
        }
        let entries = root.entries().unwrap_or_default();
        let (Some((first, _)), Some((last_key, last))) = (entries.first(), entries.last()) else {
            return Err(root.problem(UNUSUAL));
        };
        let (mut text, lines) = self.comma(first);
        text.push_str(&scalar::json(key));
        text.push_str(": ");
        emit::flow(value, lines, &mut text);
        let end = tree::entry_end(self.text, last_key, last);
        self.splice(end..end, text);
        Ok(())
    }

    /// Whether only space stands before `node` on its line.
    fn starts_line(&self, node: &Node) -> bool {
        let before = &self.text[..node.span.start];
        let line = before.rfind('\n').map(|at| &before[at + 1..]);
        line.is_some_and(|line| line.trim().is_empty())
    }

    /// Adds the lines of `node` below the line on which `end` stands.
    fn add_lines(&mut self, end: usize, lines: Lines<'_>, node: &Node, at_top: bool) {
        let mut text = Text::from(String::with_capacity(emit::size(node) * 2));
        let at_line_start = end > 0 && self.text[..end].ends_with('\n');
        let place = if at_line_start { Some(end) } else { self.text[end..].find('\n').map(|at| end + at + 1) };
        if place.is_none() {
            text.push_str(self.newline);
        }
        text.extend(std::iter::repeat_n(' ', lines.indent));
        emit::block(node, lines, &mut text);
        if place.is_some() {
            text.push_str(self.newline);
        }
        let place = place.unwrap_or(self.text.len());
        self.splices.push(Splice { range: place..place, with: text, at_top });
    }
}

const UNUSUAL: &str = "written in a way that cannot be changed without writing the whole file anew; \
                       rewrite it with `kubectl config view --raw`";

fn unusual() -> Problem {
    Problem::whole(format!("the kubeconfig is {UNUSUAL}"))
}

/// Demands that both parsers find exactly `expected` in `bytes`.
pub(super) fn verify(bytes: &[u8], expected: &Node) -> Result<(), Problem> {
    let document = tree::parse(bytes)?;
    let root = document.root.as_ref().filter(|root| root.same(expected)).ok_or_else(unusual)?;
    second_opinion::agrees(document.text, root)
}

/// The line break that the text uses.
pub(super) fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// The string `new`, quoted as the value it replaces was.
fn in_the_style_of(text: &str, old: &Node, style: Style, new: &str) -> Text {
    let written = scalar::written(new);
    let is_bare = matches!(written, std::borrow::Cow::Borrowed(_)) && !new.contains(',');
    Zeroizing::new(match (style, text[old.span.clone()].chars().next()) {
        (Style::Quoted, Some('"')) => scalar::json(new),
        (Style::Quoted, Some('\'')) if is_bare => format!("'{new}'"),
        _ if old.flow && !is_bare => scalar::json(new),
        _ => written.into_owned(),
    })
}

fn follow<'n>(node: &'n Node, path: &[Step<'_>]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, step| match step {
        Step::Key(key) => node.get(key),
        Step::Item(index) => node.items()?.get(*index),
    })
}

fn follow_mut<'n>(node: &'n mut Node, path: &[Step<'_>]) -> Option<&'n mut Node> {
    path.iter().try_fold(node, |node, step| match step {
        Step::Key(key) => node.get_mut(key),
        Step::Item(index) => match &mut node.body {
            Body::List(items) => items.get_mut(*index),
            _ => None,
        },
    })
}
