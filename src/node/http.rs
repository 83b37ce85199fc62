//! One HTTP/1.1 request over one connection to a server as a node sees it, with or without TLS.
//!
//! A connection carries a single request: what a server answers is then always the answer of the process that runs now,
//! with the certificates it has now. Time and size of an answer are bounded; nothing is followed, cached or retried.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use rustls::{ClientConnection, Stream};
use zeroize::Zeroizing;

use super::Node;
use super::probe::Endpoint;
use super::tls::{self, Tls, Verdict};
use super::wire::{Deadline, Timed};

mod body;

/// The longest head of an answer (bytes).
const LONGEST_HEAD: usize = 64 * 1024;

/// How long a server is listened to that hung up once without a word.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The most header lines of an answer.
const MOST_HEADERS: usize = 128;

/// What is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub method: &'a str,
    /// Path and query, from `/` on, already encoded.
    pub path: &'a str,
    /// Header lines beside those of the connection itself. Values may be secret.
    pub headers: &'a [(&'a str, &'a str)],
    /// Content, and its type.
    pub content: Option<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// A request without content.
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: &[], content: None }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// How much an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the connection, and again for request and answer. A login on the node has its own time.
    pub time: Duration,
    /// Content of the answer (bytes).
    pub size: usize,
}

impl Limits {
    /// That long, and up to 16 MiB.
    pub fn within(time: Duration) -> Self {
        Self { time, size: 16 * 1024 * 1024 }
    }
}

/// What was answered.
pub struct Response {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Content, wiped when dropped: it may be a secret.
    pub body: Zeroizing<Vec<u8>>,
    /// The certificates the server showed, leaf first, as DER; none without TLS.
    pub shown: Vec<Vec<u8>>,
}

impl Response {
    /// The value of a header line, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.status, self.body.len())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There was no connection: the node or the server is away. Nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The server's certificate is not trusted here. No request was sent.
    #[error("{0}")]
    Untrusted(String),
    /// The server refused the client certificate, or wants one.
    #[error("{0}")]
    Refused(String),
    /// There was a connection but no whole answer: too late, too long, cut off, or not HTTP. Whether the request had an
    /// effect is not known.
    #[error("{0}")]
    Broken(String),
}

/// Asks the server at `endpoint`, as `node` reaches it; over TLS when `tls` is there.
///
/// # Errors
/// When there is no whole answer. A status like 404 is an answer.
pub fn ask(
    node: &dyn Node,
    endpoint: &Endpoint,
    tls: Option<&Tls>,
    request: &Request<'_>,
    limits: Limits,
) -> Result<Response, Unanswered> {
    let head = head(endpoint, request).map_err(Unanswered::Broken)?;
    let connection = tls.map(|tls| tls.connection(&endpoint.host)).transpose().map_err(Unanswered::Broken)?;
    let wire = node
        .dial(&endpoint.host, endpoint.port, limits.time)
        .map_err(|reason| Unanswered::Unreachable(reason.into()))?;
    let mut wire = Timed::new(wire, Deadline::new(limits.time));
    let content = request.content.map_or(&[][..], |(_, content)| content);
    let Some(mut connection) = connection else {
        let answer = exchange(&mut wire, &head, content, request.method, limits.size);
        return answer.map_err(|error| Unanswered::Broken(plain_words(&error, wire.deadline)));
    };
    if let Err(error) = tls::shake(&mut connection, &mut wire) {
        return Err(sorted(&error, &wire, false));
    }
    let answer = exchange(&mut Stream::new(&mut connection, &mut wire), &head, content, request.method, limits.size);
    match answer {
        Ok(mut response) => {
            response.shown = shown(&connection);
            Ok(response)
        }
        Err(error) if is_end(&error) => {
            let reason = sorted(&error, &wire, true);
            drop(wire);
            Err(second_look(node, endpoint, tls, limits).unwrap_or(reason))
        }
        Err(error) => Err(sorted(&error, &wire, true)),
    }
}

