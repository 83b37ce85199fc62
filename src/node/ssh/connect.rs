//! From options to a connection that is logged in: the way there, key exchange, host key, login.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::access::SshAccess;
use super::authentication::{Login, Tries};
use super::config::{Route, Target, known_name};
use super::host_key;
use super::link::{Link, Patience, Socket, Way};
use super::options::{Hop, SshOptions};
use super::trouble::{Trouble, code, seconds};
use crate::error::{ExitCode, Failure};
use crate::node::reading::words;

/// Servers drop connections at random while too many are logging in (MaxStartups of sshd_config(5)).
const ATTEMPTS: u32 = 4;

/// Connects and logs in. `on_the_way` are the jump hosts that wait for this connection.
///
/// # Errors
/// When the machine cannot be reached, is not the one it should be, or does not let us in.
pub(super) fn connect(
    node: &str,
    options: &SshOptions,
    access: &SshAccess,
    on_the_way: &[Hop],
) -> anyhow::Result<Link> {
    let target = Target::resolve(options, access.settings())?;
    let mut tries = Tries::new(&target, options.private_key_file.as_deref());
    loop {
        let mut link = shake_hands(node, &target, options, access, on_the_way)?;
        host_key::verify(node, &link.session, &target, access)?;
        let patience = Patience::new(options.connect_timeout, Some(access.interrupt()));
        match tries.log_in(&mut link, &target, access, patience) {
            Ok(Login::Done) => return Ok(link),
            // The server counts attempts and hangs up; those that are left go through a new connection.
            Ok(Login::HungUp) if tries.may_reconnect() => {}
            Ok(Login::HungUp | Login::Refused) => return Err(tries.refusal(node, &mut link, &target, patience)),
            Err(trouble) => return Err(failed(node, &target, "log in to", &trouble)),
        }
    }
}

/// The way there and the key exchange.
fn shake_hands(
    node: &str,
    target: &Target,
    options: &SshOptions,
    access: &SshAccess,
    on_the_way: &[Hop],
) -> anyhow::Result<Link> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let patience = Patience::new(options.connect_timeout, Some(access.interrupt()));
        let (socket, way) = open(node, target, options, access, on_the_way, patience)?;
        // Looking a name up and connecting have had their time.
        let patience = Patience::new(options.connect_timeout, Some(access.interrupt()));
        let shaken = Link::new(socket, way, options.keepalive).and_then(|mut link| {
            host_key::prefer_known_types(&link.session, target)?;
            link.drive(patience, |session| session.handshake())?;
            Ok(link)
        });
        match shaken {
            Ok(link) => return Ok(link),
            Err(trouble) if attempt < ATTEMPTS && is_dropped(&trouble) => {
                // Somewhere else in the queue next time, and not all of a fleet at once.
                thread::sleep(Duration::from_millis(u64::from(100 * attempt + std::process::id() % 97)));
            }
            Err(trouble) => return Err(failed(node, target, "talk SSH with", &trouble)),
        }
    }
}

/// Whether the server hung up before it said who it is.
fn is_dropped(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Lost(_)) || trouble.code() == Some(code::BANNER)
}

fn open(
    node: &str,
    target: &Target,
    options: &SshOptions,
    access: &SshAccess,
    on_the_way: &[Hop],
    patience: Patience<'_>,
) -> anyhow::Result<(Socket, Way)> {
    match &target.route {
        Route::Direct => {
            let stream = tcp(&target.host_name, target.port, patience)
                .map_err(|trouble| failed(node, target, "connect to", &trouble))?;
            Ok((Socket::Tcp(stream), Way::Direct))
        }
        Route::Jump(hops) => {
            let jump = access.jump(hops, options, on_the_way)?;
            // The login on the jump host has its own time.
            let patience = Patience::new(options.connect_timeout, Some(access.interrupt()));
            let stream = jump
                .open(&target.host_name, target.port, patience)
                .map_err(|trouble| match trouble {
                    Trouble::Refused(_) => {
                        let place = known_name(&target.host_name, target.port);
                        Trouble::Lost(format!("the jump host cannot reach {place}, or does not allow it"))
                    }
                    other => other,
                })
                .map_err(|trouble| failed(node, target, "connect to", &trouble))?;
            Ok((Socket::Pair(stream), Way::Jump(jump)))
        }
        Route::Command(command) => program(&target.expand(command, &options.host)).map_err(|error| {
            Failure::failed(format!("{node}: cannot run the ProxyCommand {command:?}: {}", words(&error))).into()
        }),
    }
}

/// Looks the name up and connects. Neither can be interrupted, so a thread does it that may be left behind.
fn tcp(host: &str, port: u16, patience: Patience<'_>) -> Result<TcpStream, Trouble> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (host, limit) = (host.to_owned(), patience.rest()?);
    thread::spawn(move || sender.send(first_answer(&host, port, limit)));
    loop {
        match receiver.recv_timeout(patience.nap()?) {
            Ok(Ok(stream)) => {
                // Every answer is awaited before the next question.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(reason)) => return Err(Trouble::Lost(reason)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Trouble::Lost("no answer".to_owned())),
        }
    }
}

/// Connects to the first of a host's addresses that answers.
fn first_answer(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|_| "there is no such host".to_owned())?.collect();
    let each = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut reason = "there is no such host".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, each) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => reason = format!("no answer within {}", seconds(each)),
            Err(error) => reason = words(&error),
        }
    }
    Err(reason)
}

/// A program whose standard input and output are the connection.
fn program(command: &str) -> std::io::Result<(Socket, Way)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (input, output) = (OwnedFd::from(theirs.try_clone()?), OwnedFd::from(theirs));
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("exec {command}")])
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .spawn()?;
    Ok((Socket::Pair(ours), Way::Program(child)))
}

/// `cannot …` with what is known about why.
pub(super) fn failed(node: &str, target: &Target, what: &str, trouble: &Trouble) -> anyhow::Error {
    let place = format!("{}@{}", target.user, known_name(&target.host_name, target.port));
    if matches!(trouble, Trouble::Interrupted) {
        return Failure::new(ExitCode::Interrupted, format!("{node}: interrupted")).into();
    }
    let reason = match trouble {
        Trouble::Lost(reason) => reason.clone(),
        Trouble::Refused(_) if trouble.code() == Some(code::BANNER) => "it is no SSH server".to_owned(),
        Trouble::Refused(error) if trouble.code().is_some_and(|code| code::KEY_EXCHANGE.contains(&code)) => {
            format!("no common ground in the key exchange ({})", error.message())
        }
        other => other.to_string(),
    };
    Failure::failed(format!("{node}: cannot {what} {place}: {reason}"))
        .hint(format!("try `ssh -v -p {} {}@{}`", target.port, target.user, target.host_name))
        .into()
}
