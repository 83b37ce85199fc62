//! A machine on the way: one login there carries the connections to all nodes behind it.
//!
//! Each connection is a `direct-tcpip` channel (RFC 4254 section 7.2), pumped by one thread between the channel and one
//! end of a socket pair. Whoever connects gets the other end and never knows the difference.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use ssh2::{BlockDirections, Channel};

use super::link::{Link, Patience, timespec};
use super::trouble::{Trouble, code, session_code};

/// Bytes in flight in one direction of one connection.
const BUFFER: usize = 64 * 1024;

/// How long the pump sleeps when nothing happens; signs of life are due then.
const NAP: Duration = Duration::from_secs(5);

/// A login on a jump host.
#[derive(Debug)]
pub(super) struct Jump {
    requests: Mutex<Sender<Request>>,
    bell: UnixStream,
}

struct Request {
    host: String,
    port: u16,
    answer: SyncSender<Result<UnixStream, Trouble>>,
}

impl Jump {
    /// Takes over a connection to a jump host.
    pub(super) fn start(link: Link) -> io::Result<Self> {
        let (bell, wake) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (sender, receiver) = mpsc::channel();
        let pump = Pump { link, requests: receiver, wake, waiting: VecDeque::new(), pipes: Vec::new(), closed: false };
        thread::Builder::new().name("jump".to_owned()).spawn(move || pump.run())?;
        Ok(Self { requests: Mutex::new(sender), bell })
    }

