//! Where `check-expiry` looks: the target, and what was named besides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::CheckExpiryArgs;
use crate::cli::session::Session;
use crate::cli::target::{Place, TargetNode};
use crate::diagnose::{Member, Row};
use crate::error::Failure;
use crate::node::fleet::Event;
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Reach, Scope, Visit, Wanted};
use crate::report::progress::FleetProgress;
use crate::snapshot::{NodeSnapshot, Snapshot, Source};

/// How long a server may take to show its certificates, name look-up included.
const SERVER_LIMIT: Duration = Duration::from_secs(5);

/// Looks at everything that the options ask for.
///
/// # Errors
/// Exit code 3 when a file, folder or context that was named is not there; 2 for a wrong target.
pub(super) fn look(args: &CheckExpiryArgs, session: &Session) -> anyhow::Result<Snapshot> {
    let named = !args.kubeconfigs.is_empty() || !args.paths.is_empty() || !args.endpoints.is_empty();
    let this_machine = args.target.place == Place::ThisMachine;
    let mut here: Vec<Scope> = Vec::new();
    for path in &args.kubeconfigs {
        here.push(Scope::Kubeconfig(absolute(path)?));
    }
    // A path below a mounted root is that node's; any other is this machine's.
    let (mut there, mut snapshot) = (Vec::new(), Snapshot { taken_at: session.now, nodes: Vec::new() });
    for path in &args.paths {
        let belongs_there = matches!(args.target.place, Place::Root(_)) && path.is_absolute();
        let scope = Scope::Path(if belongs_there { path.clone() } else { absolute(path)? });
        if belongs_there { there.push(scope) } else { here.push(scope) }
    }
    let asks_for_kubeconfigs = args.context.is_some() || args.sources.contains(&Source::Kubeconfig);
    if args.kubeconfigs.is_empty() && this_machine && (!named || asks_for_kubeconfigs) {
        here.extend(own_kubeconfigs(session)?);
    }
    if !this_machine || !named {
        let target = super::target(args, session)?;
        let mut visits: Vec<Visit<'_>> = Vec::new();
        for node in target.nodes.iter().filter(|node| node.trouble.is_none()) {
            let mut scopes = vec![Scope::of(&node.layout)];
            scopes.append(&mut there.clone());
            // This machine and a folder on it are looked at together with what else was named.
            if matches!(args.target.place, Place::ThisMachine | Place::Folder(_)) {
                scopes.append(&mut here);
            }
            session.ui.debug(&format!("{}: reading {scopes:?}", node.node.name()));
            visits.push(Visit {
                node: &*node.node,
                wanted: Wanted { scopes, keys: Keys::PublicHalf },
                reach: reach(args, node),
            });
        }
        let mut found = visited(&visits, session).into_iter();
        for node in &target.nodes {
            let lost = |trouble: &String| NodeSnapshot::unreachable(node.node.name(), trouble);
            snapshot.nodes.extend(node.trouble.as_ref().map(lost).or_else(|| found.next()));
        }
        if matches!(args.target.place, Place::Root(_)) {
            // A mounted disk has no clock and no addresses.
            snapshot.nodes.iter_mut().for_each(|node| node.facts = None);
        }
    }
    if !here.is_empty() {
        let node = LocalNode::open("local", "/")?;
        let wanted = Wanted { scopes: here, keys: Keys::PublicHalf };
        snapshot.nodes.push(observe::node(&node, &wanted));
    }
    if !args.endpoints.is_empty() {
        let shown = observe::endpoints(&args.endpoints, args.server_name.as_deref(), SERVER_LIMIT);
        match snapshot.nodes.iter_mut().find(|node| node.name == "local") {
            Some(node) => node.artifacts.extend(shown),
            None => snapshot.nodes.push(NodeSnapshot { artifacts: shown, ..NodeSnapshot::empty("local") }),
        }
    }
    refuse_missing(args, &snapshot)?;
    Ok(snapshot)
}

