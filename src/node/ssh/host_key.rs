//! Whether a machine is the one it should be: key types to ask for, and the judgement of the key it shows.
//!
//! A key that is not known is a question, never an assumption; a key that changed or was withdrawn is a refusal. This
//! connection will carry private keys of certificate authorities.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ssh2::{MethodType, Session};

use super::access::{SshAccess, UnknownHostKey};
use super::config::Target;
use super::known_hosts::{self, KnownHosts, Verdict};
use super::trouble::Trouble;
use crate::error::Failure;

/// Restricts a session to algorithms worth having, and asks first for the types of host keys that are known.
///
/// Without this the server would show the type that libssh2 likes best, and a host that is known by another type would
/// look as if its key had changed. Host certificates are not asked for: a plain key in known_hosts never equals one.
pub(super) fn prefer_known_types(session: &Session, target: &Target) -> Result<(), Trouble> {
    let known = known(target).map(|known| known.key_types().into_iter().flat_map(algorithms).collect::<Vec<_>>());
    let known = known.unwrap_or_default();
    let offered = session.supported_algs(MethodType::HostKey)?;
    let good = |name: &&str| !name.contains("-cert-") && !matches!(*name, "ssh-rsa" | "ssh-dss");
    let mut order: Vec<&str> = known.into_iter().filter(|name| offered.contains(name)).collect();
    for name in offered.into_iter().filter(good) {
        if !order.contains(&name) {
            order.push(name);
        }
    }
    session.method_pref(MethodType::HostKey, &order.join(","))?;
    // What OpenSSH has not offered for ten years is not needed for Kubernetes nodes either.
    let weak = |name: &str| {
        name.ends_with("-sha1")
            || ["-cbc", "arcfour", "md5", "ripemd", "hmac-sha1", "none"].iter().any(|part| name.contains(part))
    };
    for kind in [MethodType::Kex, MethodType::CryptCs, MethodType::CryptSc, MethodType::MacCs, MethodType::MacSc] {
        let names: Vec<&str> = session.supported_algs(kind)?.into_iter().filter(|name| !weak(name)).collect();
        session.method_pref(kind, &names.join(","))?;
    }
    Ok(())
}

/// The signature algorithms for a type of key (RFC 8332 for RSA).
fn algorithms(key_type: &str) -> Vec<&'static str> {
    match key_type {
        "ssh-ed25519" => vec!["ssh-ed25519"],
        "ecdsa-sha2-nistp256" => vec!["ecdsa-sha2-nistp256"],
        "ecdsa-sha2-nistp384" => vec!["ecdsa-sha2-nistp384"],
        "ecdsa-sha2-nistp521" => vec!["ecdsa-sha2-nistp521"],
        "ssh-rsa" => vec!["rsa-sha2-512", "rsa-sha2-256"],
        _ => Vec::new(),
    }
}

fn known(target: &Target) -> std::io::Result<KnownHosts> {
    KnownHosts::about(&target.known_as, target.known_hosts.iter().chain(&target.global_known_hosts))
}

/// Judges the key that `session` was shown, asking when it is unknown.
///
/// # Errors
/// Unless the key is known or somebody said that it is right.
pub(super) fn verify(node: &str, session: &Session, target: &Target, access: &SshAccess) -> anyhow::Result<()> {
    let Some((key, _)) = session.host_key() else {
        return Err(Failure::failed(format!("{node}: {} showed no host key", target.known_as)).into());
    };
    let key = key.to_vec();
    match judge(node, target, &key)? {
        Verdict::Known => return Ok(()),
        Verdict::Unknown => {}
        verdict => return Err(refusal(node, target, &key, &verdict)),
    }
    // Another connection may ask about the same host just now: wait for the answer, then look again.
    let _turn = access.turn_to_ask();
    match judge(node, target, &key)? {
        Verdict::Known => return Ok(()),
        Verdict::Unknown => {}
        verdict => return Err(refusal(node, target, &key, &verdict)),
    }
    ask(node, target, &key, access)
}

