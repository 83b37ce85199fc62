//! `create-certs` as an operator meets it: what it makes, what it leaves alone, what it refuses, and how it ends after a crash.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod authorities;
mod crash;
mod existing;
mod nodes;
mod options;
mod signing;
mod specs;
