//! A wire that can be cut: after so many bytes in one direction, at once, or without anybody being told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards connections to a port of this machine.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    streams: Mutex<Vec<TcpStream>>,
    /// Bytes that have gone towards the server, and back.
    passed: [AtomicUsize; 2],
    /// After how many bytes in each direction everything is cut; 0 is never.
    limit: [AtomicUsize; 2],
    holds: AtomicBool,
    ended: AtomicBool,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer = 0,
    ToClient = 1,
}

impl Proxy {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else { continue };
                shared.streams.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                for (from, to, direction) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), Direction::ToServer),
                    (server, client, Direction::ToClient),
                ] {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.pump(from, to, direction));
                }
            }
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that have gone in a direction since [`Self::count_from_now`].
    pub fn passed(&self, direction: Direction) -> usize {
        self.state.passed[direction as usize].load(Ordering::SeqCst)
    }

    /// Begins to count anew, and cuts everything once after `limit` more bytes in `direction`.
    pub fn count_from_now(&self, direction: Direction, limit: Option<usize>) {
        self.state.passed[direction as usize].store(0, Ordering::SeqCst);
        // One more than the limit, because 0 is never.
        self.state.limit[direction as usize].store(limit.map_or(0, |limit| limit + 1), Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub fn cut_all(&self) {
        self.state.cut();
    }

    /// From now on nothing passes, but nothing is closed either.
    pub fn hold_everything(&self) {
        self.state.holds.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, direction: Direction) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            if self.holds.load(Ordering::SeqCst) {
                continue;
            }
            let limit = self.limit[direction as usize].load(Ordering::SeqCst);
            let before = self.passed[direction as usize].fetch_add(count, Ordering::SeqCst);
            let allowed = if limit == 0 { count } else { count.min((limit - 1).saturating_sub(before)) };
            if to.write_all(&buffer[..allowed]).is_err() {
                break;
            }
            if allowed < count {
                self.limit[direction as usize].store(0, Ordering::SeqCst);
                self.cut();
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}
