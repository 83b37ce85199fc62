//! Known host keys: the files of sshd(8) under SSH_KNOWN_HOSTS, read as OpenSSH reads them.
//!
//! Hashed names, `[host]:port`, lists, wildcards, negation, `@revoked` and `@cert-authority` are understood; a line that
//! is not is passed over, as there. libssh2's own reader is not used: it ignores markers, so that a revoked key would
//! look merely unknown, and gives up at the first malformed line.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Larger files are not read (bytes).
const LARGEST: u64 = 16 * 1024 * 1024;

/// What the files say about the key a host shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the host's key.
    Known,
    /// The host is in no file.
    Unknown,
    /// Other keys are known for the host; this is the place of one.
    Changed(Place),
    /// Somebody withdrew this key.
    Revoked(Place),
    /// Only a certificate authority is known for the host.
    AuthorityOnly(Place),
}

/// Line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// Counted from 1.
    pub(super) line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

/// One line about the host in question.
#[derive(Debug, Clone)]
struct Entry {
    place: Place,
    marker: Marker,
    key_type: String,
    key: Vec<u8>,
}

/// Everything the files say about one host.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// Reads what `files` say about `name`, which is `host` or `[host]:port` in lower case. A file that is not there
    /// says nothing.
    ///
    /// # Errors
    /// When a file is there and cannot be read: a revoked key may be listed in it.
    pub(super) fn about<'a>(name: &str, files: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<Self> {
        let mut known = Self::default();
        for file in files {
            let content = match fs::metadata(file) {
                Ok(found) if found.len() > LARGEST => {
                    return Err(io::Error::other(format!("{}: too large", file.display())));
                }
                Ok(_) => fs::read(file)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
            };
            known.read(&content, file, name);
        }
        Ok(known)
    }

    /// Takes over what `content`, that of `file`, says about `name`.
    pub(super) fn read(&mut self, content: &[u8], file: &Path, name: &str) {
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let place = || Place { file: file.to_owned(), line: index + 1 };
            self.entries.extend(entry(&String::from_utf8_lossy(line), name, place));
        }
    }

    /// Key types that are known for the host, in the order of the files.
    pub(super) fn key_types(&self) -> Vec<&str> {
        let mut types: Vec<&str> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.marker == Marker::None) {
            if !types.contains(&entry.key_type.as_str()) {
                types.push(&entry.key_type);
            }
        }
        types
    }

    /// Judges the key that the host shows. Revocation comes first.
    pub(super) fn judge(&self, key: &[u8]) -> Verdict {
        let with = |marker| self.entries.iter().filter(move |entry| entry.marker == marker);
        if let Some(entry) = with(Marker::Revoked).find(|entry| entry.key == key) {
            return Verdict::Revoked(entry.place.clone());
        }
        if with(Marker::None).any(|entry| entry.key == key) {
            return Verdict::Known;
        }
        if let Some(entry) = with(Marker::None).next() {
            return Verdict::Changed(entry.place.clone());
        }
        match with(Marker::Authority).next() {
            Some(entry) => Verdict::AuthorityOnly(entry.place.clone()),
            None => Verdict::Unknown,
        }
    }
}

/// A line as an entry, when it is one and about `name`.
fn entry(line: &str, name: &str, place: impl Fn() -> Place) -> Option<Entry> {
    let line = line.trim_start_matches([' ', '\t']).trim_end_matches('\r');
    let (marker, line) = match line.strip_prefix('@') {
        None => (Marker::None, line),
        Some(rest) => {
            let (word, rest) = rest.split_once([' ', '\t'])?;
            let marker = match word {
                "revoked" => Marker::Revoked,
                "cert-authority" => Marker::Authority,
                _ => return None,
            };
            (marker, rest.trim_start_matches([' ', '\t']))
        }
    };
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let (hosts, key_type, key) = (words.next()?, words.next()?, words.next()?);
    let key = STANDARD.decode(key).ok()?;
    // The key names its own type (RFC 4253 section 6.6); a line that contradicts itself is malformed.
    let length = usize::try_from(u32::from_be_bytes(key.get(..4)?.try_into().ok()?)).ok()?;
    if key.get(4..4 + length)? != key_type.as_bytes() || !is_about(hosts, name) {
        return None;
    }
    Some(Entry { place: place(), marker, key_type: key_type.to_owned(), key })
}

/// Whether the first field of a line means `name`.
fn is_about(hosts: &str, name: &str) -> bool {
    if hosts.starts_with('|') {
        return hashed(hosts).is_some_and(|(salt, hash)| hash_of(&salt, name) == hash);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(&pattern.to_ascii_lowercase(), name) => return false,
            Some(_) => {}
            None => found |= matches(&pattern.to_ascii_lowercase(), name),
        }
    }
    found
}

/// Salt and hash of `|1|SALT|HASH`.
fn hashed(hosts: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (salt, hash) = hosts.strip_prefix("|1|")?.split_once('|')?;
    Some((STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?))
}

/// HMAC-SHA1 of the name, as OpenSSH hides names. It protects nothing here, it only has to be the same.
fn hash_of(salt: &[u8], name: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
    hmac::sign(&key, name.as_bytes()).as_ref().to_vec()
}

/// `*` stands for any text, `?` for one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Where to go on when a mismatch shows that the last star has to take one character more.
    let mut retry: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, seen));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    at = star + 1;
                    seen = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

/// Adds a key for `name` to the end of `file`, in one write, so that other writers lose nothing and a reader sees all
/// of the line or nothing. With `hide` the name is hashed.
///
/// # Errors
/// When the file or its folder cannot be written.
pub(super) fn add(file: &Path, name: &str, key_type: &str, key: &[u8], hide: bool) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let shown = if hide {
        let mut salt = [0; 20];
        rand::fill(&mut salt).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash_of(&salt, name)))
    } else {
        name.to_owned()
    };
    let mut file = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    let needs_break = ends_without_break(&mut file)?;
    let line = format!("{}{shown} {key_type} {}\n", if needs_break { "\n" } else { "" }, STANDARD.encode(key));
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

fn ends_without_break(file: &mut fs::File) -> io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests;
