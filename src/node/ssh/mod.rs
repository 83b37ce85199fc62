//! Another machine, over SSH: no agent, no Python, nothing installed; a POSIX shell and the usual small programs.
//!
//! One fixed script per operation runs there, with its data on standard input. Host keys are verified always. Links,
//! owners, modes and the way a file is replaced are judged and done on the node as [`super::local`] does them here.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{NoWire, Wire};
use super::{Effect, Found, LockGuard, LockOwner, Node, NodeFacts, Query};

mod access;
mod answer;
mod authentication;
mod channel;
mod command;
mod config;
mod connect;
mod dialling;
mod facts;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host_key;
mod jump;
mod key_file;
mod known_hosts;
mod link;
mod locking;
mod options;
mod program;
mod reading;
mod records;
mod settings;
mod shell;
mod trouble;
mod wiped;
mod writing;

pub use access::{NobodyToAsk, Questions, SshAccess, UnknownHostKey};
pub use options::{ConfigFile, SshOptions, Sudo};

use shell::Shell;

/// A machine that is reached over SSH. It is connected when first needed.
#[derive(Debug)]
pub struct SshNode {
    shell: Arc<Shell>,
}

impl SshNode {
    /// The machine that `options` lead to. Nodes of one run share `access`.
    pub fn new(name: impl Into<String>, options: SshOptions, access: &Arc<SshAccess>) -> Self {
        Self { shell: Arc::new(Shell::new(name.into(), options, Arc::clone(access))) }
    }

    /// Connects and logs in now, unless that has been done.
    ///
    /// # Errors
    /// When the machine cannot be reached, is not the one it should be, or does not let us in.
    pub fn connect(&self) -> anyhow::Result<()> {
        self.shell.connect()
    }
}

impl Node for SshNode {
    fn name(&self) -> &str {
        &self.shell.node
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        facts::facts(&self.shell)
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        reading::read(&self.shell, queries)
    }

    fn survey(&self, queries: &[Query]) -> anyhow::Result<(NodeFacts, Vec<Found>)> {
        reading::survey(&self.shell, queries)
    }

    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        writing::apply(&self.shell, effect)
    }

    fn run(&self, command: &str) -> anyhow::Result<()> {
        writing::run_command(&self.shell, command)
    }

    fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        locking::lock(&self.shell, path, owner)
    }

    fn address(&self) -> Option<IpAddr> {
        self.shell.state().peer
    }

    fn dial(&self, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Wire>, NoWire> {
        dialling::dial(&self.shell, host, port, limit)
    }
}
