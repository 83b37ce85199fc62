//! What the user's SSH configuration says about a host, by asking the SSH client itself (`ssh -G HOST`).
//!
//! The client alone knows what its `Match` and `Include` lines mean. Without it, only what is given counts. Settings
//! that would make host key checks laxer than ours are not taken over; ones that would make them stricter and are not
//! supported are refused.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::options::{ConfigFile, Hop, SshOptions, at_home};
use super::program;
use super::settings::{Said, Settings};
use crate::error::Failure;

/// Longer than any `Match exec` should take.
const PATIENCE: Duration = Duration::from_secs(20);

const DEFAULT_KEYS: [&str; 3] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];
const GLOBAL_KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// Everything needed to reach one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Address or name to connect to.
    pub(super) host_name: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// Under which name the host key is known.
    pub(super) known_as: String,
    /// Key files in the order in which they are tried.
    pub(super) key_files: Vec<PathBuf>,
    /// Whether the agent's other keys are not to be tried.
    pub(super) identities_only: bool,
    pub(super) agent: AgentSocket,
    /// Known hosts files; new keys are added to the first.
    pub(super) known_hosts: Vec<PathBuf>,
    /// Known hosts files of the machine.
    pub(super) global_known_hosts: Vec<PathBuf>,
    /// Whether new entries hide the host name.
    pub(super) hash_known_hosts: bool,
    /// Whether an unknown host key is refused without a question.
    pub(super) strict: bool,
    pub(super) route: Route,
}

/// Which agent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AgentSocket {
    /// That of the environment.
    Usual,
    None,
    At(PathBuf),
}

/// How the connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Direct,
    /// Through these machines, in this order.
    Jump(Vec<Hop>),
    /// Through a program's standard input and output.
    Command(String),
}

impl Target {
    /// Finds out how `options` are meant.
    ///
    /// # Errors
    /// When the SSH configuration is wrong, or says something that must not be ignored.
    pub(super) fn resolve(options: &SshOptions, settings: &Settings) -> anyhow::Result<Self> {
        // It would be read as an option of `ssh`.
        if options.host.is_empty() || options.host.starts_with('-') {
            return Err(Failure::usage(format!("{:?} is no host name", options.host)).into());
        }
        let said = match &options.config {
            ConfigFile::Nothing => None,
            config => match settings.common(config, || ask_client(&options.without_login()))? {
                Said::OfAll(said) => said,
                Said::OfEach => ask_client(options)?,
            },
        };
        let mut target = Self::given(options);
        if let Some(said) = said {
            target.adopt(&said, options)?;
        }
        if let Some(file) = &options.private_key_file {
            target.key_files.retain(|other| other != file);
            target.key_files.insert(0, file.clone());
        }
        if let Some(file) = &options.known_hosts_file {
            target.known_hosts = vec![file.clone()];
        }
        if let Some(jump) = &options.jump_host {
            let hops = Hop::parse_list(jump)?;
            target.route = if hops.is_empty() { Route::Direct } else { Route::Jump(hops) };
        }
        target.key_files.iter_mut().for_each(|file| *file = at_home(file));
        target.known_hosts.iter_mut().for_each(|file| *file = at_home(file));
        if target.known_as.is_empty() {
            target.known_as = known_name(&target.host_name, target.port);
        }
        Ok(target)
    }

    /// What counts without a configuration.
    fn given(options: &SshOptions) -> Self {
        let own = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".to_owned());
        Self {
            host_name: options.host.clone(),
            port: options.port.unwrap_or(22),
            user: options.user.clone().unwrap_or_else(own),
            known_as: String::new(),
            key_files: DEFAULT_KEYS.iter().map(PathBuf::from).collect(),
            identities_only: false,
            agent: AgentSocket::Usual,
            known_hosts: vec!["~/.ssh/known_hosts".into(), "~/.ssh/known_hosts2".into()],
            global_known_hosts: GLOBAL_KNOWN_HOSTS.iter().map(PathBuf::from).collect(),
            hash_known_hosts: false,
            strict: false,
            route: Route::Direct,
        }
    }

