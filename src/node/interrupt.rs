//! Ctrl-C and a polite kill, turned into a flag that work looks at between two effects.
//!
//! Nothing is torn down in a signal handler: whoever works asks [`Interrupt::check`] where stopping is safe, leaves the
//! state as it is and returns. A second signal ends the process at once; the journal makes that safe too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{ExitCode, Failure};

/// Whether somebody asked this process to stop. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from now on. Until then a signal ends the process, as is right where nothing can
    /// be left half done.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen(&self) -> anyhow::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the handler that ends the process sees the flag as the signals before left it.
            flag::register_conditional_shutdown(signal, ExitCode::Interrupted as i32, Arc::clone(&self.asked))
                .and_then(|_| flag::register(signal, Arc::clone(&self.asked)))
                .context("cannot listen for signals")?;
        }
        Ok(())
    }

    /// True once a signal has arrived.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Asks for the stop without a signal.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Returns an error with exit code 130 once a signal has arrived.
    ///
    /// # Errors
    /// [`ExitCode::Interrupted`]; the caller adds what was kept and how to go on.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.is_asked() { Err(Failure::new(ExitCode::Interrupted, "interrupted").into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::exit_code;

    #[test]
    fn every_clone_sees_the_request() {
        let interrupt = Interrupt::default();
        let copy = interrupt.clone();
        assert!(copy.check().is_ok());
        interrupt.ask();
        assert_eq!(exit_code(&copy.check().expect_err("asked")), ExitCode::Interrupted);
    }
}
