//! What is to be revoked, as options and manifests say it.

use std::io::Read as _;
use std::path::Path;

use time::OffsetDateTime;
use time::macros::format_description;

use super::RevokeArgs;
use crate::cli::check_expiry::moment;
use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::pki::certificate::SerialNumber;
use crate::pki::revocation::{DnsPattern, Entry, Kind, NAMESPACE, Revocation, entry, manifest};
use crate::plan::revoke::ledger;

/// `--not-before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum NotBefore {
    /// Existing and future certificates alike.
    None,
    /// Only those from before this moment.
    Moment(moment::Moment),
}

/// Reads `none`, `now`, RFC 3339, a date, or a distance as `-1h`.
pub(in crate::cli) fn not_before(text: &str) -> Result<NotBefore, String> {
    if text.trim() == "none" {
        return Ok(NotBefore::None);
    }
    let wrong = "write it as now, none, 2026-01-31T12:00:00Z, or -1h for an hour ago".to_owned();
    moment::parse(text).map(NotBefore::Moment).map_err(|_| wrong)
}

/// What is to be revoked.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// What is put on the ledger.
    pub(super) new: Vec<Revocation>,
    /// What the ledger says already, with the name of the revocation that does.
    pub(super) standing: Vec<(Entry, String)>,
}

impl Wanted {
    /// Refuses entries that would revoke everything that is still to be issued, unless somebody said so.
    pub(super) fn refuse_unsaid(&self, args: &RevokeArgs) -> Result<(), Failure> {
        let is_open = |entry: &&Entry| entry.not_before.is_none() && !matches!(entry.kind, Kind::Serial(_));
        let open = self.new.iter().flat_map(|revocation| &revocation.entries).find(is_open);
        match (open, args.not_before) {
            (Some(entry), None) => Err(Failure::usage(format!(
                "{entry}: without a moment this revokes renewed and future certificates, too, and nobody can issue such any \
                 more"
            ))
            .hint("--not-before now revokes what there is; --not-before none says that this is meant")),
            _ => Ok(()),
        }
    }

    /// The same as it goes on a ledger: without what that says already, and with a name of its own where none was given.
    /// Manifests, and a revocation of a name that is on the ledger, say what they say: there the object counts, and not only
    /// what it means.
    ///
    /// # Errors
    /// Never, as long as a moment can be written.
    pub(super) fn on(mut self, ledger: &[Revocation], args: &RevokeArgs, now: OffsetDateTime) -> anyhow::Result<Self> {
        let by_options = match &args.file {
            // It comes behind those of the manifest.
            Some(_) if !args.names_certificates() => None,
            _ => self.new.pop(),
        };
        let Some(mut own) = by_options else { return Ok(self) };
        if args.revocation_name.is_none() {
            own.name = fresh_name(ledger, &self.new, now)?;
        }
        if !ledger.iter().any(|known| known.name == own.name) {
            own.entries.retain(|entry| match ledger::covering(ledger, entry) {
                Some(other) => {
                    self.standing.push((entry.clone(), other.name.clone()));
                    false
                }
                None => true,
            });
        }
        if !own.entries.is_empty() {
            self.new.push(own);
        }
        Ok(self)
    }
}

