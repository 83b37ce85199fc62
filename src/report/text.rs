//! Text from certificates, files and other machines, made safe for a terminal.
//!
//! A subject may hold escape sequences that repaint the screen or invisible characters that reorder it. They are shown
//! as `\u{1b}`, never sent.

/// Returns `text` with control, direction-changing and zero-width characters written as `\u{…}`. Line breaks and tabs
/// are kept when `multiline`.
pub fn printable(text: &str, multiline: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmless(character) || (multiline && matches!(character, '\n' | '\t')) {
            safe.push(character);
        } else {
            safe.extend(character.escape_unicode());
        }
    }
    safe
}

fn is_harmless(character: char) -> bool {
    let invisible = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !character.is_control() && !invisible
}

/// `1 file`, `2 files`: a count and its noun, which forms its plural with `s`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_reordering_are_shown_not_sent() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c\u{9b}", true), "a\\u{1b}[31mb\\u{202e}c\\u{9b}");
        assert_eq!(printable("Zürich\tnow\n", true), "Zürich\tnow\n");
        assert_eq!(printable("Zürich\tnow", false), "Zürich\\u{9}now");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!((counted(1, "file"), counted(0, "file")), ("1 file".into(), "0 files".into()));
    }
}
