//! The certificates that a kubelet's own configuration names, wherever they lie.

use std::path::{Path, PathBuf};

use crate::node::{Found, FoundState};
use crate::pki::kubelet_config::KubeletConfig;

/// Where kubeadm and the distributions keep it, below the kubelet's folder.
pub(super) const NAME: &str = "config.yaml";

/// The files that the configuration at `path` names among those found. Relative ones are relative to the configuration,
/// as the kubelet takes them.
pub(super) fn references(found: &[Found], path: &Path) -> Vec<PathBuf> {
    let content = found.iter().find(|file| file.path == path).map(|file| &file.state);
    let Some(FoundState::File(bytes)) = content else { return Vec::new() };
    let folder = path.parent().unwrap_or(Path::new("/"));
    // One that cannot be read keeps the kubelet from starting; it is not for this to judge.
    let files = KubeletConfig::parse(bytes).unwrap_or_default().files;
    files.into_iter().map(|file| folder.join(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn files_are_named_by_absolute_and_relative_paths() {
        let text = "kind: KubeletConfiguration\ntlsCertFile: pki/serving.crt\ntlsPrivateKeyFile: /etc/k/serving.key\n\
                    authentication:\n  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}\n";
        let file = |content: &str| Found {
            path: "/var/lib/kubelet/config.yaml".into(),
            link: None,
            metadata: None,
            state: FoundState::File(Zeroizing::new(content.as_bytes().to_vec())),
        };
        let path = Path::new("/var/lib/kubelet/config.yaml");
        let wanted = ["/var/lib/kubelet/pki/serving.crt", "/etc/k/serving.key", "/etc/kubernetes/pki/ca.crt"];
        assert_eq!(references(&[file(text)], path), wanted.map(PathBuf::from));
        for other in ["", "{", "tlsCertFile: [1]", "- a"] {
            assert!(references(&[file(other)], path).is_empty(), "{other}");
        }
    }
}
