//! `get-credentials`: a kubeconfig for a person or for CI, merged into the one they have.
//!
//! Options, names and messages are az's; merging follows kubectl where az loses or breaks things.

use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;

use super::change::ChangeArgs;
use super::records;
use super::session::Session;
use super::target::{Place, Target, TargetArgs};
use crate::apply::user_kubeconfig::{self, Callbacks, Destination, Outcome, Wanted};
use crate::error::{ExitCode, Failure, exit_code};
use crate::node::kubeconfig_lock::{Waiting, lock_kubeconfig};
use crate::node::local::LocalNode;
use crate::pki::kubeconfig::{EntryKind, EntryName, Names};
use crate::pki::layout::Role;
use crate::pki::lifetime::Lifetime;
use crate::pki::register::Issued;
use crate::report::{Format, Report, View, time_text, value_of};

mod file;
mod maker;
mod source;

use maker::{ClusterIdentity, Made, Maker, Records};
use source::Sources;

/// Get a kubeconfig for a cluster, merged into the one you have
///
/// Issues a client certificate of 24 hours in your name and with the rights of the node's own administrator, signed by
/// the cluster CA on the node, and adds it to your kubeconfig: the file given with --file, else KUBECONFIG (its first
/// existing file, else its last), else ~/.kube/config. A certificate there that says the same and has not used 80 % of
/// its lifetime is kept; one that has is renewed. Where the CA's key is elsewhere, admin.conf is copied.
///
/// What the file holds otherwise stays as it is, to the byte: order, comments, unknown fields, mode and owner. Entries of
/// the same names that differ are replaced after a question, and a copy of the file is kept in ~/.kubepki/backups.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki get-credentials
  kubepki get-credentials -n lab -g prod --overwrite-existing
  kubepki get-credentials --admin --file ./admin.kubeconfig
  kubepki get-credentials --user-name ci --group deployers --validity 1h --file - > ci.kubeconfig
  kubepki get-credentials --format exec --context lab-sso")]
pub struct GetCredentialsArgs {
    /// Copy the administrator's own credential (admin.conf) instead of issuing one
    #[arg(short, long)]
    pub admin: bool,

    /// Kubeconfig to add to; - prints a kubeconfig with this credential alone
    #[arg(short, long, value_name = "FILE|-")]
    pub file: Option<PathBuf>,

    /// Replace entries of the same name without a question, and issue a new certificate even if the old one would do
    #[arg(long)]
    pub overwrite_existing: bool,

    /// Name of the context and the cluster entry, instead of the cluster's
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub context: Option<String>,

    /// Common name of the certificate: the Kubernetes user. Your login name unless given
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub user_name: Option<String>,

    /// Organization of the certificate: a Kubernetes group; may be given more than once. Those of admin.conf unless given
    #[arg(long = "group", value_name = "GROUP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub groups: Vec<String>,

    /// How long the certificate is valid, as 8h, 7d or 1d12h; never longer than its CA. 24h unless given
    #[arg(long, value_name = "DURATION")]
    pub validity: Option<Lifetime>,

    /// Use the public name of the API server: the cluster file's controlPlaneEndpoint or a name in its certificate
    #[arg(long)]
    pub public_fqdn: bool,

    /// client-cert: a certificate; exec: sign in with kubelogin each time
    #[arg(long, value_enum, ignore_case = true, default_value = "client-cert")]
    pub format: CredentialFormat,

    /// Leave the current context of the kubeconfig as it is
    #[arg(long)]
    pub no_set_current: bool,

    /// How to agree.
    #[command(flatten)]
    pub change: ChangeArgs,

    /// Which cluster.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CredentialFormat {
    /// A client certificate and its key in the kubeconfig
    ClientCert,
    /// A client-go exec plugin (client.authentication.k8s.io/v1)
    Exec,
}

/// The result object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    file: String,
    context: String,
    cluster: String,
    user: String,
    #[serde(with = "time::serde::rfc3339::option")]
    not_after: Option<OffsetDateTime>,
    action: Action,
    #[serde(skip)]
    planned: bool,
    #[serde(skip)]
    replaced: Vec<EntryName>,
}

