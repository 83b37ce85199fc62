//! Servers that run for the length of a test: stopped when dropped, their words kept for when something fails.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Servers have to come up within this time, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// A command that runs `program` until the thread that starts it ends, however that happens: a killed run must not leave
    /// servers behind. That is `setpriv`'s work (util-linux); without it only [`Drop`] stops them.
    pub fn command(program: impl AsRef<OsStr>) -> Command {
        let Some(setpriv) = setpriv() else { return Command::new(program) };
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Starts `command`; what it says goes to `log`, behind what is there.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The end of what it has said.
    pub fn words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `setpriv` is: searched for here, because servers may be given an empty environment.
pub fn setpriv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("setpriv")).find(|file| file.is_file())
}

/// Asks again and again until the answer is yes. Panics with `words` when it never is.
#[track_caller]
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool, words: impl FnOnce() -> String) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen:\n{}", words());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ports of this machine where nothing listens, each given once. They lie below those that the system gives to outgoing
/// connections (`net.ipv4.ip_local_port_range`), one of which could take a port before a server under test does.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side begin at different places.
    let first = u16::try_from(std::process::id() % 1000).unwrap() * 12;
    let candidates =
        std::iter::repeat_with(|| 20000 + first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 12000);
    candidates.take(12000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

/// Runs a program to its end. Panics with what it said when it fails.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything a program has said.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
