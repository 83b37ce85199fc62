//! Two control planes and a worker whose certificate authority is replaced in four rounds, and what everybody who looks
//! at them at any moment must find.

use std::path::Path;
use std::sync::{Arc, Mutex};

use kubepki::apply::change::{Change, ChangeKind, Expected, FileMode, Request, sha256};
use kubepki::apply::journal::Journal;
use kubepki::cli::carry_out::Crew;
use kubepki::cli::rolling::{Moment, Resumed, Rolling};
use kubepki::cli::session::Session;
use kubepki::cli::target::{Target, TargetArgs, TargetNode};
use kubepki::plan::operation::{FileAction, NodeReport, NodeState, Operation, ProvisioningState};
use kubepki::plan::phase::{Phase, Step};
use kubepki::plan::restart::Means;
use kubepki::report::{Format, Ui, Verbosity};
use zeroize::Zeroizing;

use crate::support::mortal::{Fate, cluster};
use crate::support::root::TestRoot;
use crate::support::tree::Tree;
use crate::support::world::{ID, STATE, look, operation, quiet, report, transactions};

pub(super) const NAMES: [&str; 3] = ["cp1", "cp2", "w1"];
pub(super) const ROUNDS: [Phase; 4] = [Phase::TrustBoth, Phase::Kubelets, Phase::IssueNew, Phase::DropOld];

pub(super) const BUNDLE: &str = "/etc/kubernetes/pki/ca.crt";
pub(super) const API_SERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
pub(super) const CONTROLLER: &str = "/etc/kubernetes/manifests/kube-controller-manager.yaml";
pub(super) const SIGNING: &str = "/etc/kubernetes/pki/kubepki/signing/ca.key";
pub(super) const SERVING: &str = "/etc/kubernetes/pki/apiserver.crt";
pub(super) const CURRENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
pub(super) const DATED: &str = "/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem";
pub(super) const OLDER: &str = "/var/lib/kubelet/pki/kubelet-client-2025.pem";

/// The nodes before the operation.
pub(super) fn before() -> Vec<TestRoot> {
    NAMES.map(node_before).into_iter().collect()
}

fn node_before(name: &str) -> TestRoot {
    let root = TestRoot::in_memory();
    root.put(BUNDLE, "O", 0o644);
    root.put(OLDER, format!("old client of {name}"), 0o600);
    root.link(CURRENT, OLDER);
    root.folder("/etc/kubernetes/tmp", 0o700);
    if name.starts_with("cp") {
        root.put("/srv/pki/apiserver.crt", format!("old certificate of {name}"), 0o640);
        root.link(SERVING, "/srv/pki/apiserver.crt");
        root.put(API_SERVER, "api server", 0o604);
        root.put(CONTROLLER, "controllers", 0o600);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(root.at(API_SERVER), Some(4711), Some(4712)).unwrap();
        }
    }
    root
}

fn put(step: usize, path: &str, content: &str, old: Option<&str>) -> Change {
    Change {
        report: report(path, FileAction::Replaced),
        kind: ChangeKind::Write {
            content: Zeroizing::new(content.as_bytes().to_vec()),
            mode: FileMode::KeepOr(0o600),
            owner: None,
        },
        step,
        expected: old.map_or(Expected::Absent, |old| Expected::Sha256(sha256(old.as_bytes()))),
    }
}

fn remove(step: usize, path: &str, old: &str) -> Change {
    let expected = Expected::Sha256(sha256(old.as_bytes()));
    Change { report: report(path, FileAction::Removed), kind: ChangeKind::Remove, step, expected }
}

fn link(step: usize) -> Change {
    let (target, expected) = (DATED.into(), Expected::LinkTo(OLDER.into()));
    Change { report: report(CURRENT, FileAction::Replaced), kind: ChangeKind::Link { target }, step, expected }
}

fn step(phase: Phase, restarts: &[&str], stops: &[&str]) -> Step {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Step { phase, restarts: names(restarts), stops: names(stops) }
}

