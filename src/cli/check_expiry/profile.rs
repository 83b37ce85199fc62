//! What the cluster's profile leaves to people instead of renewing it by itself.

use crate::cli::cluster_file::ProfileChoice;
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetArgs};
use crate::pki::profile::Profile;

/// Ids of the entries that the profile in the target's cluster file does not manage; none without a cluster file.
pub(super) fn unmanaged(target: &TargetArgs, session: &Session) -> anyhow::Result<Vec<String>> {
    Ok(match Target::cluster_file(target, session)?.and_then(|(_, file)| file.spec.profile) {
        Some(ProfileChoice::Named(profile)) => of(profile),
        Some(ProfileChoice::Inline(fields)) => {
            let base = fields.get("profile").and_then(|name| name.as_str()).and_then(|name| name.parse().ok());
            let mut ids = base.map(of).unwrap_or_default();
            for list in ["certificates", "kubeconfigs"] {
                for entry in fields.get(list).and_then(|list| list.as_array()).into_iter().flatten() {
                    let Some(name) = entry.get("name").and_then(|name| name.as_str()) else { continue };
                    ids.retain(|id| id != name);
                    if entry.get("managed").and_then(serde_json::Value::as_bool) == Some(false) {
                        ids.push(name.to_owned());
                    }
                }
            }
            ids
        }
        None => Vec::new(),
    })
}

fn of(profile: Profile) -> Vec<String> {
    let spec = profile.spec();
    let certificates = spec.certificates.iter().filter(|entry| !entry.managed).map(|entry| entry.name.to_string());
    let kubeconfigs = spec.kubeconfigs.iter().filter(|entry| !entry.managed).map(|entry| entry.name.to_string());
    certificates.chain(kubeconfigs).collect()
}