/// Whether a server hung up at once because of our certificate, though nothing was heard of it.
///
/// In TLS 1.3 a server judges the client's certificate after the handshake is done for the client. One that refuses says so
/// and hangs up, but our request, on its way meanwhile, makes its machine cut the connection, and what it said may be lost.
/// A connection that asks for nothing hears it.
fn second_look(node: &dyn Node, endpoint: &Endpoint, tls: Option<&Tls>, limits: Limits) -> Option<Unanswered> {
    let mut connection = tls?.connection(&endpoint.host).ok()?;
    let wire = node.dial(&endpoint.host, endpoint.port, limits.time).ok()?;
    let mut wire = Timed::new(wire, Deadline::new(limits.time.min(LAST_WORDS)));
    let heard = tls::shake(&mut connection, &mut wire)
        .and_then(|()| Stream::new(&mut connection, &mut wire).read(&mut [0; 1]).map(drop));
    let error = heard.err().filter(|error| tls::verdict(error) == Verdict::Refused)?;
    Some(sorted(&error, &wire, true))
}

/// Whether a connection ended without a word.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn shown(connection: &ClientConnection) -> Vec<Vec<u8>> {
    connection.peer_certificates().unwrap_or_default().iter().map(|der| der.to_vec()).collect()
}

/// Request line and header lines.
fn head(endpoint: &Endpoint, request: &Request<'_>) -> Result<Zeroizing<Vec<u8>>, String> {
    let is_plain = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let is_target = request.path.starts_with('/') && request.path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_target || !request.headers.iter().all(|(name, value)| is_plain(name) && is_plain(value)) {
        return Err("the request has characters that HTTP does not carry".to_owned());
    }
    // Room from the start, so that no copy of a secret is left behind where it grew.
    let room = 512
        + request.path.len()
        + request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    let mut head = Zeroizing::new(Vec::with_capacity(room));
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
        head.extend_from_slice(b"\r\n");
    };
    line(&[request.method, " ", request.path, " HTTP/1.1"]);
    line(&["Host: ", &endpoint.to_string()]);
    line(&["User-Agent: kubepki/", env!("CARGO_PKG_VERSION")]);
    line(&["Connection: close"]);
    request.headers.iter().for_each(|(name, value)| line(&[name, ": ", value]));
    if let Some((kind, content)) = request.content {
        line(&["Content-Type: ", kind]);
        line(&["Content-Length: ", &content.len().to_string()]);
    }
    line(&[]);
    Ok(head)
}

/// Sends the request and reads the answer.
fn exchange(
    stream: &mut (impl Read + Write),
    head: &[u8],
    content: &[u8],
    method: &str,
    most: usize,
) -> io::Result<Response> {
    let sent = stream.write_all(head).and_then(|()| stream.write_all(content)).and_then(|()| stream.flush());
    // A server that hangs up while it is being written to may have said why.
    match (sent, receive(stream, method, most)) {
        (Ok(()), answer) => answer,
        (Err(_), Ok(answer)) => Ok(answer),
        (Err(_), Err(said)) if said.get_ref().is_some() => Err(said),
        (Err(error), Err(_)) => Err(error),
    }
}

/// Reads heads up to the final one, then the content.
fn receive(stream: &mut impl Read, method: &str, most: usize) -> io::Result<Response> {
    let mut pending = Zeroizing::new(Vec::new());
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(&pending) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if pending.len() > LONGEST_HEAD => {
                return Err(invalid("the head of its answer does not end"));
            }
            Ok(httparse::Status::Partial) => {
                if body::more(stream, &mut pending)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            Err(_) => return Err(invalid("it does not answer in HTTP")),
        };
        let status = parsed.code.unwrap_or_default();
        let headers: Vec<(String, String)> = parsed.headers.iter().map(owned).collect();
        pending.drain(..length);
        if (100..200).contains(&status) {
            continue;
        }
        let response = Response { status, headers, body: Zeroizing::default(), shown: Vec::new() };
        let has_content = method != "HEAD" && status != 204 && status != 304;
        let body = if has_content { body::read(stream, pending, &response, most)? } else { Zeroizing::default() };
        return Ok(Response { body, ..response });
    }
}

