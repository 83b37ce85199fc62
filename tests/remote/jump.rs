//! Through other machines: host keys of every hop, one login for all nodes behind, and what happens when it breaks.

use std::fs;

use kubepki::error::hints;
use kubepki::node::ssh::{ConfigFile, SshNode, SshOptions};
use kubepki::node::{Content, Effect, Node, Query};

use crate::server::{Server, Setup, can_run, client_key, nobody};

/// Options for a node behind jump hosts, with all host keys known.
fn behind(server: &Server, jumps: &[&Server]) -> SshOptions {
    let options = server.options("root");
    let mut known = fs::read_to_string(server.at("known_hosts")).unwrap();
    for jump in jumps {
        known.push_str(&jump.host_line("ed25519"));
    }
    let file = server.at("known_behind");
    fs::write(&file, known).unwrap();
    let hops: Vec<String> = jumps.iter().map(|jump| format!("guest@127.0.0.1:{}", jump.port())).collect();
    SshOptions { known_hosts_file: Some(file), jump_host: Some(hops.join(",")), ..options }
}

fn refusal(options: &SshOptions) -> String {
    let error = SshNode::new("cp1", options.clone(), &nobody()).facts().unwrap_err();
    format!("{error:#} [{}]", hints(&error).join("; "))
}

#[test]
fn the_host_keys_of_both_hops_are_verified() {
    if !can_run("the_host_keys_of_both_hops_are_verified") {
        return;
    }
    let (server, jump) = (Server::start(), Server::start());
    let options = behind(&server, &[&jump]);
    SshNode::new("cp1", options.clone(), &nobody()).facts().unwrap();
    let file = options.known_hosts_file.clone().unwrap();

    fs::write(&file, server.host_line("ed25519")).unwrap();
    let text = refusal(&options);
    let unknown = format!("jump host 127.0.0.1: the host key of [127.0.0.1]:{} is not known", jump.port());
    assert!(text.contains(&unknown), "{text}");
    fs::write(&file, jump.host_line("ed25519")).unwrap();
    let text = refusal(&options);
    assert!(text.contains(&format!("cp1: the host key of [127.0.0.1]:{} is not known", server.port())), "{text}");
    let swapped = server.host_line("ed25519").replace(&server.port().to_string(), &jump.port().to_string());
    fs::write(&file, server.host_line("ed25519") + &swapped).unwrap();
    let text = refusal(&options);
    assert!(text.contains("jump host 127.0.0.1: the host key") && text.contains("CHANGED"), "{text}");
}

#[test]
fn one_login_on_the_jump_host_carries_all_nodes() {
    if !can_run("one_login_on_the_jump_host_carries_all_nodes") {
        return;
    }
    let (server, jump) = (Server::start(), Server::start());
    let options = behind(&server, &[&jump]);
    let every: Vec<u8> = (0..=255).cycle().take(2_000_000).collect();
    fs::create_dir(server.at("files")).unwrap();
    fs::write(server.at("files/large"), &every).unwrap();
    let access = nobody();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (access, options, server, every) = (&access, &options, &server, &every);
            scope.spawn(move || {
                let node = SshNode::new(format!("n{number}"), options.clone(), access);
                let found = node.read(&[Query::File(server.at("files/large"))]).unwrap();
                assert!(crate::worlds::content(&found[0]) == every);
                let path = server.at(&format!("files/{number}"));
                node.apply(&Effect::Install { path: &path, content: Content::Bytes(every), mode: 0o600, owner: None })
                    .unwrap();
                assert!(&fs::read(&path).unwrap() == every);
            });
        }
    });
    assert_eq!(jump.log().matches("Accepted publickey for guest").count(), 1);
    assert_eq!(server.log().matches("Accepted publickey for root").count(), 8);
}

#[test]
fn several_machines_can_stand_in_a_row() {
    if !can_run("several_machines_can_stand_in_a_row") {
        return;
    }
    let (server, first, second) = (Server::start(), Server::start(), Server::start());
    SshNode::new("cp1", behind(&server, &[&first, &second]), &nobody()).facts().unwrap();
    for (jump, next) in [(&first, &second), (&second, &server)] {
        assert!(jump.log().contains(&format!("127.0.0.1 port {}", next.port())), "the way does not lead through all");
    }
}

#[test]
fn a_jump_host_that_forwards_nothing_is_named() {
    if !can_run("a_jump_host_that_forwards_nothing_is_named") {
        return;
    }
    let server = Server::start();
    let jump = Server::with(&Setup { config: "AllowTcpForwarding no".to_owned(), ..Setup::default() });
    let text = refusal(&behind(&server, &[&jump]));
    let place = format!("[127.0.0.1]:{}", server.port());
    assert!(text.contains(&format!("the jump host cannot reach {place}, or does not allow it")), "{text}");
}

#[test]
fn a_jump_host_that_dies_takes_the_nodes_with_it_and_nothing_hangs() {
    if !can_run("a_jump_host_that_dies_takes_the_nodes_with_it_and_nothing_hangs") {
        return;
    }
    let (server, mut jump) = (Server::start(), Server::start());
    let node = SshNode::new("cp1", behind(&server, &[&jump]), &nobody());
    node.facts().unwrap();
    jump.kill();
    let error = node.facts().unwrap_err();
    assert!(format!("{error:#}").contains("jump host 127.0.0.1: cannot connect to guest@"), "{error:#}");
}

#[test]
fn proxy_jump_and_proxy_command_of_the_configuration_are_honoured() {
    if !can_run("proxy_jump_and_proxy_command_of_the_configuration_are_honoured") {
        return;
    }
    let (server, jump) = (Server::start(), Server::start());
    let options = behind(&server, &[&jump]);
    let known = options.known_hosts_file.clone().unwrap();
    let config = server.at("ssh_config");
    let write = |way: &str| {
        let text = format!(
            "Host node\n  HostName 127.0.0.1\n  Port {}\n  User root\n  {way}\nHost bastion\n  HostName 127.0.0.1\n  \
             Port {}\n  User guest\nHost *\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            server.port(),
            jump.port(),
            client_key().display(),
            known.display(),
        );
        fs::write(&config, text).unwrap();
        SshOptions { config: ConfigFile::File(config.clone()), ..SshOptions::new("node") }
    };
    SshNode::new("cp1", write("ProxyJump bastion"), &nobody()).facts().unwrap();
    assert!(jump.log().contains("Accepted publickey for guest"));
    let before = jump.log().len();
    let through = format!("ProxyCommand ssh -F {} -W %h:%p bastion", config.display());
    SshNode::new("cp1", write(&through), &nobody()).facts().unwrap();
    assert!(jump.log()[before..].contains("Accepted publickey for guest"));
    // What the cluster file says comes first.
    let direct = SshOptions { jump_host: Some("none".to_owned()), ..write("ProxyJump nowhere.invalid") };
    SshNode::new("cp1", direct, &nobody()).facts().unwrap();
    let circle = write("ProxyJump bastion");
    let text = fs::read_to_string(&config).unwrap().replace("Host bastion\n", "Host bastion\n  ProxyJump node\n");
    fs::write(&config, text).unwrap();
    let text = refusal(&circle);
    assert!(text.contains("to be reached through itself"), "{text}");
}