    /// Takes over what the client said: one `keyword value` a line.
    fn adopt(&mut self, said: &str, options: &SshOptions) -> anyhow::Result<()> {
        let mut keys = Vec::new();
        for (keyword, value) in said.lines().filter_map(|line| line.split_once(' ')) {
            match keyword {
                "hostname" => value.clone_into(&mut self.host_name),
                "port" if options.port.is_none() => self.port = value.parse().unwrap_or(self.port),
                "user" if options.user.is_none() => value.clone_into(&mut self.user),
                "identityfile" => keys.push(value.to_owned()),
                "identitiesonly" => self.identities_only = value == "yes",
                "identityagent" => self.agent = agent(value),
                // The client looks an alias up as it stands, without the port.
                "hostkeyalias" => value.to_ascii_lowercase().clone_into(&mut self.known_as),
                "userknownhostsfile" => self.known_hosts = files(value),
                "globalknownhostsfile" => self.global_known_hosts = files(value),
                "hashknownhosts" => self.hash_known_hosts = value == "yes",
                "stricthostkeychecking" => self.strict = matches!(value, "true" | "yes"),
                "proxyjump" => self.route = Route::Jump(Hop::parse_list(value)?),
                "proxycommand" if value != "none" => self.route = Route::Command(value.to_owned()),
                "revokedhostkeys" if value != "none" => {
                    let message =
                        format!("{}: RevokedHostKeys of the SSH configuration is not supported", options.host);
                    return Err(Failure::usage(message)
                        .hint("list revoked keys as @revoked lines in known_hosts, or give another --ssh-config")
                        .into());
                }
                _ => {}
            }
        }
        self.key_files = keys.iter().map(|key| PathBuf::from(self.expand(key, &options.host))).collect();
        Ok(())
    }

    /// The percent signs of ssh_config(5) that name host, port and users.
    pub(super) fn expand(&self, text: &str, asked_for: &str) -> String {
        let home = std::env::home_dir().unwrap_or_default().display().to_string();
        let own = std::env::var("USER").unwrap_or_default();
        let mut expanded = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                expanded.push(letter);
                continue;
            }
            match letters.next() {
                Some('h') => expanded.push_str(&self.host_name),
                Some('n') => expanded.push_str(asked_for),
                Some('p') => expanded.push_str(&self.port.to_string()),
                Some('r') => expanded.push_str(&self.user),
                Some('u') => expanded.push_str(&own),
                Some('d') => expanded.push_str(&home),
                Some('%') | None => expanded.push('%'),
                Some(other) => expanded.extend(['%', other]),
            }
        }
        expanded
    }
}

/// The name under which known_hosts has a host: with its port unless that is 22 (sshd(8), SSH_KNOWN_HOSTS).
pub(super) fn known_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

fn agent(value: &str) -> AgentSocket {
    match value {
        "SSH_AUTH_SOCK" => AgentSocket::Usual,
        "none" => AgentSocket::None,
        path => match path.strip_prefix('$') {
            Some(name) => std::env::var_os(name.trim_matches(['{', '}'])).map_or(AgentSocket::None, |path| {
                if path.is_empty() { AgentSocket::None } else { AgentSocket::At(path.into()) }
            }),
            None => AgentSocket::At(at_home(Path::new(path))),
        },
    }
}

/// Several paths on one line. The client does not quote them, so what does not start like a path continues the last.
fn files(value: &str) -> Vec<PathBuf> {
    let mut files: Vec<String> = Vec::new();
    for word in value.split(' ') {
        match files.last_mut() {
            Some(last) if !word.starts_with(['/', '~']) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => files.push(word.to_owned()),
        }
    }
    files.into_iter().filter(|file| file != "none").map(PathBuf::from).collect()
}

/// The client's answer, `None` where there is no client.
fn ask_client(options: &SshOptions) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("ssh");
    command.arg("-G");
    if let ConfigFile::File(file) = &options.config {
        command.arg("-F").arg(at_home(file));
    }
    if let Some(user) = &options.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = options.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(&options.host);
    let output = match program::output(command, PATIENCE) {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match &options.config {
                ConfigFile::File(file) => Err(Failure::usage(format!("cannot read {}", file.display()))
                    .hint("the OpenSSH client reads it: install it, or leave --ssh-config away")
                    .into()),
                _ => Ok(None),
            };
        }
        Err(error) => {
            return Err(Failure::failed(format!("{}: cannot ask the SSH client: {error}", options.host)).into());
        }
    };
    if !output.success {
        let words = output.complaint.trim();
        return Err(Failure::usage(format!("{}: the SSH configuration is not usable: {words}", options.host)).into());
    }
    Ok(Some(output.answer))
}
