//! Progress bars on standard error, on a terminal only; nothing at all in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ui::Ui;

/// How far some work has come. Safe to share between threads; gone from the screen when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Starts showing work of `total` steps under a few words.
    pub fn start(ui: &Ui, words: &'static str, total: usize) -> Self {
        if !ui.draws_progress() {
            return Self { bar: ProgressBar::hidden() };
        }
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(total as u64), target).with_message(words);
        let template = "{spinner} {msg} {wide_bar} {pos}/{len} {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// One more step is done.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// Says what is going on.
    pub fn say(&self, words: impl Into<String>) {
        self.bar.set_message(words.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
