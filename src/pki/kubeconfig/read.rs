//! A tree of YAML nodes to a [`Kubeconfig`]: field by field, every fault noted where it stands.
//!
//! What kubectl would refuse is a problem here; what kubectl ignores (unknown fields) is ignored.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::node::{Body, Node};
use super::scalar::Meaning;
use super::tree::Document;
use super::{Cluster, Context, Exec, Kubeconfig, Material, Problem, Token, User};

/// More problems of one file are of no use to anybody.
const MOST_PROBLEMS: usize = 100;

/// Reads all entries of a parsed document.
pub(super) fn kubeconfig(document: &Document<'_>, folder: &Path) -> Result<Kubeconfig, Problem> {
    let mut found = Kubeconfig {
        clusters: Vec::new(),
        users: Vec::new(),
        contexts: Vec::new(),
        current_context: None,
        more_documents: document.more,
        problems: Vec::new(),
    };
    let Some(root) = document.root.as_ref().filter(|root| !root.is_null()) else { return Ok(found) };
    if root.entries().is_none() {
        return Err(root.problem("not a kubeconfig: no mapping at the top"));
    }
    let mut top = Fields { of: Some(root), folder, problems: Vec::new() };
    repeated_keys(root, &mut top.problems);
    for (field, expected) in [("apiVersion", "v1"), ("kind", "Config")] {
        if let Some(other) = top.text(field).filter(|value| !value.is_empty() && value != expected) {
            let at = root.get(field).unwrap_or(root);
            top.problems.push(at.problem(format!("not a kubeconfig: {field} is {other:?} and not {expected:?}")));
        }
    }
    found.current_context = top.text("current-context").filter(|name| !name.is_empty());
    found.clusters = top.list("clusters", "cluster", cluster);
    found.users = top.list("users", "user", user);
    found.contexts = top.list("contexts", "context", context);
    found.problems = top.problems;
    found.problems.sort_by_key(|problem| (problem.line, problem.column));
    found.problems.truncate(MOST_PROBLEMS);
    Ok(found)
}

/// Demands a document without any problem, one that kubectl reads and an edit cannot misunderstand.
pub(super) fn acceptable(document: &Document<'_>) -> Result<(), Problem> {
    kubeconfig(document, Path::new("/"))?.problems.into_iter().next().map_or(Ok(()), Err)
}

fn cluster(name: String, fields: &mut Fields<'_>) -> Cluster {
    fields.truth("disable-compression");
    fields.text("proxy-url");
    Cluster {
        name,
        server: fields.text("server"),
        tls_server_name: fields.text("tls-server-name"),
        insecure_skip_tls_verify: fields.truth("insecure-skip-tls-verify"),
        certificate_authority: fields.material("certificate-authority"),
        problems: Vec::new(),
    }
}

fn user(name: String, fields: &mut Fields<'_>) -> User {
    for field in ["as", "as-uid"] {
        fields.text(field);
    }
    let folder = fields.folder;
    User {
        name,
        client_certificate: fields.material("client-certificate"),
        client_key: fields.material("client-key"),
        token: fields.text("token").map(Zeroizing::new).filter(|token| !token.is_empty()).map(Token),
        token_file: fields.text("tokenFile").filter(|path| !path.is_empty()).map(|path| resolved(folder, &path)),
        has_password: fields.text("username").is_some() | fields.text("password").is_some(),
        exec: fields.exec(),
        problems: Vec::new(),
    }
}

fn context(name: String, fields: &mut Fields<'_>) -> Context {
    Context {
        name,
        cluster: fields.text("cluster").unwrap_or_default(),
        user: fields.text("user").unwrap_or_default(),
        namespace: fields.text("namespace"),
        problems: Vec::new(),
    }
}

/// An entry that keeps its own problems.
trait Entry {
    fn keep(&mut self, problems: &[Problem]);
}

macro_rules! entries {
    ($($kind:ty),*) => {$(
        impl Entry for $kind {
            fn keep(&mut self, problems: &[Problem]) {
                self.problems.extend_from_slice(problems);
            }
        }
    )*};
}
entries!(Cluster, User, Context);

/// The fields of one mapping, and what was found wrong with them so far.
struct Fields<'n> {
    of: Option<&'n Node>,
    folder: &'n Path,
    problems: Vec<Problem>,
}

