//! Kubeconfigs: changing them in place, merging credentials into them, and the command that does it.
//!
//! kubectl is the judge: what is written here is read by it and must say the same.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod issuing;
mod judge;
mod laws;
mod locking;
mod machine;
mod merge;
mod replace;
mod user_file;
