//! Just enough understanding of Rust source to see which modules and names its code mentions.

/// The code of one file, without comments, text literals and unit tests.
pub(crate) struct Source {
    module: Vec<String>,
    tokens: Vec<String>,
}

impl Source {
    /// Reads the file at `path` below the repository.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
        let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
            module.pop();
        }
        let code = code_of(text);
        // Unit tests stand last in their file; the lints see to that.
        let code = code.rsplit_once("#[cfg(test)]").map_or(code.as_str(), |(before, _)| before);
        Self { module, tokens: tokens_of(code) }
    }

    /// The room the file belongs to; `None` for the crate's root.
    pub(crate) fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// Whether the code names `word`, a name, a path as `std::fs` or a macro as `println!`, also within `{…}` groups.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        let wanted = tokens_of(word);
        self.tokens.windows(wanted.len()).any(|window| {
            // `KeyPair::generate` stands for every kind of key pair.
            let (first, rest) = (&window[0], &window[1..]);
            first.ends_with(wanted[0].as_str()) && (wanted.len() > 1 || *first == wanted[0]) && rest == &wanted[1..]
        }) || self.paths().iter().any(|path| starts_with(path, &wanted))
    }

    /// The rooms of this crate that the code names.
    pub(crate) fn rooms_entered(&self) -> Vec<String> {
        let mut rooms: Vec<String> = Vec::new();
        for path in self.paths() {
            let names: Vec<&String> = path.iter().filter(|token| *token != "::").collect();
            let ups = names.iter().take_while(|name| **name == "super").count();
            let room = match names.first().map(|name| name.as_str()) {
                Some("crate") => names.get(1).map(|name| (*name).clone()),
                Some("super") if ups >= self.module.len() => names.get(ups).map(|name| (*name).clone()),
                _ => None,
            };
            rooms.extend(room.filter(|room| room.chars().all(|letter| letter.is_lowercase() || letter == '_')));
        }
        rooms.sort();
        rooms.dedup();
        rooms
    }

    /// Every path in the code, with `a::{b, c::d}` taken apart.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if is_name(&self.tokens[at]) {
                at = self.path(at, &[], &mut paths);
            } else {
                at += 1;
            }
        }
        paths
    }

    fn path(&self, mut at: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
        let mut path = prefix.to_vec();
        while let Some(token) = self.tokens.get(at) {
            if is_name(token) && path.last().is_none_or(|last| last == "::") || token == "::" && !path.is_empty() {
                path.push(token.clone());
                at += 1;
            } else if token == "{" && path.last().is_some_and(|last| last == "::") {
                at += 1;
                while self.tokens.get(at).is_some_and(|token| token != "}") {
                    at = if is_name(&self.tokens[at]) { self.path(at, &path, paths) } else { at + 1 };
                }
                return at + 1;
            } else {
                break;
            }
        }
        paths.push(path);
        at
    }
}

fn starts_with(path: &[String], wanted: &[String]) -> bool {
    path.len() >= wanted.len() && path[..wanted.len()] == *wanted
}

fn is_name(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

fn tokens_of(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut letters = code.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut token = letter.to_string();
        if letter.is_alphanumeric() || letter == '_' {
            while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || *next == '_') {
                token.push(next);
            }
        } else if letter == ':' && letters.next_if_eq(&':').is_some() {
            token.push(':');
        }
        if !letter.is_whitespace() {
            tokens.push(token);
        }
    }
    tokens
}

/// `text` with every comment and literal replaced by a space.
pub(crate) fn code_of(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let rest = &letters[at..];
        let skipped = match rest {
            ['/', '/', ..] => rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => comment(rest),
            ['r', '"' | '#', ..] if !code.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') => {
                raw(rest)
            }
            ['"', ..] => quoted(rest, '"'),
            // A lifetime has no second quote right after its first letter.
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
            _ => 0,
        };
        if skipped == 0 {
            code.push(letters[at]);
            at += 1;
        } else {
            code.push(' ');
            at += skipped;
        }
    }
    code
}

fn comment(letters: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < letters.len() {
        match &letters[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw(letters: &[char]) -> usize {
    let hashes = letters[1..].iter().take_while(|letter| **letter == '#').count();
    if letters.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = hashes + 2;
    let found = letters[start..].windows(end.len()).position(|window| window == end);
    found.map_or(letters.len(), |found| start + found + end.len())
}

fn quoted(letters: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < letters.len() && letters[at] != quote {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(letters.len())
}
