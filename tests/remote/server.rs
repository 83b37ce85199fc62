//! A real sshd with throw-away keys on a free port, in namespaces of its own: its accounts, its sudo rules and its
//! processes exist nowhere else, and end with the test, however that ends.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use kubepki::node::interrupt::Interrupt;
use kubepki::node::ssh::{ConfigFile, NobodyToAsk, SshAccess, SshNode, SshOptions};
use tempfile::TempDir;

/// Users of every server beside root: one that may become root without a password, one that has to give one, one that
/// may not at all, one that is root by another name.
pub const ACCOUNTS: [(&str, u32); 4] = [("ops", 6001), ("typist", 6002), ("guest", 6003), ("toor", 0)];

const SUDOERS: &str = "root ALL=(ALL:ALL) ALL\nops ALL=(ALL:ALL) NOPASSWD: ALL\ntypist ALL=(ALL:ALL) ALL\n";

/// The key with which tests log in, made once.
static CLIENT: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = make_key(folder.path(), "client", &["-t", "ed25519"]);
    (folder, path)
});

/// Makes a key pair without passphrase.
pub fn make_key(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new("ssh-keygen");
    command.arg("-q").arg("-f").arg(&path).args(arguments);
    if !arguments.contains(&"-N") {
        command.args(["-N", ""]);
    }
    assert!(command.status().unwrap().success());
    path
}

/// Whether servers can be run here; says so when not.
pub fn can_run(test: &str) -> bool {
    let missing = ["/usr/sbin/sshd", "/usr/bin/unshare", "/usr/bin/sudo", "/usr/bin/ssh-keygen"];
    let missing: Vec<&str> = missing.into_iter().filter(|program| !Path::new(program).exists()).collect();
    if !missing.is_empty() {
        crate::skip::skipped(test, &format!("not installed: {}", missing.join(" ")));
    }
    missing.is_empty() && crate::skip::root_only(test)
}

/// What a server shall be like.
#[derive(Clone)]
pub struct Setup {
    /// Types of host keys, as `ssh-keygen -t` names them.
    pub host_keys: Vec<&'static str>,
    /// More lines for sshd_config(5); `$FOLDER` is a folder of its own.
    pub config: String,
    /// Commands before sshd starts, in its namespaces. `$FOLDER` as well.
    pub prepare: String,
    /// More lines for sudoers(5).
    pub sudoers: String,
    /// How many ports it listens on.
    pub ports: usize,
    /// The address it listens on.
    pub address: String,
    /// What runs sshd, as `nsenter` with its options; nothing when it is started as it is. `$FOLDER` as well.
    pub launcher: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            host_keys: vec!["ed25519"],
            config: String::new(),
            prepare: String::new(),
            sudoers: String::new(),
            ports: 1,
            address: "127.0.0.1".to_owned(),
            launcher: String::new(),
        }
    }
}

