//! The cluster file that comes of it: written out for people, read back by the strict reader before anything is replaced.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use time::OffsetDateTime;

use crate::cli::cluster_file::{ClusterFile, ClusterNode, Ssh};
use crate::cli::session::Session;
use crate::error::{ExitCode, Failure, exit_code};
use crate::node::local::LocalNode;
use crate::node::{Content, Effect, FoundState, Node, Query};
use crate::report::time_text::utc;

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Created,
    Replaced,
    Unchanged,
}

impl Action {
    /// For people.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Created => "wrote",
            Self::Replaced => "replaced",
            Self::Unchanged => "nothing new in",
        }
    }
}

/// The path from the root on.
pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())).into())
}

/// The text of `cluster`, one line a node. `asked` is who told, at `now`.
///
/// # Errors
/// When a name in it cannot stand in a cluster file.
pub(super) fn text(cluster: &ClusterFile, asked: &str, now: OffsetDateTime) -> anyhow::Result<String> {
    let spec = &cluster.spec;
    let mut text = format!("# Written by `kubepki discover` on {} from {}.\n", utc(now), plain(asked));
    let mut line = |depth: usize, key: &str, value: &str| {
        let _ = writeln!(text, "{:depth$}{key}: {value}", "");
    };
    line(0, "apiVersion", &cluster.api_version);
    line(0, "kind", &cluster.kind);
    line(0, "metadata", &format!("{{name: {}}}", word(&cluster.metadata.name)));
    text.push_str("spec:\n");
    if let Some(endpoint) = &spec.control_plane_endpoint {
        let _ = writeln!(text, "  controlPlaneEndpoint: {}", word(endpoint));
    }
    if spec.ssh != Ssh::default() {
        let _ = writeln!(text, "  ssh: {{{}}}", ssh(&spec.ssh));
    }
    text.push_str("  nodes:\n");
    for ClusterNode { name, host, role, .. } in &spec.nodes {
        let role = serde_json::to_value(role).unwrap_or_default();
        let role = role.as_str().unwrap_or_default();
        let _ = writeln!(text, "  - {{name: {}, host: {}, role: {role}}}", word(name), word(host));
    }
    let read = ClusterFile::parse(text.as_bytes(), Path::new("what was found"))?;
    if read != *cluster {
        return Err(Failure::failed("what was found cannot be written as a cluster file").into());
    }
    Ok(text)
}

fn ssh(ssh: &Ssh) -> String {
    let given = [
        ("user", ssh.user.as_ref().map(|text| word(text))),
        ("port", ssh.port.map(|port| port.to_string())),
        ("privateKeyFile", ssh.private_key_file.as_ref().map(|text| word(text))),
        ("knownHostsFile", ssh.known_hosts_file.as_ref().map(|text| word(text))),
        ("jumpHost", ssh.jump_host.as_ref().map(|text| word(text))),
    ];
    let given = given.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    given.collect::<Vec<_>>().join(", ")
}

/// A string as YAML takes it for one: plain where nobody could read it otherwise, else as JSON, which YAML includes.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./_-~@".contains(&byte);
    let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let is_special =
        matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off");
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok();
    if is_address || begins_well && text.bytes().all(is_plain) && !is_special {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

/// For a comment: one line.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Puts `text` at `path`, unless what is there says the same.
///
/// # Errors
/// Exit code 1 when something else is there and nobody agrees to replace it; nothing has changed then.
pub(super) fn write(
    path: &Path,
    text: &str,
    cluster: &ClusterFile,
    force: bool,
    session: &Session,
) -> anyhow::Result<Action> {
    let here = LocalNode::open("local", "/")?;
    let found = here.read(&[Query::File(path.to_path_buf())])?.into_iter().next().map(|found| found.state);
    let shown = path.display();
    let action = match found {
        Some(FoundState::Missing) | None => Action::Created,
        Some(FoundState::File(old)) if ClusterFile::parse(&old, path).is_ok_and(|old| old == *cluster) => {
            return Ok(Action::Unchanged);
        }
        Some(FoundState::File(_)) => Action::Replaced,
        Some(_) => return Err(Failure::failed(format!("{shown} is no file that could be replaced")).into()),
    };
    if action == Action::Replaced && !force {
        session.agree(None, &format!("Replace {shown}, which says something else?")).map_err(|error| {
            if exit_code(&error) == ExitCode::Interrupted {
                return error;
            }
            let message = format!("{shown} is there and says something else; it was not touched");
            Failure::failed(message).hint("--force replaces it, --file - prints what was found").into()
        })?;
    }
    if let Some(folder) = path.parent() {
        here.apply(&Effect::MakeDirectory { path: folder, mode: 0o700 })?;
    }
    here.apply(&Effect::Install { path, content: Content::Bytes(text.as_bytes()), mode: 0o600, owner: None })
        .with_context(|| Failure::failed(format!("cannot write {shown}")))?;
    Ok(action)
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn strings_stay_strings_in_yaml() {
        for (text, written) in [
            ("cp1", "cp1"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:6443", "\"10.0.0.1:6443\""),
            ("fd00::1", "\"fd00::1\""),
            ("true", "\"true\""),
            ("1", "\"1\""),
            ("1e3", "\"1e3\""),
            ("a b", "\"a b\""),
            ("~/.ssh/id", "\"~/.ssh/id\""),
            ("-", "\"-\""),
            ("a\"}\n", "\"a\\\"}\\n\""),
        ] {
            assert_eq!(word(text), written);
        }
    }
}
