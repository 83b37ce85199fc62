//! The openssl program: certificates that kubepki does not make, and a second opinion on those it reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip::skipped;

/// Whether openssl can be run; says that `test` did not run otherwise.
pub fn is_there(test: &str) -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !there {
        skipped(test, "there is no openssl program");
    }
    there
}

/// What `openssl ARGUMENTS` prints.
pub fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A self-signed CA made with `openssl req -x509 ARGUMENTS`: certificate and key as PEM.
pub fn self_signed(common_name: &str, arguments: &[&str], days: u32) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("ca.crt"), folder.path().join("ca.key"));
    let (subject, days) = (format!("/CN={common_name}"), days.to_string());
    let mut all = vec!["req", "-x509", "-nodes", "-subj", &subject, "-days", &days];
    all.extend_from_slice(arguments);
    let (certificate_text, key_text) = (certificate.display().to_string(), key.display().to_string());
    all.extend_from_slice(&["-out", &certificate_text, "-keyout", &key_text]);
    openssl(&all);
    (std::fs::read_to_string(certificate).unwrap(), std::fs::read_to_string(key).unwrap())
}

/// A CA kept by openssl in a folder.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path, common_name: &str, arguments: &[&str]) -> Self {
        let (certificate, key) = self_signed(common_name, arguments, 3650);
        std::fs::write(folder.join("ca.crt"), certificate).unwrap();
        std::fs::write(folder.join("ca.key"), key).unwrap();
        Self { folder: folder.to_path_buf() }
    }

    pub fn certificate(&self) -> String {
        std::fs::read_to_string(self.folder.join("ca.crt")).unwrap()
    }

    /// A leaf with a new key: certificate and key as PEM.
    pub fn issue(&self, common_name: &str, key_arguments: &[&str], digest: &str) -> (String, String) {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let (subject, key, request, certificate) =
            (format!("/CN={common_name}"), at("leaf.key"), at("leaf.csr"), at("leaf.crt"));
        let mut all = vec!["req", "-new", "-nodes", "-subj", &subject, "-out", &request, "-keyout", &key];
        all.extend_from_slice(key_arguments);
        openssl(&all);
        let (ca, ca_key) = (at("ca.crt"), at("ca.key"));
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "365",
            digest,
            "-out",
            &certificate,
        ]);
        (std::fs::read_to_string(certificate).unwrap(), std::fs::read_to_string(key).unwrap())
    }

    /// A leaf with that serial number, as PEM.
    pub fn issue_with_serial(&self, common_name: &str, serial: &str) -> String {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let (subject, key, request, certificate) =
            (format!("/CN={common_name}"), at("leaf.key"), at("leaf.csr"), at("leaf.crt"));
        openssl(&[
            "req", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", &subject, "-out", &request, "-keyout", &key,
        ]);
        let (ca, ca_key) = (at("ca.crt"), at("ca.key"));
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-set_serial",
            serial,
            "-days",
            "365",
            "-out",
            &certificate,
        ]);
        std::fs::read_to_string(certificate).unwrap()
    }
}
