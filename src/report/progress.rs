//! Progress bars on standard error, on a terminal only; nothing at all in a pipe.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ui::Ui;

/// The bars on the screen, for questions that need its room.
static DRAWN: Mutex<Vec<MultiProgress>> = Mutex::new(Vec::new());

/// Takes every bar off the screen for good.
pub(super) fn give_way() {
    for bars in DRAWN.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // What cannot be cleared stays, which harms nothing.
        let _ = bars.clear();
        bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// A place for bars that give way to questions.
fn drawn(ui: &Ui) -> MultiProgress {
    if !ui.draws_progress() {
        return MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
    }
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner).push(bars.clone());
    bars
}

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
        let bar = drawn(ui).add(ProgressBar::new(total as u64).with_message(words));
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

/// Lines of nodes on the screen at once; those of others come when one of these has ended.
const MOST_LINES: usize = 12;

/// How far work on many nodes has come: a bar for all, and a line for each that is being worked on. Safe to share
/// between threads; gone from the screen when dropped.
#[derive(Debug)]
pub struct FleetProgress {
    all: MultiProgress,
    bar: ProgressBar,
    lines: Mutex<HashMap<String, ProgressBar>>,
    words: &'static str,
}

impl FleetProgress {
    /// Starts showing work on `total` nodes under a few words.
    pub fn start(ui: &Ui, words: &'static str, total: usize) -> Self {
        let all = drawn(ui);
        let bar = all.add(ProgressBar::new(total as u64).with_message(words));
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { all, bar, lines: Mutex::default(), words }
    }

    /// Work on the node has begun.
    pub fn begin(&self, node: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if self.all.is_hidden() || lines.len() >= MOST_LINES {
            return;
        }
        let line = self.all.insert_before(&self.bar, ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg} {elapsed}") {
            line.set_style(style);
        }
        line.set_prefix(node.to_owned());
        line.set_message(self.words);
        line.enable_steady_tick(Duration::from_millis(200));
        lines.insert(node.to_owned(), line);
    }

    /// Work on the node has ended.
    pub fn end(&self, node: &str) {
        if let Some(line) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(node) {
            line.finish_and_clear();
        }
        self.bar.inc(1);
    }
}

impl Drop for FleetProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