/// What happened to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    /// It was not there.
    Created,
    /// Entries were added, none was replaced.
    Merged,
    /// Entries were replaced.
    Replaced,
    /// It said all of it already.
    Unchanged,
}

/// Gets the credential and merges it.
pub fn run(args: &GetCredentialsArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    args.check()?;
    let target = Target::resolve(&args.target, session)?;
    let node = target.nodes.iter().find(|node| node.role == Role::ControlPlane).ok_or_else(|| {
        Failure::not_found("none of these nodes is a control-plane node, so none has credentials to give")
            .hint("run kubepki on a control-plane node, or name a cluster file with one")
    })?;
    let sources = Sources::read(node)?;
    let here = LocalNode::open("local", "/")?;
    let operator = file::operator(&here);
    let keep = |issued: &Issued| {
        let whom = (&*session, &args.target, &target);
        let mut nodes = records::keepers(&target);
        nodes.try_for_each(|node| records::write_down(whom, "get-credentials", node, std::slice::from_ref(issued)))
    };
    let records = Records { bans: records::bans(session, &args.target, &target)?, keep: Box::new(keep) };
    let maker = Maker::new(args, session, &sources, identity(args, &target), operator.clone(), records);
    if args.file.as_deref() == Some(Path::new("-")) {
        let made = maker.make(&|_| None)?;
        made.warnings.iter().for_each(|warning| session.ui.warning(warning));
        if args.change.what_if {
            let result = Credentials::new("-", made.credential.names(), made.not_after, Action::Created, true);
            session.result(&result)?;
        } else {
            session.ui.raw(&made.credential.document())?;
        }
        return Ok(ExitCode::Done);
    }
    let path = file::chosen(args.file.as_deref(), &here)?;
    let backup = file::backup(session.now);
    let destination = Destination {
        node: &here,
        file: &path,
        backup: backup.as_deref(),
        set_current: !args.no_set_current,
        only_look: args.change.what_if,
        is_root: rustix::process::geteuid().is_root(),
    };
    let owner = file::lock_owner(&operator, session.now);
    let mut last: Option<(Option<OffsetDateTime>, Vec<String>)> = None;
    let outcome = user_kubeconfig::merge(
        &destination,
        &mut Callbacks {
            wanted: &mut |old| {
                let Made { credential, not_after, is_renewal, warnings } =
                    maker.make(&|user| old.user(user).cloned())?;
                last = Some((not_after, warnings));
                let renewed = EntryName { kind: EntryKind::User, name: credential.names().user.clone() };
                Ok(Wanted { credential, unasked: if is_renewal { vec![renewed] } else { Vec::new() } })
            },
            agree: &mut |entries| args.agree(session, &path, entries),
            lock: &|path| {
                let tell = |message: &str| session.ui.status(message);
                let stop = || session.interrupt.is_asked();
                lock_kubeconfig(path, &owner, &Waiting { tell: &tell, stop: &stop })
            },
        },
    )?;
    let (not_after, warnings) = last.unwrap_or_default();
    warnings.iter().for_each(|warning| session.ui.warning(warning));
    args.tell(session, &path, outcome, not_after)?;
    Ok(ExitCode::Done)
}

fn identity(args: &GetCredentialsArgs, target: &Target) -> ClusterIdentity {
    let cluster = target.cluster.as_ref();
    let (name, group) = match &args.target.place {
        Place::Cluster(cluster) => (Some(cluster.name.clone()), cluster.group.clone()),
        _ => (cluster.map(|cluster| cluster.metadata.name.clone()), None),
    };
    ClusterIdentity { name, group, endpoint: cluster.and_then(|cluster| cluster.spec.control_plane_endpoint.clone()) }
}

