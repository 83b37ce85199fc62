//! What the operator wants of a rotation, as values.

use std::path::PathBuf;

use super::scope::Scopes;
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::lifetime::{Lifetime, Threshold};
use crate::pki::name::Name;
use crate::pki::san::San;
use crate::pki::usage::ExtendedKeyUsage;
use crate::snapshot::NodeSnapshot;

/// Wishes for one rotation.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What it is about; everything when empty.
    pub only: Scopes,
    /// Only what has got that far (`--due`).
    pub due: Option<Threshold>,
    /// Algorithm of new keys; that of the old key when absent.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Validity of leaves; as long as before when absent.
    pub validity: Option<Lifetime>,
    /// Validity of authorities; as long as before when absent.
    pub ca_validity: Option<Lifetime>,
    /// Keeps keys: an authority's certificate gets new dates and a new serial number and nothing else.
    pub same_key: bool,
    /// Names to add to server certificates.
    pub add_sans: Vec<San>,
    /// Names to take out of server certificates.
    pub remove_sans: Vec<San>,
    /// Leaves certificates that would say the same again as they are.
    pub only_differences: bool,
    /// What certificates should say (`--reconcile`); what is not in it is carried over.
    pub wanted: Vec<Wanted>,
    /// Keeps the old public keys beside the new one, so that tokens signed before stay valid for that long.
    pub wait_for_tokens: Option<Lifetime>,
    /// How much of the cluster can be seen.
    pub reach: Reach,
    /// Whether components are restarted as part of the operation; otherwise that is left to people.
    pub restarts: bool,
    /// Whether people's own kubeconfigs on the nodes change with the others; otherwise they are told of.
    pub update_kubeconfigs: bool,
    /// Whether the operation goes through the rounds of [`crate::plan::rounds`], which look after the cluster's own copies
    /// of authorities and after old tokens.
    pub rounds: bool,
    /// What becomes of that which authorities have to sign whose key is elsewhere.
    pub external: External,
}

/// What becomes of that which authorities have to sign whose key is elsewhere.
#[derive(Debug, Clone, Default)]
pub enum External {
    /// It stays as it is.
    #[default]
    Left,
    /// Signing requests are written for it, and nothing else happens (`--csr-only`).
    Asked,
    /// Signed certificates came back (`--import-signed`).
    Offered(Box<Offered>),
}

/// A folder of signed certificates.
#[derive(Debug, Clone)]
pub struct Offered {
    /// Its absolute path on the machine that runs kubepki.
    pub folder: PathBuf,
    /// What lies in it.
    pub found: NodeSnapshot,
}

/// What a spec says about one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The node it belongs to.
    pub node: String,
    /// Its id, as `apiserver` or `admin.conf`.
    pub name: String,
    /// Its subject.
    pub subject: Name,
    /// Its names.
    pub sans: Vec<San>,
    /// Its extended key usages.
    pub usages: Vec<ExtendedKeyUsage>,
}

/// How much of a cluster can be seen, which decides whether what all nodes share may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether the files may be in use by a cluster: false for a bare folder.
    pub is_live: bool,
    /// Signs of nodes that are not among those to be changed, in words.
    pub others: Vec<String>,
    /// What could have shown more such signs and could not be read, in words.
    pub doubts: Vec<String>,
}