pub(super) fn request(name: &str, operation: &Operation) -> Request {
    let (client, old) = (format!("new client of {name}"), format!("old certificate of {name}"));
    let (changes, steps) = if name.starts_with("cp") {
        (
            vec![
                put(0, BUNDLE, "ON", Some("O")),
                put(0, SIGNING, "old key", None),
                put(0, CONTROLLER, "controllers with flags", Some("controllers")),
                remove(1, API_SERVER, "api server"),
                put(2, API_SERVER, "api server, both", None),
                put(3, DATED, &client, None),
                link(3),
                put(4, BUNDLE, "NO", None),
                put(4, SIGNING, "new key", None),
                put(5, SERVING, "new certificate", Some(&old)),
                put(5, API_SERVER, "api server, again", None),
                put(6, BUNDLE, "N", None),
                remove(6, SIGNING, ""),
                put(6, CONTROLLER, "controllers", None),
                put(6, API_SERVER, "api server, last", None),
            ],
            vec![
                step(Phase::TrustBoth, &["kube-controller-manager"], &[]),
                step(Phase::TrustBoth, &[], &["kube-apiserver"]),
                step(Phase::TrustBoth, &["kube-apiserver"], &[]),
                step(Phase::Kubelets, &["kubelet"], &[]),
                step(Phase::IssueNew, &[], &[]),
                step(Phase::IssueNew, &["kube-apiserver"], &[]),
                step(Phase::DropOld, &["kube-controller-manager", "kube-apiserver", "kubelet"], &[]),
            ],
        )
    } else {
        (
            vec![put(0, BUNDLE, "ON", Some("O")), put(0, DATED, &client, None), link(0), put(1, BUNDLE, "N", None)],
            vec![step(Phase::Kubelets, &["kubelet"], &[]), step(Phase::DropOld, &["kubelet"], &[])],
        )
    };
    Request {
        operation: operation.clone(),
        changes,
        directory_mode: 0o755,
        restarting: vec![API_SERVER.to_owned(), CONTROLLER.to_owned()],
        steps,
        words: vec!["asked".to_owned()],
    }
}

/// The operation with the files of all nodes, as a plan has them.
pub(super) fn planned() -> Operation {
    let mut planned = operation(ID);
    for name in NAMES {
        let state = NodeState::Pending;
        let mut report = NodeReport { name: name.to_owned(), state, files: vec![], restarts: vec![], error: None };
        for change in request(name, &operation(ID)).changes {
            if !report.files.iter().any(|file| file.path == change.report.path) {
                report.files.push(change.report);
            }
        }
        planned.nodes.push(report);
    }
    planned
}

pub(super) fn target(roots: &[TestRoot], fate: &Fate) -> Target {
    cluster(&NAMES, roots, fate)
}

/// What the nodes have noted; none of one that has ended the operation, or not begun it.
pub(super) fn journals(roots: &[TestRoot]) -> Vec<Option<Journal>> {
    roots.iter().map(|root| transactions(&root.node, &quiet).unfinished().unwrap()).collect()
}

/// How far each node's trust has come: 0 for the old authority alone, 3 for the new one alone.
fn trust(roots: &[TestRoot]) -> Vec<usize> {
    let place =
        |root: &TestRoot| ["O", "ON", "NO", "N"].iter().position(|known| root.content(BUNDLE) == known.as_bytes());
    roots.iter().map(|root| place(root).expect("a bundle of the operation")).collect()
}

/// What must be so at every moment: no node relies on what another has not got yet. Told from the files alone, and from
/// the journals.
pub(super) fn check_rounds(roots: &[TestRoot], story: &str) -> Vec<Option<Journal>> {
    let trust = trust(roots);
    let (ruling, worker) = ((trust[0].min(trust[1]), trust[0].max(trust[1])), trust[2]);
    let is_new = |root: &TestRoot| std::fs::read_link(root.at(CURRENT)).is_ok_and(|target| target == Path::new(DATED));
    if worker > 0 || roots.iter().any(is_new) {
        assert!(ruling.0 >= 1, "{story}: a kubelet before all control planes trust both: {trust:?}");
    }
    if ruling.1 >= 2 {
        assert!(worker >= 1 && ruling.0 >= 1, "{story}: new certificates before all trust both: {trust:?}");
    }
    if ruling.1 == 3 || worker == 3 {
        assert!(ruling.0 >= 2 && worker >= 1, "{story}: the old is dropped before all issue from the new: {trust:?}");
    }
    let journals = journals(roots);
    let noted = || journals.iter().flatten();
    for round in ROUNDS {
        if noted().any(|journal| journal.is_beyond(round)) {
            assert!(noted().all(|journal| journal.has_finished(round)), "{story}: {round} is not over");
        }
    }
    journals
}

/// Every proof and moment, in order.
pub(super) type Log = Arc<Mutex<Vec<String>>>;

