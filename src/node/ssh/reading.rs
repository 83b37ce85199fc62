//! Files of another machine, read as [`crate::node::reading`] reads those of this one.
//!
//! One script run answers all queries. What could not be told apart in its answer, because a file changed meanwhile or
//! the system lies about its size, is asked for once more, file by file. Folders behind symbolic links come in a second
//! round, and only those that were not reached without a link: that is where circles end.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::answer::{Answer, Words};
use super::command::{Message, scripts};
use super::facts::{self, Began, Told};
use super::records::{Content, Gone, Kind, Record, parse};
use super::shell::{self, Shell};
use crate::error::Failure;
use crate::node::reading::{DEEPEST, too_large};
use crate::node::{Found, FoundState, LARGEST_FILE, Metadata, NodeFacts, Query};

/// All files of one answer together (bytes).
const MOST: usize = 256 * 1024 * 1024;

/// One question to the script.
#[derive(Debug, Clone)]
struct Question {
    kind: &'static str,
    /// Absolute, without what means nothing.
    path: PathBuf,
    /// How deep a tree already is.
    depth: usize,
}

/// Answers `queries` in order.
pub(super) fn read(shell: &Shell, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
    let asked = Asked::of(queries);
    let records = if asked.questions.is_empty() { Vec::new() } else { ask_once(shell, &asked.questions, false)? };
    found_of(shell, queries, asked, records)
}

/// Who the node is and the answers to `queries`, with one question to it where that is enough.
pub(super) fn survey(shell: &Shell, queries: &[Query]) -> anyhow::Result<(NodeFacts, Vec<Found>)> {
    // A login takes longer than clocks may be apart.
    shell.connect()?;
    let asked = Asked::of(queries);
    // Most log in as root. Whoever does not is asked once more, as root.
    let message = survey_message(&asked.questions, true)?;
    let began = Began::now();
    if let Some(answer) = shell.ask_as_user(&scripts::SURVEY, &message, MOST)? {
        let mut words = answer.words();
        let told = facts::told(shell, &answer, &mut words)?;
        shell.learn(told.uid());
        if told.uid() == 0 {
            return surveyed(shell, queries, asked, (told, began), (words, &answer));
        }
    }
    let message = survey_message(&asked.questions, false)?;
    let began = Began::now();
    let answer = shell.ask(&scripts::SURVEY, &message, &[], MOST, shell::Kind::Reads)?;
    let mut words = answer.words();
    let told = facts::told(shell, &answer, &mut words)?;
    surveyed(shell, queries, asked, (told, began), (words, &answer))
}

fn surveyed(
    shell: &Shell,
    queries: &[Query],
    asked: Asked,
    (told, began): (Told, Began),
    (words, answer): (Words<'_>, &Answer),
) -> anyhow::Result<(NodeFacts, Vec<Found>)> {
    let records = records_of(shell, words, answer, asked.questions.len(), false)?;
    let facts = began.facts(told, answer);
    Ok((facts, found_of(shell, queries, asked, records)?))
}

fn survey_message(questions: &[Question], only_as_root: bool) -> anyhow::Result<Message> {
    let mut message = Message::new(&scripts::SURVEY)?;
    message.add(if only_as_root { "1" } else { "" });
    put(&mut message, questions, false);
    Ok(message)
}

/// Queries as questions to the script.
struct Asked {
    questions: Vec<Question>,
    /// For each query the number of its question, or what is known without asking.
    places: Vec<Result<usize, Found>>,
}

impl Asked {
    fn of(queries: &[Query]) -> Self {
        let mut asked = Self { questions: Vec::new(), places: Vec::new() };
        for query in queries {
            let (kind, path) = match query {
                Query::File(path) => ("file", path),
                Query::Metadata(path) => ("metadata", path),
                Query::Folder(path) => ("folder", path),
                Query::Tree(path) => ("tree", path),
            };
            asked.places.push(match impossible(path) {
                Some(reason) => Err(unreadable(path, reason)),
                None => {
                    asked.questions.push(Question { kind, path: path.components().collect(), depth: 0 });
                    Ok(asked.questions.len() - 1)
                }
            });
        }
        asked
    }
}

/// What was found, in the order of `queries`.
fn found_of(shell: &Shell, queries: &[Query], asked: Asked, records: Vec<Record>) -> anyhow::Result<Vec<Found>> {
    let questions = asked.questions;
    let mut answers = sorted(shell, &questions, records)?;
    let mut found = Vec::new();
    for (query, place) in queries.iter().zip(asked.places) {
        let number = match place {
            Ok(number) => number,
            Err(unreadable) => {
                found.push(unreadable);
                continue;
            }
        };
        let (top, records) = (&questions[number].path, std::mem::take(&mut answers[number]));
        match query {
            Query::File(path) | Query::Metadata(path) => found.push(single(path, records, kind_is_file(query))),
            Query::Folder(path) => list(path, top, records, &mut found),
            Query::Tree(path) => tree(shell, path, top, records, &mut found)?,
        }
    }
    Ok(found)
}

fn kind_is_file(query: &Query) -> bool {
    matches!(query, Query::File(_))
}

/// Why nobody needs to be asked about a path.
fn impossible(path: &Path) -> Option<&'static str> {
    if !path.is_absolute() {
        Some("not an absolute path")
    } else if path.as_os_str().as_bytes().contains(&0) {
        Some("invalid argument")
    } else {
        None
    }
}