fn owned(header: &httparse::Header<'_>) -> (String, String) {
    (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
}

/// An answer that breaks the rules.
fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, Invalid(what.into()))
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Invalid(String);

fn plain_words(error: &io::Error, deadline: Deadline) -> String {
    if let Some(Invalid(what)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return what.clone();
    }
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => deadline.words(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "it closed the connection before its answer was whole".to_owned()
        }
        _ => format!("the connection broke: {}", super::reading::words(error)),
    }
}

/// The error of a TLS connection; `shaken` says that the handshake was done, as far as we know.
fn sorted(error: &io::Error, wire: &Timed, shaken: bool) -> Unanswered {
    let verdict = tls::verdict(error);
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let words = if shaken && !is_tls {
        plain_words(error, wire.deadline)
    } else {
        tls::words(error, &wire.first, wire.deadline)
    };
    match verdict {
        Verdict::Untrusted => Unanswered::Untrusted(words),
        Verdict::Refused => Unanswered::Refused(words),
        Verdict::Broken => Unanswered::Broken(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &[u8]) -> io::Result<Response> {
        // One byte at a time: every boundary is met.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(1);
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        receive(&mut Slow(bytes), "GET", 1000)
    }

    fn said(bytes: &[u8]) -> String {
        plain_words(&answer(bytes).expect_err("no whole answer"), Deadline::new(Duration::from_secs(1)))
    }

    #[test]
    fn every_way_to_end_an_answer_is_understood() {
        for (text, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloMORE", "hello"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n",
                "hello",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", ""),
            ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ] {
            let response = answer(text.as_bytes()).expect(text);
            assert_eq!(String::from_utf8_lossy(&response.body), body, "{text}");
            assert_ne!(response.status, 100);
        }
        let response = answer(b"HTTP/1.1 200 OK\r\nX-Name: a b\r\nContent-Length: 0\r\n\r\n").expect("an answer");
        assert_eq!(response.header("x-name"), Some("a b"));
    }

    #[test]
    fn half_an_answer_is_none() {
        let cut = "it closed the connection before its answer was whole";
        let texts: [&[u8]; 4] = [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        ];
        for text in texts {
            assert_eq!(said(text), cut, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn answers_without_measure_are_refused() {
        let long = |head: &str, body: usize| [head.as_bytes(), &vec![b'x'; body]].concat();
        assert!(said(&long("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", 0)).contains("more than 1000 bytes"));
        assert!(said(&long("HTTP/1.1 200 OK\r\n\r\n", 1001)).contains("more than 1000 bytes"));
        assert!(
            said(&long("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", 4095)).contains("more than")
        );
        assert!(said(&long("HTTP/1.1 200 OK\r\nA: ", LONGEST_HEAD + 1)).contains("does not end"));
        assert!(
            said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").contains("more than")
        );
        assert_eq!(said(b"SSH-2.0-OpenSSH\r\n"), "it does not answer in HTTP");
        assert!(said(b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n").contains("Content-Length"));
        assert!(
            said(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").contains("Content-Length")
        );
        assert!(said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").contains("chunk"));
    }

    #[test]
    fn a_request_cannot_be_split_in_two() {
        let endpoint: Endpoint = "[::1]:6443".parse().expect("an endpoint");
        let refused = |request: &Request<'_>| head(&endpoint, request).is_err();
        assert!(refused(&Request::get("/a b")));
        assert!(refused(&Request::get("/a\r\nX: y")));
        assert!(refused(&Request { headers: &[("X", "a\r\nY: b")], ..Request::get("/") }));
        let head =
            head(&endpoint, &Request { content: Some(("a/b", b"xyz")), ..Request::get("/a?b=c") }).expect("plain");
        let text = String::from_utf8(head.to_vec()).expect("ASCII");
        assert!(text.starts_with("GET /a?b=c HTTP/1.1\r\nHost: [::1]:6443\r\n"), "{text}");
        assert!(text.ends_with("Content-Type: a/b\r\nContent-Length: 3\r\n\r\n"), "{text}");
    }
}
