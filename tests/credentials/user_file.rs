//! The person's file: which one it is, what stays as it is, what is asked before anything is replaced.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kubepki::pki::kubeconfig::Kubeconfig;

use crate::judge::kubectl_reads;
use crate::machine::{Machine, client, read};
use crate::support::binary::Stage;
use crate::support::skip::root_only;
use crate::support::tree::picture;

/// A kubeconfig with entries that get in the way, and others that do not.
const OTHERS: &str = "# mine\napiVersion: v1\nclusters:\n- cluster: {server: https://old, proxy-url: http://proxy}\n  name: kubernetes # ours?\n\
                      - name: other\n  cluster:\n    server: https://other # keep\ncontexts: []\nusers:\n- name: clusterUser_kubernetes\n  user:\n    \
                      token: old-token\n# end\ncurrent-context: other\nx-mine: 1e3\n";

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o7777
}

fn backups(stage: &Stage) -> Vec<std::path::PathBuf> {
    let folder = stage.home().join(".kubepki/backups");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_new_file_and_its_folder_are_for_their_owner_alone() {
    let machine = Machine::new();
    machine.get(&["-o", "json"]).expect(0);
    assert_eq!((mode(&machine.default_file()), mode(&machine.stage.home().join(".kube"))), (0o600, 0o700));
    assert_eq!(std::fs::read_dir(machine.stage.home().join(".kube")).unwrap().count(), 1, "nothing is left behind");
    assert!(backups(&machine.stage).is_empty());
}

#[test]
fn without_a_terminal_a_conflict_leaves_the_file_as_it_is() {
    let machine = Machine::new();
    machine.stage.put("home/.kube/config", OTHERS);
    let before = picture(&machine.stage.at(""), &[]);
    let run = machine.get(&[]).expect(1);
    assert!(run.err.contains("cluster \"kubernetes\", user \"clusterUser_kubernetes\""), "{}", run.err);
    assert!(run.err.contains("--overwrite-existing") && run.err.contains("not touched"), "{}", run.err);
    assert!(run.out.is_empty() && !run.err.contains("old-token"));
    assert_eq!(picture(&machine.stage.at(""), &[]), before);
    // With other names there is nothing to ask.
    machine.get(&["--context", "free"]).expect(0);
    assert_eq!(machine.config().clusters.len(), 3);
}

#[test]
fn overwriting_keeps_place_order_comments_and_a_copy() {
    let machine = Machine::new();
    let file = machine.stage.put("home/.kube/config", OTHERS);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let run = machine.get(&["--overwrite-existing", "--verbose"]).expect(0);
    assert!(run.err.contains("warning: others may read") && run.err.contains("chmod 600"), "{}", run.err);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines = text.lines();
    for kept in [
        "# mine",
        "clusters:",
        "  name: kubernetes # ours?",
        "- name: other",
        "    server: https://other # keep",
        "contexts: ",
        "# end",
        "x-mine: 1e3",
    ] {
        assert!(lines.any(|line| line == kept), "{kept} is gone or moved:\n{text}");
    }
    assert!(!text.contains("old-token") && !text.contains("proxy"));
    assert_eq!(mode(&file), 0o640);
    let [backup] = backups(&machine.stage).try_into().unwrap();
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), OTHERS);
    assert_eq!((mode(&backup), mode(backup.parent().unwrap())), (0o600, 0o700));
    assert!(run.err.contains(backup.to_str().unwrap()), "{}", run.err);
    if let Some(read) = kubectl_reads(text.as_bytes()) {
        assert_eq!(read.unwrap()["current-context"], "kubernetes");
    }
}

#[test]
fn one_question_on_the_terminal_covers_every_conflict() {
    let machine = Machine::new();
    let file = machine.stage.put("home/.kube/config", OTHERS);
    for no in [&["n\n"][..], &["\u{4}"], &["perhaps\n", "\n", "no\n"]] {
        let run = machine.stage.run_on_terminal(&Machine::line(&[]), no, None);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), OTHERS);
    }
    let run = machine.stage.run_on_terminal(&Machine::line(&[]), &["y\n"], None).expect(0);
    assert_eq!(run.out.matches("(y/n)").count(), 1, "{}", run.out);
    assert!(machine.config().user("clusterUser_kubernetes").is_some_and(|user| user.token.is_none()));
    // What replaces nothing asks nothing.
    let run = machine.stage.run_on_terminal(&Machine::line(&["--context", "second"]), &[], None).expect(0);
    assert!(!run.out.contains("(y/n)"), "{}", run.out);
}

