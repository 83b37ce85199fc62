//! The certificates that a kubelet's own configuration names, wherever they lie (KubeletConfiguration v1beta1).

use std::path::{Path, PathBuf};

use crate::node::{Found, FoundState};

/// Configurations larger than this are not looked into (bytes).
const LARGEST: usize = 1024 * 1024;

/// Where kubeadm and the distributions keep it, below the kubelet's folder.
pub(super) const NAME: &str = "config.yaml";

/// The files that the configuration at `path` names among those found: serving certificate, its key, and the CA of its
/// clients. Relative ones are relative to the configuration, as the kubelet takes them.
pub(super) fn references(found: &[Found], path: &Path) -> Vec<PathBuf> {
    let content = found.iter().find(|file| file.path == path).map(|file| &file.state);
    let Some(FoundState::File(bytes)) = content else { return Vec::new() };
    if bytes.len() > LARGEST {
        return Vec::new();
    }
    let Ok(config) = serde_yaml::from_slice::<serde_yaml::Value>(bytes) else { return Vec::new() };
    let authority = config.get("authentication").and_then(|it| it.get("x509")).and_then(|it| it.get("clientCAFile"));
    let named = [config.get("tlsCertFile"), config.get("tlsPrivateKeyFile"), authority];
    let folder = path.parent().unwrap_or(Path::new("/"));
    let paths = named.into_iter().flatten().filter_map(|value| value.as_str()).filter(|path| !path.is_empty());
    paths.map(|path| folder.join(path)).collect()
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
