//! One run of `revoke` after everything is known: what it comes to, the question, the change, the proof.

use super::given::Given;
use super::matches::matches;
use super::{COMMAND, RevokeArgs, enforced, quiet, renew, sight, target_words, told};
use crate::cli::carry_out::Crew;
use crate::cli::change::ChangeArgs;
use crate::cli::session::{Decision, Session};
use crate::cli::target::{Place, Target};
use crate::diagnose::{Policy, diagnose};
use crate::error::{ExitCode, Failure};
use crate::pki::layout::Role;
use crate::pki::register::{Issued, Origin};
use crate::pki::revocation::Revocation;
use crate::plan::operation::{Operation, ProvisioningState};
use crate::plan::restart::Manifest;
use crate::plan::revoke::known::{Known, known};
use crate::plan::revoke::result::RevocationResult;
use crate::plan::revoke::{Case, Plan, Seat, lockout, plan};
use crate::report::text::counted;
use crate::snapshot::Snapshot;

/// What comes after a plan.
pub(super) enum Step {
    Done(ExitCode),
    /// These files hold certificates that are in use and would be revoked; it was agreed to renew them. And everything
    /// that was found before.
    RenewFirst(Vec<String>, Vec<Issued>),
}

/// One run with everything it was asked for.
pub(super) struct Work<'a> {
    pub(super) args: &'a RevokeArgs,
    pub(super) session: &'a Session,
    pub(super) target: &'a Target,
    pub(super) given: &'a Given,
    /// Certificates that lie on no node.
    pub(super) elsewhere: Vec<Issued>,
    pub(super) manifests: &'a [Manifest],
    pub(super) is_live: bool,
    /// Names of what is put on the ledger.
    pub(super) new: Vec<String>,
    /// Names of revocations on the ledger that say already what was asked for.
    pub(super) standing: Vec<String>,
    /// What is taken off the ledger.
    pub(super) taken: Option<Revocation>,
    /// Whether what is in use has been renewed, and everything agreed to.
    pub(super) renewed: bool,
}

