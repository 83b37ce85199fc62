//! The command reference, the completion scripts and every link in the documentation are current.
//!
//! `KUBEPKI_BLESS=1 cargo test --test engine docs` writes what is generated anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use kubepki::cli::{command, completion};
use kubepki::error::ExitCode;

const REFERENCE_HEAD: &str = "\
# Command reference

Written by `KUBEPKI_BLESS=1 cargo test --test engine docs` from the program's own help; do not edit.

Every option can be preset by an environment variable that is named after it: `--cluster-file` by
`KUBEPKI_CLUSTER_FILE`. The command line beats the environment.
";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares the file at `path` with `content`, or writes it when asked to.
fn keep_current(path: &str, content: &str) {
    let file = repository().join(path);
    if std::env::var_os("KUBEPKI_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == content, "{path} is not current: KUBEPKI_BLESS=1 cargo test --test engine docs");
}

/// The help of `command` and of the commands below it, as Markdown.
fn reference(command: &clap::Command, path: &str, text: &mut String) {
    let is_root = !path.contains(' ');
    let shown = command.clone().display_name(path).bin_name(path).term_width(100).disable_version_flag(!is_root);
    // The options of every command are shown once, with the program itself.
    let mut shown = shown.mut_args(|arg| if !is_root && arg.is_global_set() { arg.hide(true) } else { arg });
    let help = shown.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let level = if is_root { "##" } else { "###" };
    let _ = write!(text, "\n{level} {path}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        reference(below, &format!("{path} {}", below.get_name()), text);
    }
}

#[test]
fn the_command_reference_is_current() {
    let mut command = command();
    command.build();
    let mut text = REFERENCE_HEAD.to_owned();
    reference(&command, "kubepki", &mut text);
    keep_current("docs/cli.md", &text);
}

#[test]
fn the_completion_scripts_are_current() {
    let files = [
        (Shell::Bash, "kubepki.bash"),
        (Shell::Zsh, "_kubepki"),
        (Shell::Fish, "kubepki.fish"),
        (Shell::PowerShell, "kubepki.ps1"),
        (Shell::Elvish, "kubepki.elv"),
    ];
    for (shell, file) in files {
        let script = completion::script(shell, "kubepki").unwrap();
        keep_current(&format!("completions/{file}"), &String::from_utf8(script).unwrap());
    }
}

#[test]
fn every_exit_code_is_explained_in_help_and_readme() {
    let help = command().render_long_help().to_string();
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let codes = [
        ExitCode::Done,
        ExitCode::Failed,
        ExitCode::Usage,
        ExitCode::NotFound,
        ExitCode::Attention,
        ExitCode::Broken,
        ExitCode::Partial,
        ExitCode::Interrupted,
    ];
    for code in codes.map(|code| code as u8) {
        assert!(readme.contains(&format!("\n| {code} | ")), "README.md: {code}");
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))), "--help: {code}");
    }
}

#[test]
fn every_option_says_what_it_is_for() {
    fn check(command: &clap::Command) {
        for option in command.get_arguments() {
            assert!(option.get_help().is_some(), "{} {}", command.get_name(), option.get_id());
        }
        assert!(command.get_about().is_some(), "{}", command.get_name());
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(command.has_subcommands() || examples.contains("Examples:\n"), "{}: no examples", command.get_name());
        command.get_subcommands().for_each(check);
    }
    check(&command());
}

/// Every `docs/NAME.md#anchor` in `text`, and every Markdown link to a file when `text` is the document at `from`.
fn references(text: &str, from: Option<&Path>) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    let mut add = |base: PathBuf, target: &str| {
        let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        found.push((base.join(file), anchor.map(str::to_owned)));
    };
    for (start, _) in text.match_indices("docs/") {
        let end = text[start..].find(|letter: char| !(letter.is_alphanumeric() || "/._-#".contains(letter)));
        let target = text[start..].get(..end.unwrap_or(text.len() - start)).unwrap_or_default().trim_end_matches('.');
        if target.contains(".md") {
            add(repository(), target);
        }
    }
    for (start, _) in text.match_indices("](").filter(|_| from.is_some()) {
        let target = text[start + 2..].split(')').next().unwrap_or_default();
        if !target.contains("://") && !target.starts_with('#') {
            add(from.and_then(Path::parent).unwrap().to_path_buf(), target);
        }
    }
    found
}

fn headings(document: &str) -> Vec<String> {
    let titles = document.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |title: &str| {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.chars().filter(|letter| letter.is_alphanumeric() || *letter == '-' || *letter == '_').collect()
    };
    titles.map(slug).collect()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
}

#[test]
fn every_document_that_is_pointed_at_is_there() {
    let mut files = vec![repository().join("README.md")];
    collect(&repository().join("docs"), "md", &mut files);
    collect(&repository().join("src"), "rs", &mut files);
    let mut checked = 0;
    let mut faults = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let from = file.extension().is_some_and(|end| end == "md").then_some(file.as_path());
        for (target, anchor) in references(&text, from) {
            checked += 1;
            let document = fs::read_to_string(&target).ok();
            let is_there = match (&document, &anchor) {
                (Some(document), Some(anchor)) => headings(document).contains(anchor),
                (None, _) => target.is_dir(),
                (Some(_), None) => true,
            };
            if !is_there {
                faults.push(format!("{}: {} {anchor:?}", file.display(), target.display()));
            }
        }
    }
    assert!(checked > 3, "nothing was checked");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
