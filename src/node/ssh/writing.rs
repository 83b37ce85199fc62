//! Changes on another machine, each one run of a script, refused and failing in the words used for this one.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::answer::{Answer, Words};
use super::command::{Message, Script, random_name, scripts};
use super::shell::{Kind, Shell};
use crate::error::Failure;
use crate::node::command::{BY_HAND, complaint};
use crate::node::refusal::Refusal;
use crate::node::removal::is_our_own;
use crate::node::{Content, Effect, LARGEST_FILE, Owner};

/// Answers of writing scripts are a few lines (bytes).
const MOST: usize = 1024 * 1024;

/// How often another temporary name is tried when a sweep took one.
const ATTEMPTS: usize = 16;

/// What happened, other than success.
enum Stop {
    /// A folder on the way is missing.
    Missing,
    /// The temporary file was taken for a left-over one.
    Swept,
    Error(anyhow::Error),
}

/// Carries out one effect.
pub(super) fn apply(shell: &Shell, effect: &Effect<'_>) -> anyhow::Result<()> {
    match effect {
        Effect::MakeDirectory { path, mode } => {
            let answer = run(shell, &scripts::MKDIR, path, &[octal(*mode)], &[])?;
            finish(shell, path, &answer, false)
        }
        Effect::Install { path, content, mode, owner } => install(shell, path, content, *mode, *owner),
        Effect::Link { path, target } => again_when_swept(shell, path, None, || {
            let name = temporary_name()?;
            let values: [&[u8]; 2] = [target.as_os_str().as_bytes(), name.as_bytes()];
            run(shell, &scripts::LINK, path, &values, &[])
        }),
        Effect::Remove { path } => remove(shell, path, "file"),
        Effect::RemoveDirectory { path } => remove(shell, path, "folder"),
        Effect::RemoveTree { path } if !is_our_own(path) => Err(Refusal { node: &shell.node, path }.not_our_own()),
        Effect::RemoveTree { path } => remove(shell, path, "tree"),
        Effect::Rehearse { path, follow, mode, owner, size } => again_when_swept(shell, path, *owner, || {
            let how = if *follow { "file" } else { "name" };
            let mut values = dress(*mode, *owner, &temporary_name()?);
            values.extend([how.as_bytes().to_vec(), size.to_string().into_bytes()]);
            run(shell, &scripts::REHEARSE, path, &values, &[])
        }),
        Effect::Sweep { path } => {
            let answer = run(shell, &scripts::SWEEP, path, &[] as &[&[u8]], &[])?;
            finish(shell, path, &answer, true)
        }
    }
}

fn install(shell: &Shell, path: &Path, content: &Content<'_>, mode: u32, owner: Option<Owner>) -> anyhow::Result<()> {
    let (bytes, source): (&[u8], &[u8]) = match content {
        Content::Bytes(bytes) => (bytes, b""),
        Content::FileOnNode(source) if source.is_absolute() => (b"", source.as_os_str().as_bytes()),
        Content::FileOnNode(source) => {
            return Err(Refusal { node: &shell.node, path: source }.cannot_copy("not an absolute path"));
        }
    };
    let mut sum = String::new();
    for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
        let _ = write!(sum, "{byte:02x}");
    }
    again_when_swept(shell, path, owner, || {
        let mut values = dress(mode, owner, &temporary_name()?);
        values.extend([bytes.len().to_string().into_bytes(), sum.clone().into_bytes()]);
        values.extend([source.to_vec(), LARGEST_FILE.to_string().into_bytes()]);
        let answer = run(shell, &scripts::INSTALL, path, &values, bytes)?;
        // Said of the file that is copied, not of the one that is written.
        let mut words = answer.words();
        if let (Some(reason), Content::FileOnNode(source)) =
            (words.text_line().and_then(|line| line.strip_prefix("source ")), content)
        {
            return Err(Refusal { node: &shell.node, path: source }.cannot_copy(reason));
        }
        Ok(answer)
    })
}

/// How a new file looks from outside: mode, owner, whether it is private, its name until it is complete.
fn dress(mode: u32, owner: Option<Owner>, name: &str) -> Vec<Vec<u8>> {
    let owner = owner.map_or_else(String::new, |owner| format!("{}:{}", owner.uid, owner.gid));
    let for_others = mode & 0o077;
    let secret = if for_others == 0 { "1" } else { "" };
    [octal(mode).as_str(), &owner, secret, name].iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

fn temporary_name() -> anyhow::Result<String> {
    Ok(format!(".kubepki-{}.tmp", random_name()?))
}

fn remove(shell: &Shell, path: &Path, kind: &str) -> anyhow::Result<()> {
    let answer = run(shell, &scripts::REMOVE, path, &[kind.as_bytes()], &[])?;
    finish(shell, path, &answer, true)
}

/// Runs a command that restarts something.
pub(super) fn run_command(shell: &Shell, command: &str) -> anyhow::Result<()> {
    let mut message = Message::new(&scripts::RUN)?;
    message.add(command);
    let answer = shell.ask(&scripts::RUN, &message, b"", MOST, Kind::Writes)?;
    let mut words = answer.words();
    let mut status = None;
    while let Some(line) = words.text_line() {
        if line == "done" {
            return Ok(());
        }
        status = line.strip_prefix("because ").map(str::to_owned).or(status);
    }
    let how = complaint(
        status.as_deref().unwrap_or("it did not say how it ended"),
        &String::from_utf8_lossy(answer.complaints()),
    );
    Err(Failure::failed(format!("{}: `{command}`: {how}", shell.node)).hint(BY_HAND).into())
}

/// Starts a message with the locks that must still be held.
pub(super) fn message(script: &Script, fences: &[(Vec<u8>, String)]) -> anyhow::Result<Message> {
    let mut message = Message::new(script)?;
    message.add(fences.len().to_string());
    for (path, token) in fences {
        message.add(path).add(token);
    }
    Ok(message)
}

fn run(
    shell: &Shell,
    script: &Script,
    path: &Path,
    values: &[impl AsRef<[u8]>],
    content: &[u8],
) -> anyhow::Result<Answer> {
    let refusal = Refusal { node: &shell.node, path };
    if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
        return Err(refusal.not_a_file());
    }
    let fences = shell.state().fences();
    let mut message = message(script, &fences)?;
    message.add(path.as_os_str().as_bytes());
    for value in values {
        if value.as_ref().contains(&0) {
            return Err(refusal.failed("cannot write", "invalid argument", false));
        }
        message.add(value);
    }
    shell.ask(script, &message, content, MOST, Kind::Writes)
}

