//! What a private key file says without its passphrase: whether it needs one, and which public key it belongs to.
//!
//! libssh2 does not tell a wrong passphrase from an unknown format, so both are found out here before anybody is asked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Larger files are no keys (bytes).
const LARGEST: u64 = 64 * 1024;

/// First bytes of OpenSSH's own format (`PROTOCOL.key` of OpenSSH).
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A private key file, still closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// Whether it can be used only with a passphrase.
    pub(super) locked: bool,
    /// The public key: the file beside it, else what OpenSSH's format says openly.
    pub(super) public: Option<PublicPart>,
}

/// The public half of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicPart {
    /// As SSH sends it.
    pub(super) blob: Vec<u8>,
    /// `PATH.pub`, when it comes from there.
    pub(super) file: Option<PathBuf>,
}

impl KeyFile {
    /// Looks at a key file.
    ///
    /// # Errors
    /// When it cannot be read or is no private key.
    pub(super) fn look(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no private key file"));
        }
        let text = Zeroizing::new(fs::read(path)?);
        let blocks = pem::parse_many(text.as_slice()).unwrap_or_default();
        let Some(block) = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY")) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no private key file"));
        };
        let headers = block.headers().iter().any(|(_, value)| value.contains("ENCRYPTED"));
        let own = block.contents().strip_prefix(MAGIC).and_then(openssh);
        let locked = own.as_ref().map_or(headers || block.tag().contains("ENCRYPTED"), |(locked, _)| *locked);
        let mut beside = path.as_os_str().to_owned();
        beside.push(".pub");
        let beside = PathBuf::from(beside);
        let public = match fs::read_to_string(&beside).ok().and_then(|line| public_line(&line)) {
            Some(blob) => Some(PublicPart { blob, file: Some(beside) }),
            None => own.map(|(_, blob)| PublicPart { blob, file: None }),
        };
        Ok(Self { path: path.to_owned(), locked, public })
    }
}

/// Whether a key of OpenSSH's format is encrypted, and its public key.
pub(super) fn openssh(mut rest: &[u8]) -> Option<(bool, Vec<u8>)> {
    let mut text = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (text, after) = after.split_at_checked(length)?;
        rest = after;
        Some(text)
    };
    let cipher = text()?;
    let (_kdf, _options) = (text()?, text()?);
    // The number of keys, always one.
    let (_, after) = rest.split_first_chunk::<4>()?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let blob = after.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((cipher != b"none", blob.to_vec()))
}

/// The key in `TYPE BASE64 COMMENT`.
fn public_line(line: &str) -> Option<Vec<u8>> {
    STANDARD.decode(line.split_whitespace().nth(1)?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
mod tests {
    use super::*;
    use std::process::Command;

    fn key(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
        let path = folder.join(name);
        let status = Command::new("ssh-keygen").arg("-q").arg("-f").arg(&path).args(arguments).status().unwrap();
        assert!(status.success());
        path
    }

    #[test]
    fn locked_keys_are_told_from_open_ones_in_every_format() {
        if !super::super::program::is_installed("ssh-keygen") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for (number, kind) in ["ed25519", "ecdsa", "rsa"].into_iter().enumerate() {
            for (format, phrase, locked) in [
                ("RFC4716", "", false),
                ("RFC4716", "secret", true),
                ("PEM", "", false),
                ("PEM", "secret", true),
                ("PKCS8", "", false),
                ("PKCS8", "secret", true),
            ] {
                let name = format!("{number}-{format}-{locked}");
                let path = key(folder.path(), &name, &["-t", kind, "-m", format, "-N", phrase]);
                let found = KeyFile::look(&path).unwrap();
                assert_eq!(found.locked, locked, "{kind} {format}");
                let beside = found.public.clone().unwrap();
                assert!(beside.file.is_some());
                fs::remove_file(beside.file.unwrap()).unwrap();
                let alone = KeyFile::look(&path).unwrap();
                if let Some(public) = alone.public {
                    assert_eq!(public.blob, beside.blob, "{kind} {format}");
                } else {
                    assert_ne!(format, "RFC4716", "{kind}: OpenSSH's own format says its public key");
                }
            }
        }
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for content in
            [&b""[..], b"ssh-ed25519 AAAA", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            fs::write(&path, content).unwrap();
            assert!(KeyFile::look(&path).is_err(), "{}", content.escape_ascii());
        }
        let cut = [MAGIC, b"\0\0\0\x20none"].concat();
        assert_eq!(openssh(&cut[MAGIC.len()..]), None);
    }
}
