//! How to reach a node over SSH, as a cluster file or the command line says it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Failure;

/// How to reach one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshOptions {
    /// Address, host name, or a name that the SSH configuration knows.
    pub host: String,
    /// TCP port; `None` is that of the SSH configuration, else 22.
    pub port: Option<u16>,
    /// User name; `None` is that of the SSH configuration, else one's own.
    pub user: Option<String>,
    /// Private key that is tried after the agent's; `~/` is one's home.
    pub private_key_file: Option<PathBuf>,
    /// Known host keys, also where new ones are added; `None` are those of the SSH configuration.
    pub known_hosts_file: Option<PathBuf>,
    /// `[USER@]HOST[:PORT]` to go through, several separated by commas; `none` forbids what the configuration says.
    pub jump_host: Option<String>,
    /// Which SSH configuration is read.
    pub config: ConfigFile,
    /// When commands on the node become root.
    pub sudo: Sudo,
    /// For name lookup, connection, key exchange and login, each.
    pub connect_timeout: Duration,
    /// For one command on the node, from asking for it to its end.
    pub command_deadline: Duration,
    /// How often something is sent while nothing else is, so that neither side loses the other unnoticed.
    pub keepalive: Duration,
}

/// Which SSH configuration is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum ConfigFile {
    /// The user's and the machine's.
    #[default]
    Usual,
    /// This one only.
    File(PathBuf),
    /// None.
    Nothing,
}

/// When commands on a node run through sudo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sudo {
    /// When the user is not root.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl SshOptions {
    /// The same without user and port, which are the machine's own matter.
    pub(super) fn without_login(&self) -> Self {
        Self { user: None, port: None, ..self.clone() }
    }

    /// Everything as the SSH configuration says.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: None,
            user: None,
            private_key_file: None,
            known_hosts_file: None,
            jump_host: None,
            config: ConfigFile::default(),
            sudo: Sudo::default(),
            connect_timeout: Duration::from_secs(15),
            command_deadline: Duration::from_secs(120),
            keepalive: Duration::from_secs(20),
        }
    }

    /// The same way of reaching `hop`, which stands before this node.
    pub(super) fn for_hop(&self, hop: Hop) -> Self {
        Self { host: hop.host, port: hop.port, user: hop.user, jump_host: None, sudo: Sudo::Never, ..self.clone() }
    }
}

/// One machine on the way to a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
}

impl Hop {
    /// Reads `[USER@]HOST[:PORT]` or `ssh://[USER@]HOST[:PORT]`, several separated by commas. `none` is the empty list.
    ///
    /// # Errors
    /// A usage failure that quotes the part which is wrong.
    pub(super) fn parse_list(text: &str) -> anyhow::Result<Vec<Self>> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Vec::new());
        }
        text.split(',').map(|part| Self::parse(part.trim())).collect()
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = || Failure::usage(format!("{text:?} is no jump host")).hint("write it as [USER@]HOST[:PORT]");
        let rest = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        // An IPv6 address has colons of its own; it is bracketed when a port follows.
        let (host, port) = if let Some(rest) = place.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("?") }))
        } else if place.matches(':').count() == 1 {
            place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
        } else {
            (place, None)
        };
        let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)).transpose()?;
        if !is_host(host) || user.is_some_and(|user| !is_user(user)) {
            return Err(wrong().into());
        }
        Ok(Self { host: host.to_owned(), port, user: user.map(str::to_owned) })
    }
}

/// Whether SSH takes `text` for a host: an address, or a name without what could mean something else on its way.
fn is_host(text: &str) -> bool {
    let address = text.split('%').next().unwrap_or_default();
    let is_plain =
        |letter: char| !letter.is_whitespace() && !letter.is_control() && !"[]@/'`\"$\\;&<>|(){}".contains(letter);
    let is_address = !text.contains(':') || address.parse::<std::net::Ipv6Addr>().is_ok();
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) && is_address
}

/// Whether `text` can be a user's name.
fn is_user(text: &str) -> bool {
    let is_plain = |letter: char| !letter.is_whitespace() && !letter.is_control() && letter != '/';
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain)
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// `~/` at the start of a path is one's home.
pub(super) fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(user: Option<&str>, host: &str, port: Option<u16>) -> Hop {
        Hop { host: host.to_owned(), port, user: user.map(str::to_owned) }
    }

    #[test]
    fn jump_hosts_are_read_with_user_port_and_ipv6() {
        let cases = [
            ("bastion", vec![hop(None, "bastion", None)]),
            ("ops@bastion.example.com:22", vec![hop(Some("ops"), "bastion.example.com", Some(22))]),
            ("ssh://ops@bastion:2222/", vec![hop(Some("ops"), "bastion", Some(2222))]),
            ("fd00::1", vec![hop(None, "fd00::1", None)]),
            ("a@[fd00::1]:22", vec![hop(Some("a"), "fd00::1", Some(22))]),
            ("[fd00::1]", vec![hop(None, "fd00::1", None)]),
            ("a, b@c:1", vec![hop(None, "a", None), hop(Some("b"), "c", Some(1))]),
            ("user@domain@host", vec![hop(Some("user@domain"), "host", None)]),
            ("NONE", vec![]),
        ];
        for (text, expected) in cases {
            let hops = Hop::parse_list(text).expect("a jump host");
            assert_eq!(hops, expected, "{text}");
            for hop in hops {
                assert_eq!(Hop::parse_list(&hop.to_string()).expect("as written"), [hop]);
            }
        }
    }

    #[test]
    fn what_is_no_jump_host_is_quoted() {
        for text in [
            "",
            "a:",
            "a:0",
            "a:99999",
            "a:ssh",
            "@a",
            "a,,b",
            "[fd00::1",
            "[fd00::1]x",
            "-oProxyCommand=x",
            "a[f00::1]:",
            "b:1:2",
            "a b",
            "a\0",
            "a/b",
            "x y@b",
            "ssh://ssh://a@b",
            "$(x)",
        ] {
            let error = Hop::parse_list(text).expect_err(text);
            assert!(error.to_string().contains("is no jump host"), "{text}: {error}");
        }
    }
}
