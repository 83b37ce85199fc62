//! What another machine says about itself.

use std::net::IpAddr;
use std::time::Instant;

use time::{Duration, OffsetDateTime};

use super::answer::{Answer, Words};
use super::command::{Message, scripts};
use super::shell::{Kind, Shell};
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
    parse(words).ok_or_else(|| {
        Failure::failed(format!("{}: does not tell its name and clock: {}", shell.node, answer.reason())).into()
    })
}

/// Takes the words up to the one that ends the facts.
pub(super) fn parse(words: &mut Words<'_>) -> Option<Told> {
    let (mut clock, mut uid, mut host_name) = (None, None, None);
    let (mut preferred, mut all) = (Vec::new(), Vec::new());
    loop {
        let line = words.text_line()?;
        let text = |counted: Option<&[u8]>| counted.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        match line.split(' ').next()? {
            "clock" => clock = Some(instant(line.strip_prefix("clock ")?)?),
            "uid" => uid = line.strip_prefix("uid ")?.parse().ok(),
            "name" => host_name = Some(text(words.counted(line))?),
            "network" => {
                let text = text(words.counted(line))?;
                preferred = after_word(&text, "src");
                all = after_word(&text, "inet");
                all.extend(after_word(&text, "inet6"));
            }
            "trie" => all.extend(trie(&text(words.counted(line))?)),
            "inet6" => all.extend(inet6(&text(words.counted(line))?)),
            "done" => break,
            _ => return None,
        }
    }
    let mut addresses = Vec::new();
    for address in preferred.into_iter().chain(all).filter(|address| is_reachable(*address)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
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

/// The addresses that follow `word` in what `ip` prints.
fn after_word(text: &str, word: &str) -> Vec<IpAddr> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let address = |word: &str| word.split('/').next().and_then(|address| address.parse().ok());
    words.windows(2).filter(|pair| pair[0] == word).filter_map(|pair| address(pair[1])).collect()
}

/// `/proc/net/fib_trie`: an address of the machine is followed by a line that says so.
fn trie(text: &str) -> Vec<IpAddr> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_own = |line: &str| line == "/32 host LOCAL";
    let address = |line: &str| line.strip_prefix("|-- ").and_then(|address| address.parse().ok());
    lines.windows(2).filter(|pair| is_own(pair[1])).filter_map(|pair| address(pair[0])).collect()
}

/// `/proc/net/if_inet6`: 32 hexadecimal digits at the start of each line.
fn inet6(text: &str) -> Vec<IpAddr> {
    let digits = text.lines().filter_map(|line| line.split(' ').next().filter(|digits| digits.len() == 32));
    digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(|bits| IpAddr::V6(bits.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::wiped::Wiped;
    use super::*;

    fn told(text: &str) -> Option<Told> {
        let mut stdout = Wiped::default();
        stdout.push(format!("\nkubepki 0123\n{text}").as_bytes());
        parse(&mut Answer::find(stdout, Vec::new(), "0123").expect("it spoke").words())
    }

    fn counted(word: &str, text: &str) -> String {
        format!("{word} {}\n{text}\n", text.len())
    }

    #[test]
    fn the_address_of_the_default_route_comes_first() {
        let text = [
            "clock 1767323045.250000000\nuid 0\n",
            &counted("name", "cp1"),
            &counted(
                "network",
                "192.0.2.1 via 10.0.0.254 dev eth1 src 10.0.0.2 uid 0 \\    cache\n\
                 1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet 172.16.0.1/24 scope global eth0\n\
                 3: eth1    inet 10.0.0.2/24 brd 10.0.0.255\n3: eth1    inet6 fe80::1/64 scope link\n\
                 3: eth1    inet6 fd00::2/64 scope global",
            ),
            "done\n",
        ]
        .concat();
        let Told { facts, clock } = told(&text).expect("complete");
        let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.2", "172.16.0.1", "fd00::2"]);
        assert_eq!(clock, time::macros::datetime!(2026-01-02 03:04:05.25 UTC));
        assert_eq!((facts.host_name.as_str(), facts.uid), ("cp1", 0));
    }

    #[test]
    fn a_machine_without_ip_is_read_from_the_kernel() {
        let text = [
            "clock 1767323045.%N\nuid 1000\n",
            &counted("name", "w1"),
            &counted(
                "trie",
                "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.7\n        \
                 /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL",
            ),
            &counted(
                "inet6",
                "fd000000000000000000000000000007 02 40 00 80 eth0\n00000000000000000000000000000001 01 80",
            ),
            "done\n",
        ]
        .concat();
        let Told { facts, clock } = told(&text).expect("complete");
        let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.7", "fd00::7"]);
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
