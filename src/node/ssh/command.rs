//! Scripts for the node, and how they and their data get there.
//!
//! The login shell, whatever it is, sees one short constant line without anything that shells disagree about. The script
//! comes first on standard input, then its data, then content: nothing of an operation shows in a process list or in sudo's
//! log, and a secret could not even by mistake.

use aws_lc_rs::rand;

use crate::error::Failure;

/// What to run on a node: parts that are put together and a name for process lists.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) name: &'static str,
    parts: &'static [&'static str],
    feed: Feed,
}

/// How a script and its data come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// Line by line, because standard input goes on behind them. A shell reads lines byte by byte.
    Lines,
    /// As all there is on standard input, which is quicker.
    Words,
}

/// Stands between words; in no script, and in data only in another notation.
const BETWEEN: u8 = b'~';

/// The last of the words, which nobody takes: shells drop an empty one there.
const LAST: u8 = b'.';

const PRELUDE: &str = include_str!("scripts/prelude.sh");
const LINES: &str = include_str!("scripts/lines.sh");
const WORDS: &str = include_str!("scripts/words.sh");
const GREET: &str = include_str!("scripts/greet.sh");
const TELL: &str = include_str!("scripts/facts.sh");
const READING: &str = include_str!("scripts/read.sh");
const PLACE: &str = include_str!("scripts/place.sh");
const MAKE: &str = include_str!("scripts/make.sh");
const FRESH: &str = include_str!("scripts/fresh.sh");
const TIDY: &str = include_str!("scripts/tidy.sh");

/// All scripts there are.
pub(super) mod scripts {
    use super::{FRESH, Feed, GREET, LINES, MAKE, PLACE, PRELUDE, READING, Script, TELL, TIDY, WORDS};

    const fn script(name: &'static str, parts: &'static [&'static str]) -> Script {
        Script { name, parts, feed: Feed::Lines }
    }

    const fn question(name: &'static str, parts: &'static [&'static str]) -> Script {
        Script { name, parts, feed: Feed::Words }
    }

    pub(in crate::node::ssh) const WHO: Script =
        question("who", &[PRELUDE, WORDS, GREET, include_str!("scripts/who.sh")]);
    pub(in crate::node::ssh) const FACTS: Script = question("facts", &[PRELUDE, WORDS, GREET, TELL]);
    pub(in crate::node::ssh) const READ: Script = question("read", &[PRELUDE, WORDS, GREET, READING]);
    /// Both at once: half of what a small question costs is its beginning.
    pub(in crate::node::ssh) const SURVEY: Script =
        question("survey", &[PRELUDE, WORDS, GREET, TELL, include_str!("scripts/survey.sh"), READING]);
    pub(in crate::node::ssh) const MKDIR: Script =
        script("mkdir", &[PRELUDE, LINES, GREET, PLACE, MAKE, include_str!("scripts/mkdir.sh")]);
    pub(in crate::node::ssh) const INSTALL: Script =
        script("install", &[PRELUDE, LINES, GREET, PLACE, FRESH, include_str!("scripts/install.sh")]);
    pub(in crate::node::ssh) const LINK: Script =
        script("link", &[PRELUDE, LINES, GREET, PLACE, include_str!("scripts/link.sh")]);
    pub(in crate::node::ssh) const REMOVE: Script =
        script("remove", &[PRELUDE, LINES, GREET, PLACE, include_str!("scripts/remove.sh")]);
    pub(in crate::node::ssh) const SWEEP: Script =
        script("sweep", &[PRELUDE, LINES, GREET, PLACE, TIDY, include_str!("scripts/sweep.sh")]);
    pub(in crate::node::ssh) const REHEARSE: Script =
        script("rehearse", &[PRELUDE, LINES, GREET, PLACE, FRESH, TIDY, include_str!("scripts/rehearse.sh")]);
    pub(in crate::node::ssh) const LOCK: Script =
        script("lock", &[PRELUDE, LINES, GREET, PLACE, MAKE, include_str!("scripts/lock.sh")]);
    pub(in crate::node::ssh) const RUN: Script =
        script("run", &[PRELUDE, LINES, GREET, include_str!("scripts/run.sh")]);
}

impl Script {
    /// The script without comments and indentation.
    fn text(&self) -> String {
        let lines = self.parts.iter().flat_map(|part| part.lines()).map(str::trim);
        let mut text = String::new();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// What the login shell is asked to run.
    pub(super) fn command_line(&self, as_root: bool) -> String {
        // `env` because not every shell takes a variable before a command.
        let sudo = if as_root { "env LC_ALL=C sudo -n -- " } else { "" };
        let start = match self.feed {
            Feed::Lines => r#"IFS= read -r s && eval "$(printf %b "$s")""#,
            Feed::Words => r#"set -f && IFS="~" && set -- $(cat) && eval "$1""#,
        };
        format!("exec {sudo}/bin/sh -c '{start}' kubepki-{}", self.name)
    }
}

/// Standard input of a script, up to where raw content begins.
#[derive(Debug)]
pub(super) struct Message {
    text: Vec<u8>,
    feed: Feed,
    pub(super) nonce: String,
}

impl Message {
    /// The message that starts `script`.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn new(script: &Script) -> anyhow::Result<Self> {
        let nonce = random_name()?;
        let mut message = Self { text: Vec::new(), feed: script.feed, nonce: nonce.clone() };
        match script.feed {
            Feed::Lines => drop(message.add(script.text())),
            Feed::Words => {
                message.text = script.text().into_bytes();
                message.text.extend([BETWEEN, LAST]);
            }
        }
        message.add(nonce.as_bytes());
        Ok(message)
    }

    /// Adds one value.
    pub(super) fn add(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        match self.feed {
            Feed::Lines => {
                encode(value.as_ref(), &mut self.text);
                self.text.push(b'\n');
            }
            Feed::Words => {
                self.text.pop();
                encode(value.as_ref(), &mut self.text);
                self.text.extend([BETWEEN, LAST]);
            }
        }
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text
    }
}

/// A name that nobody can foresee: 16 hexadecimal digits.
pub(super) fn random_name() -> anyhow::Result<String> {
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(random)))
}

