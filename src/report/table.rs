//! Tables a tired person can read: no borders, two spaces between columns, colour only where it says something.
//!
//! A [`View`] is what a result looks like to people: tables, headings and closing lines. Cells are plain text with a
//! tone; escape sequences in them are shown, not sent.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Row, presets};
use unicode_width::UnicodeWidthStr;

use super::text::printable;

/// Spaces between columns.
const GAP: u16 = 2;

/// What a piece of text says about the world; decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Needs attention.
    Attention,
    /// Broken.
    Bad,
    /// Of lesser interest.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Attention => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
        }
    }

    /// `text` in this tone's colour when `coloured`.
    pub fn paint(self, text: &str, coloured: bool) -> String {
        let style = self.style();
        if coloured && self != Self::Plain { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows under a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
    dispensable: Vec<String>,
}

impl Table {
    /// A table with these column names, in capitals as kubectl writes them.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new(), dispensable: Vec::new() }
    }

    /// Names columns that may be left out on a terminal too narrow for all, the first one first.
    #[must_use]
    pub fn dispensable<T: Into<String>>(mut self, columns: impl IntoIterator<Item = T>) -> Self {
        self.dispensable = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a row; it should have as many cells as the header.
    #[must_use]
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.push(cells);
        self
    }

    /// Adds a row.
    pub fn push(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Leaves out the columns in which every cell says `-`.
    #[must_use]
    pub fn without_blank_columns(mut self) -> Self {
        for column in (0..self.header.len()).rev() {
            if self.rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.text == "-")) {
                self.header.remove(column);
                self.rows.iter_mut().filter(|row| column < row.len()).for_each(|row| drop(row.remove(column)));
            }
        }
        self
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The columns to show: all of them, or as few less as make the rest fit.
    fn columns_within(&self, width: Option<u16>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.header.len()).collect();
        let Some(width) = width else { return shown };
        let needs = |column: &usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(*column)).map(|cell| cell.text.width());
            cells.chain([self.header[*column].width()]).max().unwrap_or(0) + usize::from(GAP)
        };
        for name in &self.dispensable {
            if shown.iter().map(needs).sum::<usize>() <= usize::from(width.saturating_add(GAP)) {
                break;
            }
            shown.retain(|column| self.header[*column] != *name);
        }
        shown
    }

    fn lines(&self, look: Look) -> Vec<String> {
        let shown = self.columns_within(look.width);
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(shown.iter().map(|column| marked(&self.header[*column], Tone::Plain)));
        for row in &self.rows {
            let cells = shown.iter().filter_map(|column| row.get(*column));
            table.add_row(Row::from(cells.map(|cell| marked(&cell.text, cell.tone))));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        // What follows the last column is cut off again below.
        match look.width.map(|width| width.saturating_add(GAP)) {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.lines().map(|line| painted(line.trim_end(), look.coloured)).collect()
    }
}

/// Where a view is going to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns of the terminal; `None` outside one, where nothing is wrapped.
    pub width: Option<u16>,
    /// Whether colours are wanted.
    pub coloured: bool,
}

/// A result as people see it: blocks with an empty line between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    Table(Option<String>, Table),
    Lines(Vec<Cell>),
}

