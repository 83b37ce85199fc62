//! PEM as it is found on nodes: several certificates, text between them, a key in the same file, CRLF, indentation.
//!
//! The pem crate skips a truncated last block and calls garbage an empty list, so blocks that begin are counted
//! against blocks that were read (RFC 7468).

use zeroize::Zeroizing;

/// One PEM block.
#[derive(Clone)]
pub struct Block {
    /// The label, as `CERTIFICATE`.
    pub tag: String,
    /// Decoded content (DER), wiped when dropped: it may be a key.
    pub der: Zeroizing<Vec<u8>>,
    /// Whether the block has headers, as encrypted keys in OpenSSL's old form do.
    pub has_headers: bool,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}, {} bytes)", self.tag, self.der.len())
    }
}

/// A file's PEM blocks, and how many more begin in it without being readable.
#[derive(Debug, Clone, Default)]
pub struct PemFile {
    /// The readable blocks in file order.
    pub blocks: Vec<Block>,
    /// Blocks with a `BEGIN` line that are truncated or not base64.
    pub damaged: usize,
}

impl PemFile {
    /// Reads every block of `bytes`; one that is damaged does not hide the others.
    pub fn parse(bytes: &[u8]) -> Self {
        let begun = count(bytes, b"-----BEGIN ");
        if let Ok(found) = ::pem::parse_many(bytes)
            && found.len() == begun
        {
            return Self { blocks: found.into_iter().map(Block::from).collect(), damaged: 0 };
        }
        // Something is wrong somewhere: read each block on its own, so that the good ones are still seen.
        let mut file = Self::default();
        let starts: Vec<usize> = positions(bytes, b"-----BEGIN ").collect();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(bytes.len());
            match ::pem::parse(&bytes[*start..end]) {
                Ok(block) => file.blocks.push(Block::from(block)),
                Err(_) => file.damaged += 1,
            }
        }
        file
    }

    /// The blocks that hold certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &Block> {
        self.blocks
            .iter()
            .filter(|block| matches!(block.tag.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"))
    }

    /// The first block that holds a private key, encrypted ones included. OpenSSL may write `EC PARAMETERS` before it.
    pub fn private_key(&self) -> Option<&Block> {
        self.blocks.iter().find(|block| block.tag.ends_with("PRIVATE KEY"))
    }

    /// The blocks that hold public keys (`sa.pub` may have several).
    pub fn public_keys(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| block.tag == "PUBLIC KEY" || block.tag == "RSA PUBLIC KEY")
    }
}

impl From<::pem::Pem> for Block {
    fn from(block: ::pem::Pem) -> Self {
        let has_headers = block.headers().iter().next().is_some();
        Self { tag: block.tag().to_owned(), has_headers, der: Zeroizing::new(block.into_contents()) }
    }
}

/// Encodes DER as one PEM block with lines of 64 characters and a final newline, as Go and OpenSSL write it.
pub fn encode(tag: &str, der: &[u8]) -> Zeroizing<String> {
    let config = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    let block = ::pem::Pem::new(tag, der);
    let text = Zeroizing::new(::pem::encode_config(&block, config));
    drop(Zeroizing::new(block.into_contents()));
    text
}

fn positions<'a>(bytes: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let dash = bytes[from..].iter().position(|byte| *byte == b'-').map(|at| from + at)?;
        let mut at = dash;
        while !bytes[at..].starts_with(pattern) {
            at += 1;
            at += bytes.get(at..)?.iter().position(|byte| *byte == b'-')?;
        }
        from = at + pattern.len();
        Some(at)
    })
}

fn count(bytes: &[u8], pattern: &[u8]) -> usize {
    positions(bytes, pattern).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_between_blocks_line_ends_and_order_do_not_matter() {
        let text = format!(
            "Issuer: CN=x\r\n{}\nsome words\n{}",
            &*encode("CERTIFICATE", b"one"),
            &*encode("RSA PRIVATE KEY", b"two")
        );
        let file = PemFile::parse(text.replace('\n', "\r\n").as_bytes());
        assert_eq!(file.damaged, 0);
        assert_eq!(file.certificates().map(|block| block.der.to_vec()).collect::<Vec<_>>(), [b"one"]);
        assert_eq!(file.private_key().map(|block| block.der.to_vec()), Some(b"two".to_vec()));
    }

    #[test]
    fn a_damaged_block_is_counted_and_does_not_hide_the_others() {
        let good = encode("CERTIFICATE", &[7; 100]);
        for cut in 1..good.len() - 1 {
            let file = PemFile::parse(&good.as_bytes()[..cut]);
            assert_eq!(file.blocks.len() + file.damaged, usize::from(cut >= 11), "cut at {cut}");
        }
        let file = PemFile::parse(format!("{}{}{}", &*good, &good[..60], &*good).as_bytes());
        assert_eq!((file.blocks.len(), file.damaged), (2, 1));
        assert_eq!(PemFile::parse(b"garbage -- ---").blocks.len(), 0);
    }
}