fn again_when_swept(
    shell: &Shell,
    path: &Path,
    owner: Option<Owner>,
    mut attempt: impl FnMut() -> anyhow::Result<Answer>,
) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        match outcome(shell, path, owner, &attempt()?) {
            Ok(()) => return Ok(()),
            Err(Stop::Swept) => {}
            Err(Stop::Missing) => return Err(missing(shell, path)),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Err(Refusal { node: &shell.node, path }.failed("cannot write", "device or resource busy", false))
}

/// The result of a script that makes no temporary file; with `may_miss` a missing folder is fine.
fn finish(shell: &Shell, path: &Path, answer: &Answer, may_miss: bool) -> anyhow::Result<()> {
    match outcome(shell, path, None, answer) {
        Ok(()) => Ok(()),
        Err(Stop::Missing) if may_miss => Ok(()),
        Err(Stop::Missing | Stop::Swept) => Err(missing(shell, path)),
        Err(Stop::Error(error)) => Err(error),
    }
}

fn missing(shell: &Shell, path: &Path) -> anyhow::Error {
    Refusal { node: &shell.node, path }.failed("cannot reach", "no such file or directory", false)
}

/// Reads what a writing script says until it says how it ended.
fn outcome(shell: &Shell, path: &Path, owner: Option<Owner>, answer: &Answer) -> Result<(), Stop> {
    let refusal = Refusal { node: &shell.node, path };
    let mut words = answer.words();
    let mut step = "";
    while let Some(line) = words.text_line() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let user = || rest.split(' ').next().and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX);
        let error = match word {
            "done" => return Ok(()),
            "at" => {
                step = rest;
                continue;
            }
            "missing" => return Err(Stop::Missing),
            "swept" => return Err(Stop::Swept),
            "because" => refusal.failed(&attempted(step, owner), rest, false),
            "nofile" => refusal.not_a_file(),
            "nofolder" => no_folder(&refusal, &mut words, line, step),
            "foreign-link" => refusal.link(&counted_path(&mut words, line), user()),
            "foreign-file" => refusal.behind_link(user()),
            "irregular" => refusal.irregular(),
            "open-folder" => refusal.open_folder(),
            "foreign-folder" => refusal.foreign_folder(user()),
            "torn" => {
                refusal.failed(&attempted(step, owner), "the content arrived incomplete, nothing was changed", false)
            }
            "lock-lost" => lock_lost(&shell.node),
            _ => break,
        };
        return Err(Stop::Error(error));
    }
    // A program failed and said why on standard error.
    let reason = answer.reason();
    let is_full = reason == "no space left on device" || reason == "disk quota exceeded";
    Err(Stop::Error(refusal.failed(&attempted(step, owner), &reason, is_full)))
}

/// What was being done, for people.
fn attempted(step: &str, owner: Option<Owner>) -> String {
    let words = match step {
        "owner" => {
            let Owner { uid, gid } = owner.unwrap_or(Owner { uid: u32::MAX, gid: u32::MAX });
            return format!("cannot give user {uid} and group {gid} the file");
        }
        "create" => "cannot create a temporary file for",
        "mode" => "cannot set the mode of",
        "content" | "rename" | "room" => "cannot write",
        "settle" => "cannot flush the folder of",
        "link" => "cannot link",
        "make" => "cannot make the folder",
        "file" => "cannot remove",
        "folder" | "tree" => "cannot remove the folder",
        "sweep" => "cannot tidy up the folder of",
        "lock" => "cannot lock",
        _ => "cannot reach",
    };
    words.to_owned()
}

fn counted_path(words: &mut Words<'_>, line: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(words.counted(line).unwrap_or_default()))
}

/// Something on the way is no folder: in the way of one that should be made, else simply the end of the way.
fn no_folder(refusal: &Refusal<'_>, words: &mut Words<'_>, line: &str, step: &str) -> anyhow::Error {
    let there = counted_path(words, line);
    if step == "make" && there == refusal.path {
        return refusal.in_the_way();
    }
    refusal.failed("cannot reach", "not a directory", false)
}

fn lock_lost(node: &str) -> anyhow::Error {
    Failure::failed(format!("{node}: the connection broke and with it the lock of this operation; nothing was changed"))
        .hint("run the command again: it continues where this one stopped")
        .into()
}

/// Why a lock was not taken.
pub(super) fn refused_lock(shell: &Shell, path: &Path, answer: &Answer) -> anyhow::Error {
    match outcome(shell, path, None, answer) {
        Err(Stop::Error(error)) => error,
        _ => missing(shell, path),
    }
}
