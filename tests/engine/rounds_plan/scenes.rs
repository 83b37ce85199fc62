//! The model of a cluster at one moment, and everything that a planned rotation does to it, move by move.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use kubepki::apply::change::{ChangeKind, Request as Changes};
use kubepki::pki::layout::Role;
use kubepki::plan::phase::Phase;
use kubepki::plan::rotate::Request;

use super::process::{COMPONENTS, Fault, Process, kubelet_flags, reads};
use super::things::{Content, Disk, File, Library};
use crate::support::cluster::links;
use crate::support::manifests;
use crate::support::members::{Member, Members};

/// One node: what is on its disk, and what runs.
#[derive(Clone, Hash)]
pub(super) struct Node {
    pub(super) name: Rc<str>,
    pub(super) address: Rc<str>,
    pub(super) is_ruler: bool,
    pub(super) disk: Rc<Disk>,
    pub(super) running: BTreeMap<&'static str, Process>,
    kubelet: Rc<Content>,
}

impl Node {
    fn of(member: &Member, members: &Members, library: &mut Library) -> Self {
        let mut disk = Disk::default();
        let manifests = members.manifests.iter().filter(|manifest| manifest.node == member.name);
        let manifests = manifests.map(|manifest| (manifest.path.to_str().unwrap(), &manifest.text));
        for (path, text) in member.files.iter().map(|(path, (text, _))| (path.as_str(), text)).chain(manifests) {
            disk.put(&path.into(), Some(File::Content(library.content(text.as_bytes()))));
        }
        for (link, target) in links(&member.files) {
            disk.put(&link.into(), Some(File::Link(target)));
        }
        let (name, address) = (member.name.as_str().into(), member.address.as_str().into());
        let (is_ruler, kubelet) = (member.role == Role::ControlPlane, library.content(kubelet_flags()));
        let mut node = Self { name, address, is_ruler, disk: Rc::new(disk), running: BTreeMap::new(), kubelet };
        for reads in &COMPONENTS {
            node.run(reads.component).unwrap();
        }
        node
    }

    /// Runs a component anew as its manifest says; without one it ends.
    pub(super) fn run(&mut self, component: &'static str) -> Result<(), Fault> {
        let manifest = match component {
            "kubelet" => Some(&self.kubelet),
            _ => self.disk.at(&manifests::path(component)),
        };
        self.running.remove(component);
        if let Some(manifest) = manifest {
            self.running.insert(component, Process::start(reads(component), manifest, &self.disk)?);
        }
        Ok(())
    }

    fn change(&mut self, path: &Rc<str>, file: Option<File>) {
        Rc::make_mut(&mut self.disk).put(path, file);
        self.running.values_mut().for_each(|process| process.notice(&self.disk));
    }
}

/// All nodes at one moment.
#[derive(Clone, Hash)]
pub(super) struct Scene {
    pub(super) nodes: Vec<Node>,
}

impl Scene {
    /// Before anything happens.
    pub(super) fn of(members: &Members, library: &mut Library) -> Self {
        Self { nodes: members.members.iter().map(|member| Node::of(member, members, library)).collect() }
    }

    /// What a component is on every node where it runs.
    pub(super) fn running(&self, component: &'static str) -> impl Iterator<Item = (&Node, &Process)> {
        self.nodes.iter().filter_map(move |node| Some((node, node.running.get(component)?)))
    }

    /// The same for the same scene, and very likely only for it.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Certificates on any disk whose key beside them does not fit.
    pub(super) fn unfit(&self) -> Vec<(Rc<str>, Rc<str>)> {
        let of = |node: &Node| node.disk.unfit().into_iter().map(|path| (node.name.clone(), path)).collect::<Vec<_>>();
        self.nodes.iter().flat_map(of).collect()
    }

    pub(super) fn make(&mut self, happening: &Move) -> Result<(), Fault> {
        match happening {
            Move::Put { node, path, file } => self.nodes[*node].change(path, file.clone()),
            Move::Run { node, component } => self.nodes[*node].run(component)?,
        }
        Ok(())
    }
}

/// The smallest thing that happens.
#[derive(Clone)]
pub(super) enum Move {
    /// A file, or none, is at a path from now on.
    Put { node: usize, path: Rc<str>, file: Option<File> },
    /// A component starts anew, or ends if its manifest is gone.
    Run { node: usize, component: &'static str },
}

/// One file's change.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) path: Rc<str>,
    before: Option<File>,
    after: Option<File>,
}

