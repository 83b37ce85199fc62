//! A connection to a server as some node sees it, and the one deadline that bounds everything said over it.
//!
//! Whoever speaks TLS or HTTP over a [`Wire`] does not know whether it is a socket of this machine or a channel of an SSH
//! connection. A wire by itself may wait for ever; [`Timed`] makes every read and write end by a fixed moment, so that a
//! silent or a dripping server cannot hold anybody up.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A connection that bytes go over in both directions. Dropping it closes it.
pub trait Wire: Read + Write + Send {
    /// The longest that one read or one write waits from now on; `None` waits for ever.
    ///
    /// # Errors
    /// When the system refuses, as it does a limit of zero.
    fn set_patience(&self, limit: Option<Duration>) -> io::Result<()>;
}

/// Why there is no connection, in words without the node's name. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWire {
    /// The node tried, and nothing takes connections there.
    #[error("{0}")]
    Closed(String),
    /// Everything else, as a node that is not reached: something may well listen there.
    #[error("{0}")]
    Unknown(String),
}

impl From<String> for NoWire {
    fn from(words: String) -> Self {
        Self::Unknown(words)
    }
}

impl From<NoWire> for String {
    fn from(reason: NoWire) -> Self {
        reason.to_string()
    }
}

impl fmt::Debug for dyn Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire for TcpStream {
    fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)?;
        self.set_write_timeout(limit)
    }
}

impl Wire for UnixStream {
    fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)?;
        self.set_write_timeout(limit)
    }
}

/// The moment at which waiting ends, and how long that was from the beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    limit: Duration,
}

impl Deadline {
    /// Begins to count now.
    pub(super) fn new(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// What is left.
    ///
    /// # Errors
    /// When nothing is, in words.
    pub(super) fn left(self) -> Result<Duration, String> {
        match self.at.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(self.words()),
        }
    }

    /// Says that nobody answered in time.
    pub(super) fn words(self) -> String {
        format!("no answer within {} s", self.limit.as_secs_f32())
    }
}

/// Connects from this machine to the first address of `host` that answers, all within `limit`.
///
/// # Errors
/// Why there is no connection; [`NoWire::Closed`] when all its addresses said so.
pub(super) fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, NoWire> {
    let deadline = Deadline::new(limit);
    let mut reason = "its name has no address".to_owned();
    let mut is_closed = None;
    for address in resolve(host, port, deadline)? {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => {
                // Every answer is awaited before the next question.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                let refuses = error.kind() == ErrorKind::ConnectionRefused;
                is_closed = Some(is_closed.unwrap_or(true) && refuses);
                reason = match error.kind() {
                    ErrorKind::ConnectionRefused => "nothing listens there: connection refused".to_owned(),
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => deadline.words(),
                    _ => format!("cannot connect: {}", super::reading::words(&error)),
                }
            }
        }
    }
    Err(if is_closed == Some(true) { NoWire::Closed(reason) } else { NoWire::Unknown(reason) })
}

/// Looks the name up on a thread of its own: the system's look-up cannot be bounded otherwise.
fn resolve(host: &str, port: u16, deadline: Deadline) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let wanted = host.to_owned();
    std::thread::spawn(move || {
        // Nobody may be listening any more.
        let _ = sender.send((wanted.as_str(), port).to_socket_addrs().map(Iterator::collect));
    });
    match receiver.recv_timeout(deadline.left()?) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => Err(format!("the name {host} is not known")),
        Err(_) => Err(format!("the name {host} was not looked up in time")),
    }
}

/// A wire of which every read and write ends by a deadline, and which remembers how the other side began.
pub(super) struct Timed {
    wire: Box<dyn Wire>,
    pub(super) deadline: Deadline,
    /// The first bytes that came, eight at most.
    pub(super) first: Vec<u8>,
}

impl Timed {
    pub(super) fn new(wire: Box<dyn Wire>, deadline: Deadline) -> Self {
        Self { wire, deadline, first: Vec::new() }
    }

    fn hurry(&self) -> io::Result<()> {
        let left = self.deadline.left().map_err(|_| io::Error::from(ErrorKind::TimedOut))?;
        self.wire.set_patience(Some(left))
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.hurry()?;
        let count = self.wire.read(buffer)?;
        let wanted = 8_usize.saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(&buffer[..wanted]);
        Ok(count)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.hurry()?;
        self.wire.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_wire_is_given_up_at_the_deadline_and_not_before() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut timed = Timed::new(Box::new(near), Deadline::new(Duration::from_millis(80)));
        let begun = Instant::now();
        let error = timed.read(&mut [0; 8]).expect_err("nothing comes");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert!(begun.elapsed() >= Duration::from_millis(80));
        // Afterwards not even what has come is read.
        (&far).write_all(b"late").expect("room");
        assert_eq!(timed.read(&mut [0; 8]).expect_err("over").kind(), ErrorKind::TimedOut);
        assert_eq!(timed.write(b"x").expect_err("over").kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_name_nobody_knows_is_told_from_a_port_nobody_listens_on() {
        let said = connect("kubepki.invalid", 1, Duration::from_secs(60)).expect_err("no such name").to_string();
        assert!(said.starts_with("the name kubepki.invalid"), "{said}");
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("bound").port()
        };
        let said = connect("127.0.0.1", port, Duration::from_secs(60)).expect_err("closed");
        assert_eq!(said, NoWire::Closed("nothing listens there: connection refused".to_owned()));
    }
}
