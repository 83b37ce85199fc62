//! What a script answered, taken apart word by word. Nothing in it is trusted.

use std::time::Instant;

use super::wiped::Wiped;

/// The answer of a script.
#[derive(Debug)]
pub(super) struct Answer {
    stdout: Wiped,
    /// Where the script's own words begin; before it is what the login shell had to say.
    start: usize,
    stderr: Vec<u8>,
    pub(super) nonce: String,
    /// When the first of it came.
    pub(super) heard: Option<Instant>,
}

impl Answer {
    /// Finds the script's words in what a command printed; its complaints when it never came to speak.
    pub(super) fn find(stdout: Wiped, stderr: Vec<u8>, nonce: &str) -> Result<Self, Vec<u8>> {
        let greeting = format!("\nkubepki {nonce}\n");
        match find(&stdout, greeting.as_bytes()) {
            Some(at) => Ok(Self { start: at + greeting.len(), stdout, stderr, nonce: nonce.to_owned(), heard: None }),
            None => Err(stderr),
        }
    }

    /// The words, from the first on.
    pub(super) fn words(&self) -> Words<'_> {
        Words { rest: self.stdout.get(self.start..).unwrap_or_default() }
    }

    /// Standard error.
    pub(super) fn complaints(&self) -> &[u8] {
        &self.stderr
    }

    /// Why the last step failed, in the system's words.
    pub(super) fn reason(&self) -> String {
        reason(&self.stderr)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The end of the last line, where programs put the system's own words: `mv: cannot … 'x': No space left on device`.
pub(super) fn reason(complaints: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaints);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("for no stated reason");
    let mut letters = last.rsplit(": ").next().unwrap_or(last).chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Lines and counted texts, read from the front.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The next line without its end.
    pub(super) fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line)
    }

    /// The next line as text; what is no UTF-8 is none of a script's own words.
    pub(super) fn text_line(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.line()?).ok()
    }

    /// `length` bytes of any kind.
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Where `part` is next.
    pub(super) fn position(&self, part: &[u8]) -> Option<usize> {
        find(self.rest, part)
    }

    /// A text whose length is the last word of `line`, and the line end behind it.
    pub(super) fn counted(&mut self, line: &str) -> Option<&'a [u8]> {
        let length = line.rsplit(' ').next()?.parse().ok()?;
        let text = self.bytes(length)?;
        (self.bytes(1)? == b"\n").then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &[u8]) -> Result<Answer, Vec<u8>> {
        let mut stdout = Wiped::default();
        stdout.push(text);
        Answer::find(stdout, b"sh: mv: Read-only file system\n\n".to_vec(), "0123")
    }

    #[test]
    fn a_talkative_login_shell_is_passed_over() {
        let answer =
            answer(b"Welcome!\nkubepki 9999\nno line end\nkubepki 0123\nsay 4\na\nb\n\nend\n").expect("it spoke");
        let mut words = answer.words();
        let line = words.text_line().expect("a line");
        assert_eq!(words.counted(line), Some(&b"a\nb\n"[..]));
        assert_eq!(words.text_line(), Some("end"));
        assert_eq!(words.text_line(), None);
        assert_eq!(answer.reason(), "read-only file system");
    }

    #[test]
    fn silence_and_lies_about_lengths_are_noticed() {
        assert!(answer(b"kubepki 0123\n").is_err(), "not at the start of a line");
        let answer = answer(b"\nkubepki 0123\nsay 18446744073709551615\nx").expect("it spoke");
        let mut words = answer.words();
        let line = words.text_line().expect("a line");
        assert_eq!(words.counted(line), None);
        for line in ["say", "say -1", "say 1x"] {
            assert_eq!(words.counted(line), None, "{line}");
        }
    }
}