#[test]
fn broken_files_are_refused_with_their_place_and_stay() {
    let machine = Machine::new();
    for (text, place) in [
        ("clusters:\n- name: a\n- name: a\n", ":3:9: clusters has a second entry named \"a\""),
        ("clusters: [\n", ":2:1: not valid YAML"),
        ("- list\n", ":1:1: not a kubeconfig"),
        ("kind: Pod\n", ":1:7: not a kubeconfig: kind is \"Pod\""),
        ("users:\n- name: yes\n", ":2:9: name is not a string; put it in quotes"),
        ("a: &x 1\n", ":1:4: a YAML anchor"),
    ] {
        let file = machine.stage.put("home/.kube/config", text);
        let run = machine.get(&["--overwrite-existing"]).expect(1);
        assert!(run.err.contains(&format!("{}{place}", file.display())) && run.err.contains("hint: "), "{}", run.err);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    std::fs::remove_file(machine.default_file()).unwrap();
    std::fs::create_dir(machine.default_file()).unwrap();
    assert!(machine.get(&[]).expect(1).err.contains("it is a folder"));
    for empty in ["", "{}\n", "# mine\n", "clusters: null\nusers:\ncontexts: []\n"] {
        let file = machine.stage.put("sub/config", empty);
        machine.get(&["-f", "sub/config"]).expect(0);
        assert_eq!(read(&file).users.len(), 1);
    }
}

#[test]
fn the_file_is_chosen_as_kubectl_chooses_it() {
    let machine = Machine::new();
    let at = |name: &str| machine.stage.at(name).display().to_string();
    let get = |words: &[&str], list: &str| {
        let run = machine.stage.run_with(&Machine::line(&[words, &["-o", "json"]].concat()), &[("KUBECONFIG", list)]);
        run.expect(0).json()["file"].as_str().unwrap().to_owned()
    };
    assert_eq!(get(&[], ""), machine.default_file().display().to_string());
    assert_eq!(get(&[], &format!(":{}:{}", at("one"), at("two"))), at("two"), "none exists: the last");
    assert_eq!(get(&[], &format!("{}:{}:", at("one"), at("two"))), at("two"), "the first that exists");
    assert_eq!(get(&[], "::"), machine.default_file().display().to_string());
    assert_eq!(get(&[], "relative/config"), at("relative/config"));
    let default = machine.default_file().display().to_string();
    assert_eq!(get(&["--file", &default], &at("one")), default, "an explicit file always wins");
    assert!(!machine.stage.at("one").exists());
    machine.get(&["--file", ""]).expect(2);
}

#[test]
fn the_current_context_stays_when_asked() {
    let machine = Machine::new();
    machine.stage.put("home/.kube/config", "clusters: null\ncurrent-context: mine\n");
    machine.get(&["--no-set-current"]).expect(0);
    assert_eq!(machine.config().current_context.as_deref(), Some("mine"));
    machine.get(&["--no-set-current", "-f", "new"]).expect(0);
    assert_eq!(read(&machine.stage.at("new")).current_context, None);
}

#[test]
fn a_preview_shows_what_would_happen_and_touches_nothing() {
    let machine = Machine::new();
    machine.stage.put("home/.kube/config", OTHERS);
    let before = picture(&machine.stage.at(""), &[]);
    let run = machine.get(&["--what-if"]).expect(0);
    assert!(run.out.contains("would be changed") && run.out.contains("replaced: user"), "{}", run.out);
    let run = machine.get(&["--dry-run", "--context", "x", "-f", "new/config", "-o", "json"]).expect(0);
    assert_eq!(run.json()["action"], "created");
    assert!(run.json()["notAfter"].is_string());
    machine.get(&["--what-if", "-f", "-"]).expect(0);
    assert_eq!(picture(&machine.stage.at(""), &[]), before);
}

#[test]
fn a_link_is_followed_where_it_and_its_file_are_the_callers() {
    let machine = Machine::new();
    machine.stage.put("shared/config", OTHERS);
    std::fs::create_dir(machine.stage.home().join(".kube")).unwrap();
    symlink(machine.stage.at("shared/config"), machine.default_file()).unwrap();
    machine.get(&["--context", "x"]).expect(0);
    assert!(std::fs::symlink_metadata(machine.default_file()).unwrap().is_symlink());
    assert!(read(&machine.stage.at("shared/config")).context("x").is_some());
    assert_eq!(std::fs::read_dir(machine.stage.at("shared")).unwrap().count(), 1);
}

#[test]
fn links_of_others_are_refused_and_owners_are_kept() {
    if !root_only("links_of_others_are_refused_and_owners_are_kept") {
        return;
    }
    let machine = Machine::new();
    let shared = machine.stage.put("shared/config", OTHERS);
    let link = machine.stage.at("link");
    symlink(&shared, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(4711), Some(4711)).unwrap();
    let run = machine.get(&["-f", "link", "--context", "x"]).expect(1);
    assert!(run.err.contains("symbolic link") && run.err.contains("4711"), "{}", run.err);
    assert_eq!(std::fs::read_to_string(&shared).unwrap(), OTHERS);

    let theirs = machine.stage.put("theirs/config", OTHERS);
    std::os::unix::fs::chown(&theirs, Some(4711), Some(4712)).unwrap();
    machine.get(&["-f", "theirs/config", "--context", "x"]).expect(0);
    let found = std::fs::metadata(&theirs).unwrap();
    assert_eq!((found.uid(), found.gid()), (4711, 4712));
    // Root behind sudo, in the folder of the one who typed it.
    std::os::unix::fs::chown(machine.stage.at("theirs"), Some(4711), Some(4712)).unwrap();
    let run = machine.stage.run_with(&Machine::line(&["-f", "theirs/new"]), &[("SUDO_USER", "ann")]).expect(0);
    assert!(!run.err.contains("warning"), "{}", run.err);
    let new = machine.stage.at("theirs/new");
    let found = std::fs::metadata(&new).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (4711, 4712, 0o600));
    let config = Kubeconfig::parse(&std::fs::read(&new).unwrap(), Path::new("/")).unwrap();
    assert_eq!(client(&config, "clusterUser_kubernetes").subject().common_name(), Some("ann"));
}