impl GetCredentialsArgs {
    /// Refuses options that contradict each other, before anything is looked at.
    fn check(&self) -> anyhow::Result<()> {
        let about_new = self.user_name.is_some() || !self.groups.is_empty() || self.validity.is_some();
        let contradiction = if self.admin && self.format == CredentialFormat::Exec {
            "--admin copies a certificate, and --format exec is for users who sign in: give one of them"
        } else if self.admin && about_new {
            "--user-name, --group and --validity are for a new certificate, and --admin copies the administrator's"
        } else if self.format == CredentialFormat::Exec && about_new {
            "--user-name, --group and --validity are for a certificate, and --format exec writes none"
        } else if self.file.as_deref().is_some_and(|file| file.as_os_str().is_empty()) {
            "--file is empty"
        } else {
            return Ok(());
        };
        Err(Failure::usage(contradiction).hint("kubepki get-credentials --help").into())
    }

    /// One question for everything that would be replaced.
    fn agree(&self, session: &Session, path: &Path, entries: &[EntryName]) -> anyhow::Result<()> {
        if self.overwrite_existing || self.change.yes {
            return Ok(());
        }
        let names: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        let question = format!("Replace {names} in {}?", path.display());
        session.agree(None, &question).map_err(|error| {
            if exit_code(&error) == ExitCode::Interrupted {
                return error;
            }
            let message = format!("{} has other entries named {names}; the file was not touched", path.display());
            error.context(
                Failure::failed(message)
                    .hint("--overwrite-existing replaces them, --context NAME gives the new ones another name"),
            )
        })
    }

    fn tell(
        &self,
        session: &Session,
        path: &Path,
        outcome: Outcome,
        not_after: Option<OffsetDateTime>,
    ) -> anyhow::Result<()> {
        let action = match &outcome {
            Outcome { changed: false, .. } => Action::Unchanged,
            Outcome { existed: false, .. } => Action::Created,
            Outcome { replaced, .. } if replaced.is_empty() => Action::Merged,
            _ => Action::Replaced,
        };
        let shown = path.display().to_string();
        let mut result = Credentials::new(&shown, outcome.credential.names(), not_after, action, self.change.what_if);
        result.replaced = outcome.replaced;
        if self.change.what_if {
            return session.result(&result);
        }
        if let Some(mode) = outcome.open_mode {
            session
                .ui
                .warning(&format!("others may read {shown} (mode {mode:04o}), which holds keys: chmod 600 {shown}"));
        }
        let until = not_after.map(|at| format!(", valid until {}", time_text::utc(at))).unwrap_or_default();
        let context = &result.context;
        session.ui.status(&match (action, self.no_set_current) {
            (Action::Unchanged, _) => format!("{context:?} is in {shown} already{until}"),
            (_, true) => format!("Merged {context:?} into {shown}{until}"),
            (_, false) => format!("Merged {context:?} as current context in {shown}{until}"),
        });
        if let Some(backup) = &outcome.backup {
            session.ui.step(&format!("the file as it was: {}", backup.display()));
        }
        let wants_result = matches!(session.ui.format, Format::Json | Format::Yaml) || session.ui.query.is_some();
        if wants_result { session.result(&result) } else { Ok(()) }
    }
}

impl Credentials {
    fn new(file: &str, names: &Names, not_after: Option<OffsetDateTime>, action: Action, planned: bool) -> Self {
        Self {
            file: file.to_owned(),
            context: names.context.clone(),
            cluster: names.cluster.clone(),
            user: names.user.clone(),
            not_after,
            action,
            planned,
            replaced: Vec::new(),
        }
    }
}

impl Report for Credentials {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(self)
    }

    fn view(&self, now: OffsetDateTime) -> View {
        let would = if self.planned { "would be " } else { "" };
        let action = match self.action {
            Action::Created => "created",
            Action::Merged => "added to",
            Action::Replaced => "changed",
            Action::Unchanged => "left as it is",
        };
        let mut view = View::default()
            .line(format!("{}: {would}{action}", self.file))
            .line(format!("context {:?}: cluster {:?}, user {:?}", self.context, self.cluster, self.user));
        for entry in &self.replaced {
            view = view.line(format!("replaced: {entry}"));
        }
        if let Some(at) = self.not_after {
            view = view.line(format!("valid until {} ({})", time_text::utc(at), time_text::relative(at, now)));
        }
        view
    }
}
