//! A credential merged into every kind of kubeconfig people have.

use std::path::Path;

use kubepki::pki::kubeconfig::{Credential, EntryKind, Kubeconfig, Merged, Names, Source};
use zeroize::Zeroizing;

use crate::judge::{credential, credential_at, kubectl_finds, kubectl_reads};

fn merged(text: &str, name: &str) -> Merged {
    credential(name).merge_into(text.as_bytes(), true).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

fn text(merged: &Merged) -> &str {
    std::str::from_utf8(&merged.text).unwrap()
}

/// All lines of `old` must stand in `new` in their order.
fn keeps_lines(old: &str, new: &str) {
    let mut lines = new.lines();
    for line in old.lines() {
        assert!(lines.any(|found| found == line), "{line:?} is gone or moved:\n{new}");
    }
}

#[test]
fn an_empty_kubeconfig_becomes_the_credential_in_kubeadms_layout() {
    let document = String::from_utf8(credential("lab").document().to_vec()).unwrap();
    for empty in [
        "",
        "\n",
        "{}",
        "{}\n",
        "null",
        "~\n",
        "\u{feff}",
        "# mine\n",
        "# mine",
        "---\n",
        "{} # nothing yet\n",
        "--- {}\n",
    ] {
        let found = merged(empty, "lab");
        assert!(found.changed && found.replaced.is_empty());
        assert!(text(&found).ends_with(&document), "{empty:?}: {}", text(&found));
        kubectl_finds(&found.text, "lab");
    }
    assert_eq!(text(&merged("{}", "lab")), document);
    assert!(text(&merged("# mine", "lab")).starts_with("# mine\napiVersion: v1\n"));
    let error = credential("lab").merge_into(b"---\n---\nclusters: []\n", true).unwrap_err();
    assert!(error.to_string().contains("the first document of the file is empty"));
}

#[test]
fn a_kubeconfig_made_by_kubeadm_is_copied_byte_for_byte_and_its_files_are_embedded() {
    let text = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: https://10.0.0.1:6443\n  name: \
                kubernetes\ncontexts:\n- context:\n    cluster: kubernetes\n    user: kubernetes-admin\n  name: \
                kubernetes-admin@kubernetes\ncurrent-context: kubernetes-admin@kubernetes\nkind: Config\nusers:\n- name: \
                kubernetes-admin\n  user:\n    client-certificate-data: Yw==\n    client-key-data: aw==\n";
    let none = |_: &Path| Err("there should be no file".to_owned());
    let copy = Credential::copied(text.as_bytes(), Path::new("/"), None, &none).unwrap();
    assert_eq!(std::str::from_utf8(&copy.document()).unwrap(), text);
    let files = text
        .replace("certificate-authority-data: Q0E=", "certificate-authority: ca.crt")
        .replace("client-key-data: aw==", "client-key: /k");
    let read = |path: &Path| match path.to_str() {
        Some("/etc/kubernetes/ca.crt") => Ok(Zeroizing::new(b"CA".to_vec())),
        Some("/k") => Ok(Zeroizing::new(b"k".to_vec())),
        other => Err(format!("{other:?}?")),
    };
    let copy = Credential::copied(files.as_bytes(), Path::new("/etc/kubernetes"), None, &read).unwrap();
    let config = Kubeconfig::parse(&copy.document(), Path::new("/")).unwrap();
    assert!(matches!(config.clusters[0].certificate_authority.source(), Source::Embedded(b"CA")));
    assert!(matches!(config.users[0].client_key.source(), Source::Embedded(b"k")));
    let missing = Credential::copied(files.as_bytes(), Path::new("/"), None, &none).unwrap_err().to_string();
    assert_eq!(missing, "line 4, column 28: certificate-authority /ca.crt: there should be no file");
    for (wrong, message) in [
        ("Yw==", "not base64"),
        ("current-context: kubernetes-admin", "no context named"),
        ("user: kubernetes-admin\n", "no user named"),
    ] {
        let broken = text.replace(wrong, &wrong.replace("Yw", "Y").replace("-admin", "-nobody"));
        let error = Credential::copied(broken.as_bytes(), Path::new("/"), None, &none).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn new_entries_go_to_the_end_of_their_lists_and_all_else_stays() {
    let old = "# mine\napiVersion: v1\nclusters:   # all of them\n- cluster:\n    server: https://a # first\n    x-mine: 1_000\n  \
               name: a\n# contexts\ncontexts:\n  - context: {cluster: a, user: u}\n    name: a # ctx\n\nusers:\n- name: u\n  user:\n    \
               token: |\n      t\n\n\npreferences: {}\ncurrent-context: \"a\" # here\n# end\n";
    for (before, newline) in [(old.to_owned(), "\n"), (old.replace('\n', "\r\n"), "\r\n")] {
        let found = merged(&before, "lab");
        let same = before.replace("current-context: \"a\"", "current-context: \"lab\"");
        keeps_lines(&same, text(&found));
        assert_eq!(text(&found).matches(newline).count(), text(&found).matches('\n').count());
        kubectl_finds(&found.text, "lab");
        assert_eq!(found.added.len(), 3);
        let again = merged(text(&found), "lab");
        assert!(!again.changed && again.replaced.is_empty() && again.text == found.text);
        let kept = credential("lab").merge_into(before.as_bytes(), false).unwrap();
        keeps_lines(&before, text(&kept));
    }
}

#[test]
fn every_layout_of_lists_takes_an_entry() {
    for old in [
        "clusters: null\ncontexts: ~\nusers:\n",
        "clusters: [] # none\ncontexts: [ ]\nusers: []",
        "users:\n- name: u\n  user: {}\n",
        "users:\n- name: u\n  user:\n",
        "users:\n-\n  # which\n  name: u\n  user: {token: t}\nclusters:\n",
        "users:\n   -   name: u\n       user: {token: t}",
        "kind: Config\n",
        "kind: Config",
        "---\nkind: Config\n...\n",
        "clusters: [{name: a, cluster: {server: https://a}}]\nusers: [\n  # none\n  ]\n",
        "{\"kind\": \"Config\"}",
        "{\"clusters\": [], \"users\": null, \"contexts\": [{\"name\": \"a\", \"context\": {}}], \"current-context\": \"\"}",
        "{\n  \"clusters\": [\n    {\n      \"name\": \"a\"\n    }\n  ],\n  \"kind\": \"Config\"\n}\n",
        "{kind: Config, users: [{name: u, user: {token: t}}], clusters: }\n",
        "contexts:\n- name: a\n  context: {}\n---\nanother: document\n",
        "users:\n- name: u\n  user:\n    token: |+\n      t\n\n",
        "current-context:\nkind: Config\n",
        "clusters: [\n]\nusers: [\n  {name: u, user: {token: t}}\n]\nkind: Config\n",
        "kind:\tConfig\nusers:\t\n- name:\tu\n  user: {}\t\n",
        "extensions:\n- name: x\n  extension:\n    - - 1\n",
    ] {
        for old in [old.to_owned(), old.replace('\n', "\r\n"), format!("\u{feff}{old}")] {
            let found = merged(&old, "lab");
            kubectl_finds(&found.text, "lab");
            let config = Kubeconfig::parse(&found.text, Path::new("/")).unwrap();
            let before = Kubeconfig::parse(old.as_bytes(), Path::new("/")).unwrap();
            assert_eq!(config.users.len(), before.users.len() + 1);
            assert_eq!(config.clusters.len(), before.clusters.len() + 1);
            let second = merged(text(&found), "other");
            kubectl_finds(&second.text, "other");
            assert!(!merged(text(&second), "other").changed);
        }
    }
}

#[test]
fn a_different_entry_is_reported_and_keeps_its_place() {
    let first = merged("", "lab");
    let second = merged(text(&first), "other");
    let moved = credential_at("lab", "https://moved.example.com", "CA").merge_into(&second.text, true).unwrap();
    assert_eq!(moved.replaced.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [EntryKind::Cluster]);
    let expected = text(&second)
        .replace("https://lab.example.com:6443", "https://moved.example.com")
        .replace("current-context: other", "current-context: lab");
    assert_eq!(text(&moved), expected);
    assert!(!format!("{moved:?}").contains("key of"));
}

#[test]
fn a_replaced_user_keeps_nothing_of_its_old_credential() {
    let old = "users:\n# ann\n- x-team: blue\n  name: clusterUser_lab # me\n  user:\n    token: secret\n    as: root\n- name: z\n";
    let found = merged(old, "lab");
    assert_eq!(found.replaced.len(), 1);
    assert!(!text(&found).contains("secret") && !text(&found).contains("as: root"));
    keeps_lines("users:\n# ann\n- x-team: blue\n  name: clusterUser_lab # me\n  user:\n- name: z\n", text(&found));
    kubectl_finds(&found.text, "lab");
}

#[test]
fn preferences_of_the_user_survive_a_new_authority_and_make_no_conflict() {
    let old = text(&merged("", "lab"))
        .replace("    server:", "    proxy-url: http://proxy # mine\n    server:")
        .replace("    user: clusterUser_lab", "    user: clusterUser_lab\n    namespace: dev");
    assert!(!merged(&old, "lab").changed);
    let renewed = credential_at("lab", "https://lab.example.com:6443", "CA2").merge_into(old.as_bytes(), true).unwrap();
    assert_eq!(renewed.replaced.len(), 1);
    assert_eq!(text(&renewed), old.replace(&crate::judge::base64("CA"), &crate::judge::base64("CA2")));
    let elsewhere = credential_at("lab", "https://else", "CA").merge_into(old.as_bytes(), true).unwrap();
    assert!(!text(&elsewhere).contains("proxy-url"), "another server is another cluster");
}

#[test]
fn what_kubectl_would_refuse_is_refused_with_its_place() {
    for (old, place) in [
        ("clusters: [\n", "line 2, column 1: not valid YAML"),
        ("- a\n", "line 1, column 1: not a kubeconfig"),
        ("text", "line 1, column 1: not a kubeconfig"),
        ("clusters:\n- name: a\n- name: a\n", "line 3, column 9: clusters has a second entry named \"a\""),
        ("clusters:\n- name: on\n", "line 2, column 9: name is not a string; put it in quotes"),
        ("users:\n- name: u\n  user: {client-key-data: '*'}\n", "line 3, column 27: client-key-data is not base64"),
        ("contexts: 5\n", "line 1, column 11: contexts is not a list"),
        ("kind: Config\nkind: Config\n", "line 2, column 1: the key \"kind\" occurs twice"),
        ("apiVersion: v1\nkind: Pod\n", "line 2, column 7: not a kubeconfig: kind is \"Pod\""),
        ("users: [1]\n", "line 1, column 9: an entry of users is not a mapping"),
        ("users:\n\t- name: x\n", "line 2, column"),
        ("a: \"\u{0}\"", "line 1"),
    ] {
        let error = credential("lab").merge_into(old.as_bytes(), true).unwrap_err().to_string();
        assert!(error.starts_with(place), "{old:?}: {error}");
        // A repeated key is the one thing here that kubectl silently accepts.
        if !old.contains("kind: Config")
            && let Some(read) = kubectl_reads(old.as_bytes())
        {
            assert!(read.is_err(), "kubectl accepts {old:?}");
        }
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_reach_kubectl_as_strings() {
    for name in [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "N",
        "true",
        "null",
        "~",
        "1_000",
        "0x1f",
        "0o17",
        "017",
        "1e3",
        ".5",
        "-1",
        "1:30",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
        "#a",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "'",
        "\"",
        "\\",
        "a\tb",
        "é",
        "{",
        "[",
        ",",
        "?",
        ":",
        "a:",
        "-",
        "--- a",
        ".inf",
        "0.1",
        "12e03",
        "x\u{85}y",
        "\u{2028}",
        "\u{a0}",
        " lead",
        "trail ",
        "0x",
        "1__0",
        "+1",
        "_1",
    ] {
        for existing in ["", "kind: Config\n", "{\"kind\": \"Config\"}", "users: [{name: a}]\n", "current-context: 'x'"]
        {
            let names = Names { cluster: name.into(), user: name.into(), context: name.into() };
            let found = credential("lab").named(names).merge_into(existing.as_bytes(), true).unwrap();
            let config = Kubeconfig::parse(&found.text, Path::new("/")).unwrap();
            assert_eq!(config.current_context.as_deref(), Some(name));
            assert!(config.user(name).is_some() && config.context(name).is_some_and(|context| context.cluster == name));
        }
        let names = Names { cluster: name.into(), user: name.into(), context: name.into() };
        let text = credential("lab").named(names).document();
        if let Some(read) = kubectl_reads(&text) {
            let config = read.unwrap_or_else(|error| panic!("{name:?}: {error}"));
            assert_eq!(config["current-context"], name);
            assert_eq!(config["contexts"][0]["context"]["user"], name);
        }
    }
}
