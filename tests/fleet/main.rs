//! The binary on a cluster of machines: real sshd's, each with `/etc/kubernetes` and `/var/lib/kubelet` of its own, and
//! nothing in common but what kubepki brings there.
//!
//! No component of Kubernetes runs on them, so this is about files: what each node has before, in between and after. Only
//! etcd, which every distribution has, runs in some of the tests.

#![allow(unreachable_pub, reason = "a program of its own")]
#![allow(dead_code, reason = "shared files are written for all programs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod access;
mod create;
mod etcd;
mod external;
mod holding;
mod judge;
mod keeper;
mod looking;
mod machines;
mod network;
mod repair;
mod revoke;
mod rotate;
mod running;
mod secrets;
mod services;
mod stops;
mod writer;

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/etcd.rs"]
mod etcd_programs;
#[path = "../support/openssl.rs"]
mod openssl;
#[path = "../support/process.rs"]
mod process;
#[path = "../remote/server.rs"]
mod server;
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/tree.rs"]
mod tree;
