//! Findings and wishes to changes: pure functions, no input or output, no key material.
//!
//! A plan says everything that will happen before anything does; `--what-if` prints it and ends. An empty plan
//! means there is nothing to do.

pub mod blueprint;
pub mod compare;
pub mod create;
pub mod credentials;
pub mod enforcement;
pub mod gates;
pub mod operation;
pub mod phase;
pub mod problem;
pub mod repair;
pub mod restart;
pub mod revoke;
pub mod rotate;
pub mod rounds;
pub mod sign_in;
pub mod signed;
