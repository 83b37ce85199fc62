//! A journal's steps, and each file's way through them.
//!
//! A path may change in several steps, each time from what the step before left. What has to be at a path is told by that
//! chain and by how many steps are done, never by looking which of its states is there: two of them may be the same.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::journal::{Entry, FileState, Journal};
use super::state::OperationFolder;
use crate::plan::phase::Phase;

impl Journal {
    /// How many steps there are; one when all changes are made at once.
    pub fn step_count(&self) -> usize {
        self.steps.len().max(1)
    }

    /// The round to which a step belongs.
    pub fn phase_of(&self, step: usize) -> Phase {
        self.steps.get(step).map_or_else(Phase::default, |step| step.phase)
    }

    /// The rounds that this node goes through, in order.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases: Vec<Phase> = (0..self.step_count()).map(|step| self.phase_of(step)).collect();
        phases.dedup();
        phases
    }

    /// The node's steps of a round; empty when it has none.
    pub fn steps_of(&self, phase: Phase) -> Range<usize> {
        let start = (0..self.step_count()).take_while(|step| self.phase_of(*step) < phase).count();
        let length = (start..self.step_count()).take_while(|step| self.phase_of(*step) == phase).count();
        start..start + length
    }

    /// Whether something of a round may have happened on this node.
    pub fn has_begun(&self, phase: Phase) -> bool {
        let steps = self.steps_of(phase);
        !steps.is_empty() && (self.done > steps.start || self.done == steps.start && self.begun)
    }

    /// Whether nothing of a round is left to do on this node.
    pub fn has_finished(&self, phase: Phase) -> bool {
        self.done >= self.steps_of(phase).end
    }

    /// Whether something of a later round may have happened on this node.
    pub fn is_beyond(&self, phase: Phase) -> bool {
        self.phases().into_iter().any(|other| other > phase && self.has_begun(other))
    }

    /// Whether no round has begun on this node from which there is no way back.
    pub fn can_be_taken_back(&self) -> bool {
        self.phases().into_iter().all(|phase| phase.can_be_taken_back() || !self.has_begun(phase))
    }

    /// The step to take back next: the one that has begun, else the last one done.
    pub fn last_begun(&self) -> Option<usize> {
        if self.begun && self.done < self.step_count() { Some(self.done) } else { self.done.checked_sub(1) }
    }

    /// Why steps and changes do not belong together, if they do not.
    pub(super) fn misfit(&self) -> Option<&'static str> {
        let mut places = HashSet::new();
        if self.done > self.step_count() {
            Some("more of its steps are done than there are")
        } else if !self.steps.is_sorted_by_key(|step| step.phase) {
            Some("its rounds are not in order")
        } else if !self.changes.is_sorted_by_key(|entry| entry.step) {
            Some("its steps are not in order")
        } else if self.changes.iter().any(|entry| entry.step >= self.step_count()) {
            Some("it has changes of a step that there is not")
        } else if !self.changes.iter().all(|entry| places.insert((&entry.path, entry.step))) {
            Some("a file changes twice in one step")
        } else {
            None
        }
    }

    /// The change of the same path before the one at `index`, if there is one.
    pub(super) fn earlier(&self, index: usize) -> Option<usize> {
        let path = &self.changes.get(index)?.path;
        self.changes[..index].iter().rposition(|entry| entry.path == *path)
    }

    /// The first change of every path: its `before` is what was there when the operation began.
    pub(super) fn originals(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let mut seen = HashSet::new();
        self.changes.iter().enumerate().filter(move |(_, entry)| seen.insert(&entry.path))
    }

    /// The change that says what is at a path now: the one of the step that may be half made; else the last one done, else
    /// the first.
    pub(super) fn ruling(&self, path: &str) -> Option<usize> {
        let own = || self.changes.iter().enumerate().filter(|(_, entry)| entry.path == path);
        let current = own().find(|(_, entry)| entry.step == self.done);
        let last = || own().rfind(|(_, entry)| entry.step < self.done);
        current.or_else(last).or_else(|| own().next()).map(|(index, _)| index)
    }

    /// Whether none of the operation's files is in a folder when all steps are done.
    pub(super) fn leaves_nothing_in(&self, folder: &Path) -> bool {
        let mut last = HashMap::new();
        for entry in self.changes.iter().filter(|entry| Path::new(&entry.path).starts_with(folder)) {
            last.insert(&entry.path, &entry.after);
        }
        last.into_values().all(|after| *after == FileState::Absent)
    }

    /// Where the content is that was at the path before the change at `index`, if that was a file: in the backup, or in the
    /// stage where an earlier step left it.
    pub(super) fn copy_of_before(&self, folder: &OperationFolder, index: usize) -> PathBuf {
        self.earlier(index).map_or_else(|| folder.saved(index), |earlier| folder.staged(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::operation::{Operation, ProvisioningState};
    use crate::plan::phase::Step;

    fn journal(phases: &[Phase], changes: &[(&str, usize)]) -> Journal {
        let operation = Operation {
            kind: "Operation".to_owned(),
            id: "20260102T030405Z-0000000a".to_owned(),
            command: "rotate-certs".to_owned(),
            provisioning_state: ProvisioningState::CertificateRotating,
            started_at: None,
            ended_at: None,
            unavailability_seconds: None,
            phases: Vec::new(),
            nodes: Vec::new(),
            next_steps: Vec::new(),
        };
        let entry = |(path, step): &(&str, usize)| Entry {
            path: (*path).to_owned(),
            step: *step,
            before: FileState::Absent,
            after: FileState::Absent,
        };
        let mut journal = Journal::new("cp1", operation, 0o755);
        journal.steps = phases.iter().map(|phase| Step { phase: *phase, ..Step::default() }).collect();
        journal.changes = changes.iter().map(entry).collect();
        journal
    }

    #[test]
    fn a_journal_without_steps_has_one() {
        let mut journal = journal(&[], &[("/a", 0)]);
        assert_eq!((journal.step_count(), journal.phases()), (1, vec![Phase::Renew]));
        assert_eq!(journal.steps_of(Phase::Renew), 0..1);
        assert!(journal.steps_of(Phase::DropOld).is_empty());
        assert!(!journal.has_begun(Phase::Renew) && !journal.has_finished(Phase::Renew));
        journal.begun = true;
        assert!(journal.has_begun(Phase::Renew) && journal.can_be_taken_back());
        assert_eq!(journal.last_begun(), Some(0));
    }

    #[test]
    fn rounds_begin_and_end_with_their_steps() {
        use Phase::{DropOld, IssueNew, Kubelets, TrustBoth};
        let mut journal = journal(&[TrustBoth, TrustBoth, IssueNew, DropOld], &[]);
        assert_eq!(journal.steps_of(TrustBoth), 0..2);
        journal.done = 2;
        assert!(journal.has_finished(TrustBoth) && !journal.is_beyond(TrustBoth));
        assert!(journal.has_finished(Kubelets) && !journal.has_begun(Kubelets), "a round without steps is over");
        assert_eq!(journal.last_begun(), Some(1));
        journal.begun = true;
        assert!(journal.has_begun(IssueNew) && journal.is_beyond(TrustBoth) && journal.is_beyond(Kubelets));
        assert_eq!(journal.last_begun(), Some(2));
        (journal.done, journal.begun) = (3, false);
        assert!(journal.can_be_taken_back() && !journal.has_finished(DropOld));
        journal.begun = true;
        assert!(!journal.can_be_taken_back());
        (journal.done, journal.begun) = (4, false);
        assert!(journal.has_finished(DropOld) && !journal.can_be_taken_back());
        assert_eq!(journal.last_begun(), Some(3));
    }

    #[test]
    fn what_is_at_a_path_is_said_by_the_step_under_way_then_the_last_then_the_first() {
        use Phase::TrustBoth;
        let mut journal = journal(&[TrustBoth; 4], &[("/a", 0), ("/b", 1), ("/a", 2), ("/b", 3)]);
        let ruling = |done, journal: &mut Journal| {
            journal.done = done;
            (journal.ruling("/a").unwrap_or(9), journal.ruling("/b").unwrap_or(9))
        };
        let rulings: Vec<_> = (0..5).map(|done| ruling(done, &mut journal)).collect();
        assert_eq!(rulings, [(0, 1), (0, 1), (2, 1), (2, 3), (2, 3)]);
        assert_eq!((journal.earlier(2), journal.earlier(1)), (Some(0), None));
        assert_eq!(journal.originals().map(|(index, _)| index).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn steps_that_do_not_fit_are_told() {
        use Phase::{IssueNew, TrustBoth};
        assert_eq!(journal(&[TrustBoth, IssueNew], &[("/a", 0), ("/b", 0), ("/a", 1)]).misfit(), None);
        assert!(journal(&[IssueNew, TrustBoth], &[]).misfit().is_some());
        assert!(journal(&[TrustBoth, IssueNew], &[("/a", 1), ("/b", 0)]).misfit().is_some());
        assert!(journal(&[TrustBoth], &[("/a", 1)]).misfit().is_some());
        assert!(journal(&[], &[("/a", 0), ("/a", 0)]).misfit().is_some());
        let mut journal = journal(&[], &[]);
        journal.done = 2;
        assert!(journal.misfit().is_some());
    }
}
