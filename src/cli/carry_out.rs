//! How every changing command carries its plan out: ask, mint, write, or finish what was interrupted.
//!
//! The commands decide what is to happen; what is the same for all of them, from the question to the journal, is here.

use std::path::PathBuf;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;

use super::backup_copy;
use super::change::ChangeArgs;
use super::records;
use super::rolling::{Resumed, Rolling};
use super::session::{Decision, Session};
use super::target::{Target, TargetArgs, TargetNode};
use super::transactions::{Teller, transactions};
use crate::apply::journal::Journal;
use crate::apply::transaction::Transactions;
use crate::apply::{change, existing, mint, requests};
use crate::error::Failure;
use crate::node::Node;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::plan::blueprint::Blueprint;
use crate::plan::operation::{FileAction, NodeReport, NodeState, Operation, ProvisioningState};
use crate::report::Report;
use crate::report::progress::Progress;

/// A changing command at work on its target.
pub struct Crew<'a> {
    pub(super) session: &'a Session,
    pub(super) target: &'a Target,
    args: &'a TargetArgs,
    command: &'a str,
    copies: Option<PathBuf>,
    rolling: Option<Rolling<'a>>,
    words: Vec<String>,
    /// Whether it returns as soon as everything is staged.
    pub(super) is_detached: bool,
}

impl<'a> Crew<'a> {
    /// `command` as it is typed (`rotate-certs`), for its target.
    pub fn new(session: &'a Session, target: &'a Target, args: &'a TargetArgs, command: &'a str) -> Self {
        Self { session, target, args, command, copies: None, rolling: None, words: Vec::new(), is_detached: false }
    }

    /// Puts another copy of every file into this folder before it changes.
    #[must_use]
    pub fn with_copies_in(self, folder: Option<PathBuf>) -> Self {
        Self { copies: folder, ..self }
    }

    /// Changes a live cluster node after node. `words` are those after the command's name, to ask for the same again.
    #[must_use]
    pub fn rolling(self, rolling: Rolling<'a>, words: Vec<String>) -> Self {
        Self { rolling: Some(rolling), words, ..self }
    }

    /// Notes what was asked for, as [`Crew::rolling`] does, where nothing runs.
    #[must_use]
    pub fn asked_with(self, words: Vec<String>) -> Self {
        Self { words, ..self }
    }

    /// Returns as soon as everything is staged on all nodes, and leaves the rest to a run in the background.
    #[must_use]
    pub fn detached(self, is_detached: bool) -> Self {
        Self { is_detached, ..self }
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
        Ok(self.journals()?.into_iter().flatten().next())
    }

    /// The unfinished journal of each node of the target, in their order.
    pub(super) fn journals(&self) -> anyhow::Result<Vec<Option<Journal>>> {
        let nodes = self.nodes();
        let look =
            |node: &dyn Node| self.quietly(self.target_of(node.name())?, |transactions| transactions.unfinished());
        side_by_side(&nodes, AT_ONCE, &self.session.interrupt, &|_| {}, &look).into_iter().collect()
    }

    /// Refuses to begin while an operation of another command has not ended.
    ///
    /// # Errors
    /// Exit code 6, with both ways out.
    pub fn refuse_other(&self, journal: &Journal) -> anyhow::Result<()> {
        let other = &journal.operation;
        if other.command == self.command {
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
        self.carry_out_shown(change, blueprint, question, None)
    }

    /// As [`Crew::carry_out`], but what the operator is shown is `shown` and not the operation.
    ///
    /// # Errors
    /// As [`Crew::carry_out`].
    pub fn carry_out_shown(
        &self,
        change: &ChangeArgs,
        blueprint: &Blueprint,
        question: &str,
        shown: Option<&dyn Report>,
    ) -> anyhow::Result<Option<Operation>> {
        let mut operation = blueprint.operation(&change::operation_id(self.session.now)?);
        // A node on which nothing changes has nothing to wait for.
        let is_idle = |node: &NodeReport| node.files.iter().all(|file| file.action == FileAction::Unchanged);
        if !change.what_if {
            operation.nodes.iter_mut().filter(|node| is_idle(node)).for_each(|node| node.state = NodeState::Finished);
        }
        for warning in &blueprint.warnings {
            self.session.ui.warning(warning);
        }
        let names: Vec<&str> = operation.nodes.iter().map(|node| node.name.as_str()).collect();
        if self.session.decide(change, shown.unwrap_or(&operation), &names, question)? == Decision::OnlyShow {
            return Ok(None);
        }
        let nodes = self.nodes();
        let minted = self.mint(blueprint, &nodes)?;
        self.session.interrupt.check()?;
        if let Some(folder) = &self.copies {
            backup_copy::copy(blueprint, &operation.id, &nodes, folder)?;
        }
        let mut requests = requests::requests(blueprint, &operation, &nodes, &minted)?;
        let whom = (self.session, self.args, self.target);
        let later = records::write_down_all(whom, self.command, blueprint, &minted)?;
        let done = self.put_in_place(&mut operation, &mut requests);
        done.and_then(|()| {
            later.iter().try_for_each(|(node, new)| records::write_down(whom, self.command, node, new))
        })?;
        Ok(Some(operation))
    }

    /// Stages and installs what was rendered.
    fn put_in_place(
        &self,
        operation: &mut Operation,
        requests: &mut Vec<(&dyn Node, change::Request)>,
    ) -> anyhow::Result<()> {
        requests.iter_mut().for_each(|(_, request)| request.words.clone_from(&self.words));
        if let Some(rolling) = self.rolling.as_ref().filter(|_| !requests.is_empty()) {
            self.roll(rolling, operation, std::mem::take(requests))?;
            if self.is_detached {
                return Ok(());
            }
            operation.nodes.iter_mut().for_each(|node| node.state = NodeState::Finished);
            return Ok(());
        }
        for (node, request) in std::mem::take(requests) {
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
        Ok(())
    }

    fn run_on(&self, name: &str, request: change::Request) -> anyhow::Result<Operation> {
        self.on(self.target_of(name)?, |transactions| transactions.run(request))
    }

    /// The target's node of that name.
    pub(super) fn target_of(&self, name: &str) -> anyhow::Result<&'a TargetNode> {
        let target = self.target.nodes.iter().find(|target| target.node.name() == name);
        target.context("a node of the plan is none of the target's")
    }

    /// Makes everything of a plan in memory, with a bar.
    ///
    /// # Errors
    /// When a key cannot be read or made, or something would be issued that is revoked.
    pub(super) fn mint(&self, blueprint: &Blueprint, nodes: &[&dyn Node]) -> anyhow::Result<mint::Minted> {
        let new = blueprint.new_keys();
        let bar = Progress::start(&self.session.ui, "making keys", new);
        let (begun, made) = (Instant::now(), AtomicUsize::new(0));
        let tell = |event: mint::Event<'_>| {
            if let mint::Event::KeyMade { id } = event {
                bar.advance();
                self.session.ui.step(&format!("made the key of {id}"));
                if made.fetch_add(1, Ordering::Relaxed) + 1 == new {
                    let seconds = begun.elapsed().as_secs_f64();
                    self.session.ui.step(&format!("made {new} keys in {seconds:.3} s"));
                }
            }
        };
        let mut blueprint = blueprint.clone();
        if !blueprint.certificates.is_empty() {
            blueprint.bans = Some(records::bans(self.session, self.args, self.target)?);
        }
        mint::mint(&blueprint, &|source| existing::key(nodes, source), &tell)
    }

