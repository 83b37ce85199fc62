//! The content of an answer in its three forms (RFC 9112 section 6): counted, in chunks, or up to the end.
//!
//! A proxy that disagrees with us about where an answer ends could slip in another one; a connection carries only one,
//! so what comes after it is ignored.

use std::io::{self, ErrorKind, Read};

use zeroize::Zeroizing;

use super::{LONGEST_HEAD, Response, invalid};

/// Reads once and appends; 0 at the end.
pub(super) fn more(stream: &mut impl Read, into: &mut Zeroizing<Vec<u8>>) -> io::Result<usize> {
    let mut chunk = Zeroizing::new([0; 8 * 1024]);
    loop {
        match stream.read(&mut chunk[..]) {
            Ok(count) => {
                extend(into, &chunk[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Appends, and wipes what is left behind where the buffer has to move.
fn extend(into: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    if into.capacity() - into.len() < bytes.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((into.len() + bytes.len()) * 2));
        larger.extend_from_slice(into);
        *into = larger;
    }
    into.extend_from_slice(bytes);
}

/// Reads the content that belongs to `response`, of which `pending` has come already; `most` bytes of it.
///
/// # Errors
/// When it is too long, ends too soon or breaks the rules.
pub(super) fn read(
    stream: &mut impl Read,
    mut pending: Zeroizing<Vec<u8>>,
    response: &Response,
    most: usize,
) -> io::Result<Zeroizing<Vec<u8>>> {
    if let Some(coding) = response.header("transfer-encoding") {
        if !coding.trim().eq_ignore_ascii_case("chunked") {
            return Err(invalid(format!("its answer comes in an unknown coding: {coding:?}")));
        }
        return chunks(stream, pending, most);
    }
    match counted(response)? {
        Some(length) if length > most => Err(too_much(most)),
        Some(length) => {
            while pending.len() < length {
                need(stream, &mut pending)?;
            }
            pending.truncate(length);
            Ok(pending)
        }
        None => {
            while more(stream, &mut pending)? > 0 {
                if pending.len() > most {
                    return Err(too_much(most));
                }
            }
            Ok(pending)
        }
    }
}

/// The value of `Content-Length`, of which there may be several that agree.
fn counted(response: &Response) -> io::Result<Option<usize>> {
    let mut length = None;
    for (_, value) in response.headers.iter().filter(|(name, _)| name == "content-length") {
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| value.parse::<usize>().unwrap_or(usize::MAX));
        if number.is_none() || length.is_some_and(|known| Some(known) != number) {
            return Err(invalid(format!("its answer has an impossible Content-Length: {value:?}")));
        }
        length = number;
    }
    Ok(length)
}

fn chunks(stream: &mut impl Read, mut pending: Zeroizing<Vec<u8>>, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    let mut at = 0;
    loop {
        let (start, size) = match httparse::parse_chunk_size(&pending[at..]) {
            Ok(httparse::Status::Complete((length, size))) => (at + length, size),
            Ok(httparse::Status::Partial) if pending.len() - at <= LONGEST_HEAD => {
                need(stream, &mut pending)?;
                continue;
            }
            _ => return Err(invalid("a chunk of its answer has no size")),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > most.saturating_sub(content.len()) {
            return Err(too_much(most));
        }
        if size == 0 {
            // Nothing in the trailer is of interest, and the connection ends here.
            return Ok(content);
        }
        let end = start + size;
        while pending.len() < end + 2 {
            need(stream, &mut pending)?;
        }
        if &pending[end..end + 2] != b"\r\n" {
            return Err(invalid("a chunk of its answer does not end where it should"));
        }
        extend(&mut content, &pending[start..end]);
        at = end + 2;
        // What has been taken goes before it piles up.
        if at > 64 * 1024 {
            pending.drain(..at);
            at = 0;
        }
    }
}

fn need(stream: &mut impl Read, pending: &mut Zeroizing<Vec<u8>>) -> io::Result<()> {
    if more(stream, pending)? == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn too_much(most: usize) -> io::Error {
    invalid(format!("its answer has more than {most} bytes"))
}
