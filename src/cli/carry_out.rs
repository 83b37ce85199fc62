//! How every changing command carries its plan out: ask, mint, write, or finish what was interrupted.
//!
//! The commands decide what is to happen; what is the same for all of them, from the question to the journal, is here.

use anyhow::Context as _;

use super::change::ChangeArgs;
use super::session::{Decision, Session};
use super::target::{Target, TargetArgs, TargetNode};
use crate::apply::journal::Journal;
use crate::apply::progress::Event;
use crate::apply::transaction::Transactions;
use crate::apply::{change, existing, mint, requests};
use crate::error::Failure;
use crate::node::{LockOwner, Node};
use crate::plan::blueprint::Blueprint;
use crate::plan::operation::{NodeState, Operation, ProvisioningState};
use crate::report::progress::Progress;

/// A changing command at work on its target.
pub struct Crew<'a> {
    session: &'a Session,
    target: &'a Target,
    words: String,
    owner: LockOwner,
}

impl<'a> Crew<'a> {
    /// `command` as it is typed (`rotate-certs`), for its target.
    pub fn new(session: &'a Session, target: &'a Target, args: &TargetArgs, command: &str) -> Self {
        let owner =
            LockOwner { command: command.to_owned(), who: who(target), pid: std::process::id(), since: session.now };
        Self { session, target, words: args.words(), owner }
    }

