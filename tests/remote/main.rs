//! Nodes over SSH, against real sshd's on free ports of this machine, each in namespaces of its own with its own accounts.
//!
//! Everything that a node can do runs as one scenario on this machine and over SSH: as root, through sudo, through a jump
//! host, with dash, bash and busybox on the other side.

#![allow(unreachable_pub, reason = "a program of its own")]
#![allow(dead_code, reason = "shared files are written for all programs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod commands;
mod crowd;
mod cuts;
mod dialling;
mod fleet;
mod host_keys;
mod jump;
mod locks;
mod login;
mod proxy;
mod reading;
mod secrets;
mod server;
mod silence;
mod sudo;
mod worlds;
mod writing;

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/skip.rs"]
mod skip;