/// Proofs and moments that count as calls, look at the rounds, and are written down.
pub(super) fn rolling<'a>(roots: &'a [TestRoot], log: &Log, fate: &Fate) -> Rolling<'a> {
    let (proofs, proven) = (Arc::clone(log), fate.clone());
    let prove = Box::new(move |target: &TargetNode, journal: &Journal, step: usize| {
        let name = target.node.name();
        proven.call(|| {
            let phase = journal.phase_of(step);
            assert_eq!(journal.done, step, "{name}: it is proven before it is noted");
            for other in check_rounds(roots, &format!("proof of {name}, step {step}")).iter().flatten() {
                let is_open = ROUNDS.iter().filter(|round| **round < phase).all(|round| other.has_finished(*round));
                assert!(is_open && !other.is_beyond(phase), "{phase} on {name}, and {} elsewhere", other.node);
            }
            proofs.lock().unwrap().push(format!("{name} {step}"));
            Ok(())
        })
    });
    let (moments, passed) = (Arc::clone(log), fate.clone());
    let between = Box::new(move |moment: Moment, legs: &[(&TargetNode, Journal)]| {
        passed.call(|| {
            assert_eq!(legs.len(), NAMES.len());
            for ((target, told), noted) in legs.iter().zip(check_rounds(roots, &format!("{moment:?}"))) {
                let (name, noted) = (target.node.name(), noted.expect("an operation under way"));
                assert_eq!((told.done, told.begun), (noted.done, noted.begun), "{name} at {moment:?}");
                let is_open = |phase: Phase| {
                    ROUNDS.iter().filter(|round| **round < phase).all(|round| told.has_finished(*round))
                        && !told.is_beyond(phase)
                };
                match moment {
                    Moment::Before(phase) | Moment::TakenBack(phase) => {
                        assert!(is_open(phase) && !told.has_begun(phase), "{name} at {moment:?}");
                    }
                    Moment::After(phase) => {
                        assert!(is_open(phase) && told.has_finished(phase), "{name} at {moment:?}");
                    }
                }
            }
            moments.lock().unwrap().push(format!("{moment:?}"));
            Ok(())
        })
    });
    let means = Means { kubelet: "restart the kubelet".to_owned(), ..Means::default() };
    Rolling { means, parallel: 2, prove, before: Box::new(|_, _, _, _| ()), between }
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Run,
    Continue,
    Abort,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Canceled,
    Nothing,
    NotBegun,
}

pub(super) fn carry_out(roots: &[TestRoot], deed: Deed, fate: &Fate, log: &Log) -> anyhow::Result<Outcome> {
    Ok(match operate(roots, deed, fate, log, false)? {
        Resumed::NotBegun(words) => {
            assert_eq!(words, ["asked"]);
            Outcome::NotBegun
        }
        Resumed::Nothing => Outcome::Nothing,
        Resumed::Finished(operation) => match operation.provisioning_state {
            ProvisioningState::Succeeded => Outcome::Succeeded,
            ProvisioningState::Canceled => Outcome::Canceled,
            other => panic!("{other:?}"),
        },
    })
}

/// The operation as it ended, if there was one.
pub(super) fn operate(roots: &[TestRoot], deed: Deed, fate: &Fate, log: &Log, force: bool) -> anyhow::Result<Resumed> {
    let session = Session::start(Ui::new(Format::None, None, Verbosity::OnlyErrors, false));
    let (target, args) = (target(roots, fate), TargetArgs::default());
    let crew = Crew::new(&session, &target, &args, "rotate-certs").rolling(rolling(roots, log, fate), Vec::new());
    match deed {
        Deed::Run => {
            let mut operation = planned();
            let requests = target.nodes.iter().map(|node| (&*node.node, request(node.node.name(), &operation)));
            let requests = requests.collect();
            crew.roll(&rolling(roots, log, fate), &mut operation, requests)?;
            Ok(Resumed::Finished(Box::new(operation)))
        }
        Deed::Continue => crew.resume(),
        Deed::Abort => {
            Ok(crew.abort(force)?.map_or(Resumed::Nothing, |operation| Resumed::Finished(Box::new(operation))))
        }
    }
}

pub(super) fn trees(roots: &[TestRoot]) -> Vec<Tree> {
    roots.iter().map(look).collect()
}

/// No journal that has not ended, no stage.
pub(super) fn is_clean(roots: &[TestRoot]) -> bool {
    let has_stage = |root: &TestRoot| {
        std::fs::read_dir(root.at(STATE))
            .is_ok_and(|ids| ids.filter_map(Result::ok).any(|id| id.path().join("stage").exists()))
    };
    journals(roots).iter().all(Option::is_none) && !roots.iter().any(has_stage)
}

/// The trees that every story must end with.
pub(super) struct Ends {
    pub(super) before: Vec<Tree>,
    pub(super) after: Vec<Tree>,
}

impl Ends {
    pub(super) fn new() -> Self {
        let roots = before();
        let before = trees(&roots);
        let outcome = carry_out(&roots, Deed::Run, &Fate::never(), &Log::default()).unwrap();
        assert_eq!(outcome, Outcome::Succeeded);
        assert!(is_clean(&roots));
        Self { before, after: trees(&roots) }
    }
}

/// Whether some node has dropped the old trust: from then on there is no way back.
pub(super) fn is_too_late(roots: &[TestRoot]) -> bool {
    trust(roots).contains(&3)
}
