//! A tour: makes a throwaway cluster's files in a temporary folder and walks through the real commands.
//!
//! `./examples/tour`. Every command line is printed and then carried out by the program itself; what
//! follows is its real output. Nothing outside the temporary folder is read or written, and it is gone afterwards.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

/// One stop of the tour.
struct Stop {
    /// What there is to see.
    about: &'static str,
    /// The command line, as typed in the temporary folder.
    line: &'static str,
    /// Its exit code.
    code: i32,
}

const STOPS: &[Stop] = &[
    Stop {
        about: "The files of a control-plane node, made in a folder that plays the node's root.",
        line: "kubepki create-certs --root cp1 --node-name cp1 --advertise-address 10.0.0.11 --yes",
        code: 0,
    },
    Stop { about: "Nothing is wrong with them.", line: "kubepki check-expiry --root cp1", code: 0 },
    Stop {
        about: "Eleven months later some of them want attention. The exit code is for scripts.",
        line: "kubepki check-expiry --root cp1 --at +330d --only apiserver,etcd-server,ca",
        code: 4,
    },
    Stop {
        about: "What would be done about it? Nothing is changed.",
        line: "kubepki rotate-certs --root cp1 --only apiserver --what-if",
        code: 0,
    },
    Stop {
        about: "Do it. Key and certificate change together, or not at all.",
        line: "kubepki rotate-certs --root cp1 --only apiserver --yes",
        code: 0,
    },
    Stop {
        about: "A kubeconfig for a person, good for an hour.",
        line: "kubepki get-credentials --root cp1 --user-name anna --group developers --validity 1h --file config",
        code: 0,
    },
    Stop {
        about: "Results are values: pick from them.",
        line: "kubepki check-expiry --root cp1 -o tsv --query \"certificates[].[name, status, expirationDate]\"",
        code: 0,
    },
    Stop { about: "Where the node stands.", line: "kubepki show --root cp1", code: 0 },
];

fn main() -> ExitCode {
    // Called by the name of the program, this example is the program: the tour needs no other binary.
    let is_program = std::env::args_os().next().is_some_and(|name| Path::new(&name).ends_with("kubepki"));
    if is_program {
        return ExitCode::from(kubepki::cli::main(std::env::args_os()) as u8);
    }
    match tour() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "the tour ended early: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tour() -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let program = folder.path().join("kubepki");
    symlink(std::env::current_exe()?, &program)?;
    std::fs::create_dir(folder.path().join("cp1"))?;
    for stop in STOPS {
        say(&format!("\n# {}\n$ {}\n", stop.about, stop.line))?;
        let words = words(stop.line);
        let mut command = Command::new(&program);
        // An environment of its own: no preset of the user's reaches it, and no file of theirs.
        command.args(&words[1..]).env_clear().env("HOME", folder.path()).current_dir(folder.path());
        let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
        let code = status.code().unwrap_or_default();
        if code != 0 {
            say(&format!("(exit code {code})\n"))?;
        }
        ensure!(code == stop.code, "`{}` ended with exit code {code}, not {}", stop.line, stop.code);
    }
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).context("cannot write to standard output")
}

/// The words of a command line; double quotes keep one together.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}
