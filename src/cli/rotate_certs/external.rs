//! Authorities whose key is elsewhere: signing requests go out into a folder, and what came back is weighed.

use std::path::{Path, PathBuf};

use super::{RotateCertsArgs, reconcile, sight};
use crate::apply::change::operation_id;
use crate::apply::mint::Minted;
use crate::apply::render;
use crate::cli::carry_out::Crew;
use crate::cli::problems::refused;
use crate::cli::session::{Decision, Session};
use crate::cli::{offered, target::Target};
use crate::error::{ExitCode, Failure};
use crate::node::local::LocalNode;
use crate::node::{Content, Effect, Node};
use crate::plan::blueprint::Blueprint;
use crate::plan::operation::FileAction;
use crate::plan::problem::Problem;
use crate::plan::rotate::{self, COMMAND, External, Import, Offered, Request};
use crate::report::text::counted;

/// `--csr-only`: writes the requests. Nothing changes on any node.
///
/// # Errors
/// Exit code 1 when nothing is signed elsewhere, a key cannot be read, or the folder cannot be written; 6 while an operation is
/// unfinished.
pub(super) fn ask(
    args: &RotateCertsArgs,
    mut request: Request,
    crew: &Crew<'_>,
    session: &Session,
) -> anyhow::Result<ExitCode> {
    refuse_unfinished(crew)?;
    let target = crew.target;
    let named = args.csr_dir.clone().unwrap_or_else(|| default_folder(target));
    let folder = std::path::absolute(&named)?;
    let into = Offered { found: offered::look(&folder)?, folder };
    let snapshot = sight::observe(target, session)?;
    if args.reconcile {
        request.wanted = reconcile::wanted(args.spec.as_deref(), target, &snapshot)?;
    }
    request.external = External::Asked;
    let mut blueprint = rotate::ask(&snapshot, &request, &into, session.now)?;
    blueprint.next_steps = next_steps(&blueprint, &into.folder, &named, crew);
    blueprint.warnings.iter().for_each(|warning| session.ui.warning(warning));
    let mut operation = blueprint.operation(&operation_id(session.now)?);
    let replaced = blueprint.changes().filter(|(_, file)| file.action == FileAction::Replaced).count();
    if args.change.what_if || args.change.confirm || replaced > 0 {
        let nodes: Vec<&str> = operation.nodes.iter().map(|node| node.name.as_str()).collect();
        let question = format!("Replace {} in {}?", counted(replaced, "signing request"), named.display());
        if session.decide(&args.change, &operation, &nodes, &question)? == Decision::OnlyShow {
            return Ok(ExitCode::Done);
        }
    }
    let minted = crew.mint(&blueprint, &crew.nodes())?;
    write(&blueprint, &minted, &into.folder)?;
    super::settle(&mut operation, session);
    session.result(&operation)?;
    Ok(ExitCode::Done)
}

/// What lies in the folder of `--import-signed`.
///
/// # Errors
/// Exit code 3 when there is none.
pub(super) fn offered(folder: &Path) -> anyhow::Result<External> {
    let folder = std::path::absolute(folder)?;
    Ok(External::Offered(Box::new(Offered { found: offered::read(&folder)?, folder })))
}

/// Refuses to go on with nothing of what came back; tells of the rest.
///
/// # Errors
/// Exit code 1, with everything that is wrong.
pub(super) fn weigh(import: &Import, session: &Session) -> anyhow::Result<()> {
    if import.problems.is_empty() {
        return Ok(());
    }
    if import.good == 0 || import.blueprint.is_empty() {
        return Err(refused(&import.problems, "nothing was imported, nothing was changed"));
    }
    import.problems.iter().for_each(|problem| session.ui.warning(&problem.to_string()));
    Ok(())
}

/// How a run ends that has done everything it could.
///
/// # Errors
/// Exit code 6 when something did not come back as wanted.
pub(super) fn end(problems: &[Problem]) -> anyhow::Result<ExitCode> {
    if problems.is_empty() {
        return Ok(ExitCode::Done);
    }
    let error = refused(problems, "everything else is done");
    Err(error.context(Failure::partial("some certificates could not be imported")))
}

/// Half of a rotation is no state to ask for certificates in.
fn refuse_unfinished(crew: &Crew<'_>) -> anyhow::Result<()> {
    let Some(journal) = crew.unfinished()? else { return Ok(()) };
    crew.refuse_other(&journal)?;
    let command = crew.command_line(COMMAND);
    Err(Failure::partial(format!("{}: an earlier rotation has begun and is not finished", journal.node))
        .hint(format!("`{command} --continue` finishes it, `{command} --abort` takes it back"))
        .into())
}

fn default_folder(target: &Target) -> PathBuf {
    let cluster = target.cluster.as_ref().map(|file| file.metadata.name.as_str());
    let machine = target.nodes.first().map(|node| node.node.name());
    format!("kubepki-requests-{}", cluster.or(machine).unwrap_or("local")).into()
}

fn next_steps(blueprint: &Blueprint, folder: &Path, named: &Path, crew: &Crew<'_>) -> Vec<String> {
    let count = blueprint.nodes.iter().map(|node| node.files.len()).sum();
    let mut files = blueprint.nodes.iter().flat_map(|node| &node.files);
    let example =
        files.next().and_then(|file| file.path.strip_prefix(folder).ok()).unwrap_or(Path::new("NODE/NAME.csr"));
    let signed = example.with_extension("crt");
    vec![
        format!(
            "have the {} in {} signed with the subject, names and usages they ask for (openssl: `-copy_extensions copyall`), and \
             put each certificate beside its request, as {}",
            counted(count, "signing request"),
            folder.display(),
            signed.display()
        ),
        format!("`{} --import-signed {}` takes them", crew.command_line(COMMAND), named.display()),
        "an authority that is to be replaced comes along as ca.crt, etcd/ca.crt or front-proxy-ca.crt in the same folder, and its key \
         signed by the old one as ca-cross.crt"
            .to_owned(),
    ]
}

/// Writes the requests; all of them are made before the first is written.
fn write(blueprint: &Blueprint, minted: &Minted, folder: &Path) -> anyhow::Result<()> {
    let here = LocalNode::open("local", "/")?;
    let mut made = Vec::new();
    for (_, file) in blueprint.changes() {
        if let Some(content) = &file.content {
            made.push((file, render::file(&here, &file.path, content, minted)?));
        }
    }
    for (file, bytes) in made {
        let parent = file.path.parent().unwrap_or(folder);
        let write = || {
            here.apply(&Effect::MakeDirectory { path: folder, mode: 0o755 })?;
            here.apply(&Effect::MakeDirectory { path: parent, mode: 0o755 })?;
            let content = Content::Bytes(&bytes);
            here.apply(&Effect::Install { path: &file.path, content, mode: file.mode, owner: None })
        };
        write().map_err(|error| {
            error.context(
                Failure::failed(format!("cannot write {}", file.path.display()))
                    .hint("name another folder with --csr-dir; nothing has changed on any node"),
            )
        })?;
    }
    Ok(())
}