    /// Connects to `host` as the jump host sees it.
    ///
    /// # Errors
    /// When the jump host is gone, cannot reach `host` in time, or refuses: [`Trouble::Refused`].
    pub(super) fn open(&self, host: &str, port: u16, patience: Patience<'_>) -> Result<UnixStream, Trouble> {
        let gone = || Trouble::Lost("the jump host is gone".to_owned());
        let (answer, answers) = mpsc::sync_channel(1);
        let request = Request { host: host.to_owned(), port, answer };
        let sender = self.requests.lock().map_err(|_| gone())?.clone();
        sender.send(request).map_err(|_| gone())?;
        self.ring();
        loop {
            match answers.recv_timeout(patience.nap()?) {
                Ok(answer) => return answer,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
    }

    /// Whether the login still stands.
    pub(super) fn is_alive(&self) -> bool {
        // The pump's end of the bell closes with it.
        !matches!(rustix::net::recv(&self.bell, &mut [0; 1], rustix::net::RecvFlags::PEEK), Ok((_, 0)))
    }

    fn ring(&self) {
        // A full pipe rings as well.
        let _ = (&self.bell).write(&[1]);
    }
}

impl Drop for Jump {
    fn drop(&mut self) {
        // The pump sees that nobody can ask any more.
        let (nobody, _) = mpsc::channel();
        if let Ok(sender) = self.requests.get_mut() {
            *sender = nobody;
        }
        self.ring();
    }
}

/// The thread's side.
struct Pump {
    link: Link,
    requests: Receiver<Request>,
    wake: UnixStream,
    waiting: VecDeque<Request>,
    pipes: Vec<Pipe>,
    /// Whether nobody can ask any more.
    closed: bool,
}

/// One connection to a machine behind.
struct Pipe {
    channel: Channel,
    near: UnixStream,
    to_far: Buffer,
    to_near: Buffer,
    far_told: bool,
    near_told: bool,
}

/// Bytes on their way, and whether more can come.
#[derive(Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Buffer {
    fn has_room(&self) -> bool {
        !self.ended && self.bytes.len() < BUFFER
    }

    fn is_spent(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }

    /// Takes in what `from` has; true when something moved.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut moved = false;
        let mut chunk = [0; 16 * 1024];
        while self.has_room() {
            match from.read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(true);
                }
                Ok(count) => {
                    self.bytes.extend(&chunk[..count]);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Gives to `to` what it takes; true when something moved.
    fn pour(&mut self, to: &mut impl Write) -> io::Result<bool> {
        let mut moved = false;
        while !self.bytes.is_empty() {
            match to.write(self.bytes.as_slices().0) {
                Ok(0) => break,
                Ok(count) => {
                    self.bytes.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }
}

impl Pump {
    fn run(mut self) {
        // Dropping the pipes tells everybody behind that the connection is gone.
        while self.turn().is_ok() {
            if self.closed && self.pipes.is_empty() && self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Moves everything that can move, then waits.
    fn turn(&mut self) -> Result<(), Trouble> {
        let mut moved = self.hear();
        moved |= self.open_next()?;
        let mut index = 0;
        while index < self.pipes.len() {
            match self.pipes[index].turn() {
                Ok(Some(progress)) => {
                    moved |= progress;
                    index += 1;
                }
                Err(Trouble::Lost(reason)) => return Err(Trouble::Lost(reason)),
                // Over, or this one channel failed.
                Ok(None) | Err(_) => {
                    self.pipes.swap_remove(index);
                    moved = true;
                }
            }
        }
        if moved { Ok(()) } else { self.wait() }
    }

    fn hear(&mut self) -> bool {
        let mut heard = false;
        loop {
            match self.requests.try_recv() {
                Ok(request) => {
                    self.waiting.push_back(request);
                    heard = true;
                }
                Err(TryRecvError::Empty) => return heard,
                Err(TryRecvError::Disconnected) => {
                    self.closed = true;
                    return heard;
                }
            }
        }
    }

    /// Works on the first request; libssh2 opens one channel of a session at a time.
    fn open_next(&mut self) -> Result<bool, Trouble> {
        let Some(request) = self.waiting.front() else { return Ok(false) };
        let opened = match self.link.session.channel_direct_tcpip(&request.host, request.port, None) {
            Err(error) if session_code(&error) == Some(code::AGAIN) => return Ok(false),
            answer => answer.map_err(Trouble::from),
        };
        let Some(request) = self.waiting.pop_front() else { return Ok(true) };
        let answer = match opened {
            Ok(channel) => UnixStream::pair()
                .and_then(|(near, theirs)| near.set_nonblocking(true).map(|()| (near, theirs)))
                .map(|(near, theirs)| {
                    self.pipes.push(Pipe::new(channel, near));
                    theirs
                })
                .map_err(Trouble::from),
            Err(Trouble::Refused(error)) => Err(Trouble::Refused(error)),
            Err(trouble) => return Err(trouble),
        };
        // Whoever asked may have lost patience.
        let _ = request.answer.send(answer);
        Ok(true)
    }

    fn wait(&mut self) -> Result<(), Trouble> {
        let sends = matches!(self.link.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both);
        let far = if sends { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(self.link.socket(), far), PollFd::new(&self.wake, PollFlags::IN)];
        for pipe in &self.pipes {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, pipe.to_far.has_room());
            flags.set(PollFlags::OUT, !pipe.to_near.bytes.is_empty());
            // Without flags a hang-up would still be reported, again and again.
            if !flags.is_empty() {
                fds.push(PollFd::new(&pipe.near, flags));
            }
        }
        match poll(&mut fds, Some(&timespec(NAP))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Trouble::Lost(errno.to_string())),
        }
        let heard = !fds[0].revents().is_empty();
        drop(fds);
        let mut rings = [0; 64];
        while matches!(self.wake.read(&mut rings), Ok(count) if count == rings.len()) {}
        if heard {
            self.link.begin();
        }
        self.link.tend()
    }
}

impl Pipe {
    fn new(channel: Channel, near: UnixStream) -> Self {
        Self { channel, near, to_far: Buffer::default(), to_near: Buffer::default(), far_told: false, near_told: false }
    }

    /// Moves what can move: `None` once both directions have ended.
    fn turn(&mut self) -> Result<Option<bool>, Trouble> {
        // Whoever is near may be gone: then nothing more can be delivered there.
        let mut moved = self.to_far.fill(&mut self.near).unwrap_or_else(|_| self.hang_up());
        moved |= self.to_far.pour(&mut self.channel)?;
        moved |= self.to_near.fill(&mut self.channel)?;
        moved |= self.to_near.pour(&mut self.near).unwrap_or_else(|_| self.hang_up());
        if self.to_far.is_spent() && !self.far_told {
            match self.channel.send_eof() {
                Err(error) if session_code(&error) == Some(code::AGAIN) => {}
                _ => self.far_told = true,
            }
        }
        if self.to_near.is_spent() && !self.near_told {
            let _ = self.near.shutdown(Shutdown::Write);
            self.near_told = true;
        }
        let over = self.far_told && self.near_told;
        Ok((!over).then_some(moved))
    }

    /// What was taken in still goes out: libssh2 would never forget a packet that is half sent, and nothing else could
    /// be sent on this login.
    fn hang_up(&mut self) -> bool {
        self.to_far.ended = true;
        self.to_near = Buffer { ended: true, ..Buffer::default() };
        true
    }
}
