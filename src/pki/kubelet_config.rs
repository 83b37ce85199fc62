//! The two switches of a kubelet's configuration file that decide where its certificates come from.
//!
//! `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`, as kubeadm writes it to `/var/lib/kubelet/config.yaml`.

use serde::Deserialize;

/// Larger files are not configurations (bytes).
const LARGEST: usize = 1024 * 1024;

/// What a kubelet does about its certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfig {
    /// It asks the API for a new client certificate before the old one ends.
    pub rotate_certificates: bool,
    /// It asks the API for its serving certificate instead of signing one itself.
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
}

impl KubeletConfig {
    /// Reads a configuration file; YAML or JSON, everything else in it is left aside.
    ///
    /// # Errors
    /// A sentence on what is wrong with the document.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        if document.len() > LARGEST {
            return Err("the document is larger than 1 MiB".to_owned());
        }
        let text = std::str::from_utf8(document).map_err(|_| "the document is not UTF-8".to_owned())?;
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_file_is_read_and_what_is_not_said_is_off() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication:\n  x509:\n    \
                    clientCAFile: /etc/kubernetes/pki/ca.crt\nrotateCertificates: true\nvolumeStatsAggPeriod: 0s\n";
        let expected = KubeletConfig { rotate_certificates: true, server_tls_bootstrap: false };
        assert_eq!(KubeletConfig::parse(text.as_bytes()), Ok(expected));
        let json = br#"{"kind": "KubeletConfiguration", "serverTLSBootstrap": true}"#;
        assert!(KubeletConfig::parse(json).expect("JSON").server_tls_bootstrap);
    }

    #[test]
    fn damage_is_an_error() {
        for bad in [&b"\xff"[..], b"[", b"rotateCertificates: [1]", &vec![b' '; LARGEST + 1]] {
            assert!(KubeletConfig::parse(bad).is_err());
        }
    }
}
