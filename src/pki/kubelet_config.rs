//! What a kubelet's configuration file says about certificates: where they come from and where they lie.
//!
//! `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`, as kubeadm writes it to `/var/lib/kubelet/config.yaml`.

use std::path::PathBuf;

use serde::Deserialize;

/// Larger files are not configurations (bytes).
const LARGEST: usize = 1024 * 1024;

/// What a kubelet does about its certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeletConfig {
    /// It asks the API for a new client certificate before the old one ends.
    pub rotate_certificates: bool,
    /// It asks the API for its serving certificate instead of signing one itself.
    pub server_tls_bootstrap: bool,
    /// TCP port it listens on; `None` is the usual one.
    pub port: Option<u16>,
    /// Files it names: serving certificate, its key, and the CA of its clients. Relative ones are relative to the
    /// configuration.
    pub files: Vec<PathBuf>,
}

/// The fields as they are written; one that is null counts as left out, as for the kubelet.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    rotate_certificates: Option<bool>,
    port: Option<u16>,
    #[serde(rename = "serverTLSBootstrap")]
    server_tls_bootstrap: Option<bool>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    authentication: Option<Authentication>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authentication {
    x509: Option<X509>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
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
        let read: Option<Document> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        let document = read.unwrap_or_default();
        let authority = document.authentication.and_then(|it| it.x509).and_then(|it| it.client_ca_file);
        let named = [document.tls_cert_file, document.tls_private_key_file, authority];
        Ok(Self {
            rotate_certificates: document.rotate_certificates.unwrap_or_default(),
            server_tls_bootstrap: document.server_tls_bootstrap.unwrap_or_default(),
            port: document.port.filter(|port| *port != 0),
            files: named.into_iter().flatten().filter(|path| !path.as_os_str().is_empty()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_file_is_read_and_what_is_not_said_is_off() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication:\n  x509:\n    \
                    clientCAFile: /etc/kubernetes/pki/ca.crt\nrotateCertificates: true\nvolumeStatsAggPeriod: 0s\n";
        let files = vec!["/etc/kubernetes/pki/ca.crt".into()];
        let expected = KubeletConfig { rotate_certificates: true, server_tls_bootstrap: false, port: None, files };
        assert_eq!(KubeletConfig::parse(text.as_bytes()), Ok(expected));
        let json = br#"{"kind": "KubeletConfiguration", "serverTLSBootstrap": true}"#;
        assert!(KubeletConfig::parse(json).expect("JSON").server_tls_bootstrap);
        for nothing in ["", "rotateCertificates: null\ntlsCertFile: ''\nauthentication: {x509: null}\n", "# only this"]
        {
            assert_eq!(KubeletConfig::parse(nothing.as_bytes()), Ok(KubeletConfig::default()), "{nothing}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        for bad in [&b"\xff"[..], b"[", b"rotateCertificates: [1]", b"tlsCertFile: [1]", &vec![b' '; LARGEST + 1]] {
            assert!(KubeletConfig::parse(bad).is_err());
        }
    }

    #[test]
    fn a_small_file_cannot_be_made_to_stand_for_gigabytes() {
        let half = LARGEST / 2 - 64;
        let ones = "1,".repeat(half / 2);
        let wide = format!("a: &a [{ones}]\nb: [{}]\n", "*a,".repeat(half / 3));
        let level = |level: usize| format!("a{level}: &a{level} [{}]\n", format!("*a{},", level - 1).repeat(10));
        let laughs = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned() + &(1..12).map(level).collect::<String>();
        for (text, is_refused) in [
            (wide, true),
            (laughs, true),
            (format!("a: {}{}\n", "[".repeat(half), "]".repeat(half)), true),
            (format!("a: {}\n", "{a: ".repeat(half / 4)), true),
            ("- ".repeat(half), true),
            (format!("a: {}\n", "? ".repeat(half)), true),
            (format!("b: &b [1, 2]\nc: *b\nd: \"{}\"\n", "\\n".repeat(half / 2)), false),
        ] {
            assert_eq!(KubeletConfig::parse(text.as_bytes()).is_err(), is_refused, "{}", &text[..40]);
        }
    }
}