impl<'n> Fields<'n> {
    fn get(&self, field: &str) -> Option<&'n Node> {
        self.of?.get(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Option<String> {
        let value = self.get(field)?;
        let text = value.text().map(str::to_owned);
        if text.is_none() {
            let hint = if matches!(value.body, Body::Scalar(_)) { "; put it in quotes" } else { "" };
            self.problems.push(value.problem(format!("{field} is not a string{hint}")));
        }
        text
    }

    fn truth(&mut self, field: &str) -> bool {
        let Some(value) = self.get(field) else { return false };
        match &value.body {
            Body::Scalar(scalar) if matches!(scalar.meaning(), Meaning::Truth(_)) => {
                scalar.meaning() == Meaning::Truth(true)
            }
            _ => {
                self.problems.push(value.problem(format!("{field} is neither true nor false")));
                false
            }
        }
    }

    fn material(&mut self, field: &str) -> Material {
        let folder = self.folder;
        let file = self.text(field).filter(|path| !path.is_empty()).map(|path| resolved(folder, &path));
        let data = format!("{field}-data");
        let embedded = self.get(&data).and_then(|value| match value.text().map(decoded) {
            Some(Ok(bytes)) if bytes.is_empty() => None,
            Some(Ok(bytes)) => Some(Ok(bytes)),
            Some(Err(())) => Some(Err(value.problem(format!("{data} is not base64")))),
            None => Some(Err(value.problem(format!("{data} is not a string")))),
        });
        if let Some(Err(problem)) = &embedded {
            self.problems.push(problem.clone());
        }
        Material { embedded, file }
    }

    fn exec(&mut self) -> Option<Exec> {
        let value = self.get("exec")?;
        if value.entries().is_none() {
            self.problems.push(value.problem("exec is not a mapping"));
            return None;
        }
        let mut inner = Fields { of: Some(value), folder: self.folder, problems: Vec::new() };
        let exec = Exec {
            command: inner.text("command").unwrap_or_default(),
            api_version: inner.text("apiVersion").unwrap_or_default(),
        };
        self.problems.append(&mut inner.problems);
        Some(exec)
    }

    /// The entries of the list `field`, each a mapping with `name` and, under `inner`, what `read` reads.
    fn list<T: Entry>(&mut self, field: &str, inner: &str, read: fn(String, &mut Fields<'_>) -> T) -> Vec<T> {
        let Some(list) = self.get(field) else { return Vec::new() };
        let Body::List(items) = &list.body else {
            self.problems.push(list.problem(format!("{field} is not a list")));
            return Vec::new();
        };
        let mut entries = Vec::new();
        let mut names = HashSet::new();
        for item in items {
            let mut outer = Fields { of: Some(item), folder: self.folder, problems: Vec::new() };
            if item.entries().is_none() {
                outer.problems.push(item.problem(format!("an entry of {field} is not a mapping")));
            }
            let name = outer.text("name").unwrap_or_default();
            if item.entries().is_some() && item.get("name").is_none() {
                outer.problems.push(item.problem(format!("an entry of {field} has no name")));
            } else if !names.insert(name.clone()) {
                let at = item.get("name").unwrap_or(item);
                outer.problems.push(at.problem(format!("{field} has a second entry named {name:?}")));
            }
            let value = outer.get(inner);
            if let Some(value) = value.filter(|value| value.entries().is_none()) {
                outer.problems.push(value.problem(format!("{inner} is not a mapping")));
            }
            let mut fields = Fields { of: value, folder: self.folder, problems: outer.problems };
            let mut entry = read(name, &mut fields);
            entry.keep(&fields.problems);
            self.problems.append(&mut fields.problems);
            entries.push(entry);
        }
        entries
    }
}

/// Base64 as Go reads it in JSON: padded, line breaks allowed.
fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, ()> {
    let compact: Zeroizing<Vec<u8>> = Zeroizing::new(text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect());
    STANDARD.decode(&*compact).map(Zeroizing::new).map_err(|_| ())
}

/// Notes every key that its mapping has already: kubectl silently takes the last, an edit could pick the wrong one.
fn repeated_keys(node: &Node, problems: &mut Vec<Problem>) {
    match &node.body {
        Body::Scalar(_) => {}
        Body::List(items) => items.iter().for_each(|item| repeated_keys(item, problems)),
        Body::Map(entries) => {
            let mut seen = HashSet::new();
            for (key, value) in entries {
                if let Body::Scalar(scalar) = &key.body
                    && !seen.insert(scalar.text.as_str())
                {
                    problems.push(key.problem(format!("the key {:?} occurs twice", scalar.text.as_str())));
                }
                repeated_keys(value, problems);
            }
        }
    }
}

/// `path` against `folder`, without `.` and `..` in it: by its words alone, as kubectl does it (Go: `filepath.Join`).
fn resolved(folder: &Path, path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::pki::kubeconfig::Source;

    fn read(text: &str) -> Kubeconfig {
        Kubeconfig::parse(text.as_bytes(), Path::new("/home/ann/.kube")).unwrap()
    }

    fn refused(text: impl AsRef<[u8]>) -> String {
        Kubeconfig::parse(text.as_ref(), Path::new("/")).unwrap_err().to_string()
    }

    fn messages(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn embedded_data_is_decoded_and_files_are_found_beside_the_kubeconfig() {
        let found = read(
            "clusters:\n- name: a\n  cluster: {server: 'https://a', certificate-authority: pki/ca.crt}\n\
             users:\n- name: u\n  user:\n    client-certificate-data: |\n      aGVs\n      bG8=\n    client-key: /k/u.key\n\
             - name: t\n  user: {token: secret, exec: {command: ./get, apiVersion: client.authentication.k8s.io/v1}}\n\
             contexts:\n- name: c\n  context: {cluster: a, user: u, namespace: dev}\ncurrent-context: c\n",
        );
        assert_eq!(messages(&found.problems), [""; 0]);
        let authority = &found.cluster("a").unwrap().certificate_authority;
        assert!(matches!(authority.source(), Source::File(path) if path == Path::new("/home/ann/.kube/pki/ca.crt")));
        let user = found.user("u").unwrap();
        assert!(matches!(user.client_certificate.source(), Source::Embedded(b"hello")));
        assert!(matches!(user.client_key.source(), Source::File(path) if path == Path::new("/k/u.key")));
        let other = found.user("t").unwrap();
        assert!(other.token.is_some() && other.exec.as_ref().unwrap().command == "./get");
        assert!(!format!("{found:?}").contains("secret"));
        assert_eq!(found.context("c").unwrap().namespace.as_deref(), Some("dev"));
        assert_eq!(found.names(None).unwrap().user, "u");
    }

    #[test]
    fn a_broken_field_is_a_problem_of_its_entry_and_leaves_the_others_readable() {
        let found = read(
            "clusters:\n- cluster:\n    server: https://a\n    certificate-authority-data: '%%'\n  name: a\n\
             - cluster: {server: 12}\n  name: yes\n- name: a\nusers: 7\n",
        );
        assert_eq!(
            messages(&found.problems),
            [
                "line 4, column 33: certificate-authority-data is not base64",
                "line 6, column 21: server is not a string; put it in quotes",
                "line 7, column 9: name is not a string; put it in quotes",
                "line 8, column 9: clusters has a second entry named \"a\"",
                "line 9, column 8: users is not a list",
            ]
        );
        assert_eq!(found.clusters[0].server.as_deref(), Some("https://a"));
        assert_eq!(found.clusters[0].problems.len(), 1);
    }

    #[test]
    fn every_accepted_form_reads_the_same() {
        let block =
            "apiVersion: v1\nkind: Config\nclusters:\n- name: a\n  cluster:\n    server: https://a\nusers: null\n";
        let json =
            r#"{"apiVersion":"v1","kind":"Config","clusters":[{"name":"a","cluster":{"server":"https:\/\/a"}}]}"#;
        let expected = format!("{:?}", read(block));
        for other in [
            json.to_owned(),
            json.replace(',', ",\n\t"),
            format!("\u{feff}{block}"),
            block.replace('\n', "\r\n"),
            format!("# comment\n---\n{block}"),
            block.replace(": v1", ":\tv1\t"),
            format!("{block}contexts:\npreferences: {{}}\nother: [1, {{x: é}}]\n"),
        ] {
            assert_eq!(format!("{:?}", read(&other)), expected, "{other}");
        }
        let several = read(&format!("{block}---\n: : not yaml ]\n"));
        assert!(several.more_documents && several.clusters.len() == 1);
        for empty in ["", "# only a comment\n", "---\n", "{}", "null", "\u{feff}", "...\n"] {
            assert!(read(empty).clusters.is_empty(), "{empty:?}");
        }
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_with_its_place() {
        assert_eq!(refused("- a\n"), "line 1, column 1: not a kubeconfig: no mapping at the top");
        assert_eq!(refused(b"a: b\nc: \xff\n"), "line 2, column 4: not UTF-8 text");
        assert!(refused("a: &x 1\n").starts_with("line 1, column 4: a YAML anchor"));
        assert!(refused("a: *x\n").starts_with("line 1, column"));
        assert!(refused("a: [1\nb: 2\n").contains("not valid YAML"));
        assert!(refused("[".repeat(100)).contains("nested too deeply"));
        assert!(refused("[".repeat(100_000)).starts_with("line 1, column "));
        assert!(refused(vec![b'a'; super::super::LARGEST + 1]).contains("larger than"));
        assert_eq!(
            messages(&read("kind: Pod\n").problems),
            ["line 1, column 7: not a kubeconfig: kind is \"Pod\" and not \"Config\""]
        );
    }
}