/// How the servers of a node are asked what they show now; not where there is no live machine, or nobody wants to know.
fn reach(args: &CheckExpiryArgs, node: &TargetNode) -> Option<Reach> {
    let is_wanted = args.sources.is_empty() || args.sources.contains(&Source::Endpoint);
    match args.target.place {
        _ if !is_wanted => None,
        Place::Folder(_) | Place::Root(_) => None,
        // A workstation without anything of Kubernetes has no such servers, whatever listens on their ports.
        Place::ThisMachine => Some(Reach { role: node.role, even_if_empty: false }),
        Place::ClusterFile(_) | Place::Cluster(_) => Some(Reach { role: node.role, even_if_empty: true }),
    }
}

/// What was found on each node, with progress on the terminal where there are several.
fn visited(visits: &[Visit<'_>], session: &Session) -> Vec<NodeSnapshot> {
    let progress = (visits.len() > 1).then(|| FleetProgress::start(&session.ui, "reading", visits.len()));
    observe::fleet(visits, &session.interrupt, &|event| match (event, &progress) {
        (Event::Begun(name), Some(progress)) => progress.begin(name),
        (Event::Ended(name, is_well), progress) => {
            progress.iter().for_each(|progress| progress.end(name));
            session.ui.step(&format!("{name}: {}", if is_well { "read" } else { "not read" }));
        }
        _ => {}
    })
}

/// What was named has to be there; what was only looked for need not.
fn refuse_missing(args: &CheckExpiryArgs, snapshot: &Snapshot) -> anyhow::Result<()> {
    let mut named: Vec<PathBuf> = Vec::new();
    for path in args.kubeconfigs.iter().chain(&args.paths) {
        named.extend([path.clone(), absolute(path)?]);
    }
    if let Place::Folder(folder) = &args.target.place {
        named.push(absolute(folder)?);
    }
    let missing = snapshot.artifacts().map(|(_, artifact)| artifact).find(|artifact| {
        // A folder that is there and empty misses files in it, not itself.
        artifact.is_missing() && named.contains(&artifact.path)
    });
    if let Some(artifact) = missing {
        let failure = Failure::not_found(format!("there is no {}", artifact.path.display()));
        return Err(failure.hint("check the path; a folder may be given with --path or --pki-dir").into());
    }
    if let Some(context) = &args.context {
        let has = |row: &crate::snapshot::Artifact| {
            let found = row.content().and_then(|content| content.kubeconfig.as_ref());
            matches!(found, Some(Ok(kubeconfig)) if kubeconfig.context(Some(context)).is_some())
        };
        if !snapshot.artifacts().any(|(_, artifact)| has(artifact)) {
            let failure = Failure::not_found(format!("no kubeconfig has a context `{context}`"));
            return Err(failure.hint("kubectl config get-contexts lists them; --kubeconfig names another file").into());
        }
    }
    Ok(())
}

/// Whether a row belongs to `--context`, if that was given.
pub(super) fn in_context(args: &CheckExpiryArgs, row: &Row<'_>) -> bool {
    let Some(wanted) = &args.context else { return true };
    if row.artifact.source == Source::Endpoint {
        return true;
    }
    let found = row.artifact.content().and_then(|content| content.kubeconfig.as_ref());
    let Some(Ok(kubeconfig)) = found else { return false };
    let Some(context) = kubeconfig.context(Some(wanted)) else { return false };
    match row.member {
        Member::User(name, _) => name == context.user,
        Member::Cluster(name, _) => name == context.cluster,
        _ => true,
    }
}

/// The kubeconfigs that kubectl would use for whoever runs this, as far as they are there.
fn own_kubeconfigs(session: &Session) -> anyhow::Result<Vec<Scope>> {
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let paths: Vec<PathBuf> = match listed {
        Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => session.home().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let paths = paths.iter().map(|path| absolute(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let found = LocalNode::open("local", "/")?.read(&paths.into_iter().map(Query::Metadata).collect::<Vec<_>>())?;
    let there = found.into_iter().filter(|found| !matches!(found.state, FoundState::Missing | FoundState::Directory));
    Ok(there.map(|found| Scope::Kubeconfig(found.path)).collect())
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())).into())
}
