//! Runs the binary as a stranger would: an empty environment, a home of its own, no terminal unless one is asked for.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A place from which the binary is run.
pub struct Stage {
    folder: tempfile::TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    /// A path on the stage.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The user's home folder.
    pub fn home(&self) -> PathBuf {
        self.at("home")
    }

    /// Puts a file on the stage, parents included.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, content).unwrap();
        at
    }

    /// The binary with these words, started from the stage's folder.
    pub fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program());
        self.dress(&mut command);
        command.args(words);
        command
    }

    /// Runs the binary without a terminal.
    pub fn run(&self, words: &[impl AsRef<OsStr>]) -> Run {
        self.run_with(words, &[])
    }

    /// Runs the binary without a terminal, with variables in its environment.
    pub fn run_with(&self, words: &[impl AsRef<OsStr>], variables: &[(&str, &str)]) -> Run {
        // A process that leads a session of its own has no controlling terminal, whoever runs the tests.
        let mut command = Command::new("setsid");
        self.dress(&mut command);
        command.arg("--wait").arg(program()).args(words).envs(variables.iter().copied());
        finish(&mut command)
    }

    /// Runs the binary on a terminal. Each `(y/n)` that appears there is answered with the next of `answers`, as typed.
    /// `out` is what the terminal showed; with `redirected` standard output goes to that file instead.
    pub fn run_on_terminal(&self, words: &[&str], answers: &[&str], redirected: Option<&Path>) -> Run {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
        let mut line: Vec<String> = vec!["exec".to_owned(), quoted(program().to_str().unwrap())];
        line.extend(words.iter().map(|word| quoted(word)));
        if let Some(file) = redirected {
            line.extend([">".to_owned(), quoted(file.to_str().unwrap())]);
        }
        let mut command = Command::new("script");
        self.dress(&mut command);
        // Without `exec` a shell of its own would answer Ctrl-C as well.
        command.args(["-qec", &line.join(" "), "/dev/null"]).env("TERM", "xterm");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut shown, mut asked, mut answers) = (Vec::new(), 0, answers.iter());
        let mut piece = [0; 4096];
        loop {
            let length = screen.read(&mut piece).unwrap();
            if length == 0 {
                break;
            }
            shown.extend_from_slice(&piece[..length]);
            let questions = shown.windows(5).filter(|window| window == b"(y/n)").count();
            for _ in asked..questions {
                // A question without an answer would wait for ever; the end of input is a no.
                keyboard.write_all(answers.next().unwrap_or(&"\u{4}").as_bytes()).unwrap();
            }
            asked = questions;
        }
        let code = child.wait().unwrap().code();
        Run { code, out: String::from_utf8_lossy(&shown).replace('\r', ""), err: String::new() }
    }

    fn dress(&self, command: &mut Command) {
        command.env_clear().env("HOME", self.home()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("RUST_BACKTRACE", "0").current_dir(self.folder.path()).stdin(Stdio::null());
    }
}

impl Run {
    /// The run, which has to end with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl From<std::process::Output> for Run {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// The binary, killed when it enters a system call for the `number`th time. Returns whether it was.
pub fn killed(stage: &Stage, call: &str, number: usize, words: &[&str]) -> bool {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    let mut binary = stage.command(words);
    command.arg(binary.get_program()).args(binary.get_args());
    command.env_clear().env("HOME", stage.home()).env("PATH", "/usr/bin:/bin").current_dir(stage.at(""));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let _ = &mut binary;
    !output.status.success()
}

fn finish(command: &mut Command) -> Run {
    Run::from(command.output().unwrap())
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_kubepki").into()
}
