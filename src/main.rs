//! Parse, run, print, exit code; nothing else.
fn main() {}
