//! Who asks, and which servers are believed: a kubeconfig, or a certificate with its key.
//!
//! Keys and tokens are wiped when dropped and show in no `Debug`. A token is sent only to a server whose certificate has
//! been checked.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::node::probe::Endpoint;
use crate::node::tls::{Identity, Tls, Trust};
use crate::node::{FoundState, Node, Query};
use crate::pki::kubeconfig::{FileReader, Kubeconfig, Material, Source, Token};
use crate::pki::pem_file::PemFile;

/// What a component is shown, and whom it has to be.
#[derive(Debug, Clone, Default)]
pub struct Credential {
    /// The server a kubeconfig names.
    pub server: Option<Endpoint>,
    /// Name expected in the server's certificate instead of its host.
    pub server_name: Option<String>,
    /// CA certificates (DER) that servers are checked against; with none, no server is believed.
    pub authorities: Vec<Vec<u8>>,
    /// Client certificate and key.
    pub identity: Option<Identity>,
    /// Bearer token.
    pub token: Option<Token>,
}

impl Credential {
    /// What `context` (the current one when `None`) of a kubeconfig stands for. `folder` is the kubeconfig's own; files it
    /// refers to are read with `file`.
    ///
    /// # Errors
    /// In words: when kubectl could not use it, or it needs a program or a password.
    pub fn from_kubeconfig(
        bytes: &[u8],
        folder: &Path,
        context: Option<&str>,
        file: &FileReader<'_>,
    ) -> Result<Self, String> {
        let config = Kubeconfig::parse(bytes, folder).map_err(|problem| problem.to_string())?;
        let name = context.or(config.current_context.as_deref()).ok_or("it has no current context")?;
        let context = config.context(name).ok_or_else(|| format!("it has no context {name:?}"))?;
        let no = |kind: &str, name: &str| format!("it has no {kind} {name:?}");
        let cluster = config.cluster(&context.cluster).ok_or_else(|| no("cluster", &context.cluster))?;
        let user = config.user(&context.user).ok_or_else(|| no("user", &context.user))?;
        let server = cluster.server.as_deref().ok_or("its cluster has no server")?;
        let authorities = content(&cluster.certificate_authority, file)?.map(|pem| certificates(&pem));
        let certificate = content(&user.client_certificate, file)?;
        let key = content(&user.client_key, file)?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(identity(&certificate, &key)?),
            (None, None) => None,
            (Some(_), None) => return Err("its user has a certificate and no key".to_owned()),
            (None, Some(_)) => return Err("its user has a key and no certificate".to_owned()),
        };
        let token = match (&user.token, &user.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(token_in(&file(path)?, path)?),
            (None, None) => None,
        };
        if identity.is_none() && token.is_none() {
            return Err(match &user.exec {
                Some(exec) => format!("its credential comes from the program {}, which is not run here", exec.command),
                None => "its user has neither a certificate nor a token".to_owned(),
            });
        }
        Ok(Self {
            server: Some(server.parse().map_err(|why: String| format!("its server: {why}"))?),
            server_name: cluster.tls_server_name.clone().filter(|name| !name.is_empty()),
            authorities: authorities.unwrap_or_default(),
            identity,
            token,
        })
    }

    /// The kubeconfig `path` of a node, with the files it refers to.
    ///
    /// # Errors
    /// In words, with the path.
    pub fn read(node: &dyn Node, path: &Path) -> Result<Self, String> {
        Self::read_context(node, path, None)
    }

    /// The same, of one of its contexts.
    ///
    /// # Errors
    /// In words, with the path.
    pub fn read_context(node: &dyn Node, path: &Path, context: Option<&str>) -> Result<Self, String> {
        let words = |why: String| format!("{}: {why}", path.display());
        let bytes = file_of(node, path).map_err(words)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        Self::from_kubeconfig(&bytes, folder, context, &|path: &Path| {
            file_of(node, path).map_err(|why| format!("{}: {why}", path.display()))
        })
        .map_err(words)
    }

    /// A client certificate and its key (PEM; both may stand in one text), for servers of `authorities` (PEM).
    ///
    /// # Errors
    /// In words, when one of them is not in its text.
    pub fn from_pair(certificate: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, String> {
        let identity = Some(identity(certificate, key)?);
        Ok(Self { identity, authorities: certificates(authorities), ..Self::default() })
    }

    /// The certificate `NAME.crt` and key `NAME.key` of a node, for servers of the authorities in `trusted`.
    ///
    /// # Errors
    /// In words, with the path.
    pub fn read_pair(node: &dyn Node, stem: &Path, trusted: &Path) -> Result<Self, String> {
        let with = |extension: &str| {
            let mut path = stem.as_os_str().to_owned();
            path.push(extension);
            PathBuf::from(path)
        };
        let read = |path: &Path| file_of(node, path).map_err(|why| format!("{}: {why}", path.display()));
        let (certificate, key) = (with(".crt"), with(".key"));
        Self::from_pair(&read(&certificate)?, &read(&key)?, &read(trusted)?)
            .map_err(|why| format!("{}: {why}", certificate.display()))
    }

    /// A client certificate and its key in two files of a node, or one; they trust nobody.
    ///
    /// # Errors
    /// In words, with the path.
    pub fn read_files(node: &dyn Node, certificate: &Path, key: &Path) -> Result<Self, String> {
        let read = |path: &Path| file_of(node, path).map_err(|why| format!("{}: {why}", path.display()));
        Self::from_pair(&read(certificate)?, &read(key)?, &[])
            .map_err(|why| format!("{}: {why}", certificate.display()))
    }

    /// The same, believing servers of these authorities (DER) too.
    #[must_use]
    pub fn trusting(mut self, authorities: impl IntoIterator<Item = Vec<u8>>) -> Self {
        for authority in authorities {
            if !self.authorities.contains(&authority) {
                self.authorities.push(authority);
            }
        }
        self
    }

    /// TLS that checks the server.
    ///
    /// # Errors
    /// In words, when key or authorities are of no use.
    pub fn tls(&self) -> Result<Tls, String> {
        let tls = Tls::new(Trust::Authorities(&self.authorities), self.identity.as_ref())?;
        Ok(match &self.server_name {
            Some(name) => tls.for_server(name.clone()),
            None => tls,
        })
    }

    /// TLS with any server, for components that sign their own certificates. No token may go over it.
    ///
    /// # Errors
    /// In words, when the key is of no use.
    pub fn tls_with_anybody(&self) -> Result<Tls, String> {
        Tls::new(Trust::Anybody, self.identity.as_ref())
    }

    /// The `Authorization` header, when there is a token.
    pub(super) fn authorization(&self) -> Option<Zeroizing<String>> {
        self.token.as_ref().map(|token| Zeroizing::new(["Bearer ", token.reveal()].concat()))
    }
}

