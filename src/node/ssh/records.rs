//! The answer of the reading script as records, one for each path. See `scripts/read.sh` for its form.
//!
//! Lengths come from `stat`, content from `cat`: they are two moments. A record is sure only when the next word stands
//! exactly where the lengths say, and a second `stat` agrees with the first.

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::answer::{Answer, Words, reason};

/// One path.
#[derive(Debug)]
pub(super) struct Record {
    /// Number of the question it belongs to.
    pub(super) question: usize,
    pub(super) path: Vec<u8>,
    /// Where it points, when it is a symbolic link.
    pub(super) link: Option<Vec<u8>>,
    pub(super) kind: Kind,
    /// What is there, links followed.
    pub(super) stat: Option<Stat>,
    /// Why nothing is there.
    pub(super) gone: Gone,
    pub(super) content: Content,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    /// A folder that may not be listed.
    Unlistable,
    /// A folder too far down.
    TooDeep,
}

/// Why nothing is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    Missing,
    /// Links in a circle.
    Loop,
    Because(String),
}

/// A file's content.
pub(super) enum Content {
    /// Not asked for.
    None,
    Whole(Zeroizing<Vec<u8>>),
    Refused(String),
    /// The answer does not tell for certain.
    Unclear,
}

impl Content {
    pub(super) fn is_unclear(&self) -> bool {
        matches!(self, Self::Unclear)
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Whole(content) => write!(f, "Whole({} bytes)", content.len()),
            Self::Refused(reason) => write!(f, "Refused({reason})"),
            Self::Unclear => f.write_str("Unclear"),
        }
    }
}

/// A line of `stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// Kind and permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Device and inode.
    pub(super) identity: String,
    pub(super) modified: OffsetDateTime,
}

impl Stat {
    pub(super) fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    /// `=MODE UID GID SIZE SECONDS DEVICE:INODE DATE TIME.NANOSECONDS ZONE`, the mode in hexadecimal digits.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix('=')?.split(' ');
        let mode = u32::from_str_radix(words.next()?, 16).ok()?;
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (size, seconds) = (words.next()?.parse().ok()?, words.next()?.parse::<i64>().ok()?);
        let identity = words.next()?.to_owned();
        // Seconds since 1970 have no fraction, the readable time does where the node's `stat` knows one.
        let fraction = words.nth(1).and_then(|time| time.split_once('.')).map_or("", |(_, fraction)| fraction);
        let nanoseconds: i128 = fraction.get(..9).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let modified = OffsetDateTime::from_unix_timestamp_nanos(i128::from(seconds) * 1_000_000_000 + nanoseconds)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Some(Self { mode, uid, gid, size, identity, modified })
    }
}

/// Takes the rest of an answer apart, `words`; `None` when it is not complete.
pub(super) fn parse(words: Words<'_>, answer: &Answer, careful: bool) -> Option<Vec<Record>> {
    let mut reader = Reader {
        words,
        nonce: &answer.nonce,
        complaints: sections(answer.complaints(), &answer.nonce),
        careful,
        records: Vec::new(),
        batch: 0,
    };
    let mut target = None;
    loop {
        let line = reader.words.text_line()?;
        let mut parts = line.split(' ');
        match parts.next()? {
            "L" => target = Some(reader.words.counted(line)?.to_vec()),
            "R" => {
                let question = parts.next()?.parse().ok()?;
                let gone = parts.next()? == "gone";
                let path = reader.words.counted(line)?.to_vec();
                let content = if gone { Content::None } else { Content::Unclear };
                let record = Record {
                    question,
                    path,
                    link: target.take(),
                    kind: Kind::Entry,
                    stat: None,
                    gone: Gone::Missing,
                    content,
                };
                reader.records.push(record);
            }
            word @ ("N" | "Z") => {
                let question = parts.next()?.parse().ok()?;
                let path = reader.words.counted(line)?.to_vec();
                let kind = if word == "N" { Kind::Unlistable } else { Kind::TooDeep };
                reader.aside(Record {
                    question,
                    path,
                    link: None,
                    kind,
                    stat: None,
                    gone: Gone::Missing,
                    content: Content::None,
                });
            }
            "S" => {
                let stats = std::str::from_utf8(reader.words.counted(line)?).ok()?;
                reader.batch(stats)?;
            }
            "end" => return (parts.next()? == answer.nonce).then_some(reader.records),
            _ => return None,
        }
    }
}

/// What `stat` complained about, batch by batch: the lines between two that say the nonce.
fn sections(complaints: &[u8], nonce: &str) -> Vec<Vec<Vec<u8>>> {
    let mut sections = Vec::new();
    let mut open: Option<Vec<Vec<u8>>> = None;
    for line in complaints.split(|byte| *byte == b'\n') {
        match (line == nonce.as_bytes(), open.as_mut()) {
            (true, None) => open = Some(Vec::new()),
            (true, Some(_)) => sections.extend(open.take()),
            (false, Some(lines)) if !line.is_empty() => lines.push(line.to_vec()),
            _ => {}
        }
    }
    sections.reverse();
    sections
}

struct Reader<'a> {
    words: Words<'a>,
    nonce: &'a str,
    /// Last first.
    complaints: Vec<Vec<Vec<u8>>>,
    careful: bool,
    records: Vec<Record>,
    /// Where the records of the current batch begin.
    batch: usize,
}

impl<'a> Reader<'a> {
    /// A record that no `stat` is about goes before the batch.
    fn aside(&mut self, record: Record) {
        self.records.insert(self.batch, record);
        self.batch += 1;
    }