    /// Finishes what was interrupted, on every node that has something unfinished.
    ///
    /// # Errors
    /// As [`Transactions::resume`].
    pub fn resume(&self) -> anyhow::Result<Resumed> {
        let resumed = match &self.rolling {
            Some(rolling) => self.roll_on(rolling)?,
            None => {
                let operation = self.for_each_unfinished(|transactions| transactions.resume())?;
                operation.map_or(Resumed::Nothing, |operation| Resumed::Finished(Box::new(operation)))
            }
        };
        if matches!(resumed, Resumed::Nothing) {
            self.clear_left_overs()?;
        }
        Ok(resumed)
    }

    /// Takes back what was interrupted. `None` when there is nothing.
    ///
    /// # Errors
    /// As [`Transactions::abort`].
    pub fn abort(&self, force: bool) -> anyhow::Result<Option<Operation>> {
        let operation = match &self.rolling {
            Some(rolling) => self.roll_back(rolling, force)?,
            None => self.for_each_unfinished(|transactions| transactions.abort(force))?,
        };
        if operation.is_none() {
            self.clear_left_overs()?;
        }
        Ok(operation)
    }

    /// Removes what runs have left that were stopped before everything lay ready, and says so: neither finishing nor taking
    /// back is needed then.
    fn clear_left_overs(&self) -> anyhow::Result<()> {
        let nodes = self.nodes();
        let look =
            |node: &dyn Node| self.quietly(self.target_of(node.name())?, |transactions| transactions.has_left_overs());
        for (found, target) in
            side_by_side(&nodes, AT_ONCE, &self.session.interrupt, &|_| {}, &look).into_iter().zip(&self.target.nodes)
        {
            if found? {
                self.on(target, |transactions| transactions.clear())?;
                self.session.ui.status(&format!(
                    "{}: an earlier run was stopped while it made everything ready; nothing in use had changed, and what it \
                     left is removed",
                    target.node.name()
                ));
            }
        }
        Ok(())
    }

    fn for_each_unfinished(
        &self,
        work: impl Fn(&Transactions<'_>) -> anyhow::Result<Operation>,
    ) -> anyhow::Result<Option<Operation>> {
        let mut outcome = None;
        for node in &self.target.nodes {
            let Some(journal) = self.on(node, |transactions| transactions.unfinished())? else { continue };
            self.refuse_other(&journal)?;
            outcome = Some(self.on(node, &work)?);
        }
        Ok(outcome)
    }

    /// As [`Crew::on`], but without a bar: several nodes are at work.
    pub(super) fn quietly<T>(&self, node: &TargetNode, work: impl FnOnce(&Transactions<'_>) -> T) -> T {
        let tell = |event: crate::apply::progress::Event<'_>| {
            if let crate::apply::progress::Event::Warning(text) = event {
                self.session.ui.warning(&format!("{}: {text}", node.node.name()));
            }
        };
        work(&transactions(self.session, self.command, self.args, node, &tell))
    }

    pub(super) fn on<T>(&self, node: &TargetNode, work: impl FnOnce(&Transactions<'_>) -> T) -> T {
        let teller = Teller::new(&self.session.ui, node.node.name());
        let tell = |event: crate::apply::progress::Event<'_>| teller.tell(event);
        work(&transactions(self.session, self.command, self.args, node, &tell))
    }

    /// A command line that names the same target.
    pub fn command_line(&self, command: &str) -> String {
        let words = self.args.words();
        if words.is_empty() { format!("kubepki {command}") } else { format!("kubepki {command} {words}") }
    }
}
