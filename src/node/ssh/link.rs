//! One connection: a session that never blocks, and the socket under it to wait on and to cut.
//!
//! libssh2 is asked in non-blocking mode only. A blocking call holds the session's lock, cannot watch two streams at
//! once, and after a deadline makes even the closing wait.

use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel, Session};

use super::jump::Jump;
use super::trouble::{Trouble, code, session_code};
use crate::node::interrupt::Interrupt;

/// How often a wait looks whether somebody wants to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// The bytes of a connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    /// One end of a pair; a jump host or a program has the other.
    Pair(UnixStream),
}

impl Socket {
    pub(super) fn try_clone(&self) -> std::io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Pair(stream) => stream.try_clone().map(Self::Pair),
        }
    }

    pub(super) fn set_nonblocking(&self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Pair(stream) => stream.set_nonblocking(true),
        }
    }

    fn cut(&self) {
        // Already gone is fine.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Pair(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Pair(stream) => stream.as_fd(),
        }
    }
}

impl std::os::fd::AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Pair(stream) => stream.as_raw_fd(),
        }
    }
}

/// What a connection runs over, kept as long as the connection.
#[derive(Debug)]
pub(super) enum Way {
    Direct,
    Jump(#[allow(dead_code, reason = "held, not read")] Arc<Jump>),
    Program(std::process::Child),
}

/// Until when something may take, and what may stop it before.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    pub(super) limit: Duration,
    pub(super) until: Instant,
    pub(super) interrupt: Option<&'a Interrupt>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(limit: Duration, interrupt: Option<&'a Interrupt>) -> Self {
        Self { limit, until: Instant::now() + limit, interrupt }
    }

    /// What is left of it.
    ///
    /// # Errors
    /// When nothing is, or somebody asked for a stop.
    pub(super) fn rest(&self) -> Result<Duration, Trouble> {
        if self.interrupt.is_some_and(Interrupt::is_asked) {
            return Err(Trouble::Interrupted);
        }
        let rest = self.until.saturating_duration_since(Instant::now());
        if rest.is_zero() { Err(Trouble::Late(self.limit)) } else { Ok(rest) }
    }

    /// The longest that may be slept without looking around.
    pub(super) fn nap(&self) -> Result<Duration, Trouble> {
        let rest = self.rest()?;
        Ok(if self.interrupt.is_some() { rest.min(GLANCE) } else { rest })
    }
}

/// A command that runs on in a channel of its own.
pub(super) struct Held {
    pub(super) token: String,
    pub(super) channel: Channel,
}

/// One connection.
pub(super) struct Link {
    /// Locks held through this connection; gone with it.
    pub(super) held: Vec<Held>,
    pub(super) session: Session,
    socket: Socket,
    way: Way,
    keepalive: Duration,
    /// When something last arrived, and was last sent for its own sake.
    heard: Instant,
    sent: Instant,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Link {
    /// A session over `socket`, before its handshake.
    pub(super) fn new(socket: Socket, way: Way, keepalive: Duration) -> Result<Self, Trouble> {
        socket.set_nonblocking()?;
        let mut session = Session::new()?;
        session.set_blocking(false);
        session.set_tcp_stream(socket.try_clone()?);
        // libssh2 counts in seconds, and takes 1 for 2.
        session.set_keepalive(true, u32::try_from(keepalive.as_secs()).unwrap_or(60).max(2));
        let now = Instant::now();
        Ok(Self { held: Vec::new(), session, socket, way, keepalive, heard: now, sent: now })
    }

    /// Says that something begins: silence before it means nothing.
    pub(super) fn begin(&mut self) {
        self.heard = Instant::now();
    }

    /// Repeats `step` until it no longer says "again".
    pub(super) fn drive<T>(
        &mut self,
        patience: Patience<'_>,
        mut step: impl FnMut(&mut Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, Trouble> {
        loop {
            match step(&mut self.session) {
                Err(error) if session_code(&error) == Some(code::AGAIN) => self.wait(patience)?,
                answer => return answer.map_err(Trouble::from),
            }
        }
    }

    /// Waits until the socket has something for libssh2, or room for what it wants to send.
    pub(super) fn wait(&mut self, patience: Patience<'_>) -> Result<(), Trouble> {
        let nap = patience.nap()?.min(self.keepalive);
        let sends = matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both);
        let flags = if sends { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        match poll(&mut [PollFd::new(&self.socket, flags)], Some(&timespec(nap))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => self.heard = Instant::now(),
            Err(errno) => return Err(Trouble::Lost(errno.to_string())),
        }
        self.tend()
    }

    /// Sends a sign of life when it is time for one.
    pub(super) fn tend(&mut self) -> Result<(), Trouble> {
        // In the middle of a key exchange it would be one message too many (RFC 4253 section 7.1).
        if self.sent.elapsed() < self.keepalive || !self.session.authenticated() {
            return Ok(());
        }
        // The other side answers these: three of them unanswered, and nobody is there.
        if self.heard.elapsed() > self.keepalive * 4 {
            return Err(Trouble::Lost(format!(
                "nothing was heard for {}",
                super::trouble::seconds(self.keepalive * 4)
            )));
        }
        // libssh2 forgets a sign of life that goes out only in part, and nothing else could be sent after it. With room
        // for more than a packet that cannot happen; without, the other side hears enough of us anyway.
        if !self.has_room() {
            return Ok(());
        }
        self.sent = Instant::now();
        match self.session.keepalive_send() {
            Err(error) if session_code(&error) != Some(code::AGAIN) => return Err(error.into()),
            _ => {}
        }
        for held in &mut self.held {
            // A lock that is lost shows when something is written under it.
            let _ = std::io::Write::write(&mut held.channel, b"\n");
        }
        Ok(())
    }

    /// Whether the socket takes a packet, and libssh2 has none half sent.
    fn has_room(&self) -> bool {
        let pending = matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !pending && matches!(poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&now)), Ok(count) if count > 0)
    }

    /// The address at the other end, where no other machine is in between.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        match (&self.socket, &self.way) {
            (Socket::Tcp(stream), Way::Direct) => stream.peer_addr().ok().map(|address| address.ip()),
            _ => None,
        }
    }

    /// The socket, for waits that watch other things too.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Ends the connection at once. Anything gentler would wait for the other side.
    pub(super) fn cut(&self) {
        self.socket.cut();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.held.is_empty() {
            // One packet, if there is room for it; the other side logs a proper end.
            let _ = self.session.disconnect(None, "done", None);
        }
        self.cut();
        if let Way::Program(child) = &mut self.way {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// For the kernel.
pub(super) fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(span.subsec_nanos()) }
}
