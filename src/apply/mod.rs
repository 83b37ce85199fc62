//! Plans to effects: mint in memory, render files, carry them out one journalled effect after another.
//!
//! Nothing here chooses: whatever could be decided stands in the blueprint.

pub mod existing;
pub mod mint;
