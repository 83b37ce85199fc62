//! kubepki owns the PKI of a self-managed Kubernetes cluster.
//!
//! The flow of every command: `cli` → `observe` → `diagnose` → `plan` → `apply` → `verify` → `report`. The rooms
//! and the doors between them are described in `docs/architecture.md` and enforced by `tests/engine/architecture.rs`.

pub mod apply;
pub mod cli;
pub mod diagnose;
pub mod error;
pub mod live;
pub mod node;
pub mod observe;
pub mod pki;
pub mod plan;
pub mod report;
pub mod snapshot;
pub mod verify;
