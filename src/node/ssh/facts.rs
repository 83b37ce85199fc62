//! What another machine says about itself.

use std::time::Instant;

use time::{Duration, OffsetDateTime};

use super::answer::{Answer, Words};
use super::command::{Message, scripts};
use super::shell::{Kind, Shell};
use super::tables::Tables;
use crate::error::Failure;
use crate::node::NodeFacts;
use crate::node::facts::is_reachable;

const MOST: usize = 8 * 1024 * 1024;

/// What one answer says, before it is known how long it took.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    facts: NodeFacts,
    /// The node's clock when it wrote the answer.
    clock: OffsetDateTime,
}

impl Told {
    /// Whom scripts run as.
    pub(super) fn uid(&self) -> u32 {
        self.facts.uid
    }
}

/// Asks the node.
pub(super) fn facts(shell: &Shell) -> anyhow::Result<NodeFacts> {
    // A login takes longer than clocks may be apart.
    shell.connect()?;
    let message = Message::new(&scripts::FACTS)?;
    // Who that is must be known before anything is read. These words tell it as well, and most log in as root.
    let began = Began::now();
    if let Some(answer) = shell.ask_as_user(&scripts::FACTS, &message, MOST)? {
        let told = told(shell, &answer, &mut answer.words())?;
        shell.learn(told.uid());
        if told.uid() == 0 {
            return Ok(began.facts(told, &answer));
        }
    }
    let message = Message::new(&scripts::FACTS)?;
    let began = Began::now();
    let answer = shell.ask(&scripts::FACTS, &message, &[], MOST, Kind::Reads)?;
    let told = told(shell, &answer, &mut answer.words())?;
    Ok(began.facts(told, &answer))
}

/// When the node was asked.
pub(super) struct Began {
    at: OffsetDateTime,
    instant: Instant,
}

impl Began {
    pub(super) fn now() -> Self {
        Self { at: OffsetDateTime::now_utc(), instant: Instant::now() }
    }

    /// What it told, with how far its clock is off.
    pub(super) fn facts(&self, told: Told, answer: &Answer) -> NodeFacts {
        // The node looked at it somewhere between question and answer: the middle is wrong by half of that at most.
        let took = answer.heard.map_or(self.instant.elapsed(), |heard| heard.duration_since(self.instant));
        let middle = self.at + Duration::try_from(took / 2).unwrap_or_default();
        NodeFacts { clock_skew: told.clock - middle, ..told.facts }
    }
}

/// The facts that `words` of an answer begin with.
///
/// # Errors
/// When they do not.
pub(super) fn told(shell: &Shell, answer: &Answer, words: &mut Words<'_>) -> anyhow::Result<Told> {
    parse(words, &answer.nonce).ok_or_else(|| {
        Failure::failed(format!("{}: does not tell its name and clock: {}", shell.node, answer.reason())).into()
    })
}

/// Takes the words up to the one that ends the facts.
pub(super) fn parse(words: &mut Words<'_>, nonce: &str) -> Option<Told> {
    let (mut clock, mut uid, mut host_name) = (None, None, None);
    let mut addresses = Vec::new();
    loop {
        let line = words.text_line()?;
        match line.split(' ').next()? {
            "clock" => clock = Some(instant(line.strip_prefix("clock ")?)?),
            "uid" => uid = line.strip_prefix("uid ")?.parse().ok(),
            "name" => host_name = Some(String::from_utf8_lossy(words.counted(line)?).into_owned()),
            "tables" => {
                let mark = format!("\ntables {nonce}\n");
                let text = words.bytes(words.position(mark.as_bytes())?)?;
                addresses = Tables::parse(&String::from_utf8_lossy(text)).addresses();
                words.bytes(mark.len())?;
            }
            "done" => break,
            _ => return None,
        }
    }
    addresses.retain(|address| is_reachable(*address));
    let facts = NodeFacts { host_name: host_name?, clock_skew: Duration::ZERO, addresses, uid: uid? };
    Some(Told { facts, clock: clock? })
}

/// Seconds since 1970. Where the node's `date` knows no fraction, the middle of that second.
fn instant(text: &str) -> Option<OffsetDateTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: i128 = fraction.get(..9).and_then(|digits| digits.parse().ok()).unwrap_or(500_000_000);
    let seconds: i64 = seconds.parse().ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(seconds) * 1_000_000_000 + nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::super::wiped::Wiped;
    use super::*;

    fn told(text: &str) -> Option<Told> {
        let mut stdout = Wiped::default();
        stdout.push(format!("\nkubepki 0123\n{text}").as_bytes());
        parse(&mut Answer::find(stdout, Vec::new(), "0123").expect("it spoke").words(), "0123")
    }

    fn counted(word: &str, text: &str) -> String {
        format!("{word} {}\n{text}\n", text.len())
    }

    /// The tables of a machine with two addresses.
    const TABLES: &str = "tables\nLocal:\n     |-- 10.0.0.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n\
        fd000000000000000000000000000002 03 40 00 80     eth1\n\ntables 0123\n";

    #[test]
    fn name_clock_user_and_addresses_by_which_others_reach_it_are_told() {
        let parts = [&counted("name", "cp1"), "uid 0\n", TABLES, "clock 1767323045.250000000\n", "done\n"];
        let Told { facts, clock } = told(&parts.concat()).expect("complete");
        let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.2", "fd00::2"]);
        assert_eq!(clock, time::macros::datetime!(2026-01-02 03:04:05.25 UTC));
        assert_eq!((facts.host_name.as_str(), facts.uid), ("cp1", 0));
    }

    #[test]
    fn a_clock_without_fractions_is_taken_for_the_middle_of_its_second() {
        let parts = [&counted("name", "w1"), "uid 1000\ntables\n\ntables 0123\nclock 1767323045.%N\ndone\n"];
        let Told { facts, clock } = told(&parts.concat()).expect("complete");
        assert_eq!((facts.addresses.len(), facts.uid), (0, 1000));
        assert_eq!(clock, time::macros::datetime!(2026-01-02 03:04:05.5 UTC));
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(told("clock 1767323045\nuid 0\n"), None);
        assert_eq!(told("clock x\nuid 0\ndone\n"), None);
        for clock in ["170141183460469231731687303715884105727", "9223372036854775807", "-9223372036854775808.9"] {
            assert_eq!(told(&format!("clock {clock}\nuid 0\n{}done\n", counted("name", "cp1"))), None, "{clock}");
        }
        assert_eq!(told("name 99\ncp1\ndone\n"), None);
    }
}
