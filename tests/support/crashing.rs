//! A node that goes away in the middle: after the n-th call nothing answers any more, as if process or network were
//! gone.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use kubepki::node::{Effect, Found, LockGuard, LockOwner, Node, NodeFacts, Query};

/// What happens at the n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// It does not happen, nor does anything after it.
    Before,
    /// It happens, but nobody hears of it, and nothing happens after it.
    After,
    /// It fails; everything after it works again, as when a disk was full for a moment.
    Once,
}

/// A node whose n-th call crashes.
pub struct Crashing<'a> {
    inner: &'a dyn Node,
    crash: Crash,
    at: usize,
    calls: AtomicUsize,
}

impl<'a> Crashing<'a> {
    /// Crashes at call number `at`, counted from 0.
    pub fn new(inner: &'a dyn Node, crash: Crash, at: usize) -> Self {
        Self { inner, crash, at, calls: AtomicUsize::new(0) }
    }

    /// Whether the crash has happened.
    pub fn is_gone(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }

    fn call<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        match (number.cmp(&self.at), self.crash) {
            (std::cmp::Ordering::Less, _) | (std::cmp::Ordering::Greater, Crash::Once) => work(),
            (std::cmp::Ordering::Equal, Crash::After) => {
                drop(work());
                anyhow::bail!("the reply was lost")
            }
            _ => anyhow::bail!("the node is gone"),
        }
    }
}

impl Node for Crashing<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        self.call(|| self.inner.facts())
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        self.call(|| self.inner.read(queries))
    }

    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        self.call(|| self.inner.apply(effect))
    }

    fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        self.call(|| self.inner.lock(path, owner))
    }
}
