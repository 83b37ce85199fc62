//! YAML text as a tree that remembers where every node stands, so that text can be changed without writing the
//! document anew.
//!
//! Only the first document is read, as kubectl does. Anchors and aliases are refused: no program writes them into a
//! kubeconfig, and they are how a small file becomes a large one. JSON is read too, it is YAML in flow style.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use zeroize::Zeroizing;

use super::scalar::{self, Meaning};
use super::{LARGEST, Problem};

/// Deeper nesting than this is refused; a kubeconfig has about six levels.
const DEEPEST: usize = 64;

/// One node and the place of its text.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) body: Body,
    /// Bytes of the text from the first to past the last character; of a block scalar only its content.
    pub(super) span: Range<usize>,
    pub(super) line: usize,
    pub(super) column: usize,
    /// Written with braces, brackets or inside such.
    pub(super) flow: bool,
}

#[derive(Clone)]
pub(super) enum Body {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// A single value as written.
#[derive(Clone)]
pub(super) struct Scalar {
    pub(super) text: Zeroizing<String>,
    pub(super) style: Style,
    /// The tag in full, as `tag:yaml.org,2002:str`.
    tag: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Quoted,
    Block,
}

impl Scalar {
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
    pub(super) fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Scalar(scalar) if scalar.meaning() == Meaning::Text => Some(&scalar.text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    pub(super) fn entries(&self) -> Option<&[(Self, Self)]> {
        match &self.body {
            Body::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> Option<&[Self]> {
        match &self.body {
            Body::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of `key`; of repeated keys the last, as kubectl takes it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.pair(key).map(|(_, value)| value)
    }

    /// Key and value of `key`.
    pub(super) fn pair(&self, key: &str) -> Option<&(Self, Self)> {
        self.entries()?.iter().rev().find(|(found, _)| found.text() == Some(key))
    }

    /// Puts `value` at `key`, at the end when the key is new. Does nothing to anything but a mapping.
    pub(super) fn set(&mut self, key: &str, value: Self) {
        let Body::Map(entries) = &mut self.body else { return };
        match entries.iter_mut().rev().find(|(found, _)| found.text() == Some(key)) {
            Some((_, old)) => *old = value,
            None => entries.push((Self::string(key), value)),
        }
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

    /// Whether both say the same to kubectl, wherever and however they are written.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (&self.body, &other.body) {
            (Body::Scalar(one), Body::Scalar(two)) => {
                let meaning = one.meaning();
                meaning == two.meaning() && (meaning == Meaning::Null || one.text == two.text)
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

/// The first document of `bytes` with its text, and whether another document follows.
pub(super) struct Document<'t> {
    pub(super) text: &'t str,
    /// `None` when the document is empty: no text, only comments.
    pub(super) root: Option<Node>,
    pub(super) more: bool,
}

/// Reads the first document of `bytes`.
///
/// Places count bytes of the whole text, a byte order mark included.
pub(super) fn parse(bytes: &[u8]) -> Result<Document<'_>, Problem> {
    if bytes.len() > LARGEST {
        return Err(Problem::whole(format!("larger than {} MiB, this is no kubeconfig", LARGEST / 1024 / 1024)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_text(bytes, error.valid_up_to()))?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let places = Places::of(body, text.len() - body.len());
    let mut reader = Reader { text, events: Parser::new_from_str(body), places };
    let mut root = None;
    let mut more = false;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                root = Some(reader.node(event, span, 0, false)?);
                // What follows is of no concern to kubectl, and need not even be YAML.
                more = matches!(reader.next(), Ok((Event::DocumentEnd, _)))
                    && !matches!(reader.next(), Ok((Event::StreamEnd, _)));
                break;
            }
            _ => {}
        }
    }
    Ok(Document { text, root, more })
}

fn not_text(bytes: &[u8], at: usize) -> Problem {
    let lines = bytes[..at].split(|byte| *byte == b'\n');
    let (line, column) = lines.fold((0, 0), |(line, _), text| (line + 1, text.len() + 1));
    Problem { message: "not UTF-8 text".into(), line, column }
}

/// The parser counts characters, Rust's text counts bytes.
struct Places {
    offset: usize,
    length: usize,
    /// Byte of each character; empty when all characters are single bytes.
    bytes: Vec<usize>,
}

impl Places {
    fn of(text: &str, offset: usize) -> Self {
        let bytes = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self { offset, length: text.len(), bytes }
    }

    fn byte(&self, character: usize) -> usize {
        let at = if self.bytes.is_empty() { character } else { *self.bytes.get(character).unwrap_or(&self.length) };
        self.offset + at.min(self.length)
    }
}

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    places: Places,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.events.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(Problem {
                // The parser quotes no content, only what it expected.
                message: format!("not valid YAML: {}", error.info()),
                line: error.marker().line(),
                column: error.marker().col() + 1,
            }),
            None => Err(Problem::whole("not valid YAML: ends in the middle")),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize, inside_flow: bool) -> Result<Node, Problem> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let refuse = |message: &str| Err(Problem { message: message.into(), line, column });
        if depth > DEEPEST {
            return refuse("nested too deeply");
        }
        let start = self.places.byte(span.start.index());
        let end = self.places.byte(span.end.index());
        let (body, end, flow) = match event {
            Event::Alias(_) => return refuse("a YAML alias (*name): aliases are not accepted in a kubeconfig"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return refuse("a YAML anchor (&name): anchors are not accepted in a kubeconfig");
            }
            Event::Scalar(text, style, _, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                // An empty value has no characters, whatever the parser looked at to find that out.
                let end = if text.is_empty() && style == Style::Plain && tag.is_none() { start } else { end };
                let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
                (Body::Scalar(Scalar { text: Zeroizing::new(text.into_owned()), style, tag }), end, inside_flow)
            }
            Event::SequenceStart(..) => {
                let brackets = self.opens(start, end, '[');
                let flow = inside_flow || brackets;
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => break self.places.byte(span.end.index()),
                        (event, span) => items.push(self.node(event, span, depth + 1, flow)?),
                    }
                };
                let end = if brackets { end } else { items.last().map_or(start, |last| last.span.end) };
                (Body::List(items), end, flow)
            }
            Event::MappingStart(..) => {
                let brackets = self.opens(start, end, '{');
                let flow = inside_flow || brackets;
                let mut entries: Vec<(Node, Node)> = Vec::new();
                let end = loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, span) => break self.places.byte(span.end.index()),
                        (event, span) => self.node(event, span, depth + 1, flow)?,
                    };
                    let (event, span) = self.next()?;
                    let value = self.node(event, span, depth + 1, flow)?;
                    entries.push((key, value));
                };
                let last = |(key, value): &(Node, Node)| value.span.end.max(key.span.end);
                let end = if brackets { end } else { entries.last().map_or(start, last) };
                (Body::Map(entries), end, flow)
            }
            _ => return refuse("not valid YAML: a value is missing"),
        };
        Ok(Node { body, span: start..end.max(start), line, column, flow })
    }

    /// Whether the first token of a collection, its tag aside, is a bracket; a block collection starts with none.
    fn opens(&self, start: usize, end: usize, bracket: char) -> bool {
        end > start && self.text[start..end].ends_with(bracket)
    }
}
