//! The binary as people and scripts meet it: wiring, messages, formats, questions, exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod check_expiry;
mod completion;
mod external;
mod global;
mod list;
mod preparing;
mod questions;
mod repair;
mod revoke;
mod rotate;
mod show;
mod tour;
mod values;