/// The notation of `printf %b`: everything that is not plain text as an octal number.
fn encode(value: &[u8], into: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\n' => into.extend_from_slice(b"\\n"),
            b' '..BETWEEN if *byte != b'\\' => into.push(*byte),
            byte => into.extend_from_slice(format!("\\0{byte:03o}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&Script; 12] = [
        &scripts::WHO,
        &scripts::FACTS,
        &scripts::READ,
        &scripts::SURVEY,
        &scripts::MKDIR,
        &scripts::INSTALL,
        &scripts::LINK,
        &scripts::REMOVE,
        &scripts::SWEEP,
        &scripts::REHEARSE,
        &scripts::LOCK,
        &scripts::RUN,
    ];

    #[test]
    fn the_command_line_is_the_same_in_every_shell() {
        for script in ALL {
            for as_root in [false, true] {
                let line = script.command_line(as_root);
                // csh expands an exclamation mark and fish a backslash even between single quotes.
                assert!(!line.contains(['!', '\\', '\n', '`']), "{line}");
                assert_eq!(line.matches('\'').count(), 2, "{line}");
            }
        }
    }

    #[test]
    fn a_script_is_one_line_of_plain_text_or_one_word() {
        for script in ALL {
            let message = Message::new(script).expect("random numbers");
            let text = String::from_utf8(message.bytes().to_vec()).expect("ASCII");
            match script.feed {
                Feed::Lines => assert_eq!(text.lines().count(), 2, "{}", script.name),
                Feed::Words => {
                    assert_eq!(
                        text.split('~').map(|word| word.lines().count() > 1).collect::<Vec<_>>(),
                        [true, false, false]
                    );
                }
            }
            assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            assert!(!text.starts_with('#') && !text.contains("\\n#") && !text.contains("\n#"), "comments stay at home");
        }
    }

    #[test]
    fn every_byte_has_a_notation() {
        let mut encoded = Vec::new();
        encode(b"a b\\\n\x01\xff'~", &mut encoded);
        assert_eq!(encoded, b"a b\\0134\\n\\0001\\0377'\\0176");
    }
}
