//! Scripts for the node, and how they and their data get there.
//!
//! The login shell, whatever it is, sees one short constant line without anything that shells disagree about. The script
//! is the first line of standard input, its data the next lines, and content the rest: nothing of an operation shows in
//! a process list or in sudo's log, and a secret could not even by mistake.

use aws_lc_rs::rand;

use crate::error::Failure;

/// What to run on a node: parts that are put together and a name for process lists.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) name: &'static str,
    parts: &'static [&'static str],
}

const PRELUDE: &str = include_str!("scripts/prelude.sh");
const PLACE: &str = include_str!("scripts/place.sh");
const MAKE: &str = include_str!("scripts/make.sh");
const FRESH: &str = include_str!("scripts/fresh.sh");
const TIDY: &str = include_str!("scripts/tidy.sh");

/// All scripts there are.
pub(super) mod scripts {
    use super::{FRESH, MAKE, PLACE, PRELUDE, Script, TIDY};

    const fn script(name: &'static str, parts: &'static [&'static str]) -> Script {
        Script { name, parts }
    }

    pub(in crate::node::ssh) const WHO: Script = script("who", &[PRELUDE, include_str!("scripts/who.sh")]);
    pub(in crate::node::ssh) const FACTS: Script = script("facts", &[PRELUDE, include_str!("scripts/facts.sh")]);
    pub(in crate::node::ssh) const READ: Script = script("read", &[PRELUDE, include_str!("scripts/read.sh")]);
    pub(in crate::node::ssh) const MKDIR: Script =
        script("mkdir", &[PRELUDE, PLACE, MAKE, include_str!("scripts/mkdir.sh")]);
    pub(in crate::node::ssh) const INSTALL: Script =
        script("install", &[PRELUDE, PLACE, FRESH, include_str!("scripts/install.sh")]);
    pub(in crate::node::ssh) const LINK: Script = script("link", &[PRELUDE, PLACE, include_str!("scripts/link.sh")]);
    pub(in crate::node::ssh) const REMOVE: Script =
        script("remove", &[PRELUDE, PLACE, include_str!("scripts/remove.sh")]);
    pub(in crate::node::ssh) const SWEEP: Script =
        script("sweep", &[PRELUDE, PLACE, TIDY, include_str!("scripts/sweep.sh")]);
    pub(in crate::node::ssh) const REHEARSE: Script =
        script("rehearse", &[PRELUDE, PLACE, FRESH, TIDY, include_str!("scripts/rehearse.sh")]);
    pub(in crate::node::ssh) const LOCK: Script =
        script("lock", &[PRELUDE, PLACE, MAKE, include_str!("scripts/lock.sh")]);
    pub(in crate::node::ssh) const RUN: Script = script("run", &[PRELUDE, include_str!("scripts/run.sh")]);
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
        format!("exec {sudo}/bin/sh -c 'IFS= read -r s && eval \"$(printf %b \"$s\")\"' kubepki-{}", self.name)
    }
}

/// Standard input of a script, up to where raw content begins.
#[derive(Debug)]
pub(super) struct Message {
    lines: Vec<u8>,
    pub(super) nonce: String,
}

impl Message {
    /// The message that starts `script`.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn new(script: &Script) -> anyhow::Result<Self> {
        let nonce = random_name()?;
        let mut message = Self { lines: Vec::new(), nonce: nonce.clone() };
        message.add(script.text().as_bytes());
        message.add(nonce.as_bytes());
        Ok(message)
    }

    /// Adds one value.
    pub(super) fn add(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        encode(value.as_ref(), &mut self.lines);
        self.lines.push(b'\n');
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.lines
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
            b' '..=b'~' if *byte != b'\\' => into.push(*byte),
            byte => into.extend_from_slice(format!("\\0{byte:03o}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&Script; 11] = [
        &scripts::WHO,
        &scripts::FACTS,
        &scripts::READ,
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
    fn a_script_is_one_line_of_plain_text() {
        for script in ALL {
            let message = Message::new(script).expect("random numbers");
            let text = String::from_utf8(message.bytes().to_vec()).expect("ASCII");
            assert_eq!(text.lines().count(), 2, "{}", script.name);
            assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            assert!(!text.starts_with('#') && !text.contains("\\n#"), "comments stay at home");
        }
    }

    #[test]
    fn every_byte_has_a_notation() {
        let mut encoded = Vec::new();
        encode(b"a b\\\n\x01\xff'", &mut encoded);
        assert_eq!(encoded, b"a b\\0134\\n\\0001\\0377'");
    }
}