impl View {
    /// Adds a table.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.blocks.push(Block::Table(None, table));
        self
    }

    /// Adds a table under a line that names it.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>, table: Table) -> Self {
        self.blocks.push(Block::Table(Some(title.into()), table));
        self
    }

    /// Adds a line; lines that follow each other form one block.
    #[must_use]
    pub fn line(mut self, line: impl Into<Cell>) -> Self {
        match self.blocks.last_mut() {
            Some(Block::Lines(lines)) => lines.push(line.into()),
            _ => self.blocks.push(Block::Lines(vec![line.into()])),
        }
        self
    }

    /// Ends a block of lines: the next line stands below an empty one.
    #[must_use]
    pub fn gap(mut self) -> Self {
        if !self.blocks.is_empty() {
            self.blocks.push(Block::Lines(Vec::new()));
        }
        self
    }

    /// The whole text, ending with a line break unless it is empty.
    pub fn render(&self, look: Look) -> String {
        let mut text = String::new();
        for block in &self.blocks {
            if !text.is_empty() {
                text.push('\n');
            }
            let lines: Vec<String> = match block {
                Block::Table(title, table) => title.iter().cloned().chain(table.lines(look)).collect(),
                Block::Lines(lines) => {
                    lines.iter().map(|line| line.tone.paint(&printable(&line.text, true), look.coloured)).collect()
                }
            };
            for line in lines {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    }
}

// The layout counts columns, so colours go in afterwards. Until then each word carries its tone between invisible
// characters of width zero, which `printable` keeps out of the text itself.
const TONES: [(char, Tone); 4] =
    [('\u{2061}', Tone::Good), ('\u{2062}', Tone::Attention), ('\u{2063}', Tone::Bad), ('\u{2064}', Tone::Faint)];
const END: char = '\u{2060}';

fn marked(text: &str, tone: Tone) -> String {
    let text = printable(text, false);
    match TONES.iter().find(|(_, candidate)| *candidate == tone) {
        Some((mark, _)) => {
            let words: Vec<String> = text.split(' ').map(|word| format!("{mark}{word}{END}")).collect();
            words.join(" ")
        }
        None => text,
    }
}

fn painted(line: &str, coloured: bool) -> String {
    let mut text = String::with_capacity(line.len());
    let mut open: Option<Style> = None;
    for character in line.chars() {
        let tone = TONES.iter().find(|(mark, _)| *mark == character).map(|(_, tone)| tone.style());
        match (tone, coloured) {
            (Some(style), true) => {
                text.push_str(&style.to_string());
                open = Some(style);
            }
            (None, true) if character == END => {
                if let Some(style) = open.take() {
                    text.push_str(&style.render_reset().to_string());
                }
            }
            (Some(_), false) => {}
            (None, _) if character == END => {}
            (None, _) => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let table = Table::new(["NAME", "STATUS"])
            .row(["apiserver".into(), Cell::toned("expired now", Tone::Bad)])
            .row(["ca".into(), Cell::toned("ok", Tone::Good)]);
        View::default().titled("CERTIFICATES", table).line("first").line("second")
    }

    #[test]
    fn columns_line_up_without_borders_and_nothing_trails() {
        let text = view().render(Look { width: None, coloured: false });
        assert_eq!(text, "CERTIFICATES\nNAME       STATUS\napiserver  expired now\nca         ok\n\nfirst\nsecond\n");
    }

    #[test]
    fn colours_change_nothing_but_colour() {
        let plain = view().render(Look { width: Some(80), coloured: false });
        let coloured = view().render(Look { width: Some(80), coloured: true });
        assert!(coloured.contains("\u{1b}[1m\u{1b}[31mexpired\u{1b}[0m"), "{coloured:?}");
        assert_eq!(anstream_strip(&coloured), plain);
    }

    #[test]
    fn a_narrow_terminal_wraps_cells_instead_of_lines() {
        let table = Table::new(["PATH"]).row(["/etc/kubernetes/pki/apiserver-kubelet-client.crt".into()]);
        let text = View::default().table(table).render(Look { width: Some(20), coloured: false });
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.chars().count() <= 20), "{text}");
    }

    #[test]
    fn a_narrow_terminal_loses_dispensable_columns_before_anything_is_wrapped() {
        let table = Table::new(["NAME", "SERIAL", "NOTE"]).dispensable(["NOTE", "SERIAL"]);
        let table = table.row(["apiserver".into(), "0123456789abcdef".into(), "a remark".into()]);
        let first_line = |width| table.lines(Look { width: Some(width), coloured: false }).remove(0);
        let headers = [37, 36, 26].map(|width| first_line(width).split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(headers, ["NAME SERIAL NOTE", "NAME SERIAL", "NAME"]);
    }

    #[test]
    fn text_from_outside_cannot_smuggle_escape_sequences_or_tones() {
        let table = Table::new(["SUBJECT"]).row(["CN=\u{1b}[2J\u{2063}x".into()]);
        let text =
            View::default().table(table).line("\u{1b}]0;title\u{7}").render(Look { width: None, coloured: true });
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }

    fn anstream_strip(text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, tail)| tail);
        }
        plain + rest
    }
}
