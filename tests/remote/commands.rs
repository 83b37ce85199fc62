//! Commands that restart services: run as root on the node, waited for, and told of when they fail.

use kubepki::error::hints;
use kubepki::node::Node;
use kubepki::node::local::LocalNode;
use kubepki::node::ssh::SshNode;

use crate::server::{Server, Setup, can_run, nobody};

fn refusal(node: &dyn Node, command: &str) -> String {
    let error = node.run(command).unwrap_err();
    format!("{error:#} [{}]", hints(&error).join("; "))
}

#[test]
fn a_command_runs_as_root_and_its_failure_is_told_with_its_last_words() {
    if !can_run("a_command_runs_as_root_and_its_failure_is_told_with_its_last_words") {
        return;
    }
    let server = Server::start();
    let far = |user| SshNode::new("cp1", server.options(user), &nobody());
    let nodes: [(&str, Box<dyn Node>); 3] = [
        ("local", Box::new(LocalNode::open("cp1", "/").unwrap())),
        ("root", Box::new(far("root"))),
        ("sudo", Box::new(far("ops"))),
    ];
    for (kind, node) in nodes {
        let (who, odd) = (server.at(&format!("who-{kind}")), server.at(&format!("it's {kind}")));
        node.run(&format!("id -u > {}; touch \"{}\"", who.display(), odd.display())).unwrap();
        assert_eq!(std::fs::read_to_string(who).unwrap(), "0\n", "{kind}");
        assert!(odd.exists(), "{kind}");
        let text = refusal(&*node, "echo first; echo Unit x.service not found. >&2; exit 5");
        for part in ["cp1: `echo first", "exit status: 5", "unit x.service not found", "by hand"] {
            assert!(text.to_lowercase().contains(&part.to_lowercase()), "{kind}: {part:?} is not in {text:?}");
        }
        // A service that goes on does not hold the command up, and a command that reads gets nothing.
        node.run("sleep 300 & cat; true").unwrap();
    }
}

#[test]
fn a_node_without_room_for_a_file_keeps_its_devices() {
    if !can_run("a_node_without_room_for_a_file_keeps_its_devices") {
        return;
    }
    let prepare = "mount -t tmpfs -o ro none /tmp".to_owned();
    let server = Server::with(&Setup { prepare, ..Setup::default() });
    let node = SshNode::new("cp1", server.options("root"), &nobody());
    node.run("! mktemp 2>/dev/null").unwrap();
    assert!(refusal(&node, "exit 3").contains("exit status: 3"));
    node.run("test -c /dev/null").unwrap();
}

#[test]
fn nothing_runs_on_a_mounted_disk() {
    let folder = tempfile::tempdir().unwrap();
    let node = LocalNode::open("cp1", folder.path()).unwrap();
    assert!(refusal(&node, "true").contains("is only a folder"));
}