impl Change {
    /// The component whose manifest this is.
    fn component(&self) -> Option<&'static str> {
        COMPONENTS.iter().map(|reads| reads.component).find(|component| *manifests::path(component) == *self.path)
    }
}

/// One step of one node.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) node: usize,
    pub(super) phase: Phase,
    pub(super) changes: Vec<Change>,
    /// Components that are told to start anew, or to end.
    pub(super) told: Vec<String>,
}

impl Step {
    /// What happens forwards: with each move, how many changes are made then.
    pub(super) fn forward(&self) -> Vec<(usize, Move)> {
        let mut moves = Vec::new();
        for (at, change) in self.changes.iter().enumerate() {
            moves.extend(self.moves(change, change.after.as_ref()).into_iter().map(|it| (at + 1, it)));
        }
        moves.extend(self.kubelet().map(|it| (self.changes.len(), it)));
        moves
    }

    /// What happens when the first `made` changes are taken back: files, then manifests, each from the last to the first.
    pub(super) fn backward(&self, made: usize) -> Vec<Move> {
        let changes = || self.changes[..made].iter().rev();
        let files = changes().filter(|change| change.component().is_none());
        let all = files.chain(changes().filter(|change| change.component().is_some()));
        all.flat_map(|change| self.moves(change, change.before.as_ref())).chain(self.kubelet()).collect()
    }

    fn moves(&self, change: &Change, file: Option<&File>) -> Vec<Move> {
        let node = self.node;
        let put = Move::Put { node, path: change.path.clone(), file: file.cloned() };
        let run = change.component().map(|component| Move::Run { node, component });
        std::iter::once(put).chain(run).collect()
    }

    fn kubelet(&self) -> Option<Move> {
        let is_told = self.told.iter().any(|component| component == "kubelet");
        is_told.then_some(Move::Run { node: self.node, component: "kubelet" })
    }

    /// Whether a component starts anew here.
    pub(super) fn tells(&self, component: &str) -> bool {
        self.told.iter().any(|told| told == component)
    }
}

/// A whole rotation in the order in which it happens.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) first: Scene,
    pub(super) last: Scene,
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// Plans and mints a rotation of these nodes, and lays out what happens: round by round, node by node, step by step.
    pub(super) fn of(members: &Members, request: &Request) -> Self {
        let mut library = Library::default();
        let first = Scene::of(members, &mut library);
        let requests = members.minted(&members.write(), request);
        let at = |name: &str| members.members.iter().position(|member| member.name == name).unwrap();
        let mut requests: Vec<(usize, Changes)> =
            requests.into_iter().map(|(name, request)| (at(&name), request)).collect();
        requests.sort_by_key(|(node, _)| *node);
        let mut phases: Vec<Phase> =
            requests.iter().flat_map(|(_, request)| &request.steps).map(|step| step.phase).collect();
        phases.sort();
        phases.dedup();
        let (mut steps, mut disks) = (Vec::new(), first.clone());
        for phase in phases {
            for (node, request) in &requests {
                for (number, planned) in request.steps.iter().enumerate().filter(|(_, step)| step.phase == phase) {
                    let mut step = Step { node: *node, phase, changes: Vec::new(), told: planned.restarts.clone() };
                    step.told.extend(planned.stops.iter().cloned());
                    for change in request.changes.iter().filter(|change| change.step == number) {
                        let path: Rc<str> = change.report.path.as_str().into();
                        let after = file(&change.kind, &mut library);
                        let disk = Rc::make_mut(&mut disks.nodes[*node].disk);
                        let before = disk.files.get(&path).cloned();
                        disk.put(&path, after.clone());
                        step.changes.push(Change { path, before, after });
                    }
                    let restarted: Vec<&str> = step.changes.iter().filter_map(Change::component).collect();
                    let told: Vec<&str> = step.told.iter().map(String::as_str).filter(|it| *it != "kubelet").collect();
                    assert_eq!(sorted(restarted), sorted(told), "the manifests that change are those of who restarts");
                    steps.push(step);
                }
            }
        }
        Self { first, last: disks, steps }
    }
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

fn file(kind: &ChangeKind, library: &mut Library) -> Option<File> {
    match kind {
        ChangeKind::Write { content, .. } => Some(File::Content(library.content(content))),
        ChangeKind::Link { target } => Some(File::Link(target.to_str().unwrap().to_owned())),
        ChangeKind::Remove => None,
    }
}
