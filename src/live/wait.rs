//! Waiting for something to become so: asked again and again until a deadline, a stop, or a yes.

use std::time::{Duration, Instant};

use crate::node::interrupt::Interrupt;

/// The first pause between two questions; each later one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often a pause looks whether somebody wants to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// Why a wait ended without a yes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped<E> {
    /// The deadline has passed; the last answer says why not.
    #[error("{0}")]
    Late(E),
    /// Somebody asked for a stop.
    #[error("interrupted")]
    Interrupted,
}

/// Asks `probe` until it says yes, and returns what it said. The first question is put at once, and one more at the
/// deadline, so that an answer is never older than the wait. A probe has limits of its own.
///
/// # Errors
/// With the last refusal, once `deadline` has passed; or when `interrupt` was asked for.
pub fn until<T, E>(
    deadline: Instant,
    interrupt: &Interrupt,
    mut probe: impl FnMut() -> Result<T, E>,
) -> Result<T, Stopped<E>> {
    let mut pause = FIRST_PAUSE;
    loop {
        if interrupt.is_asked() {
            return Err(Stopped::Interrupted);
        }
        let is_last = Instant::now() >= deadline;
        match probe() {
            Ok(value) => return Ok(value),
            Err(refusal) if is_last => return Err(Stopped::Late(refusal)),
            Err(_) => {}
        }
        sleep(pause.min(deadline.saturating_duration_since(Instant::now())), interrupt);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Lets `length` pass, less when somebody asks for a stop.
pub fn sleep(length: Duration, interrupt: &Interrupt) {
    let wake = Instant::now() + length;
    while let Some(left) = wake.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if interrupt.is_asked() {
            return;
        }
        std::thread::sleep(left.min(GLANCE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_ends_the_wait_and_the_last_no_is_told_at_its_deadline() {
        let interrupt = Interrupt::default();
        let mut count = 0;
        let mut ask = || {
            count += 1;
            if count == 3 { Ok(count) } else { Err("not yet") }
        };
        assert_eq!(until(Instant::now() + Duration::from_secs(60), &interrupt, &mut ask), Ok(3));

        let mut asked = Vec::new();
        let deadline = Instant::now() + Duration::from_millis(250);
        let late = until(deadline, &interrupt, || {
            asked.push(Instant::now());
            Err::<(), _>(asked.len())
        });
        assert_eq!(late, Err(Stopped::Late(asked.len())));
        assert!(asked.len() >= 2 && asked[asked.len() - 1] >= deadline, "the last question is at the deadline");
    }

    #[test]
    fn a_past_deadline_still_asks_once_and_a_stop_is_heard() {
        let interrupt = Interrupt::default();
        assert_eq!(until(Instant::now(), &interrupt, || Ok::<_, ()>(1)), Ok(1));
        let mut count = 0;
        let stopped = until(Instant::now() + Duration::from_secs(600), &interrupt, || {
            count += 1;
            interrupt.ask();
            Err::<(), _>(())
        });
        assert_eq!((stopped, count), (Err(Stopped::Interrupted), 1));
    }
}
