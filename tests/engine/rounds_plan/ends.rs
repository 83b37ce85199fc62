//! What is there when a rotation has ended: nothing old where it was about, everything as before elsewhere.

use std::collections::HashSet;

use kubepki::pki::manifest::{RESTARTED_AT, annotated};

use super::scenes::{Node, Scene, Script};
use super::things::{Content, File};

/// Checks every file of every node; `about` are parts of the paths that the rotation replaces.
pub(super) fn check(script: &Script, about: &[&str]) {
    let is_about = |path: &str| about.iter().any(|part| path.contains(part));
    let mut old: HashSet<Vec<u8>> = HashSet::new();
    for node in &script.first.nodes {
        for (path, file) in &node.disk.files {
            if let (File::Content(content), true) = (file, is_about(path)) {
                // A kubeconfig may trust what stays.
                old.extend(content.marks());
            }
        }
    }
    assert!(!old.is_empty(), "it is about something");
    for (first, last) in script.first.nodes.iter().zip(&script.last.nodes) {
        check_node(first, last, &is_about, &old);
    }
}

/// Checks what is there when a rotation has been taken back: every file as before, and nobody who runs knows anything new. Only
/// the scheduler may still trust both, as it has not been started since.
pub(super) fn check_return(script: &Script, now: &Scene) {
    let marks = |scene: &Scene| -> HashSet<Vec<u8>> {
        let files = scene.nodes.iter().flat_map(|node| node.disk.files.values());
        let contents = files.filter_map(|file| if let File::Content(content) = file { Some(content) } else { None });
        contents.flat_map(|content| content.marks().collect::<Vec<_>>()).collect()
    };
    let old = marks(&script.first);
    let new: HashSet<Vec<u8>> = marks(&script.last).into_iter().filter(|mark| !old.contains(mark)).collect();
    for (node, then) in now.nodes.iter().zip(&script.first.nodes) {
        assert!(node.disk.files == then.disk.files, "{} is as before", node.name);
        for (component, process) in &node.running {
            let holds = |content: &Content| content.marks().any(|mark| new.contains(&mark));
            let is_shown = |content: &Content| content.chain.iter().any(|it| new.contains(it.fingerprint().as_slice()));
            let knows =
                process.remembers().any(|it| if *component == "kube-scheduler" { is_shown(it) } else { holds(it) });
            assert!(!knows, "{component} of {} still holds something new", node.name);
        }
    }
}

fn check_node(first: &Node, last: &Node, is_about: &dyn Fn(&str) -> bool, old: &HashSet<Vec<u8>>) {
    let mut known: HashSet<&str> = first.disk.files.keys().map(|path| &**path).collect();
    let mut new_files = 0;
    for (path, file) in &last.disk.files {
        let place = format!("{} on {}", path, last.name);
        let was_there = known.remove(&**path);
        assert!(was_there || !path.contains("/kubepki/"), "{place} was only for the meantime");
        if path.starts_with("/etc/kubernetes/manifests/") {
            is_as_before_but_for_the_annotation(&place, text(first, path), text(last, path));
            continue;
        }
        if !is_about(path) {
            assert!(was_there && first.disk.files.get(path) == Some(file), "{place} is nobody's business");
        }
        if !was_there {
            assert!(path.contains("/kubelet-"), "{place} is new");
            new_files += 1;
        }
        // The kubelet's former files stay beside the new ones, for nobody.
        if let (File::Content(content), false) = (file, is_dated(path) && first.disk.files.get(path) == Some(file)) {
            let left = content.marks().filter(|mark| old.contains(mark)).count();
            assert_eq!(left, 0, "{place} holds something old");
            assert!(!is_about(path) || content.marks().next().is_some(), "{place} holds nothing");
        }
    }
    assert!(known.is_empty(), "{} lost {known:?}", last.name);
    let links = last.disk.files.keys().filter(|path| is_about(path) && path.ends_with("-current.pem")).count();
    assert_eq!(new_files, links, "one new file for each of the kubelet's links on {}", last.name);
    for path in last.disk.files.keys().filter(|path| path.ends_with("-current.pem") && is_about(path)) {
        let content = last.disk.at(path).unwrap();
        assert!(content.fits(content) && content.marks().all(|mark| !old.contains(&mark)), "{path} on {}", last.name);
    }
    assert!(last.disk.unfit().is_empty());
}

fn is_dated(path: &str) -> bool {
    path.contains("/kubelet-") && !path.ends_with("-current.pem")
}

fn text<'a>(node: &'a Node, path: &str) -> &'a str {
    &node.disk.at(path).unwrap().text
}

fn is_as_before_but_for_the_annotation(place: &str, before: &str, after: &str) {
    if before == after {
        return;
    }
    let stamp = after.split_once(&format!("{RESTARTED_AT}: \"")).and_then(|(_, rest)| rest.split_once('"'));
    let (stamp, _) = stamp.unwrap_or_else(|| panic!("{place} has no annotation"));
    assert_eq!(annotated(before, RESTARTED_AT, stamp).unwrap(), after, "{place}");
}
