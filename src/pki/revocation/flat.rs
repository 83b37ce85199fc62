//! Manifests without indentation, as the documentation of AKS enabled by Azure Arc shows its example once it is copied as text.
//!
//! Such a text is no YAML that means anything: `revocations:` never stands at the start of a line. Its few fields leave no
//! doubt where each belongs, so it is indented again, and places in it are counted as they were.

/// A text and by how much each of its lines was moved to the right.
pub(super) struct Indented {
    pub(super) text: String,
    /// Columns that were put in front, by line from 0.
    pub(super) moved: Vec<u64>,
}

/// Indents a text whose every line stands at the margin; `None` when it is laid out in any other way.
pub(super) fn indented(text: &str) -> Option<Indented> {
    let is_flat = |line: &str| !line.starts_with([' ', '\t']) || line.trim().is_empty();
    if !text.lines().all(is_flat) || !text.lines().any(|line| line.trim_end() == "revocations:") {
        return None;
    }
    let (mut whole, mut moved) = (String::with_capacity(text.len() * 2), Vec::new());
    let (mut depth, mut in_spec) = (0, false);
    for line in text.lines() {
        let key = line.split(':').next().unwrap_or_default();
        let own = match key {
            _ if line.starts_with("---") || line.starts_with("...") => {
                (depth, in_spec) = (0, false);
                0
            }
            // Only an entry has a kind of its own, and it comes behind `revocations`.
            "apiVersion" | "metadata" | "spec" => {
                in_spec = key == "spec";
                depth = if key == "apiVersion" { 0 } else { 2 };
                0
            }
            "revocations" if in_spec => {
                depth = 4;
                2
            }
            _ if depth == 4 && line.starts_with('-') => 2,
            _ => depth,
        };
        whole.extend(std::iter::repeat_n(' ', own));
        whole.push_str(line);
        whole.push('\n');
        moved.push(own as u64);
    }
    Some(Indented { text: whole, moved })
}