/// A running sshd.
pub struct Server {
    pub folder: TempDir,
    pub ports: Vec<u16>,
    pub address: String,
    launcher: String,
    child: Child,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&Setup::default())
    }

    /// Starts a server and waits until it answers.
    pub fn with(setup: &Setup) -> Self {
        for _ in 0..5 {
            if let Some(server) = Self::attempt(setup) {
                return server;
            }
        }
        panic!("sshd finds no free port");
    }

    fn attempt(setup: &Setup) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("kubepki-sshd-").tempdir_in("/run").unwrap();
        let at = |name: &str| folder.path().join(name);
        // Below /run, because sshd roots nobody in a folder below one that others may write to. Others have to get
        // through to their homes.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ports: Vec<u16> = {
            let free: Vec<TcpListener> = (0..setup.ports).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            free.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
        };
        let mut config = format!(
            "AuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nLogLevel DEBUG1\nUseDNS no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 500\n\
             PrintMotd no\n",
            at("authorized_keys").display(),
        );
        for port in &ports {
            writeln!(config, "ListenAddress {}:{port}", setup.address).unwrap();
        }
        for kind in &setup.host_keys {
            let key = make_key(folder.path(), &format!("host_{kind}"), &["-t", kind]);
            writeln!(config, "HostKey {}", key.display()).unwrap();
        }
        config.push_str(&setup.config.replace("$FOLDER", &folder.path().display().to_string()));
        fs::write(at("sshd_config"), config + "\n").unwrap();
        fs::copy(CLIENT.1.with_extension("pub"), at("authorized_keys")).unwrap();
        accounts(folder.path(), &setup.sudoers);
        let script = format!(
            "exec 2>$FOLDER/trouble; set -ex; for file in passwd shadow group sudoers; do mount --bind $FOLDER/$file /etc/$file; done\n\
             mount -t tmpfs tmpfs /etc/sudoers.d; mkdir -p /run/sshd; hostname far-away\n{}\n\
             ({} /usr/sbin/sshd -D -e -f $FOLDER/sshd_config 2>$FOLDER/log; touch $FOLDER/ended) & cat >/dev/null",
            setup.prepare, setup.launcher
        );
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--uts", "/bin/sh", "-c", &script])
            .env("FOLDER", folder.path())
            // The system's own environment, not that of a test run.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let launcher = setup.launcher.replace("$FOLDER", &folder.path().display().to_string());
        let mut server = Self { folder, ports, address: setup.address.clone(), launcher, child };
        let is_up = server.is_up();
        // Somebody else may have taken a port that was free a moment ago; everything else is no accident.
        let trouble = fs::read_to_string(server.at("trouble")).unwrap_or_default();
        assert!(
            is_up || server.log().contains("Address already in use"),
            "sshd does not start: {}\n{trouble}",
            server.log()
        );
        is_up.then_some(server)
    }

    fn is_up(&mut self) -> bool {
        let limit = Instant::now() + Duration::from_secs(60);
        while Instant::now() < limit {
            if self.child.try_wait().unwrap().is_some() || self.at("ended").exists() {
                return false;
            }
            if self.log().contains("Server listening") && self.answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn answers(&self) -> bool {
        TcpStream::connect((self.address.as_str(), self.port())).is_ok()
    }

    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What sshd has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.at("log")).unwrap_or_default()).into_owned()
    }

    /// The line of known_hosts for a host key.
    pub fn host_line(&self, kind: &str) -> String {
        let public = fs::read_to_string(self.at(&format!("host_{kind}.pub"))).unwrap();
        let mut words = public.split(' ');
        format!("[{}]:{} {} {}\n", self.address, self.port(), words.next().unwrap(), words.next().unwrap().trim())
    }

    /// How to log in, with all host keys known and nobody to ask.
    pub fn options(&self, user: &str) -> SshOptions {
        let known = self.at("known_hosts");
        if !known.exists() {
            let mut lines = String::new();
            for entry in fs::read_dir(self.folder.path()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let Some(kind) = name.strip_prefix("host_").and_then(|name| name.strip_suffix(".pub")) else {
                    continue;
                };
                let line = self.host_line(kind);
                for port in &self.ports {
                    lines.push_str(&line.replace(&format!(":{} ", self.port()), &format!(":{port} ")));
                }
            }
            fs::write(&known, lines).unwrap();
        }
        SshOptions {
            port: Some(self.port()),
            user: Some(user.to_owned()),
            private_key_file: Some(CLIENT.1.clone()),
            known_hosts_file: Some(known),
            config: ConfigFile::Nothing,
            ..SshOptions::new(&*self.address)
        }
    }

    /// Runs a program among the server's own processes.
    pub fn enter(&self, command: &[&str]) -> std::process::Output {
        let mut entered = Command::new("nsenter");
        entered.args(["-m", "-p", "-t", &self.first()]).args(self.launcher.split_whitespace()).args(command);
        entered.env_remove("LD_LIBRARY_PATH");
        entered.output().unwrap()
    }

    pub fn node(&self, user: &str) -> SshNode {
        SshNode::new("cp1", self.options(user), &nobody())
    }

    /// Ends sshd, every login and what runs in them, as a crash of all of it would. The namespaces stay: see
    /// [`Server::revive`].
    pub fn cut(&self) {
        // The first process there, and the one that waits for its input to end, keep the namespaces.
        let keeps = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "cat");
        for pid in descendants(&self.first()).into_iter().filter(|pid| !keeps(pid)) {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            // It may have ended by itself.
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        // A signal takes its time.
        while self.answers() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts sshd again after [`Server::cut`], with the same keys on the same ports.
    pub fn revive(&self) {
        let (config, log) = (self.at("sshd_config"), self.at("log"));
        let limit = Instant::now() + Duration::from_secs(60);
        while !self.answers() {
            assert!(Instant::now() < limit, "sshd does not come back: {}", self.log());
            let words = ["/usr/sbin/sshd", "-f", config.to_str().unwrap(), "-E", log.to_str().unwrap()];
            self.enter(&words);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The first process of the namespaces, as this machine numbers it: the only child of the one that made them.
    pub fn first(&self) -> String {
        children(&self.child.id().to_string()).concat()
    }

    /// Ends the server and everything it started, as a power cut would.
    pub fn kill(&mut self) {
        // The first process of the namespace waits for its input to end.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes that `pid` has started and not yet waited for.
pub fn children(pid: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Everything below `pid`, itself left out.
fn descendants(pid: &str) -> Vec<String> {
    children(pid).into_iter().flat_map(|child| [vec![child.clone()], descendants(&child)].concat()).collect()
}

/// Connections without anybody to ask.
pub fn nobody() -> Arc<SshAccess> {
    SshAccess::new(NobodyToAsk, Interrupt::default())
}

/// The private key of the tests.
pub fn client_key() -> &'static Path {
    &CLIENT.1
}

/// Accounts, groups and sudo rules as files that are mounted over the real ones.
fn accounts(folder: &Path, sudoers: &str) {
    // Root with a plain shell and an empty home: what this machine's root has in .bashrc would run for every command, and
    // a hundred sessions of a slow one bring the machine down.
    let home = folder.join("home-of-root");
    fs::create_dir(&home).unwrap();
    let mut passwd = format!("root:x:0:0:root:{}:/bin/sh\n", home.display());
    let real = fs::read_to_string("/etc/passwd").unwrap();
    for line in real.lines().filter(|line| !line.starts_with("root:")) {
        writeln!(passwd, "{line}").unwrap();
    }
    let mut shadow = fs::read_to_string("/etc/shadow").unwrap();
    let mut group = fs::read_to_string("/etc/group").unwrap();
    for (name, uid) in ACCOUNTS {
        let home = folder.join(name);
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
        // The shell of one greets everybody, scripts too.
        let shell = if name == "ops" { "/bin/bash" } else { "/bin/sh" };
        fs::write(home.join(".bashrc"), "echo 'Welcome to this machine!'; printf 'no line end' >&2; printf x\n")
            .unwrap();
        writeln!(passwd, "{name}:x:{uid}:{uid}::{}:{shell}", home.display()).unwrap();
        writeln!(shadow, "{name}:*:19000:0:99999:7:::").unwrap();
        writeln!(group, "{name}:x:{uid}:").unwrap();
    }
    let sudoers = format!("{SUDOERS}{sudoers}");
    for (name, content, mode) in
        [("passwd", passwd, 0o644), ("shadow", shadow, 0o640), ("group", group, 0o644), ("sudoers", sudoers, 0o440)]
    {
        let mut file = fs::File::create(folder.join(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
    }
}