impl Work<'_> {
    /// Plans, asks, writes and proves.
    ///
    /// # Errors
    /// Exit code 1 when somebody would be locked out, or nothing of it can be revoked; as [`Crew::carry_out`]; 6 when it is
    /// written down and somebody is still let in, or the cluster does not store it.
    pub(super) fn carry_out(&self, before: &Snapshot, seats: &[Seat], whole: &[Revocation]) -> anyhow::Result<Step> {
        let (args, session, now) = (self.args, self.session, self.session.now);
        let mut names = self.new.clone();
        names.extend(self.standing.iter().filter(|name| !self.new.contains(name)).cloned());
        names.dedup();
        let names = names.as_slice();
        let after = self.as_it_will_be(before, whole);
        let diagnosis = diagnose(&after, &Policy { target: target_words(&args.target), ..Policy::at(now) });
        let known = known(&after, &diagnosis.rows, &self.elsewhere, whole);
        let told = self.told(&known);
        let files = sight::files(self.target, seats, session)?;
        let case = Case {
            snapshot: before,
            seats,
            ledger: whole,
            names,
            known: &known,
            told: &told,
            manifests: self.manifests,
            files: &files,
            is_live: self.is_live,
            prepare: args.prepare,
            now,
        };
        let Plan { blueprint, states } = plan(&case)?;
        let mut result = RevocationResult {
            kind: "RevocationResult",
            name: args.delete.clone().unwrap_or_else(|| names.join(", ")),
            provisioning_state: ProvisioningState::Planned,
            matches: matches(&diagnosis.rows, &known, whole, names, now),
            components: states,
            proof: Vec::new(),
            holders: self.given.holders.clone(),
            taken_back: args.delete.is_some(),
            nodes: blueprint.operation("").nodes,
            next_steps: blueprint.next_steps.clone(),
        };
        let left_out = self.left_out();
        if !left_out.is_empty() {
            result.next_steps.push(format!(
                "do the same on {}: each control-plane node enforces for itself, and only those that were chosen have it on their \
                 ledger",
                left_out.join(", ")
            ));
        }
        let renewable = if args.renew && !self.renewed { renew::paths(&case, &diagnosis.rows) } else { Vec::new() };
        let operator = told::operator();
        let is_renewed =
            |path: &str| args.target.place == Place::ThisMachine && renewable.iter().any(|one| one == path);
        let operator: Vec<String> =
            operator.into_iter().filter(|(path, _)| !is_renewed(path)).map(|(_, sha256)| sha256).collect();
        // Whom the ledger locks out already is not asked about again.
        let locked_out = lockout::of(&Case { names: &self.new, ..case }, &operator, &renewable);
        if !locked_out.is_empty() {
            self.lock_out(&locked_out)?;
        }
        let hit: Vec<&Known> = case.hit().collect();
        if !hit.is_empty() && hit.iter().all(|known| known.is_kubelet_serving()) {
            session.result(&result)?;
            let message = "nothing is revoked: all that matches are serving certificates of kubelets, and those cannot be revoked";
            return Err(Failure::failed(message)
                .hint("whoever connects to a kubelet checks no list; have the kubelet make a new one: `kubepki repair-certs`")
                .into());
        }
        let question = self.question(hit.len(), seats.len());
        // Where there is nobody to revoke, the question about --prepare was the one question.
        let has_agreed = args.prepare && names.is_empty();
        let mut change = if has_agreed { enforced::agreed(&args.change) } else { args.change.clone() };
        if !renewable.is_empty() {
            let renews = format!("renewed first: {}", renewable.join(", "));
            result.next_steps.insert(0, renews);
            let nodes: Vec<&str> = seats.iter().map(|seat| seat.node.as_str()).collect();
            let question = format!("Renew {} and then: {question}", counted(renewable.len(), "file"));
            return Ok(match session.decide(&change, &result, &nodes, &question)? {
                Decision::OnlyShow => Step::Done(ExitCode::Done),
                Decision::Apply => Step::RenewFirst(renewable, told),
            });
        }
        if self.renewed {
            change = ChangeArgs { yes: true, ..ChangeArgs::default() };
        }
        let mut crew = Crew::new(session, self.target, &args.target, COMMAND);
        if self.is_live {
            crew = crew.rolling(quiet(self.target), Vec::new());
        }
        let Some(operation) = crew.carry_out_shown(&change, &blueprint, &question, Some(&result))? else {
            return Ok(Step::Done(ExitCode::Done));
        };
        if hit.is_empty() && !names.is_empty() {
            session
                .ui
                .status("no certificate that is known matches; the entries stay on the ledger for those that turn up");
        }
        self.finish(&mut result, operation);
        if self.is_live {
            self.prove(&mut result, &hit)?;
        }
        let stored = if args.apply { self.store(whole) } else { Ok(()) };
        session.result(&result)?;
        stored.map(|()| Step::Done(ExitCode::Done))
    }

    /// The snapshot with the new ledger on every node, and the given files.
    fn as_it_will_be(&self, before: &Snapshot, whole: &[Revocation]) -> Snapshot {
        let mut after = before.clone();
        for node in &mut after.nodes {
            node.records.ledger.revocations = whole.to_vec();
        }
        if let Some(found) = &self.given.found {
            let mut found = found.clone();
            let here = after.nodes.iter().position(|node| node.name == found.name);
            match here.and_then(|place| after.nodes.get_mut(place)) {
                Some(node) => {
                    found.artifacts.retain(|artifact| node.at(&artifact.path).is_none());
                    node.artifacts.append(&mut found.artifacts);
                }
                None => after.nodes.push(found),
            }
        }
        after
    }

    /// Control-plane nodes of the cluster that were not chosen.
    fn left_out(&self) -> Vec<&str> {
        let listed = self.target.cluster.as_ref().map(|file| file.spec.nodes.as_slice()).unwrap_or_default();
        let ruling = listed.iter().filter(|node| node.role == Role::ControlPlane).map(|node| node.name.as_str());
        ruling.filter(|name| !self.target.nodes.iter().any(|node| node.node.name() == *name)).collect()
    }

    /// What goes into the registers: everything that was found and is not there yet.
    fn told(&self, known: &[Known]) -> Vec<Issued> {
        let found = known.iter().filter(|known| known.certificate.is_some() && !known.issued.is_ca);
        let given: Vec<String> = self.given.certificates.iter().map(|one| one.fingerprint_hex()).collect();
        let origin = |issued: &Issued| if given.contains(&issued.sha256) { Origin::File } else { issued.source };
        let found = found.map(|known| Issued { source: origin(&known.issued), ..known.issued.clone() });
        found.chain(self.elsewhere.iter().cloned()).collect()
    }

    fn lock_out(&self, who: &[String]) -> anyhow::Result<()> {
        let list = who.join("\n  ");
        if self.args.force || self.args.change.what_if {
            self.session.ui.warning(&format!("this locks out:\n  {list}"));
            return Ok(());
        }
        Err(Failure::failed(format!("nothing is revoked, because this would lock out:\n  {list}"))
            .hint("--renew renews them first; --not-before spares newer ones; --force revokes all the same")
            .into())
    }

    fn question(&self, hit: usize, seats: usize) -> String {
        let nodes = counted(seats, "control-plane node");
        match (&self.args.delete, self.new.as_slice(), self.standing.as_slice()) {
            (Some(name), ..) => {
                format!("Take the revocation {name} back on {nodes}? What it revoked counts again.")
            }
            (None, [], []) if self.args.apply => "Store all revocations in the cluster as well?".to_owned(),
            (None, [], []) => format!("Change the files above on {nodes}?"),
            (None, [], standing) => format!("Enforce {} anew on {nodes}?", standing.join(", ")),
            (None, new, _) => format!("Revoke {} ({}) on {nodes}?", counted(hit, "certificate"), new.join(", ")),
        }
    }

    fn finish(&self, result: &mut RevocationResult, operation: Operation) {
        use crate::plan::revoke::result::Enforcement;
        let now = self.session.by_now();
        let now = now.replace_nanosecond(0).unwrap_or(now);
        result.provisioning_state = operation.provisioning_state;
        result.nodes = operation.nodes;
        for state in result.components.iter_mut().filter(|state| state.state == Enforcement::Enforced) {
            state.since = state.since.or(Some(now));
        }
    }
}
