//! How the nodes of a target are logged in to: what the command line, the cluster file and the SSH configuration say.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use zeroize::Zeroizing;

use super::super::cluster_file::{ClusterFile, ClusterNode, Sudo};
use super::super::session::Session;
use crate::node::interrupt::Interrupt;
use crate::node::ssh::{self, ConfigFile, Questions, SshAccess, SshNode, SshOptions, UnknownHostKey};
use crate::report::prompt::{Answer, Terminal};

/// The options that override what a cluster file says about logging in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "SSH options (for the nodes of a cluster file, and before what it says)")]
pub struct SshArgs {
    /// Private key to log in with; keys of the agent are tried as well
    #[arg(long, value_name = "FILE")]
    pub ssh_private_key_file: Option<PathBuf>,

    /// User to log in as
    #[arg(long, value_name = "USER")]
    pub ssh_user: Option<String>,

    /// TCP port of the SSH servers
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ssh_port: Option<u16>,

    /// Machine to go through; several are separated by commas, `none` goes straight
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    pub jump_host: Option<String>,

    /// Known host keys, also where new ones are added
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,

    /// SSH configuration instead of ~/.ssh/config
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
}

impl SshArgs {
    /// Each option that was given, with its value.
    pub(super) fn words(&self) -> Vec<(&'static str, String)> {
        let path = |path: &PathBuf| path.display().to_string();
        let given = [
            ("--ssh-private-key-file", self.ssh_private_key_file.as_ref().map(path)),
            ("--ssh-user", self.ssh_user.clone()),
            ("--ssh-port", self.ssh_port.map(|port| port.to_string())),
            ("--jump-host", self.jump_host.clone()),
            ("--known-hosts", self.known_hosts.as_ref().map(path)),
            ("--ssh-config", self.ssh_config.as_ref().map(path)),
        ];
        given.into_iter().filter_map(|(option, value)| Some((option, value?))).collect()
    }

    /// The way to one node of a cluster file.
    pub fn options(&self, file: &ClusterFile, node: &ClusterNode) -> SshOptions {
        let (own, shared) = (&node.ssh, &file.spec.ssh);
        let file_of = |text: &Option<String>| text.as_ref().map(PathBuf::from);
        let sudo = own.sudo.or(shared.sudo).map(|sudo| match sudo {
            Sudo::Auto => ssh::Sudo::Auto,
            Sudo::Always => ssh::Sudo::Always,
            Sudo::Never => ssh::Sudo::Never,
        });
        SshOptions {
            port: self.ssh_port.or(own.port).or(shared.port),
            user: self.ssh_user.clone().or_else(|| own.user.clone()).or_else(|| shared.user.clone()),
            private_key_file: (self.ssh_private_key_file.clone())
                .or_else(|| file_of(&own.private_key_file))
                .or_else(|| file_of(&shared.private_key_file)),
            known_hosts_file: (self.known_hosts.clone())
                .or_else(|| file_of(&own.known_hosts_file))
                .or_else(|| file_of(&shared.known_hosts_file)),
            jump_host: (self.jump_host.clone()).or_else(|| own.jump_host.clone()).or_else(|| shared.jump_host.clone()),
            config: self.ssh_config.clone().map_or(ConfigFile::Usual, ConfigFile::File),
            sudo: sudo.unwrap_or_default(),
            ..SshOptions::new(&node.host)
        }
    }

    /// One node of a cluster file, not connected yet.
    pub fn node(&self, file: &ClusterFile, node: &ClusterNode, access: &Arc<SshAccess>) -> SshNode {
        SshNode::new(&node.name, self.options(file, node), access)
    }
}

/// What all logins of this run share.
pub fn access(session: &Session) -> Arc<SshAccess> {
    SshAccess::new(AtTerminal { interrupt: session.interrupt.clone() }, session.interrupt.clone())
}

/// Questions of a login, put to whoever sits at the terminal.
struct AtTerminal {
    interrupt: Interrupt,
}

impl Questions for AtTerminal {
    fn is_host_key_right(&self, question: &UnknownHostKey<'_>) -> Option<bool> {
        let mut terminal = Terminal::open()?;
        let preface = format!(
            "{}: the host {} is not known. Its {} key has the fingerprint\n  {}\n",
            question.node, question.host, question.key_type, question.fingerprint
        );
        terminal.show(&preface).ok()?;
        let words = format!("Is that right? It will be added to {}", question.known_hosts.display());
        let answer = terminal.ask(&words, &|| self.interrupt.is_asked()).ok()?;
        Some(answer == Answer::Yes)
    }

    fn passphrase(&self, key_file: &std::path::Path, again: bool) -> Option<Zeroizing<String>> {
        let wrong = if again { "that was not it; " } else { "" };
        let words = format!("{wrong}passphrase of {}", key_file.display());
        Terminal::open()?.secret(&words, &|| self.interrupt.is_asked()).ok()?
    }
}