/// The certificates in a PEM text, as DER.
pub fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    PemFile::parse(pem).certificates().map(|block| block.der.to_vec()).collect()
}

/// Content of one file of a node.
///
/// # Errors
/// In words without the path, when it is not there or cannot be read.
pub(super) fn file_of(node: &dyn Node, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let found = node.read(&[Query::File(path.to_owned())]).map_err(|error| format!("{error:#}"))?;
    match found.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(content)) => Ok(content),
        Some(FoundState::Unreadable(reason)) => Err(reason),
        Some(FoundState::Directory) => Err("it is a folder".to_owned()),
        _ => Err("it is not there".to_owned()),
    }
}

fn content(material: &Material, file: &FileReader<'_>) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    match material.source() {
        Source::Absent => Ok(None),
        Source::Embedded(bytes) => Ok(Some(Zeroizing::new(bytes.to_vec()))),
        Source::Broken(problem) => Err(problem.to_string()),
        Source::File(path) => file(path).map(Some),
    }
}

fn identity(certificate: &[u8], key: &[u8]) -> Result<Identity, String> {
    let chain = certificates(certificate);
    if chain.is_empty() {
        return Err("there is no client certificate in it".to_owned());
    }
    let file = PemFile::parse(key);
    let block = file.private_key().ok_or("there is no private key in it")?;
    if block.has_headers || block.tag == "ENCRYPTED PRIVATE KEY" {
        return Err("the private key is encrypted; decrypt it with `openssl pkey -in FILE -out FILE.plain`".to_owned());
    }
    Ok(Identity { chain, key: block.der.clone() })
}

fn token_in(content: &[u8], path: &Path) -> Result<Token, String> {
    let text = std::str::from_utf8(content).map_err(|_| format!("{}: the token is no text", path.display()))?;
    Token::new(text.trim()).ok_or_else(|| format!("{}: there is no token in it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Credential, String> {
        Credential::from_kubeconfig(text.as_bytes(), Path::new("/k"), None, &|path: &Path| match path.to_str() {
            Some("/k/token") => Ok(Zeroizing::new(b"s3cret\n".to_vec())),
            _ => Err(format!("{}: it is not there", path.display())),
        })
    }

    fn config(user: &str) -> String {
        format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://10.0.0.1:6443'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        )
    }

    #[test]
    fn tokens_are_taken_from_the_file_or_the_file_it_names_and_never_shown() {
        for user in ["{token: s3cret}", "{tokenFile: token}"] {
            let credential = read(&config(user)).expect("a token");
            assert_eq!(credential.token.as_ref().map(Token::reveal), Some("s3cret"));
            assert!(!format!("{credential:?}").contains("s3cret"));
            assert_eq!(credential.server.expect("a server").to_string(), "10.0.0.1:6443");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (user, why) in [
            ("{}", "neither a certificate nor a token"),
            ("{exec: {apiVersion: client.authentication.k8s.io/v1, command: kubelogin}}", "the program kubelogin"),
            ("{client-certificate: a.crt}", "/k/a.crt: it is not there"),
            ("{client-key-data: aGk=}", "a key and no certificate"),
        ] {
            let said = read(&config(user)).expect_err("of no use");
            assert!(said.contains(why), "{user}: {said}");
        }
        assert_eq!(read("{}").expect_err("empty"), "it has no current context");
        let said = read("current-context: x").expect_err("no context");
        assert_eq!(said, "it has no context \"x\"");
    }
}
