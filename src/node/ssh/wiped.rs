//! Bytes that may be a key: wiped when dropped, and when they have to move because they grew.

use zeroize::Zeroizing;

/// A growing buffer that leaves no copies behind.
#[derive(Default)]
pub(super) struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    /// Appends `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity() * 2).max(4096)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }
}

impl std::ops::Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Wiped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_shows_only_its_length() {
        let mut buffer = Wiped::default();
        for number in 0..10_000u32 {
            buffer.push(&number.to_be_bytes());
        }
        assert_eq!(buffer.len(), 40_000);
        assert_eq!(buffer[39_996..], 9_999u32.to_be_bytes());
        assert_eq!(format!("{buffer:?}"), "40000 bytes");
    }
}
