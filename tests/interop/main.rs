//! What kubepki makes, judged by others: openssl, etcd, kubectl, kubeadm and a kube-apiserver.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod apiserver;
mod between;
mod check_expiry;
mod credentials;
mod discover;
mod endpoints;
mod enforcement;
mod etcd;
mod http;
mod kubeadm;
mod kubectl;
mod live;
mod live_copies;
mod openssl;
mod revoke;
mod rotate;
mod verify;
