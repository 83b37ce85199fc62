//! Many nodes at once: each on a thread of its own that mostly waits for its network, so many at a time.
//!
//! A node that fails is a value among the others. Changes do not go this way: they are made one node after another, by
//! whoever proves in between that the node is well.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Node;
use super::interrupt::Interrupt;

/// How many nodes are worked on at once unless somebody says otherwise.
pub const AT_ONCE: usize = 32;

/// Stack of a thread that reads a node (bytes).
const STACK: usize = 1024 * 1024;

/// What happens to a node, for whoever shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Work on the node of this name has begun.
    Begun(&'a str),
    /// It has ended, well or not.
    Ended(&'a str, bool),
}

/// Does `work` for every node, `at_once` of them side by side, and returns what came of each in the order of `nodes`.
///
/// Once `interrupt` has been asked for, nodes that have not begun are not begun; they fail as interrupted. `tell` hears
/// of every beginning and end, one at a time.
pub fn side_by_side<T: Send>(
    nodes: &[&dyn Node],
    at_once: usize,
    interrupt: &Interrupt,
    tell: &(dyn Fn(Event<'_>) + Sync),
    work: &(dyn Fn(&dyn Node) -> anyhow::Result<T> + Sync),
) -> Vec<anyhow::Result<T>> {
    let results: Vec<Mutex<Option<anyhow::Result<T>>>> = nodes.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let telling = Mutex::new(());
    let say = |event: Event<'_>| {
        let _one_at_a_time = telling.lock();
        tell(event);
    };
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            let (Some(node), Some(place)) = (nodes.get(index), results.get(index)) else { return };
            let result = interrupt.check().and_then(|()| {
                say(Event::Begun(node.name()));
                let result = work(*node);
                say(Event::Ended(node.name(), result.is_ok()));
                result
            });
            if let Ok(mut place) = place.lock() {
                *place = Some(result);
            }
        }
    };
    thread::scope(|scope| {
        let count = at_once.clamp(1, nodes.len().max(1));
        let spawned: Vec<_> = (0..count)
            .filter_map(|_| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, worker).ok())
            .collect();
        // Where no thread can be had, this one does it all.
        if spawned.is_empty() {
            worker();
        }
        for thread in spawned {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
    let missing = || Err(crate::error::Failure::failed("the node was not worked on").into());
    results.into_iter().map(|result| result.into_inner().ok().flatten().unwrap_or_else(missing)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Barrier;

    use super::*;
    use crate::error::{ExitCode, exit_code};
    use crate::node::{Effect, Found, LockGuard, LockOwner, NodeFacts, Query};

    struct Named(String);

    impl Node for Named {
        fn name(&self) -> &str {
            &self.0
        }

        fn facts(&self) -> anyhow::Result<NodeFacts> {
            anyhow::bail!("{} is away", self.0)
        }

        fn read(&self, _: &[Query]) -> anyhow::Result<Vec<Found>> {
            Ok(Vec::new())
        }

        fn apply(&self, _: &Effect<'_>) -> anyhow::Result<()> {
            Ok(())
        }

        fn lock(&self, _: &Path, _: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
            anyhow::bail!("no lock")
        }
    }

    fn nodes(count: usize) -> Vec<Named> {
        (0..count).map(|number| Named(format!("n{number}"))).collect()
    }

    fn all(nodes: &[Named]) -> Vec<&dyn Node> {
        nodes.iter().map(|node| node as &dyn Node).collect()
    }

    #[test]
    fn results_come_in_the_order_of_the_nodes_and_a_failure_is_one_of_them() {
        let nodes = nodes(100);
        let told = Mutex::new(Vec::new());
        let tell = |event: Event<'_>| told.lock().expect("told").push(format!("{event:?}"));
        let work = |node: &dyn Node| {
            if node.name().ends_with('7') { node.facts().map(|_| String::new()) } else { Ok(node.name().to_owned()) }
        };
        let results = side_by_side(&all(&nodes), 8, &Interrupt::default(), &tell, &work);
        for (number, result) in results.iter().enumerate() {
            match result {
                Ok(name) => assert_eq!(*name, format!("n{number}")),
                Err(error) => assert_eq!((number % 10, error.to_string()), (7, format!("n{number} is away"))),
            }
        }
        let told = told.into_inner().expect("told");
        assert_eq!(told.len(), 200);
        assert_eq!(told.iter().filter(|line| line.ends_with("false)")).count(), 10);
    }

    #[test]
    fn as_many_run_at_once_as_asked_for_and_no_more() {
        let nodes = nodes(12);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Nobody gets past before four are there, so they do run at once.
        let barrier = Barrier::new(4);
        let work = |_: &dyn Node| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            barrier.wait();
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let results = side_by_side(&all(&nodes), 4, &Interrupt::default(), &|_| {}, &work);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(most.into_inner(), 4);
    }

    #[test]
    fn after_an_interrupt_nothing_more_is_begun() {
        let nodes = nodes(50);
        let interrupt = Interrupt::default();
        let work = |node: &dyn Node| {
            if node.name() == "n3" {
                interrupt.ask();
            }
            Ok(())
        };
        let results = side_by_side(&all(&nodes), 1, &interrupt, &|_| {}, &work);
        assert!(results[..4].iter().all(Result::is_ok));
        for result in &results[4..] {
            assert_eq!(exit_code(result.as_ref().expect_err("not begun")), ExitCode::Interrupted);
        }
        assert!(side_by_side::<()>(&[], 32, &Interrupt::default(), &|_| {}, &|_| Ok(())).is_empty());
    }
}