/// The records for each question. What was unclear is asked again with care.
fn sorted(shell: &Shell, questions: &[Question], mut records: Vec<Record>) -> anyhow::Result<Vec<Vec<Record>>> {
    let unclear: Vec<usize> = (0..records.len()).filter(|index| records[*index].content.is_unclear()).collect();
    if !unclear.is_empty() {
        let again: Vec<Question> = unclear
            .iter()
            .map(|index| {
                let record = &records[*index];
                let kind = if questions[record.question].kind == "file" || questions[record.question].kind == "tree" {
                    "file"
                } else {
                    "metadata"
                };
                Question { kind, path: OsString::from_vec(record.path.clone()).into(), depth: 0 }
            })
            .collect();
        for careful in ask_once(shell, &again, true)? {
            let index = unclear[careful.question];
            records[index] = Record { question: records[index].question, ..careful };
        }
    }
    let mut sorted: Vec<Vec<Record>> = questions.iter().map(|_| Vec::new()).collect();
    for record in records {
        sorted[record.question].push(record);
    }
    Ok(sorted)
}

fn ask_once(shell: &Shell, questions: &[Question], careful: bool) -> anyhow::Result<Vec<Record>> {
    let mut message = Message::new(&scripts::READ)?;
    put(&mut message, questions, careful);
    let answer = shell.ask(&scripts::READ, &message, &[], MOST, shell::Kind::Reads)?;
    records_of(shell, answer.words(), &answer, questions.len(), careful)
}

/// Adds the questions, as the script takes them.
fn put(message: &mut Message, questions: &[Question], careful: bool) {
    message.add(if careful { "1" } else { "" });
    message.add(LARGEST_FILE.to_string()).add(DEEPEST.to_string()).add(questions.len().to_string());
    for question in questions {
        message.add(question.kind).add(question.path.as_os_str().as_bytes());
        if question.kind == "tree" {
            message.add(question.depth.to_string());
        }
    }
}

/// The records that `words` of the answer are, each of one of so many questions.
fn records_of(
    shell: &Shell,
    words: Words<'_>,
    answer: &Answer,
    questions: usize,
    careful: bool,
) -> anyhow::Result<Vec<Record>> {
    let parsed = parse(words, answer, careful);
    let records = parsed.filter(|records| records.iter().all(|record| record.question < questions));
    records.ok_or_else(|| {
        Failure::failed(format!("{}: the answer broke off while files were read: {}", shell.node, answer.reason()))
            .hint("run the command again; the node needs stat, cat, readlink and od (coreutils or busybox)")
            .into()
    })
}

/// The one record of a question about one path.
fn single(path: &Path, records: Vec<Record>, wanted: bool) -> Found {
    match records.into_iter().find(|record| record.kind == Kind::Entry) {
        Some(record) => found(path.to_owned(), record, wanted),
        None => unreadable(path, "it was not answered for"),
    }
}

