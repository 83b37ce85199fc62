//! Plans to effects: mint in memory, render files, carry them out one journalled effect after another.
//!
//! Nothing here chooses: whatever could be decided stands in the blueprint.

mod backup;
pub mod bans;
mod chain;
pub mod change;
pub mod copies;
pub mod existing;
pub mod journal;
pub mod leg;
pub mod mint;
mod prepare;
pub mod progress;
mod recovery;
pub mod register;
pub mod render;
pub mod requests;
mod standing;
mod state;
pub mod transaction;
pub mod user_kubeconfig;

pub use change::sha256;
