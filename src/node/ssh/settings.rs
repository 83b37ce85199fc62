//! The SSH client's answers about its configuration, asked for once where they are the same for every host.
//!
//! Starting the client takes as long as half a login, and most configurations do not tell one host from another.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::access::unpoisoned;
use super::options::{ConfigFile, at_home};

/// As deep as the client itself follows `Include` lines (OpenSSH readconf.c, `READCONF_MAX_DEPTH`).
const DEEPEST: usize = 16;

/// What a configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// This of any host; `None` where there is no client to say so.
    OfAll(Option<String>),
    /// Something else of each, perhaps: the client has to be asked.
    OfEach,
}

/// What was asked in one run.
#[derive(Debug, Default)]
pub(super) struct Settings {
    common: Mutex<HashMap<ConfigFile, Said>>,
}

impl Settings {
    /// What the client says of any host, by asking it only the first time.
    ///
    /// # Errors
    /// As `ask`.
    pub(super) fn common(
        &self,
        config: &ConfigFile,
        ask: impl FnOnce() -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<Said> {
        let mut common = unpoisoned(&self.common);
        if let Some(known) = common.get(config) {
            return Ok(known.clone());
        }
        let said =
            if is_same_for_all(config) { Said::OfAll(ask()?.map(|said| without_host(&said))) } else { Said::OfEach };
        common.insert(config.clone(), said.clone());
        Ok(said)
    }
}

/// Leaves out what is about the host that was named.
fn without_host(said: &str) -> String {
    let is_about_it = |line: &&str| line.starts_with("host ") || line.starts_with("hostname ");
    said.lines().filter(|line| !is_about_it(line)).fold(String::new(), |text, line| text + line + "\n")
}

fn is_same_for_all(config: &ConfigFile) -> bool {
    match config {
        ConfigFile::Nothing => true,
        ConfigFile::File(file) => tells_no_hosts_apart(&at_home(file), &at_home(Path::new("~/.ssh")), 0),
        ConfigFile::Usual => {
            let own = at_home(Path::new("~/.ssh"));
            let machine = Path::new("/etc/ssh");
            tells_no_hosts_apart(&own.join("config"), &own, 0)
                && tells_no_hosts_apart(&machine.join("ssh_config"), machine, 0)
        }
    }
}

/// Whether a file (and what it includes, relative to `home`) has nothing in it that depends on the host. In doubt it has.
fn tells_no_hosts_apart(file: &Path, home: &Path, depth: usize) -> bool {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return error.kind() == ErrorKind::NotFound,
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    depth < DEEPEST && lines.into_iter().all(|line| is_common(line, home, depth))
}

fn is_common(line: &str, home: &Path, depth: usize) -> bool {
    let (keyword, rest) = line.split_once(|letter: char| letter.is_whitespace() || letter == '=').unwrap_or((line, ""));
    let rest = rest.trim_matches(|letter: char| letter.is_whitespace() || letter == '=');
    let keyword = keyword.to_ascii_lowercase();
    match keyword.as_str() {
        "host" => rest == "*",
        "match" | "hostname" | "hostkeyalias" => false,
        "include" => included(rest, home)
            .is_some_and(|files| files.iter().all(|file| tells_no_hosts_apart(file, home, depth + 1))),
        other => !other.starts_with("canonical") && !rest.contains('%'),
    }
}

/// The files of an `Include` line; `None` for patterns other than `FOLDER/*` and `FOLDER/*.ENDING`.
fn included(patterns: &str, home: &Path) -> Option<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pattern in patterns.split_whitespace() {
        let path = home.join(at_home(Path::new(pattern)));
        let name = path.file_name()?.to_str()?;
        let is_plain = |text: &str| !text.contains(['*', '?', '[', ']', '{', '"', '$', '%', '\\']);
        let folder = path.parent().filter(|folder| folder.to_str().is_some_and(is_plain))?;
        match name.strip_prefix('*') {
            None if is_plain(name) => files.push(path),
            Some(ending) if is_plain(ending) => {
                let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
                let is_meant = |path: &PathBuf| {
                    path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.ends_with(ending))
                };
                files.extend(entries.map(|entry| entry.path()).filter(is_meant));
            }
            _ => return None,
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(folder: &tempfile::TempDir, text: &str) -> bool {
        let file = folder.path().join("config");
        fs::write(&file, text).expect("a file");
        tells_no_hosts_apart(&file, folder.path(), 0)
    }

    #[test]
    fn a_configuration_that_names_no_host_is_the_same_for_all() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in [
            "",
            "# Host a\nUser ops\n",
            "Host *\n  SendEnv LANG LC_*\n  HashKnownHosts=yes\n\tIdentityFile ~/.ssh/cluster\n",
            "Include missing.d/*.conf\nhost = *\nProxyJump bastion\n",
        ] {
            assert!(verdict(&folder, text), "{text}");
        }
        assert!(tells_no_hosts_apart(&folder.path().join("not-there"), folder.path(), 0));
    }

    #[test]
    fn anything_that_may_depend_on_the_host_is_asked_for_each() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in [
            "Host cp1\n User ops\n",
            "Host * !cp1\n User ops\n",
            "HOST *.example.com\n",
            "Match all\n User ops\n",
            "HostName 10.0.0.1\n",
            "IdentityFile ~/.ssh/%h\n",
            "CanonicalizeHostname yes\n",
            "Include [ab]\n",
            "Include config\n",
        ] {
            assert!(!verdict(&folder, text), "{text}");
        }
        fs::create_dir(folder.path().join("more.d")).expect("a folder");
        fs::write(folder.path().join("more.d/one.conf"), "Host cp1\n").expect("a file");
        fs::write(folder.path().join("more.d/two.off"), "Match all\n").expect("a file");
        assert!(!verdict(&folder, "Include more.d/*.conf\n"));
        fs::write(folder.path().join("more.d/one.conf"), "Host *\n").expect("a file");
        assert!(verdict(&folder, "Include more.d/*.conf\n"));
        assert!(!verdict(&folder, "Include more.d/*\n"));
    }

    #[test]
    fn the_client_is_asked_once_and_what_it_says_of_one_host_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config");
        fs::write(&file, "User ops\n").expect("a file");
        let (config, settings) = (ConfigFile::File(file), Settings::default());
        let ask = || Ok(Some("host a\nhostname a.example.com\nuser ops\nhostkeyalgorithms x\n".to_owned()));
        let first = settings.common(&config, ask).expect("an answer");
        assert_eq!(first, Said::OfAll(Some("user ops\nhostkeyalgorithms x\n".to_owned())));
        let again = settings.common(&config, || panic!("it was asked again")).expect("an answer");
        assert_eq!(again, first);
    }
}