fn judge(node: &str, target: &Target, key: &[u8]) -> anyhow::Result<Verdict> {
    let known = known(target).map_err(|error| {
        Failure::failed(format!("{node}: cannot read the known host keys: {error}"))
            .hint("correct the file, or name another with --known-hosts")
    })?;
    Ok(known.judge(key))
}

fn ask(node: &str, target: &Target, key: &[u8], access: &SshAccess) -> anyhow::Result<()> {
    let (key_type, fingerprint) = (key_type(key), fingerprint(key));
    let unknown = format!("{node}: the host key of {} is not known ({key_type} {fingerprint})", target.known_as);
    let Some(file) = target.known_hosts.first() else {
        return Err(Failure::failed(unknown).hint("name a file of known host keys with --known-hosts").into());
    };
    let by_hand = format!(
        "compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub` on that machine, then {}",
        short_name(key_type),
        scan(target, &file.display().to_string()),
    );
    if target.strict {
        let message = format!("{unknown}, and StrictHostKeyChecking of the SSH configuration forbids to ask");
        return Err(Failure::failed(message).hint(by_hand).into());
    }
    let question =
        UnknownHostKey { node, host: &target.known_as, key_type, fingerprint: &fingerprint, known_hosts: file };
    match access.questions().is_host_key_right(&question) {
        Some(true) => {
            known_hosts::add(file, &target.known_as, key_type, key, target.hash_known_hosts).map_err(|error| {
                Failure::failed(format!("{node}: cannot add the host key to {}: {error}", file.display())).into()
            })
        }
        Some(false) => Err(Failure::failed(format!("{unknown} and was not accepted")).into()),
        None => Err(Failure::failed(format!("{unknown}, and there is no terminal to ask on")).hint(by_hand).into()),
    }
}

fn refusal(node: &str, target: &Target, key: &[u8], verdict: &Verdict) -> anyhow::Error {
    let (host, key_type, fingerprint) = (&target.known_as, key_type(key), fingerprint(key));
    let failure = match verdict {
        Verdict::Changed(place) => Failure::failed(format!(
            "{node}: the host key of {host} has CHANGED: it shows {key_type} {fingerprint}, {place} has another key. \
             Either the machine was set up anew, or somebody else answers in its place"
        ))
        .hint(format!(
            "find out why; only if it is right: ssh-keygen -R '{host}' -f '{}', then run the command again",
            place.file.display()
        )),
        Verdict::Revoked(place) => Failure::failed(format!(
            "{node}: the host key that {host} shows was REVOKED: {key_type} {fingerprint}, {place}"
        ))
        .hint("give the machine a new host key; whoever has the old one can pretend to be it"),
        _ => Failure::failed(format!(
            "{node}: {host} is only known by a certificate authority{}, which is not supported",
            match verdict {
                Verdict::AuthorityOnly(place) => format!(" ({place})"),
                _ => String::new(),
            }
        ))
        .hint(format!(
            "add the machine's own key, checked on the machine itself: {}",
            scan(target, &target.known_hosts.first().map_or_else(String::new, |file| file.display().to_string()))
        )),
    };
    failure.into()
}

/// How an administrator adds the key by hand.
fn scan(target: &Target, file: &str) -> String {
    format!("`ssh-keyscan -p {} {} >> {file}`", target.port, target.host_name)
}

/// The type that a key names itself (RFC 4253 section 6.6).
pub(super) fn key_type(key: &[u8]) -> &str {
    let length = key.get(..4).and_then(|length| length.try_into().ok()).map_or(0, u32::from_be_bytes);
    let name = usize::try_from(length).ok().and_then(|length| key.get(4..4usize.saturating_add(length)));
    name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("unknown")
}

fn short_name(key_type: &str) -> &str {
    match key_type {
        "ssh-ed25519" => "ed25519",
        "ssh-rsa" => "rsa",
        _ => "ecdsa",
    }
}

/// As `ssh-keygen -l` shows it.
fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_own_type_and_a_short_one_none() {
        assert_eq!(key_type(b"\0\0\0\x07ssh-rsa\0\0"), "ssh-rsa");
        for broken in [&b""[..], b"\0\0", b"\0\0\0\x07ssh", b"\xff\xff\xff\xffssh"] {
            assert_eq!(key_type(broken), "unknown");
        }
    }
}
