//! The kubelet's own folder (Kubernetes: `client-go/util/certificate/certificate_store.go`, `pkg/kubelet/certificate`).
//!
//! The `current` files hold certificate and key and are symbolic links to dated ones; older dated files stay behind
//! after each rotation and are used by nobody.

use super::{Base, CLIENT, Entry, Expected, Keeper, SERVER};

pub(super) const ENTRIES: &[Entry] = &[
    combined("kubelet-client", Base::Pki, "kubelet-client-current.pem", Some("ca")).named_as_node(),
    combined("kubelet-server", Base::Pki, "kubelet-server-current.pem", Some("ca")).serving(),
    // Older documentation names it one folder further up.
    combined("kubelet-server-current", Base::Kubelet, "kubelet-server-current.pem", Some("ca")).serving(),
    // Signed by itself and not part of the cluster's PKI.
    Entry::leaf("kubelet", "kubelet.crt", "kubelet.key", "", SERVER).self_issued().kept_by(Keeper::Kubelet),
];

const fn combined(id: &'static str, base: Base, path: &'static str, issuer: Option<&'static str>) -> Entry {
    Entry { base, issuer, key: None, ..Entry::leaf(id, path, "", "", CLIENT).kept_by(Keeper::Kubelet) }
}

impl Entry {
    const fn named_as_node(self) -> Self {
        self.named(Expected::Prefix("system:node:"), Some("system:nodes"))
    }

    const fn serving(self) -> Self {
        Self { usages: SERVER, names_node: true, ..self }
    }
}

/// Whether `name` is a dated file of the kubelet's store, as `kubelet-client-2026-01-02-03-04-05.pem`.
pub fn is_dated(name: &str) -> bool {
    let date = ["kubelet-client-", "kubelet-server-"].iter().find_map(|start| name.strip_prefix(start));
    let Some(date) = date.and_then(|rest| rest.strip_suffix(".pem")) else { return false };
    date.len() == 19
        && date.bytes().enumerate().all(|(index, byte)| {
            if matches!(index, 4 | 7 | 10 | 13 | 16) { byte == b'-' } else { byte.is_ascii_digit() }
        })
}

#[cfg(test)]
mod tests {
    use super::is_dated;

    #[test]
    fn dated_files_are_told_from_current_ones() {
        assert!(is_dated("kubelet-client-2026-01-02-03-04-05.pem"));
        assert!(is_dated("kubelet-server-2026-01-02-03-04-05.pem"));
        for other in ["kubelet-client-current.pem", "kubelet-client-2026-01-02-03-04-0x.pem", "kubelet-client-.pem"] {
            assert!(!is_dated(other), "{other}");
        }
    }
}