    /// `stat`, choice and content of the records since the last batch.
    fn batch(&mut self, stats: &str) -> Option<()> {
        let start = std::mem::replace(&mut self.batch, self.records.len());
        let (there, gone): (Vec<usize>, Vec<usize>) =
            (start..self.records.len()).partition(|index| self.records[*index].content.is_unclear());
        self.explain(&gone);
        let lines: Vec<&str> = stats.lines().collect();
        let choice = self.words.text_line()?.strip_prefix("C ")?;
        let parsed: Option<Vec<Stat>> = lines.iter().map(|line| Stat::parse(line)).collect();
        let parsed = parsed.filter(|parsed| parsed.len() == there.len() && choice.len() == there.len());
        let Some(parsed) = parsed else {
            // Something came or went between two looks: nothing says which line is whose.
            return if choice.contains('y') { self.skip() } else { Some(()) };
        };
        let mut chosen = Vec::new();
        for (((index, stat), line), choice) in there.into_iter().zip(parsed).zip(&lines).zip(choice.chars()) {
            let record = &mut self.records[index];
            match choice {
                'y' => chosen.push((index, usize::try_from(stat.size).ok()?, *line)),
                'u' => record.content = Content::Refused("permission denied".to_owned()),
                _ => record.content = Content::None,
            }
            record.stat = Some(stat);
        }
        match chosen.first() {
            None => Some(()),
            Some((index, _, _)) if self.careful => self.dump(*index),
            Some(_) => self.content(&chosen),
        }
    }

    /// Why the records that are not there are not.
    fn explain(&mut self, gone: &[usize]) {
        if gone.is_empty() {
            return;
        }
        let lines = self.complaints.pop().unwrap_or_default();
        for (position, index) in gone.iter().enumerate() {
            let record = &mut self.records[*index];
            // A name with a line break in it makes more lines than there are names.
            let line = if lines.len() == gone.len() { lines.get(position) } else { None };
            let line = line.or(lines.last().filter(|_| self.careful));
            match line.map(|line| reason(line)) {
                None if self.careful || lines.is_empty() => {}
                None => record.content = Content::Unclear,
                Some(reason) => record.gone = gone_because(reason),
            }
        }
    }

    /// The files of a batch, one behind the other.
    fn content(&mut self, chosen: &[(usize, usize, &str)]) -> Option<()> {
        let mut ahead = self.words.clone();
        let mut contents = Vec::new();
        for (_, size, _) in chosen {
            let Some(content) = ahead.bytes(*size) else { return self.skip() };
            contents.push(content);
        }
        if ahead.bytes(1) != Some(b"\n") || ahead.text_line() != Some(&format!("T {}", self.nonce)) {
            return self.skip();
        }
        self.words = ahead;
        let again = self.until_end()?;
        if again.len() != chosen.len() {
            return Some(());
        }
        for (((index, _, before), content), after) in chosen.iter().zip(contents).zip(again) {
            if *before == after {
                self.records[*index].content = Content::Whole(Zeroizing::new(content.to_vec()));
            }
        }
        Some(())
    }

    /// Passes over content whose lengths cannot be relied on.
    fn skip(&mut self) -> Option<()> {
        if self.careful {
            return self.dumped().map(drop);
        }
        let mark = format!("\nT {}\n", self.nonce);
        let at = self.words.position(mark.as_bytes())?;
        self.words.bytes(at + mark.len())?;
        self.until_end().map(drop)
    }

    /// The lines up to the one that ends a batch.
    fn until_end(&mut self) -> Option<Vec<&'a str>> {
        let end = format!("U {}", self.nonce);
        let mut lines = Vec::new();
        loop {
            let line = self.words.text_line()?;
            if line == end {
                return Some(lines);
            }
            lines.push(line);
        }
    }

    /// One file in hexadecimal numbers.
    fn dump(&mut self, index: usize) -> Option<()> {
        let (content, complaint) = self.dumped()?;
        self.records[index].content =
            if complaint.is_empty() { Content::Whole(content) } else { Content::Refused(reason(complaint)) };
        Some(())
    }

    fn dumped(&mut self) -> Option<(Zeroizing<Vec<u8>>, &'a [u8])> {
        let mut ahead = self.words.clone();
        let mut length = 0;
        // Counted first, so that the buffer need not grow and leave copies behind.
        let end = loop {
            let line = ahead.text_line()?;
            if line.starts_with("E ") {
                break line;
            }
            length += line.split_ascii_whitespace().count();
        };
        let mut content = Zeroizing::new(Vec::with_capacity(length));
        while content.len() < length {
            for number in self.words.text_line()?.split_ascii_whitespace() {
                content.push(u8::from_str_radix(number, 16).ok()?);
            }
        }
        self.words.line()?;
        Some((content, self.words.counted(end)?))
    }
}

fn gone_because(reason: String) -> Gone {
    match reason.as_str() {
        "no such file or directory" | "not a directory" => Gone::Missing,
        "too many levels of symbolic links" | "symbolic link loop" => Gone::Loop,
        _ => Gone::Because(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_age_has_a_time() {
        let modified = |seconds: &str| {
            let line = format!("=81a4 0 0 5 {seconds} 8:1 2026-01-02 03:04:05.250000000 +0000");
            Stat::parse(&line).map(|stat| stat.modified)
        };
        assert_eq!(modified("1767323045"), Some(time::macros::datetime!(2026-01-02 03:04:05.25 UTC)));
        for odd in ["9223372036854775807", "-9223372036854775808"] {
            assert_eq!(modified(odd), Some(OffsetDateTime::UNIX_EPOCH), "{odd}");
        }
        assert_eq!(modified("170141183460469231731687303715884105727"), None);
    }
}