fn list(path: &Path, top: &Path, records: Vec<Record>, found_all: &mut Vec<Found>) {
    let mut entries = Vec::new();
    for record in records {
        match (below(&record.path, top), &record.kind) {
            (_, Kind::Unlistable) => entries.push(unreadable(path, "permission denied")),
            // The folder itself is only told of when it is none.
            (None, _) => entries.push(match found(path.to_owned(), record, false) {
                Found { state: FoundState::Unreadable(reason), metadata: None, .. } => unreadable(path, reason),
                _ => missing(path),
            }),
            (Some(name), _) => entries.push(found(path.join(name), record, false)),
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    found_all.append(&mut entries);
}

/// What follows `top` in a path; `None` for `top` itself.
fn below(path: &[u8], top: &Path) -> Option<PathBuf> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    path.strip_prefix(top).ok().filter(|rest| !rest.as_os_str().is_empty()).map(Path::to_owned)
}

fn tree(
    shell: &Shell,
    path: &Path,
    top: &Path,
    records: Vec<Record>,
    found_all: &mut Vec<Found>,
) -> anyhow::Result<()> {
    let is_top = |record: &&Record| record.kind == Kind::Entry && below(&record.path, top).is_none();
    let stat = records.iter().find(is_top).and_then(|record| record.stat.as_ref());
    let Some(identity) = stat.filter(|stat| stat.is_folder()).map(|stat| stat.identity.clone()) else {
        found_all.push(single(path, records, true));
        return Ok(());
    };
    let mut walk = Walk::default();
    walk.start(path, top, &identity, 0, records);
    // Linked folders come last: a file that is also reached without a link is listed under that path.
    while let Some(link) = walk.links.pop() {
        if walk.seen.contains(&link.identity) {
            continue;
        }
        let inside = link.path.strip_prefix(path).map_or_else(|_| link.path.clone(), |rest| top.join(rest));
        let question = Question { kind: "tree", path: inside.components().collect(), depth: link.depth };
        let questions = std::slice::from_ref(&question);
        let records = ask_once(shell, questions, false)?;
        let records = sorted(shell, questions, records)?.pop().unwrap_or_default();
        walk.start(&link.path, &question.path, &link.identity, link.depth, records);
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    found_all.append(&mut walk.found);
    Ok(())
}

/// What is found below `top` without following links to other folders.
#[cfg(any(test, fuzzing))]
pub(super) fn walked(top: &Path, records: Vec<Record>) -> Vec<Found> {
    let mut walk = Walk::default();
    walk.start(top, top, "top", 0, records);
    walk.found
}

/// Records by the folder they lie in, relative to the top.
struct Folders {
    entries: HashMap<PathBuf, Vec<(PathBuf, Record)>>,
    refused: HashMap<PathBuf, String>,
}

impl Folders {
    fn new(top: &Path, records: Vec<Record>) -> Self {
        let mut folders = Self { entries: HashMap::new(), refused: HashMap::new() };
        for record in records {
            let inside = below(&record.path, top).unwrap_or_default();
            match record.kind {
                Kind::Unlistable => drop(folders.refused.insert(inside, "permission denied".to_owned())),
                Kind::TooDeep => {
                    drop(folders.refused.insert(inside, format!("more than {DEEPEST} folders deep")));
                }
                Kind::Entry => {
                    let Some(parent) = inside.parent() else { continue };
                    folders.entries.entry(parent.to_owned()).or_default().push((inside, record));
                }
            }
        }
        folders
    }
}

/// A symbolic link to a folder.
struct LinkedFolder {
    path: PathBuf,
    identity: String,
    depth: usize,
}

/// A walk over what was answered, in the order in which this machine would be walked.
#[derive(Default)]
struct Walk {
    /// Folders entered so far, by device and inode.
    seen: HashSet<String>,
    links: Vec<LinkedFolder>,
    found: Vec<Found>,
}

impl Walk {
    /// Walks through what was answered for the folder `top`, which is known as `path`.
    fn start(&mut self, path: &Path, top: &Path, identity: &str, depth: usize, records: Vec<Record>) {
        self.enter(path, Path::new(""), identity, depth, &mut Folders::new(top, records));
    }

    fn enter(&mut self, top: &Path, inside: &Path, identity: &str, depth: usize, folders: &mut Folders) {
        let path = if inside.as_os_str().is_empty() { top.to_owned() } else { top.join(inside) };
        if let Some(reason) = folders.refused.remove(inside) {
            return self.found.push(unreadable(&path, reason));
        }
        // The script ends there by itself; what answers may be something else.
        if depth > DEEPEST {
            return self.found.push(unreadable(&path, format!("more than {DEEPEST} folders deep")));
        }
        if !self.seen.insert(identity.to_owned()) {
            return;
        }
        let mut entries = folders.entries.remove(inside).unwrap_or_default();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (inside, record) in entries {
            let folder = record.stat.as_ref().filter(|stat| stat.is_folder()).map(|stat| stat.identity.clone());
            match (folder, &record.link) {
                (Some(identity), None) => self.enter(top, &inside, &identity, depth + 1, folders),
                (Some(identity), Some(_)) => {
                    self.links.push(LinkedFolder { path: top.join(inside), identity, depth: depth + 1 });
                }
                (None, _) => self.found.push(found(top.join(inside), record, true)),
            }
        }
    }
}

/// A record as what was found at `path`; `wanted` is whether the content was.
fn found(path: PathBuf, record: Record, wanted: bool) -> Found {
    let link = record.link.map(|target| PathBuf::from(OsString::from_vec(target)));
    let Some(stat) = record.stat else {
        let state = match record.gone {
            Gone::Missing => FoundState::Missing,
            Gone::Loop if link.is_some() => FoundState::Missing,
            Gone::Loop => FoundState::Unreadable("too many levels of symbolic links".to_owned()),
            Gone::Because(reason) => FoundState::Unreadable(reason),
        };
        return Found { path, link, metadata: None, state };
    };
    let state = if stat.is_folder() {
        FoundState::Directory
    } else if !stat.is_file() {
        FoundState::Unreadable("not a regular file".to_owned())
    } else if !wanted {
        FoundState::Unread
    } else if stat.size > LARGEST_FILE {
        FoundState::Unreadable(too_large(stat.size))
    } else {
        match record.content {
            Content::Whole(content) if content.len() as u64 > LARGEST_FILE => {
                FoundState::Unreadable(too_large(content.len() as u64))
            }
            Content::Whole(content) => FoundState::File(content),
            Content::Refused(reason) => FoundState::Unreadable(reason),
            Content::None => FoundState::Unread,
            Content::Unclear => FoundState::Unreadable("it changed while it was read".to_owned()),
        }
    };
    let metadata =
        Metadata { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid, modified: stat.modified, size: stat.size };
    Found { path, link, metadata: Some(metadata), state }
}

fn missing(path: &Path) -> Found {
    Found { path: path.to_owned(), link: None, metadata: None, state: FoundState::Missing }
}

fn unreadable(path: &Path, reason: impl Into<String>) -> Found {
    Found { path: path.to_owned(), link: None, metadata: None, state: FoundState::Unreadable(reason.into()) }
}

#[cfg(test)]
mod tests {
    use super::super::records::Stat;
    use super::*;
    use time::OffsetDateTime;

    fn folder(path: PathBuf) -> Record {
        let identity = path.display().to_string();
        let stat = Stat { mode: 0o040_755, uid: 0, gid: 0, size: 0, identity, modified: OffsetDateTime::UNIX_EPOCH };
        Record {
            question: 0,
            path: path.into_os_string().into_vec(),
            link: None,
            kind: Kind::Entry,
            stat: Some(stat),
            gone: Gone::Missing,
            content: Content::None,
        }
    }

    #[test]
    fn a_node_that_tells_of_endless_folders_is_not_followed_into_them() {
        let depths = (1..3000).map(|depth| Path::new("/top").join("a/".repeat(depth)));
        let found = walked(Path::new("/top"), depths.map(folder).collect());
        let [only] = found.as_slice() else { panic!("one place where the walk ends, not {}", found.len()) };
        assert_eq!(only.path, Path::new("/top").join("a/".repeat(DEEPEST + 1)));
        assert!(matches!(&only.state, FoundState::Unreadable(reason) if reason == "more than 64 folders deep"));
    }
}
