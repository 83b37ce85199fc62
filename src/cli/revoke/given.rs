//! Certificates in files that the operator gives: a leaked kubeconfig, a certificate out of a mail.

use std::path::{Path, PathBuf};

use super::RevokeArgs;
use crate::error::Failure;
use crate::live::credential::Credential;
use crate::node::local::LocalNode;
use crate::observe::{self, Keys, Scope, Wanted};
use crate::pki::certificate::{Certificate, SerialNumber};
use crate::plan::credentials::{ADMINISTRATORS, MASTERS};
use crate::plan::revoke::result::Holder;
use crate::snapshot::{NodeSnapshot, State};

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// The files as things found on this machine; none when no file was given.
    pub(super) found: Option<NodeSnapshot>,
    /// The client certificates of the kubeconfigs and the first certificate of every other file.
    pub(super) certificates: Vec<Certificate>,
    /// The credentials themselves, where their keys are at hand, by the entry of their holder.
    pub(super) credentials: Vec<(String, Credential)>,
    /// Whose access the kubeconfigs give.
    pub(super) holders: Vec<Holder>,
}

impl Given {
    /// Their serial numbers, each once.
    pub(super) fn serials(&self) -> Vec<SerialNumber> {
        let mut serials: Vec<SerialNumber> = Vec::new();
        for certificate in &self.certificates {
            if !serials.contains(certificate.serial()) {
                serials.push(certificate.serial().clone());
            }
        }
        serials
    }
}

/// Reads the files of `--kubeconfig` and `--certificate`.
///
/// # Errors
/// Exit code 3 when a file is not there, 1 when it holds no certificate that can be revoked.
pub(super) fn read(args: &RevokeArgs) -> anyhow::Result<Given> {
    let scope = |make: fn(PathBuf) -> Scope, path: &PathBuf| std::path::absolute(path).map(make);
    let kubeconfigs = args.kubeconfigs.iter().map(|path| scope(Scope::Kubeconfig, path));
    let others = args.certificates.iter().map(|path| scope(Scope::Path, path));
    let scopes: Vec<Scope> = kubeconfigs.chain(others).collect::<Result<_, _>>()?;
    if scopes.is_empty() {
        return Ok(Given::default());
    }
    let wanted = Wanted { scopes: scopes.clone(), keys: Keys::Keep };
    let here = LocalNode::open("local", "/")?;
    let found = observe::node(&here, &wanted);
    let mut given = Given::default();
    for scope in &scopes {
        let Some(path) = scope.named() else { continue };
        let before = given.certificates.len();
        let artifact = found.at(path);
        match artifact.map(|artifact| &artifact.state) {
            None | Some(State::Missing { .. }) => {
                return Err(Failure::not_found(format!("there is no {}", path.display())).into());
            }
            Some(State::Unreadable(reason)) => {
                return Err(Failure::failed(format!("{}: {reason}", path.display())).into());
            }
            Some(State::Read(content)) => match &content.kubeconfig {
                Some(Ok(kubeconfig)) => {
                    let users = kubeconfig.users.iter().filter(|user| match &args.context {
                        Some(named) => kubeconfig.context(Some(named)).is_some_and(|one| one.user == user.name),
                        None => true,
                    });
                    for user in users {
                        if let Some(certificate) = user.certificate.certificates().next() {
                            given.holders.push(holder(format!("{}#user/{}", path.display(), user.name), certificate));
                            given.certificates.push(certificate.clone());
                        }
                    }
                    let entry = kubeconfig.context(args.context.as_deref()).map(|context| &context.user);
                    let credential = Credential::read_context(&here, path, args.context.as_deref());
                    if let (Some(user), Ok(credential)) = (entry, credential) {
                        given.credentials.push((format!("{}#user/{user}", path.display()), credential));
                    }
                    if before == given.certificates.len() {
                        return Err(no_certificate(
                            path,
                            kubeconfig.users.iter().any(|user| user.has_other_credential),
                        ));
                    }
                }
                Some(Err(reason)) => return Err(Failure::failed(format!("{}: {reason}", path.display())).into()),
                None => {
                    let certificate = content.certificates().next();
                    let certificate = certificate.ok_or_else(|| no_certificate(path, false))?;
                    given.holders.push(holder(path.display().to_string(), certificate));
                    if let Ok(credential) = Credential::read_files(&here, path, path) {
                        given.credentials.push((path.display().to_string(), credential));
                    }
                    given.certificates.push(certificate.clone());
                }
            },
        }
    }
    given.found = Some(found);
    Ok(given)
}

fn no_certificate(path: &Path, has_other: bool) -> anyhow::Error {
    let failure = Failure::failed(format!("{}: there is no client certificate in it", path.display()));
    let hint = if has_other {
        "a token ends when its service account is deleted or its key rotated (`kubepki rotate-certs --only sa`)"
    } else {
        "--kubeconfig takes kubeconfigs, --certificate takes PEM and DER files"
    };
    failure.hint(hint).into()
}

fn holder(entry: String, certificate: &Certificate) -> Holder {
    let user = certificate.subject().common_name().unwrap_or_default().to_owned();
    let groups = certificate.subject().organizations().to_vec();
    Holder { rights: rights(&user, &groups), entry, user, groups, not_after: certificate.not_after() }
}

/// What somebody may do, as far as the names tell.
fn rights(user: &str, groups: &[String]) -> String {
    let is_in = |group: &str| groups.iter().any(|own| own == group);
    if is_in(MASTERS) {
        return "everything, past every authorizer: RBAC cannot take it away".to_owned();
    }
    if is_in(ADMINISTRATORS) {
        return format!("everything, by the ClusterRoleBinding {ADMINISTRATORS}");
    }
    if is_in("system:nodes") {
        return "what a kubelet may: its node, its pods, and the secrets they use".to_owned();
    }
    if user.starts_with("system:") {
        return format!("what the built-in user {user} may");
    }
    let words: Vec<String> = groups.iter().map(|group| format!("--as-group {group}")).collect();
    format!("what RBAC gives them: kubectl auth can-i --list --as {user} {}", words.join(" ")).trim_end().to_owned()
}
