//! Shared by the test programs: folders that play a node, pictures of a tree, tests that cannot run everywhere.

#![allow(dead_code, reason = "no test program uses everything")]
#![allow(unreachable_pub, reason = "the programs that include this are crates of their own")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

pub mod binary;
pub mod cluster;
pub mod crashing;
pub mod elsewhere;
pub mod etcd;
pub mod kubernetes;
pub mod made;
pub mod managers;
pub mod manifests;
pub mod members;
pub mod mortal;
pub mod openssl;
pub mod probe;
pub mod process;
pub mod root;
pub mod rotation;
pub mod skip;
pub mod tree;
pub mod world;
