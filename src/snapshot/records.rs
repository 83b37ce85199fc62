//! kubepki's own records on a node: the ledger of revocations and the register of issued certificates.
//!
//! They lie beside the certificates, in a folder that only root can enter, and count without the cluster's API.

use std::path::PathBuf;

use crate::pki::register::Register;
use crate::pki::revocation::Revocation;

/// What was found of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Absolute path of the folder; empty where nobody looked.
    pub folder: PathBuf,
    /// The ledger.
    pub ledger: Ledger,
    /// The register, empty when there is none.
    pub register: Register,
    /// SHA-256 of the register's file, lower-case hex; absent when there is none.
    pub register_sha256: Option<String>,
}

/// The revocations that count on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The objects in the order of the file.
    pub revocations: Vec<Revocation>,
    /// SHA-256 of the file, lower-case hex; absent when there is none.
    pub sha256: Option<String>,
    /// Why the file cannot be read, with line and column: then nobody knows what is revoked.
    pub fault: Option<String>,
}

impl Records {
    /// Absolute path of the ledger.
    pub fn ledger_path(&self) -> PathBuf {
        self.folder.join(crate::pki::layout::LEDGER)
    }

    /// Absolute path of the register.
    pub fn register_path(&self) -> PathBuf {
        self.folder.join(crate::pki::layout::REGISTER)
    }
}
