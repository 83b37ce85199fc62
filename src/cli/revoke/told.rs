//! Certificates that lie on no node: what audit logs and the cluster's signing requests tell, and with what the operator works.

use std::path::{Path, PathBuf};

use crate::cli::live;
use crate::cli::session::{Session, home};
use crate::cli::target::Target;
use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Scope, Wanted};
use crate::pki::audit_log;
use crate::pki::certificate::Certificate;
use crate::pki::layout::Role;
use crate::pki::register::{Issued, Origin};
use crate::snapshot::Snapshot;

/// What audit logs on this machine tell.
///
/// # Errors
/// Exit code 3 when a file is not there, 1 when it is no audit log.
pub(super) fn audit_logs(paths: &[PathBuf], session: &Session) -> anyhow::Result<Vec<Issued>> {
    let mut all = Vec::new();
    for path in paths {
        let absolute = std::path::absolute(path)?;
        let shown = path.display();
        let text = match LocalNode::open("local", "/")?.read(&[Query::File(absolute)])?.into_iter().next() {
            Some(found) => match found.state {
                FoundState::File(text) => text,
                FoundState::Unreadable(reason) => {
                    return Err(Failure::failed(format!("{shown}: {reason}")).hint("split it, `split -C 50m`").into());
                }
                _ => return Err(Failure::not_found(format!("there is no {shown}")).into()),
            },
            None => return Err(Failure::not_found(format!("there is no {shown}")).into()),
        };
        let told = audit_log::read(&text);
        if told.events == 0 {
            let message = format!("{shown}: no line of it is an audit event");
            return Err(Failure::failed(message)
                .hint("it is what --audit-log-path of kube-apiserver names, JSON lines")
                .into());
        }
        if told.unreadable > 0 {
            session.ui.warning(&format!("{shown}: {} lines are no audit events and were passed over", told.unreadable));
        }
        let named = |issued: Issued| Issued { for_whom: format!("audit log {shown}"), ..issued };
        all.extend(told.certificates.into_iter().map(named));
    }
    Ok(all)
}

/// What the cluster issued on request in the last hour, where its API answers.
pub(super) fn requests(target: &Target, snapshot: &Snapshot, session: &Session) -> Vec<Issued> {
    let authorities: Vec<Certificate> = snapshot
        .nodes
        .iter()
        .filter_map(|node| node.entry("ca")?.content())
        .flat_map(|content| content.certificates().cloned())
        .collect();
    for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let asked = live::ask_api(target, node, &mut |api| {
            api.issued_certificates(&authorities, session.now).map_err(|error| error.to_string())
        });
        match asked {
            Ok(issued) => {
                let of = |one: &crate::live::issued::IssuedCertificate| {
                    let whom = format!("signing request {} of {}", one.request, one.user);
                    Issued::of(&one.certificate, None, Origin::Request, whom, session.now)
                };
                return issued.iter().map(of).collect();
            }
            Err(reason) => session.ui.debug(&format!("{}: signing requests: {reason}", node.node.name())),
        }
    }
    Vec::new()
}

/// Files on this machine, and SHA-256 (lower-case hex) of the certificates in them, with which whoever runs this works: those
/// of the current context.
pub(super) fn operator() -> Vec<(String, String)> {
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let paths: Vec<PathBuf> = match listed {
        Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => home().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let scopes = paths.iter().filter_map(|path| std::path::absolute(path).ok()).map(Scope::Kubeconfig).collect();
    let Ok(here) = LocalNode::open("local", "/") else { return Vec::new() };
    let found = observe::node(&here, &Wanted { scopes, keys: Keys::PublicHalf });
    let own = |path: &Path| {
        let kubeconfig = found.at(path)?.content()?.kubeconfig.as_ref()?.as_ref().ok()?;
        let material = &kubeconfig.current_user()?.certificate;
        let file = material.file.as_deref().unwrap_or(path).display().to_string();
        Some((file, material.certificates().next()?.fingerprint_hex()))
    };
    found.artifacts.iter().filter_map(|artifact| own(&artifact.path)).collect()
}
