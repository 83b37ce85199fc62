//! Whose machine is it: known, unknown, changed, revoked, hashed and certified host keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::Node;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::ssh::{ConfigFile, Questions, SshAccess, SshNode, SshOptions, UnknownHostKey};
use zeroize::Zeroizing;

use crate::server::{Server, Setup, can_run, make_key, nobody};

/// Answers every question about a host key in the same way and remembers what was shown.
#[derive(Clone, Default)]
struct Person {
    says_yes: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Questions for Person {
    fn is_host_key_right(&self, question: &UnknownHostKey<'_>) -> Option<bool> {
        let UnknownHostKey { node, host, key_type, fingerprint, known_hosts } = question;
        let line = format!("{node} {host} {key_type} {fingerprint} {}", known_hosts.display());
        self.seen.lock().unwrap().push(line);
        Some(self.says_yes)
    }

    fn passphrase(&self, _: &Path, _: bool) -> Option<Zeroizing<String>> {
        None
    }
}

impl Person {
    fn who_says(says_yes: bool) -> Self {
        Self { says_yes, ..Self::default() }
    }

    fn access(&self) -> Arc<SshAccess> {
        SshAccess::new(self.clone(), Interrupt::default())
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// The server's options with `known_hosts` as the only known host keys.
fn with_known(server: &Server, known_hosts: &str) -> SshOptions {
    let file = server.at("known_hosts_of_the_test");
    fs::write(&file, known_hosts).unwrap();
    SshOptions { known_hosts_file: Some(file), ..server.options("root") }
}

fn connect(options: &SshOptions, access: &Arc<SshAccess>) -> anyhow::Result<()> {
    SshNode::new("cp1", options.clone(), access).facts().map(drop)
}

/// The error and its hints in one text.
fn refusal(options: &SshOptions, access: &Arc<SshAccess>) -> String {
    let error = connect(options, access).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Failed);
    format!("{error:#} [{}]", hints(&error).join("; "))
}

fn fingerprint(public: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(public).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn an_unknown_key_is_refused_without_somebody_to_ask() {
    if !can_run("an_unknown_key_is_refused_without_somebody_to_ask") {
        return;
    }
    let server = Server::start();
    let text = refusal(&with_known(&server, ""), &nobody());
    let shown = fingerprint(&server.at("host_ed25519.pub"));
    let name = format!("[127.0.0.1]:{}", server.port());
    for part in ["cp1: the host key of", &name, "is not known", "ssh-ed25519", &shown, "no terminal", "ssh-keyscan"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!server.log().contains("Accepted publickey"), "nobody logs in to a stranger");
}

#[test]
fn an_unknown_key_is_asked_about_once_and_then_known() {
    if !can_run("an_unknown_key_is_asked_about_once_and_then_known") {
        return;
    }
    let server = Server::start();
    let options = with_known(&server, "other.example.com ssh-ed25519 AAAA");
    let file = options.known_hosts_file.clone().unwrap();
    let no = Person::who_says(false);
    assert!(refusal(&options, &no.access()).contains("was not accepted"));
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);

    let yes = Person::who_says(true);
    let access = yes.access();
    // Several nodes behind one name come at the same time.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| connect(&options, &access))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
    let shown = fingerprint(&server.at("host_ed25519.pub"));
    let expected = format!("cp1 [127.0.0.1]:{} ssh-ed25519 {shown} {}", server.port(), file.display());
    assert_eq!(yes.seen(), [expected]);
    let known = fs::read_to_string(&file).unwrap();
    assert_eq!(known, format!("other.example.com ssh-ed25519 AAAA\n{}", server.host_line("ed25519")));
    connect(&options, &nobody()).unwrap();
}

#[test]
fn a_changed_key_is_refused_with_its_place_and_nobody_is_asked() {
    if !can_run("a_changed_key_is_refused_with_its_place_and_nobody_is_asked") {
        return;
    }
    let server = Server::start();
    let other = make_key(server.folder.path(), "other", &["-t", "ed25519"]);
    let public = fs::read_to_string(other.with_extension("pub")).unwrap();
    let options = with_known(&server, &format!("# first\n[127.0.0.1]:{} {public}", server.port()));
    let person = Person::who_says(true);
    let text = refusal(&options, &person.access());
    let file = options.known_hosts_file.unwrap().display().to_string();
    for part in ["CHANGED", &format!("{file}:2"), &fingerprint(&server.at("host_ed25519.pub")), "ssh-keygen -R"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(person.seen().is_empty());
    assert!(!server.log().contains("Accepted publickey"));
}

#[test]
fn a_revoked_key_is_refused_even_where_it_is_known() {
    if !can_run("a_revoked_key_is_refused_even_where_it_is_known") {
        return;
    }
    let server = Server::start();
    let line = server.host_line("ed25519");
    let key = line.split_once(' ').unwrap().1;
    let person = Person::who_says(true);
    for known in [format!("{line}@revoked * {key}"), format!("@revoked [127.0.0.1]:* {key}")] {
        let text = refusal(&with_known(&server, &known), &person.access());
        assert!(text.contains("REVOKED") && text.contains("known_hosts_of_the_test:"), "{text}");
    }
    assert!(person.seen().is_empty());
}

#[test]
fn hashed_names_lists_and_wildcards_are_known() {
    if !can_run("hashed_names_lists_and_wildcards_are_known") {
        return;
    }
    let server = Server::start();
    let line = server.host_line("ed25519");
    let key = line.split_once(' ').unwrap().1;
    for known in [line.clone(), format!("x,[127.0.0.?]:*,y {key}"), format!("nonsense\n\n# x\n@odd x y z\n{line}")] {
        connect(&with_known(&server, &known), &nobody()).unwrap();
    }
    let options = with_known(&server, &line);
    let file = options.known_hosts_file.clone().unwrap();
    assert!(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output().unwrap().status.success());
    assert!(!fs::read_to_string(&file).unwrap().contains("127.0.0.1"));
    connect(&options, &nobody()).unwrap();
    // The host's other ports are other servers.
    let text = refusal(&with_known(&server, &format!("127.0.0.1 {key}")), &nobody());
    assert!(text.contains("is not known"), "{text}");
}

#[test]
fn the_type_of_key_that_is_known_is_the_one_asked_for() {
    if !can_run("the_type_of_key_that_is_known_is_the_one_asked_for") {
        return;
    }
    let kinds = ["ed25519", "ecdsa", "rsa"];
    let server = Server::with(&Setup { host_keys: kinds.to_vec(), ..Setup::default() });
    for kind in kinds {
        connect(&with_known(&server, &server.host_line(kind)), &nobody()).unwrap();
    }
    // Known by a key that it no longer has.
    let other = make_key(server.folder.path(), "old", &["-t", "ecdsa", "-b", "521"]);
    let public = fs::read_to_string(other.with_extension("pub")).unwrap();
    let text = refusal(&with_known(&server, &format!("[127.0.0.1]:{} {public}", server.port())), &nobody());
    assert!(text.contains("CHANGED"), "{text}");
}

#[test]
fn a_certified_host_is_judged_by_its_plain_key() {
    if !can_run("a_certified_host_is_judged_by_its_plain_key") {
        return;
    }
    let config = "HostCertificate $FOLDER/host_ed25519-cert.pub".to_owned();
    let prepare = "ssh-keygen -q -t ed25519 -N '' -f $FOLDER/authority; \
                   ssh-keygen -q -s $FOLDER/authority -I host -h $FOLDER/host_ed25519.pub"
        .to_owned();
    let server = Server::with(&Setup { config, prepare, ..Setup::default() });
    connect(&with_known(&server, &server.host_line("ed25519")), &nobody()).unwrap();
    let authority = fs::read_to_string(server.at("authority.pub")).unwrap();
    let text = refusal(&with_known(&server, &format!("@cert-authority * {authority}")), &nobody());
    for part in ["only known by a certificate authority", "known_hosts_of_the_test:1", "not supported", "ssh-keyscan"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn the_ssh_configuration_says_what_a_host_is_called_and_where_it_is_known() {
    if !can_run("the_ssh_configuration_says_what_a_host_is_called_and_where_it_is_known") {
        return;
    }
    let server = Server::start();
    let key = server.host_line("ed25519").split_once(' ').unwrap().1.to_owned();
    fs::write(server.at("aliases"), format!("control-plane {key}")).unwrap();
    let config = server.at("ssh_config");
    let write = |more: &str| {
        let text = format!(
            "Match host cp1.example.com user root\n  HostKeyAlias Control-Plane\nHost cp1.example.com\n  \
             HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n  User root\n{more}\n",
            server.port(),
            crate::server::client_key().display(),
            server.at("aliases").display(),
        );
        fs::write(&config, text).unwrap();
    };
    write("");
    let options = SshOptions { config: ConfigFile::File(config.clone()), ..SshOptions::new("cp1.example.com") };
    connect(&SshOptions { user: Some("root".to_owned()), ..options.clone() }, &nobody()).unwrap();

    let person = Person::who_says(true);
    write("  HashKnownHosts yes\n");
    let unknown: PathBuf = server.at("new_known_hosts");
    let other = SshOptions {
        user: Some("ops".to_owned()),
        known_hosts_file: Some(unknown.clone()),
        sudo: kubepki::node::ssh::Sudo::Never,
        ..options.clone()
    };
    connect(&other, &person.access()).unwrap();
    assert!(person.seen()[0].contains(&format!("[127.0.0.1]:{}", server.port())), "{:?}", person.seen());
    assert!(fs::read_to_string(&unknown).unwrap().starts_with("|1|"), "the name is hidden");

    fs::remove_file(&unknown).unwrap();
    write("  StrictHostKeyChecking yes\n");
    assert!(refusal(&other, &person.access()).contains("forbids to ask"));
    write("  StrictHostKeyChecking no\n");
    assert!(refusal(&other, &nobody()).contains("is not known"), "never laxer than asking");
    write("  RevokedHostKeys /dev/null\n");
    assert!(connect(&options, &nobody()).unwrap_err().to_string().contains("RevokedHostKeys"));
    write("  NoSuchKeyword yes\n");
    let error = connect(&options, &nobody()).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Usage);
    assert!(error.to_string().contains("nosuchkeyword"), "{error}");
}
