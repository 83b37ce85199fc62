//! A copy of everything that etcd keeps, as `etcdctl snapshot save` takes it, for the day on which going back needs more than
//! files.
//!
//! It comes over etcd's own gateway (`/v3/maintenance/snapshot`, etcd api/etcdserverpb/rpc.proto) as a stream of JSON
//! objects with base64 in them. Its last 32 bytes are the SHA-256 of all before.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::NoAnswer;
use super::etcd::Etcd;
use crate::node::http::{Limits, Request};

/// The SHA-256 at its end (bytes).
const SEAL: usize = 32;

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(default, borrow)]
    result: Chunk<'a>,
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Default, Deserialize)]
struct Chunk<'a> {
    /// Part of the answer, which is wiped as a whole.
    #[serde(default, borrow)]
    blob: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    message: String,
}

impl Etcd<'_> {
    /// The whole database of this member. `limits` are for the whole answer, which is a third larger than the database.
    ///
    /// # Errors
    /// When it is not given out whole.
    pub fn snapshot(&self, limits: Limits) -> Result<Zeroizing<Vec<u8>>, NoAnswer> {
        let content = Some(("application/json", b"{}".as_slice()));
        let request = Request { method: "POST", content, ..Request::get("/v3/maintenance/snapshot") };
        let answer = self.ask_within(&request, limits)?;
        if answer.status != 200 {
            return Err(super::api_server::refusal(&answer));
        }
        whole(&answer.body).map_err(NoAnswer::Malformed)
    }
}

fn whole(stream: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    // No room is made anew half-way: what would be left behind is secret.
    let mut database = Zeroizing::new(Vec::with_capacity(stream.len() / 4 * 3 + SEAL));
    for part in serde_json::Deserializer::from_slice(stream).into_iter::<Part<'_>>() {
        let part = part.map_err(|error| error.to_string())?;
        if let Some(problem) = part.error {
            return Err(problem.message);
        }
        STANDARD.decode_vec(part.result.blob.as_bytes(), &mut database).map_err(|error| error.to_string())?;
    }
    let (content, seal) = database.split_at_checked(database.len().saturating_sub(SEAL)).unwrap_or_default();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    if content.is_empty() || sum.as_ref() != seal {
        return Err("the database came incomplete".to_owned());
    }
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(parts: &[&[u8]]) -> String {
        let lines = parts.iter().map(|part| serde_json::json!({"result": {"blob": STANDARD.encode(part)}}).to_string());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_parts_are_put_together_and_their_sum_is_checked() {
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a database");
        let whole = super::whole(stream(&[b"a data", b"base", sum.as_ref()]).as_bytes()).expect("whole");
        assert_eq!(&whole[..10], b"a database");
        for damaged in [stream(&[b"a data", sum.as_ref()]), stream(&[]), String::new(), "{".to_owned()] {
            assert!(super::whole(damaged.as_bytes()).is_err(), "{damaged}");
        }
        let refused = super::whole(b"{\"error\":{\"message\":\"no leader\"}}").expect_err("refused");
        assert_eq!(refused, "no leader");
    }
}
