//! What things are: certificates, keys, names, bundles, kubeconfigs, profiles, as pure values.
//!
//! Nothing here reads a file or a clock. Parsers take bytes from strangers: they return errors and never panic.

pub mod algorithm;
pub mod audit_log;
pub mod authorization;
pub mod catalog;
pub mod certificate;
pub mod chain;
pub mod client_trust;
pub mod component;
pub mod crl;
pub mod csr;
pub mod der;
pub mod fingerprint_twin;
pub mod issue;
pub mod kubeadm_config;
pub mod kubeconfig;
pub mod kubelet_config;
pub mod layout;
pub mod lifetime;
pub mod manifest;
pub mod manifest_flags;
pub mod name;
pub mod pem_file;
pub mod private_key;
pub mod profile;
pub mod register;
pub mod revocation;
pub mod san;
pub mod server;
pub mod spec;
pub mod usage;

/// Writes bytes as lower-case hex without separators.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
