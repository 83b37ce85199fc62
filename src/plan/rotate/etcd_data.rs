//! Which nodes and members a cluster has, read from the data file of its etcd (`member/snap/db`).
//!
//! The file is a bbolt database (go.etcd.io/bbolt `page.go`, `bucket.go`): pages, of which the newer of two meta pages
//! names the root. Only what is asked for is decoded, every offset is checked, and a file that cannot be followed is no
//! answer rather than an error: a running etcd may be writing it.

use std::collections::BTreeSet;

/// Registered nodes and etcd members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Names of the `Node` objects.
    pub nodes: Vec<String>,
    /// Names of the etcd members, or their ids where they have none.
    pub members: Vec<String>,
}

const MAGIC: u32 = 0xED0C_DAED;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
/// Length of a page's header, and of the elements behind it.
const HEADER: usize = 16;
/// Where kube-apiserver keeps nodes.
const NODES: &[u8] = b"/registry/minions/";
/// Deeper trees do not occur.
const DEEPEST: usize = 32;

/// Reads the names out of the bytes of a data file; `None` when it is not one or cannot be followed.
pub fn read(bytes: &[u8]) -> Option<Found> {
    let file = File::open(bytes)?;
    let mut found = Found::default();
    let mut nodes = BTreeSet::new();
    file.bucket(b"key", &mut |revision, value| {
        let Some(name) = key_of(value).and_then(|key| key.strip_prefix(NODES)) else { return };
        let Ok(name) = std::str::from_utf8(name) else { return };
        // A revision is 17 bytes; one more marks that the key was deleted (etcd: `mvcc/revision.go`).
        if revision.len() > 17 {
            nodes.remove(name);
        } else {
            nodes.insert(name.to_owned());
        }
    })?;
    found.nodes = nodes.into_iter().collect();
    file.bucket(b"members", &mut |id, value| {
        let name = serde_json::from_slice::<serde_json::Value>(value)
            .ok()
            .and_then(|member| member.get("name")?.as_str().map(str::to_owned))
            .filter(|name| !name.is_empty());
        found.members.push(name.unwrap_or_else(|| String::from_utf8_lossy(id).into_owned()));
    })?;
    found.members.sort();
    Some(found)
}

/// The first field of an `mvccpb.KeyValue`, its key.
fn key_of(value: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = value.split_first()?;
    let (&length, rest) = rest.split_first()?;
    // Names of nodes are short; a longer key has a length of two bytes and is not one of theirs.
    (tag == 0x0a && length < 0x80).then(|| rest.get(..usize::from(length))).flatten()
}

/// Bytes of a database that are still to be seen. In a sound one every page hangs in one place: whoever sees more bytes
/// than there are goes round in circles.
struct Unseen(usize);

impl Unseen {
    fn take(&mut self, key: usize, value: usize) -> Option<()> {
        self.0 = self.0.checked_sub(HEADER.checked_add(key)?.checked_add(value)?)?;
        Some(())
    }
}

/// A database file of which the newest consistent state is read.
struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    root: u64,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let first = meta(bytes)?;
        let second = bytes.get(first.page_size..).and_then(meta);
        let newest = match second {
            Some(second) if second.transaction > first.transaction => second,
            _ => first,
        };
        Some(Self { bytes, page_size: newest.page_size, root: newest.root })
    }

    /// Hands every key and value of a bucket at the top to `each`, in order. A bucket that is not there has none.
    fn bucket(&self, name: &[u8], each: &mut dyn FnMut(&'a [u8], &'a [u8])) -> Option<()> {
        let mut root = None;
        let mut unseen = Unseen(self.bytes.len());
        self.walk(self.root, 0, &mut unseen, &mut |key, value| {
            if key == name {
                root = Some(value);
            }
        })?;
        let Some(value) = root else { return Some(()) };
        match u64_at(value, 0)? {
            // A small bucket lies inside its own entry, as a page without a place in the file.
            0 => self.page(value.get(HEADER..)?, 0, &mut unseen, each),
            page => self.walk(page, 0, &mut unseen, each),
        }
    }

    fn walk(
        &self,
        page: u64,
        depth: usize,
        unseen: &mut Unseen,
        each: &mut dyn FnMut(&'a [u8], &'a [u8]),
    ) -> Option<()> {
        let start = usize::try_from(page).ok()?.checked_mul(self.page_size)?;
        self.page(self.bytes.get(start..)?, depth, unseen, each)
    }

    fn page(
        &self,
        page: &'a [u8],
        depth: usize,
        unseen: &mut Unseen,
        each: &mut dyn FnMut(&'a [u8], &'a [u8]),
    ) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let (flags, count) = (u16_at(page, 8)?, usize::from(u16_at(page, 10)?));
        for index in 0..count {
            let element = page.get(HEADER + index * HEADER..)?;
            if flags & LEAF != 0 {
                let (at, key, value) = (size_at(element, 4)?, size_at(element, 8)?, size_at(element, 12)?);
                unseen.take(key, value)?;
                let end = at.checked_add(key)?;
                each(element.get(at..end)?, element.get(end..end.checked_add(value)?)?);
            } else if flags & BRANCH != 0 {
                unseen.take(0, 0)?;
                self.walk(u64_at(element, 8)?, depth + 1, unseen, each)?;
            } else {
                return None;
            }
        }
        Some(())
    }
}

struct Meta {
    page_size: usize,
    root: u64,
    transaction: u64,
}

fn meta(page: &[u8]) -> Option<Meta> {
    let is_meta = u16_at(page, 8)? & META != 0 && u32_at(page, 16)? == MAGIC;
    let page_size = size_at(page, 24)?;
    (is_meta && page_size >= 512).then_some(())?;
    Some(Meta { page_size, root: u64_at(page, 32)?, transaction: u64_at(page, 64)? })
}

// bbolt writes numbers as the machine has them; Kubernetes runs on little-endian machines.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_no_database_is_no_answer() {
        assert_eq!(read(b""), None);
        assert_eq!(read(&[0; 8192]), None);
        assert_eq!(read(b"-----BEGIN CERTIFICATE-----"), None);
    }

    #[test]
    fn pages_that_hang_in_more_than_one_place_are_no_answer() {
        // A meta page with root 2, then branches that lead to the next page twice each, and a leaf without entries.
        let last = DEEPEST + 2;
        let mut file = vec![0; (last + 1) * 512];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(8, &META.to_le_bytes());
        put(16, &MAGIC.to_le_bytes());
        put(24, &512_u32.to_le_bytes());
        put(32, &2_u64.to_le_bytes());
        for page in 2..last {
            put(page * 512 + 8, &[&BRANCH.to_le_bytes()[..], &2_u16.to_le_bytes()].concat());
            for element in 1..=2 {
                put(page * 512 + element * HEADER + 8, &(page as u64 + 1).to_le_bytes());
            }
        }
        put(last * 512 + 8, &LEAF.to_le_bytes());
        assert_eq!(read(&file), None);
    }

    #[test]
    fn the_key_of_a_stored_object_is_its_first_field() {
        assert_eq!(key_of(b"\x0a\x03abc\x10\x01"), Some(&b"abc"[..]));
        assert_eq!(key_of(b"\x0a\x09abc"), None);
        assert_eq!(key_of(b"\x12\x01a"), None);
    }
}
