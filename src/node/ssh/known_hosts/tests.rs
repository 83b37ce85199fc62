//! Compared with what `ssh-keygen -F` finds in the same files.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::process::Command;

use super::super::program::is_installed;
use super::*;

const ED25519: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIIHL3cTAg6RBBC9UGW3I5WbZVx5VmnUgLRQUCrjYXSvK";
const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIEJnMYCkUg/4bgpDs1tSWTYBMW5ViN5fKbl5Aqrs1ypI";

fn key(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// A file of known hosts in a folder of its own.
fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known_hosts");
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// The lines that `ssh-keygen -F` finds, with the marker it names.
fn keygen(name: &str, file: &Path) -> Vec<(usize, Marker)> {
    let output = Command::new("ssh-keygen").args(["-F", name, "-f"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = text.lines().filter_map(|line| line.strip_prefix("# Host ")?.split_once(" found: line "));
    found
        .map(|(_, rest)| {
            let (line, marker) = rest.split_once(' ').unwrap_or((rest, ""));
            let marker = match marker.trim() {
                "REVOKED" => Marker::Revoked,
                "CA" => Marker::Authority,
                _ => Marker::None,
            };
            (line.parse().unwrap(), marker)
        })
        .collect()
}

#[test]
fn the_same_lines_are_found_as_by_ssh_keygen() {
    if !is_installed("ssh-keygen") {
        return;
    }
    let content = format!(
        "# a comment\n\n\
         alpha ssh-ed25519 {ED25519} with a comment\n\
         \talpha,beta,192.0.2.7 ssh-ed25519 {ED25519}\n\
         [gamma]:2222 ssh-ed25519 {ED25519}\n\
         *.example.com,!secret.example.com ssh-ed25519 {ED25519}\n\
         !*.example.com,host.example.com ssh-ed25519 {ED25519}\n\
         node?? ssh-ed25519 {ED25519}\n\
         ALPHA ssh-ed25519 {OTHER}\n\
         @revoked alpha,*.example.com ssh-ed25519 {OTHER}\n\
         @cert-authority *.example.com ssh-ed25519 {ED25519}\n\
         @unheard-of alpha ssh-ed25519 {ED25519}\n\
         alpha ssh-ed25519\n\
         |1|broken|hash ssh-ed25519 {ED25519}\n\
         a*b*c,*x ssh-ed25519 {ED25519}\n\
         fd00::1,[fd00::2]:2222 ssh-ed25519 {ED25519}\r\n"
    );
    let (_folder, plain) = file(&content);
    let names = [
        "alpha",
        "beta",
        "192.0.2.7",
        "gamma",
        "[gamma]:2222",
        "[gamma]:22",
        "host.example.com",
        "secret.example.com",
        "example.com",
        "node01",
        "node1",
        "node001",
        "abc",
        "aXbYc",
        "ab",
        "xx",
        "fd00::1",
        "[fd00::2]:2222",
        "nowhere",
    ];
    // The same once more with hidden names.
    let (_folder, hidden) =
        file(&format!("alpha ssh-ed25519 {ED25519}\n[gamma]:2222 ssh-ed25519 {ED25519}\nnode01 ssh-ed25519 {OTHER}\n"));
    assert!(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&hidden).output().unwrap().status.success());
    assert!(!fs::read_to_string(&hidden).unwrap().contains("alpha"));
    let mut compared = 0;
    for file in [plain, hidden] {
        for name in names {
            let known = KnownHosts::about(&name.to_ascii_lowercase(), [&file]).unwrap();
            let ours: Vec<(usize, Marker)> =
                known.entries.iter().map(|entry| (entry.place.line, entry.marker)).collect();
            assert_eq!(ours, keygen(name, &file), "{name} in {}", file.display());
            compared += ours.len();
        }
    }
    assert!(compared > 20, "{compared}: the comparison compares nothing");
}

#[test]
fn a_line_without_a_sound_key_is_passed_over() {
    // `ssh-keygen -F` shows such lines, the client does not use them.
    let types = format!("alpha ssh-rsa {ED25519}");
    for line in ["alpha ssh-ed25519 not*base64", "alpha ssh-ed25519 AAAA", "alpha ssh-ed25519", &types] {
        let (_folder, path) = file(&format!("{line}\nalpha ssh-ed25519 {ED25519}\n"));
        let known = KnownHosts::about("alpha", [&path]).unwrap();
        assert_eq!(known.entries.len(), 1, "{line}");
        assert_eq!(known.key_types(), ["ssh-ed25519"]);
    }
}

#[test]
fn a_key_is_known_unknown_changed_or_revoked() {
    let judge = |content: &str, shown: &str| {
        let (_folder, path) = file(content);
        KnownHosts::about("alpha", [&path]).unwrap().judge(&key(shown))
    };
    assert_eq!(judge(&format!("alpha ssh-ed25519 {ED25519}\n"), ED25519), Verdict::Known);
    assert_eq!(judge(&format!("beta ssh-ed25519 {ED25519}\n"), ED25519), Verdict::Unknown);
    assert!(matches!(
        judge(&format!("# x\nalpha ssh-ed25519 {ED25519}\n"), OTHER),
        Verdict::Changed(Place { line: 2, .. })
    ));
    let both = format!("alpha ssh-ed25519 {ED25519}\nalpha ssh-ed25519 {OTHER}\n");
    assert_eq!(judge(&both, OTHER), Verdict::Known, "one of several is enough");
    let revoked = format!("alpha ssh-ed25519 {ED25519}\n@revoked * ssh-ed25519 {ED25519}\n");
    assert!(matches!(judge(&revoked, ED25519), Verdict::Revoked(Place { line: 2, .. })), "revocation beats everything");
    let other = format!("@revoked * ssh-ed25519 {OTHER}\n");
    assert_eq!(judge(&other, ED25519), Verdict::Unknown, "another key is not meant");
    let authority = format!("@cert-authority * ssh-ed25519 {OTHER}\n");
    assert!(matches!(judge(&authority, ED25519), Verdict::AuthorityOnly(Place { line: 1, .. })));
}

#[test]
fn a_file_that_cannot_be_read_is_no_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    assert_eq!(KnownHosts::about("alpha", [&absent]).unwrap().judge(&key(ED25519)), Verdict::Unknown);
    let error = KnownHosts::about("alpha", [&folder.path().to_owned()]).unwrap_err();
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
}

#[test]
fn added_keys_are_found_by_everybody() {
    if !is_installed("ssh-keygen") {
        return;
    }
    let (_folder, path) = file(&format!("beta ssh-ed25519 {OTHER}"));
    for (name, hide) in [("[gamma]:2222", false), ("[delta]:2222", true)] {
        add(&path, name, "ssh-ed25519", &key(ED25519), hide).unwrap();
        assert_eq!(KnownHosts::about(name, [&path]).unwrap().judge(&key(ED25519)), Verdict::Known);
        assert_eq!(keygen(name, &path).len(), 1);
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3, "the last line had no end: {text}");
    assert!(text.contains("[gamma]:2222") && !text.contains("delta"));
    assert_eq!(keygen("beta", &path).len(), 1);
}

#[test]
fn a_file_for_the_first_key_is_private_and_so_is_its_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".ssh/known_hosts");
    add(&path, "alpha", "ssh-ed25519", &key(ED25519), false).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}
