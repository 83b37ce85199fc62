//! What happens inside, without the binary: rooms called with values, on real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod crash_points;
mod damage;
mod diagnose;
mod docs;
mod draining;
mod endpoints;
mod install;
mod kill;
mod local_node;
mod lock;
mod observe;
mod old_kernel;
mod recovery;
mod rolling;
mod rotate;
mod rounds;
mod rounds_plan;
mod servers;
mod source;
mod transaction;
