//! YAML text as a tree that remembers where every node stands, so that text can be changed without writing the
//! document anew.
//!
//! Only the first document is read, as kubectl does. Anchors and aliases are refused: no program writes them into a
//! kubeconfig, and they are how a small file becomes a large one. JSON is read too, it is YAML in flow style.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use zeroize::Zeroizing;

use super::node::{Body, Node, Scalar, Style};
use super::{LARGEST, Problem, second_opinion};

/// Deeper nesting than this is refused; a kubeconfig has about six levels.
const DEEPEST: usize = 64;

/// The first document of `bytes` with its text, and whether another document follows.
pub(in crate::pki) struct Document<'t> {
    pub(in crate::pki) text: &'t str,
    /// `None` when the document is empty: no text, only comments.
    pub(in crate::pki) root: Option<Node>,
    pub(in crate::pki) more: bool,
}

/// Reads the first document of `bytes`.
///
/// Places count bytes of the whole text, a byte order mark included.
pub(in crate::pki) fn parse(bytes: &[u8]) -> Result<Document<'_>, Problem> {
    if bytes.len() > LARGEST {
        return Err(Problem::whole(format!("larger than {} MiB, this is no kubeconfig", LARGEST / 1024 / 1024)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_text(bytes, error.valid_up_to()))?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (root, more) = read(text, body).or_else(|problem| {
        let lenient = respaced(body);
        match read(text, &lenient) {
            Ok((Some(root), more)) if second_opinion::agrees(text, &root).is_ok() => Ok((Some(root), more)),
            _ => Err(problem),
        }
    })?;
    Ok(Document { text, root, more })
}

/// Reads `body`, which is `text` without its byte order mark, or has the same characters at the same places.
fn read(text: &str, body: &str) -> Result<(Option<Node>, bool), Problem> {
    let places = Places::of(body, text.len() - body.len());
    let mut reader = Reader { text, events: Parser::new_from_str(body), places };
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok((None, false)),
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                let root = reader.node(event, span, 0, false)?;
                // What follows is of no concern to kubectl, and need not even be YAML.
                let more = matches!(reader.next(), Ok((Event::DocumentEnd, _)))
                    && !matches!(reader.next(), Ok((Event::StreamEnd, _)));
                return Ok((Some(root), more));
            }
            _ => {}
        }
    }
}

/// `text` with other white space in two places where kubectl's parser is more lenient than ours: tabs become spaces, and
/// a closing bracket at the start of a line moves up. Whether it still says the same is for the second opinion to find
/// out.
fn respaced(text: &str) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(text.replace('\t', " ").into_bytes());
    // From the end to the start, so that each byte is looked at once: does a closing bracket come next on its line?
    let mut closes = false;
    for at in (0..bytes.len()).rev() {
        match bytes[at] {
            b'\n' => {
                if closes {
                    bytes[at] = b' ';
                    if let Some(before) = at.checked_sub(1).filter(|before| bytes[*before] == b'\r') {
                        bytes[before] = b' ';
                    }
                }
                closes = false;
            }
            b' ' => {}
            byte => closes = matches!(byte, b']' | b'}'),
        }
    }
    // Only single-byte characters were exchanged for single-byte characters.
    Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default())
}

/// Length of the quoted value (and its tag) that `text` begins with, up to its closing quote.
fn quoted_length(text: &str) -> usize {
    let Some(open) = text.find(['"', '\'']) else { return text.len() };
    let quote = text.as_bytes()[open];
    let mut bytes = text.bytes().enumerate().skip(open + 1).peekable();
    while let Some((at, byte)) = bytes.next() {
        let doubled = byte == b'\'' && bytes.peek().is_some_and(|(_, next)| *next == b'\'');
        if (quote == b'"' && byte == b'\\') || (quote == b'\'' && doubled) {
            bytes.next();
        } else if byte == quote {
            return at + 1;
        }
    }
    text.len()
}

/// Past the colon that follows the key which ends at `end`.
pub(in crate::pki) fn colon(text: &str, end: usize) -> Option<usize> {
    let rest = text.get(end..)?;
    let space = rest.len() - rest.trim_start().len();
    rest[space..].starts_with(':').then_some(end + space + 1)
}

/// Where an entry of a mapping ends: past its value or, without one, past its colon.
pub(super) fn entry_end(text: &str, key: &Node, value: &Node) -> usize {
    if value.span.is_empty() { colon(text, key.span.end).unwrap_or(key.span.end) } else { value.span.end }
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
                let end = match style {
                    // An empty value has no characters, whatever the parser looked at to find that out.
                    Style::Plain if text.is_empty() && tag.is_none() => start,
                    // The parser counts space and a comment after the closing quote as part of the value.
                    Style::Quoted => start + quoted_length(&self.text[start..end]),
                    // The parser has looked at the indentation of the next line too.
                    Style::Block if end < self.text.len() => {
                        self.text[start..end].rfind('\n').map_or(end, |at| start + at + 1)
                    }
                    _ => end,
                };
                let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
                (Body::Scalar(Scalar { text: Zeroizing::new(text.into_owned()), style, tag }), end, inside_flow)
            }
            Event::SequenceStart(..) => {
                let brackets = self.opens(start, end, '[');
                let flow = inside_flow || brackets;
                // The parser counts space and a comment after a closing bracket as part of it.
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => break self.places.byte(span.start.index() + 1),
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
                        (Event::MappingEnd, span) => break self.places.byte(span.start.index() + 1),
                        (event, span) => self.node(event, span, depth + 1, flow)?,
                    };
                    let (event, span) = self.next()?;
                    let mut value = self.node(event, span, depth + 1, flow)?;
                    if !value.flow && value.items().is_some() {
                        self.begin_at_dash(&mut value);
                    }
                    entries.push((key, value));
                };
                let last = |(key, value): &(Node, Node)| entry_end(self.text, key, value);
                let end = if brackets { end } else { entries.last().map_or(start, last) };
                (Body::Map(entries), end, flow)
            }
            _ => return refuse("not valid YAML: a value is missing"),
        };
        Ok(Node { body, span: start..end.max(start), line, column, flow })
    }

    /// A list that is not indented below its key is reported to start after its first dash. This moves it to the dash.
    fn begin_at_dash(&self, list: &mut Node) {
        let mut end = list.span.start;
        let mut line = list.line;
        // The first item may stand below its dash, behind empty lines and comments.
        loop {
            let start = self.text[..end].rfind('\n').map_or(self.places.offset, |at| at + 1);
            let before = &self.text[start..end];
            let space = before.len() - before.trim_start().len();
            if end == list.span.start && space == before.len() && self.text[end..].starts_with('-') {
                return;
            }
            if before[space..].starts_with('-') {
                (list.span.start, list.line, list.column) = (start + space, line, space + 1);
                return;
            }
            let passable = space == before.len() || before[space..].starts_with('#');
            if !passable || start <= self.places.offset {
                return;
            }
            (end, line) = (start - 1, line - 1);
        }
    }

    /// Whether the text of a collection's first token, its tag aside, is a bracket; a block collection starts with none.
    fn opens(&self, start: usize, end: usize, bracket: char) -> bool {
        let text = &self.text[start..end];
        let tag = if text.starts_with('!') { text.find(char::is_whitespace).unwrap_or(text.len()) } else { 0 };
        text[tag..].trim_start().starts_with(bracket)
    }
}