/// Everything that options and the manifest want revoked. `serials` are those of the certificates in given files.
pub(super) fn revocations(args: &RevokeArgs, serials: &[SerialNumber], now: OffsetDateTime) -> anyhow::Result<Wanted> {
    let mut all = match &args.file {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    let moment = match args.not_before {
        Some(NotBefore::Moment(moment)) => Some(moment.seen_from(now)),
        Some(NotBefore::None) | None => None,
    };
    // What a manifest says counts; the option is for what it leaves open.
    for entry in all.iter_mut().flat_map(|revocation| &mut revocation.entries) {
        entry.not_before = entry.not_before.or(moment);
    }
    let entries = entries(args, serials, moment)?;
    if !entries.is_empty() {
        let name = match &args.revocation_name {
            Some(name) => name.clone(),
            None => fresh_name(&[], &all, now)?,
        };
        if all.iter().any(|revocation| revocation.name == name) {
            return Err(Failure::usage(format!("the manifest has a revocation `{name}`, too"))
                .hint("give another --revocation-name")
                .into());
        }
        all.push(Revocation {
            name,
            namespace: NAMESPACE.to_owned(),
            created: None,
            description: args.description.clone(),
            entries,
        });
    } else if args.revocation_name.is_some() || args.description.is_some() {
        let message = "--revocation-name and --description are for what options revoke; a manifest has its own";
        return Err(Failure::usage(message)
            .hint("add --serial, --group, --dns, --ip, --kubeconfig or --certificate")
            .into());
    }
    for revocation in &all {
        if let Some((place, other)) = revocation.overlap() {
            let (own, other) = (&revocation.entries[place], &revocation.entries[other]);
            return Err(Failure::usage(format!("{own} overlaps with {other}")).hint("leave one of them out").into());
        }
    }
    Ok(Wanted { new: all, standing: Vec::new() })
}

fn entries(
    args: &RevokeArgs,
    serials: &[SerialNumber],
    not_before: Option<OffsetDateTime>,
) -> Result<Vec<Entry>, Failure> {
    let wrong = |option: &str, reason: String| Failure::usage(format!("{option}: {reason}"));
    let mut kinds = Vec::new();
    for text in &args.serials {
        kinds.push(Kind::Serial(entry::serial(text).map_err(|reason| wrong("--serial", reason))?));
    }
    kinds.extend(serials.iter().cloned().map(Kind::Serial));
    for text in &args.groups {
        kinds.push(Kind::Group(entry::group(text).map_err(|reason| wrong("--group", reason))?));
    }
    for text in &args.dns {
        kinds.push(Kind::Dns(DnsPattern::parse(text).map_err(|reason| wrong("--dns", reason))?));
    }
    for text in &args.ips {
        kinds.push(Kind::Ip(entry::ip(text).map_err(|reason| wrong("--ip", reason))?));
    }
    Ok(kinds.into_iter().map(|kind| Entry { kind, not_before, description: None }).collect())
}

/// `revoke-20260102t030405z`, and a number behind it where that is taken.
fn fresh_name(ledger: &[Revocation], others: &[Revocation], now: OffsetDateTime) -> anyhow::Result<String> {
    let stamp = now.format(format_description!("revoke-[year][month][day]t[hour][minute][second]z"))?;
    let is_taken = |name: &str| ledger.iter().chain(others).any(|revocation| revocation.name == name);
    let mut name = stamp.clone();
    for number in 2.. {
        if !is_taken(&name) {
            break;
        }
        name = format!("{stamp}-{number}");
    }
    Ok(name)
}

fn read(path: &Path) -> anyhow::Result<Vec<Revocation>> {
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let refuse = |reason: String| Failure::usage(format!("cannot read {shown}: {reason}"));
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map_err(|error| refuse(error.to_string()))?;
        text
    } else {
        let absolute = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
        let found = LocalNode::open("local", "/")?.read(&[Query::File(absolute)])?;
        match found.into_iter().next().map(|found| found.state) {
            Some(FoundState::File(text)) => text.to_vec(),
            Some(FoundState::Missing) => return Err(refuse("there is no such file".to_owned()).into()),
            Some(FoundState::Unreadable(reason)) => return Err(refuse(reason).into()),
            _ => return Err(refuse("it is not a file".to_owned()).into()),
        }
    };
    manifest::read(&text).map_err(|fault| {
        let place = fault.place.map_or(String::new(), |place| format!("{place}: "));
        let failure = Failure::usage(format!("{shown}: {place}{}", fault.message));
        match fault.hint {
            Some(hint) => failure.hint(hint).into(),
            None => failure.into(),
        }
    })
}
