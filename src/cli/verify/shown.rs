//! The credentials that servers are shown, as given on the command line.

use std::path::Path;

use super::VerifyArgs;
use crate::error::Failure;
use crate::live::component::Component;
use crate::live::credential::Credential;
use crate::live::proof::Verdict;
use crate::node::local::LocalNode;

/// One credential.
pub(super) struct Shown {
    /// What it is called in the result: the file as typed, or the path on its node.
    pub(super) name: String,
    /// Whether it must be accepted.
    pub(super) expected: bool,
    /// The credential, or why a file of a node is none.
    pub(super) credential: Result<Credential, String>,
    /// Whom it is shown to.
    pub(super) scope: Scope,
}

/// Whom a credential is shown to.
pub(super) enum Scope {
    /// Only these.
    Only(Vec<Component>),
    /// Whoever has a CA of the name that signed it; everybody when that is nobody.
    ByIssuer,
}

impl Shown {
    /// What the options name, in their order. Each has to be readable: nothing was asked yet.
    pub(super) fn given(args: &VerifyArgs) -> anyhow::Result<Vec<Self>> {
        let here = LocalNode::open("local", "/")?;
        let mut shown = Vec::new();
        for (files, expected) in [(&args.kubeconfigs, true), (&args.refused_kubeconfigs, false)] {
            for path in files {
                let credential = super::kubeconfig(&here, path)?;
                shown.push(Self::new(path, expected, credential));
            }
        }
        let pairs = [
            (&args.certificates, &args.keys, true, "--key"),
            (&args.refused_certificates, &args.refused_keys, false, "--refused-key"),
        ];
        for (certificates, keys, expected, option) in pairs {
            if !keys.is_empty() && keys.len() != certificates.len() {
                let message = format!(
                    "there are {} certificates and {} keys: give {option} once for each certificate, or not at all",
                    certificates.len(),
                    keys.len()
                );
                return Err(Failure::usage(message).into());
            }
            for (index, path) in certificates.iter().enumerate() {
                let credential = pair(&here, path, keys.get(index).unwrap_or(path))?;
                shown.push(Self::new(path, expected, credential));
            }
        }
        Ok(shown)
    }

    fn new(path: &Path, expected: bool, credential: Credential) -> Self {
        let name = path.display().to_string();
        Self { name, expected, credential: Ok(credential), scope: Scope::ByIssuer }
    }

    /// What a verdict means for this credential. That a server is not believed is no refusal by the server.
    pub(super) fn judged(&self, verdict: Verdict, component: Component) -> Verdict {
        let is_ours = verdict.reason.starts_with("its certificate is");
        if self.expected || verdict.accepted != Some(false) || !is_ours {
            return verdict;
        }
        let reason = format!("the {component} there is not known to be the right one: {}", verdict.reason);
        Verdict { accepted: None, reason }
    }
}

fn pair(here: &LocalNode, certificate: &Path, key: &Path) -> anyhow::Result<Credential> {
    let (certificate_path, key_path) = (super::absolute(certificate)?, super::absolute(key)?);
    Credential::read_files(here, &certificate_path, &key_path).map_err(|why| super::usage(certificate, &why))
}