    /// The nodes, as minting and planning want them.
    pub fn nodes(&self) -> Vec<&'a dyn Node> {
        self.target.nodes.iter().map(|node| &*node.node).collect()
    }

    /// The operation that has begun on a node of the target and not ended.
    ///
    /// # Errors
    /// When a journal is damaged or a node cannot be read.
    pub fn unfinished(&self) -> anyhow::Result<Option<Journal>> {
        let quiet = |_: Event<'_>| {};
        for node in &self.target.nodes {
            if let Some(journal) = self.transactions(node, &quiet).unfinished()? {
                return Ok(Some(journal));
            }
        }
        Ok(None)
    }

    /// Refuses to begin while an operation of another command has not ended.
    ///
    /// # Errors
    /// Exit code 6, with both ways out.
    pub fn refuse_other(&self, journal: &Journal) -> anyhow::Result<()> {
        let other = &journal.operation;
        if other.command == self.owner.command {
            return Ok(());
        }
        let command = self.command_line(&other.command);
        Err(Failure::partial(format!(
            "{}: an earlier {} has begun and is not finished (operation {})",
            journal.node, other.command, other.id
        ))
        .hint(format!("`{command} --continue` finishes it, `{command} --abort` takes it back"))
        .into())
    }

    /// Shows the plan, asks, mints and writes. `None` when the plan was only to be shown.
    ///
    /// # Errors
    /// Exit code 1 with nothing changed when the answer is no, a key cannot be read or made, or a file is not what the
    /// plan saw; 6 when the change began and did not end.
    pub fn carry_out(
        &self,
        change: &ChangeArgs,
        blueprint: &Blueprint,
        question: &str,
    ) -> anyhow::Result<Option<Operation>> {
        let mut operation = blueprint.operation(&change::operation_id(self.session.now)?);
        for warning in &blueprint.warnings {
            self.session.ui.warning(warning);
        }
        if self.session.decide(change, &operation, question)? == Decision::OnlyShow {
            return Ok(None);
        }
        let nodes = self.nodes();
        let minted = self.mint(blueprint, &nodes)?;
        self.session.interrupt.check()?;
        for (node, request) in requests::requests(blueprint, &operation, &nodes, &minted)? {
            let done = self.run_on(node.name(), request)?;
            operation.adopt(done, node.name());
        }
        if operation.provisioning_state == ProvisioningState::Planned {
            // Nothing to change anywhere.
            operation.provisioning_state = ProvisioningState::Succeeded;
            operation.started_at = Some(self.session.now);
            operation.ended_at = Some(self.session.now);
        }
        operation.nodes.iter_mut().for_each(|node| node.state = NodeState::Finished);
        Ok(Some(operation))
    }

    fn run_on(&self, name: &str, request: change::Request) -> anyhow::Result<Operation> {
        let target = self.target.nodes.iter().find(|target| target.node.name() == name);
        let target = target.context("a node of the plan is none of the target's")?;
        self.with_bar("Writing files", request.changes.len(), |bar| {
            self.transactions(target, &|event| advance(bar, &self.session.ui, event)).run(request)
        })
    }

    fn mint(&self, blueprint: &Blueprint, nodes: &[&dyn Node]) -> anyhow::Result<mint::Minted> {
        let new = blueprint.new_keys();
        self.with_bar("Generating keys", new, |bar| {
            mint::mint(blueprint, &|source| existing::key(nodes, source), &|event| {
                if let mint::Event::KeyMade { id } = event {
                    bar.advance();
                    self.session.ui.step(&format!("made the key of {id}"));
                }
            })
        })
    }

    /// Finishes what was interrupted, on every node that has something unfinished. `None` when there is nothing.
    ///
    /// # Errors
    /// As [`Transactions::resume`].
    pub fn resume(&self) -> anyhow::Result<Option<Operation>> {
        self.for_each_unfinished("Writing files", |transactions| transactions.resume())
    }

    /// Takes back what was interrupted. `None` when there is nothing.
    ///
    /// # Errors
    /// As [`Transactions::abort`].
    pub fn abort(&self, force: bool) -> anyhow::Result<Option<Operation>> {
        self.for_each_unfinished("Putting files back", |transactions| transactions.abort(force))
    }

    fn for_each_unfinished(
        &self,
        words: &'static str,
        work: impl Fn(&Transactions<'_>) -> anyhow::Result<Operation>,
    ) -> anyhow::Result<Option<Operation>> {
        let mut outcome = None;
        for node in &self.target.nodes {
            let quiet = |_: Event<'_>| {};
            let Some(journal) = self.transactions(node, &quiet).unfinished()? else { continue };
            self.refuse_other(&journal)?;
            let operation = self.with_bar(words, journal.changes.len(), |bar| {
                work(&self.transactions(node, &|event| advance(bar, &self.session.ui, event)))
            })?;
            outcome = Some(operation);
        }
        Ok(outcome)
    }

    fn with_bar<T>(&self, words: &'static str, total: usize, work: impl FnOnce(&Progress) -> T) -> T {
        let bar = Progress::start(&self.session.ui, words, total);
        work(&bar)
    }

    fn transactions<'t>(&self, node: &'t TargetNode, progress: &'t (dyn Fn(Event<'_>) + Sync)) -> Transactions<'t> {
        Transactions {
            node: &*node.node,
            state_folder: node.layout.state_dir(),
            owner: self.owner.clone(),
            target_words: self.words.clone(),
            interrupt: self.session.interrupt.clone(),
            progress,
        }
    }

    /// A command line that names the same target.
    pub fn command_line(&self, command: &str) -> String {
        if self.words.is_empty() { format!("kubepki {command}") } else { format!("kubepki {command} {}", self.words) }
    }
}

fn advance(bar: &Progress, ui: &crate::report::Ui, event: Event<'_>) {
    match event {
        Event::Changed { .. } | Event::Restored { .. } => bar.advance(),
        Event::Warning(words) => ui.warning(words),
        Event::Started { .. } | Event::Staged { .. } | Event::Committed => {}
    }
}

/// `user@host` of whoever runs this, for the lock file.
fn who(target: &Target) -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = target.nodes.first().and_then(|node| node.node.facts().ok()).map(|facts| facts.host_name);
    format!("{}@{}", user.unwrap_or_else(|| "root".to_owned()), host.unwrap_or_else(|| "localhost".to_owned()))
}
