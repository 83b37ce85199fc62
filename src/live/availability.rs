//! How long an API server, or the load balancer before several, gave no answer while something else was done.
//!
//! A thread asks for `/version` four times a second, over TLS that believes any server: what counts is whether an answer comes.
//! A status below 500 is one; that of a server which is shutting down, or of a balancer with nobody behind it, is not. A
//! question without an answer is put once more at once, as clients do whose connection breaks.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::node::http::{Limits, Request, ask};
use crate::node::probe::Endpoint;
use crate::node::tls::{Tls, Trust};

/// From one question to the next.
const PACE: Duration = Duration::from_millis(250);

/// How often a question is put before it counts as not answered.
const ATTEMPTS: u32 = 2;

/// For one question and its answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// Questions that came to an end.
    pub questions: u64,
    /// Those without an answer.
    pub failures: u64,
    /// Time without answers: from the start of each first question that failed to the next answer.
    pub unavailable: Duration,
    /// The longest such time.
    pub longest: Duration,
}

/// Sums up answers.
#[derive(Debug, Default)]
struct Tally {
    measured: Measured,
    /// When the first question of those that fail now was put.
    since: Option<Instant>,
}

impl Tally {
    fn answered(&mut self, at: Instant) {
        self.measured.questions += 1;
        self.close(at);
    }

    fn failed(&mut self, asked: Instant) {
        self.measured.questions += 1;
        self.measured.failures += 1;
        self.since.get_or_insert(asked);
    }

    fn close(&mut self, at: Instant) {
        if let Some(since) = self.since.take() {
            let gap = at.saturating_duration_since(since);
            self.measured.unavailable += gap;
            self.measured.longest = self.measured.longest.max(gap);
        }
    }
}

/// A probe that asks until it is finished or dropped.
#[derive(Debug)]
pub struct Probe {
    tally: Arc<Mutex<Tally>>,
    /// Dropped to stop the thread, which may still wait for one answer then.
    stop: Sender<()>,
}

impl Probe {
    /// Begins to ask the server at `endpoint`, as `node` reaches it.
    ///
    /// # Errors
    /// In words, when TLS cannot be set up.
    pub fn start(node: Box<dyn Node>, endpoint: Endpoint) -> Result<Self, String> {
        let tls = Tls::new(Trust::Anybody, None)?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&tally);
        std::thread::spawn(move || run(&*node, &endpoint, &tls, &shared, &stopped));
        Ok(Self { tally, stop })
    }

    /// What has been measured so far; a time without answers that has not ended is not counted yet.
    pub fn so_far(&self) -> Measured {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).measured
    }

    /// Ends the measurement at once. A time without answers that has not ended is counted up to now.
    pub fn finish(self) -> Measured {
        drop(self.stop);
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.close(Instant::now());
        tally.measured
    }
}

fn run(node: &dyn Node, endpoint: &Endpoint, tls: &Tls, tally: &Mutex<Tally>, stopped: &Receiver<()>) {
    loop {
        let asked = Instant::now();
        let is_answer = (0..ATTEMPTS).any(|_| {
            let answer = ask(node, endpoint, Some(tls), &Request::get("/version"), Limits::within(LIMIT));
            answer.is_ok_and(|answer| answer.status < 500)
        });
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        if is_answer {
            tally.answered(Instant::now());
        } else {
            tally.failed(asked);
        }
        drop(tally);
        let pause = PACE.saturating_sub(asked.elapsed());
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_the_first_failing_question_to_the_next_answer() {
        let zero = Instant::now();
        let at = |millis: u64| zero + Duration::from_millis(millis);
        let mut tally = Tally::default();
        tally.answered(at(10));
        tally.failed(at(250));
        tally.failed(at(500));
        tally.answered(at(1300));
        tally.answered(at(1500));
        tally.failed(at(1750));
        tally.answered(at(2000));
        tally.failed(at(2250));
        tally.close(at(2300));
        let expected = Measured {
            questions: 8,
            failures: 4,
            unavailable: Duration::from_millis(1050 + 250 + 50),
            longest: Duration::from_millis(1050),
        };
        assert_eq!(tally.measured, expected);
    }
}
