//! What a changing command hands to the transactions of a node: who works, on what, and what is said meanwhile.

use std::sync::Mutex;

use super::session::Session;
use super::target::{TargetArgs, TargetNode};
use crate::apply::progress::Event;
use crate::apply::transaction::Transactions;
use crate::node::LockOwner;
use crate::report::Ui;
use crate::report::progress::Progress;

/// The transactions of one node of a target. `command` goes into lock and journal; `tell` is usually [`Teller::tell`].
pub fn transactions<'a>(
    session: &Session,
    command: &str,
    target: &TargetArgs,
    node: &'a TargetNode,
    tell: &'a (dyn Fn(Event<'_>) + Sync),
) -> Transactions<'a> {
    Transactions {
        node: &*node.node,
        state_folder: node.layout.state_dir(),
        owner: LockOwner { command: command.to_owned(), who: operator(), pid: std::process::id(), since: session.now },
        target_words: target.words(),
        interrupt: session.interrupt.clone(),
        progress: tell,
    }
}

/// Shows what happens on a node: a bar on a terminal, warnings always, every file with `--verbose`.
#[derive(Debug)]
pub struct Teller<'a> {
    ui: &'a Ui,
    node: String,
    bar: Mutex<Option<Progress>>,
}

impl<'a> Teller<'a> {
    /// Tells about the node called `node`.
    pub fn new(ui: &'a Ui, node: impl Into<String>) -> Self {
        Self { ui, node: node.into(), bar: Mutex::new(None) }
    }

    /// Shows one event.
    pub fn tell(&self, event: Event<'_>) {
        let node = &self.node;
        let mut bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Started { files } => *bar = Some(Progress::start(self.ui, "writing", files)),
            Event::Staged { number } => self.ui.debug(&format!("{node}: file {number} is staged")),
            Event::Committed => self.ui.step(&format!("{node}: everything is staged, files change from now on")),
            Event::Changed { path, .. } | Event::Restored { path, .. } => {
                if let Some(bar) = &*bar {
                    bar.advance();
                }
                let word = if matches!(event, Event::Changed { .. }) { "wrote" } else { "put back" };
                self.ui.step(&format!("{node}: {word} {path}"));
            }
            Event::Warning(text) => {
                // A bar and a line would share one line of the terminal.
                *bar = None;
                self.ui.warning(&format!("{node}: {text}"));
            }
        }
    }
}

/// `user@host` of whoever started this run; behind sudo the person, not root.
fn operator() -> String {
    let named =
        ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|n| !n.is_empty()));
    let user = named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}
