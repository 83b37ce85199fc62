//! kube-apiserver's AuthorizationConfiguration with revoked certificates refused before any other authorizer is asked.
//!
//! A revoked certificate is recognised by the SHA-256 that kube-apiserver (1.32 and later) keeps of every client
//! certificate, and refused by an expression that always fails together with `failurePolicy: Deny`: no server is called
//! (Kubernetes staging/src/k8s.io/apiserver/plugin/pkg/authorizer/webhook/webhook.go). `system:masters` is allowed before
//! any authorizer is asked. What others have put into the file stays in it, word for word.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::kubeconfig::node::Node;
use super::kubeconfig::tree;

/// Most certificates that one authorizer names: an expression may have 100,000 characters (cel-go `parser.go`), and one
/// certificate takes 81.
const MOST_IN_ONE: usize = 1000;

/// The longest expression that kube-apiserver takes, in characters.
const LONGEST_EXPRESSION: usize = 100_000;

/// Most certificates in all. Every request is compared with all of them: about 0.1 ms for a thousand.
pub const MOST: usize = 20_000;

/// Most groups, each of at most 1,000 characters.
const MOST_GROUPS: usize = 50;

/// How the names of our own authorizers begin.
const OWN: &str = "kubepki-revoked-";

/// Where kube-apiserver says which certificate a user has shown (apiserver `pkg/authentication/request/x509/x509.go`).
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The words by which a refusal is recognised.
pub const REVOKED: &str = "client-certificate-revoked";

/// Reached by what is revoked only. It always fails: there is no such key, because keys of certificates have another form.
const FAILING: &str = "request.extra['client-certificate-revoked'].size() > 0";

/// A kubeconfig that has to be there and to parse; nobody is ever called with it.
pub const DENY_KUBECONFIG: &str = "\
# kubepki: kube-apiserver needs a file here. Nothing is ever sent to this server: revoked certificates are refused
# before anybody would be asked.
apiVersion: v1
kind: Config
clusters:
- {name: none, cluster: {server: \"https://127.0.0.1:9/revoked\"}}
users:
- {name: none}
contexts:
- {name: none, context: {cluster: none, user: none}}
current-context: none
";

const HEADER: &str = "\
# kube-apiserver reads this file whenever it changes. `kubepki revoke` writes the authorizers whose names begin with
# kubepki-revoked-; everything else is yours and stays as it is.
";

/// Who is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denied {
    /// SHA-256 of certificates (DER), lower-case hex; with an ECDSA issuer both forms of each.
    pub fingerprints: BTreeSet<String>,
    /// Groups: whoever shows a certificate with one of them is refused, whenever it was issued.
    pub groups: BTreeSet<String>,
}

impl Denied {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty() && self.groups.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        if let Some(odd) = self.fingerprints.iter().find(|text| !is_hash(text)) {
            return Err(format!("{odd:?} is no SHA-256 in lower-case hex"));
        }
        if self.fingerprints.len() > MOST {
            return Err(format!(
                "{} certificates would be refused one by one, and {MOST} is the most; `kubepki rotate-certs --only \
                 cluster-ca` ends all certificates of the cluster's CA at once",
                self.fingerprints.len()
            ));
        }
        if self.groups.len() > MOST_GROUPS {
            return Err(format!("{} groups would be refused, and {MOST_GROUPS} is the most", self.groups.len()));
        }
        for group in &self.groups {
            if group.is_empty() || group.chars().count() > 1000 {
                return Err("a group has between 1 and 1000 characters".to_owned());
            }
            if matches!(group.as_str(), "system:authenticated" | "system:unauthenticated") {
                return Err(format!("kube-apiserver puts everybody into {group}, so everybody would be refused"));
            }
        }
        Ok(())
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What `--authorization-mode=MODES` says, as a configuration.
///
/// # Errors
/// In words, for modes that a configuration cannot stand for without more options.
pub fn of_modes(modes: &str) -> Result<String, String> {
    let mut text =
        format!("{HEADER}apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n");
    for mode in modes.split(',').map(str::trim) {
        if !matches!(mode, "Node" | "RBAC" | "AlwaysAllow" | "AlwaysDeny") {
            return Err(format!(
                "--authorization-mode={modes}: {mode} has settings of its own; put it into a file for \
                 --authorization-config, which is then extended"
            ));
        }
        let _ = writeln!(text, "- type: {mode}\n  name: {}", mode.to_ascii_lowercase());
    }
    Ok(text)
}

/// The configuration `text` with `denied` refused first, and nobody else that an earlier call had put there. `kubeconfig`
/// is the absolute path of [`DENY_KUBECONFIG`] as kube-apiserver sees it.
///
/// # Errors
/// In words: when it is no such configuration, or kube-apiserver would not take the result. Then nothing may be written.
pub fn with_denied(text: &str, denied: &Denied, kubeconfig: &str) -> Result<String, String> {
    denied.check()?;
    let before = Configuration::read(text)?;
    let kept: Vec<&Authorizer> = before.authorizers.iter().filter(|one| !one.is_own()).collect();
    let mut new = before.head.to_owned();
    for (at, part) in denied.fingerprints.iter().collect::<Vec<_>>().chunks(MOST_IN_ONE).enumerate() {
        let ids = part.iter().map(|hash| format!("'X509SHA256={hash}'")).collect::<Vec<_>>().join(",\n");
        let condition = format!(
            "request.extra.exists(k, k == '{CREDENTIAL}') &&\nrequest.extra['{CREDENTIAL}'].exists(id, id in [\n{ids}\n])"
        );
        new.push_str(&authorizer(&format!("{OWN}certificates-{}", at + 1), &condition, kubeconfig)?);
    }
    if !denied.groups.is_empty() {
        let groups = denied.groups.iter().map(|group| literal(group)).collect::<Vec<_>>().join(",\n");
        let condition = format!(
            "request.extra.exists(k, k == '{CREDENTIAL}') &&\n\
             request.extra['{CREDENTIAL}'].exists(id, id.startsWith('X509SHA256=')) &&\n\
             request.groups.exists(g, g in [\n{groups}\n])"
        );
        new.push_str(&authorizer(&format!("{OWN}groups"), &condition, kubeconfig)?);
    }
    for one in &kept {
        new.push_str(&one.written);
    }
    new.push_str(before.tail);
    // Nothing is written that does not say what it should.
    let after = Configuration::read(&new)?;
    let stayed: Vec<&Authorizer> = after.authorizers.iter().filter(|one| !one.is_own()).collect();
    let is_same = kept.len() == stayed.len() && kept.iter().zip(&stayed).all(|(one, two)| one.node.same(&two.node));
    if !is_same || after.version != before.version {
        return Err("its other authorizers are laid out in a way that kubepki does not change".to_owned());
    }
    Ok(new)
}

/// Which certificates a configuration refuses, as lower-case hex of their SHA-256.
///
/// # Errors
/// In words, when it is no such configuration.
pub fn refused(text: &str) -> Result<BTreeSet<String>, String> {
    let configuration = Configuration::read(text)?;
    let mut refused = BTreeSet::new();
    for one in configuration.authorizers.iter().filter(|one| one.is_own()) {
        let conditions = one.node.get("webhook").and_then(|webhook| webhook.get("matchConditions")?.items());
        for condition in conditions.into_iter().flatten() {
            let words = condition.get("expression").and_then(|text| text.text()).unwrap_or_default();
            let hashes = words.split("'X509SHA256=").skip(1).filter_map(|rest| rest.get(..64));
            refused.extend(hashes.filter(|hash| is_hash(hash)).map(str::to_owned));
        }
    }
    Ok(refused)
}

/// One authorizer that refuses whoever fulfils `condition`.
fn authorizer(name: &str, condition: &str, kubeconfig: &str) -> Result<String, String> {
    if condition.chars().count() > LONGEST_EXPRESSION {
        return Err(format!("the expression of {name} would be longer than kube-apiserver takes"));
    }
    let mut lines = String::with_capacity(condition.len() * 2);
    for line in condition.lines() {
        let _ = writeln!(lines, "        {line}");
    }
    let kubeconfig = serde_json::Value::from(kubeconfig);
    Ok(format!(
        "- type: Webhook
  name: {name}
  webhook:
    timeout: 1s
    authorizedTTL: 1s
    unauthorizedTTL: 1s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo:
      type: KubeConfigFile
      kubeConfigFile: {kubeconfig}
    matchConditions:
    - expression: |-
{lines}    - expression: \"{FAILING}\"
"
    ))
}

/// A string of the Common Expression Language, in ASCII.
fn literal(text: &str) -> String {
    let mut written = String::from("'");
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => written.extend(['\\', letter]),
            ' '..='~' => written.push(letter),
            _ => {
                let _ = write!(written, "\\U{:08x}", u32::from(letter));
            }
        }
    }
    written.push('\'');
    written
}

/// A configuration taken apart.
struct Configuration<'t> {
    version: String,
    /// Everything in front of the first authorizer.
    head: &'t str,
    authorizers: Vec<Authorizer>,
    /// Everything behind the last one.
    tail: &'t str,
}

struct Authorizer {
    name: String,
    /// Its text as an item of a list that begins at the first column, with the comments in front of it.
    written: String,
    node: Node,
}

impl Authorizer {
    fn is_own(&self) -> bool {
        self.name.starts_with(OWN)
    }
}

impl<'t> Configuration<'t> {
    fn read(text: &'t str) -> Result<Self, String> {
        let document = tree::parse(text.as_bytes()).map_err(|problem| problem.to_string())?;
        let root = document.root.filter(|_| !document.more).ok_or("it is not one document")?;
        let word = |name: &str| root.get(name).and_then(|value| value.text()).unwrap_or_default().to_owned();
        let (kind, version) = (word("kind"), word("apiVersion"));
        if kind != "AuthorizationConfiguration" || !version.starts_with("apiserver.config.k8s.io/v1") {
            return Err(format!(
                "it is no AuthorizationConfiguration of apiserver.config.k8s.io, but {version} {kind}"
            ));
        }
        let list = root.get("authorizers").ok_or("it has no authorizers")?;
        let items = list.items().filter(|items| !items.is_empty()).ok_or("it has no authorizers")?;
        if list.flow || root.flow {
            return Err("its authorizers stand in brackets; put each on lines of its own, behind a dash".to_owned());
        }
        let head_end = line_end(text, root.pair("authorizers").map_or(0, |(key, _)| key.span.end));
        let (mut from, mut authorizers) = (head_end, Vec::new());
        for node in items {
            let name = node.get("name").and_then(|name| name.text()).unwrap_or_default().to_owned();
            let (start, end) = (node.span.start, line_end(text, node.span.end));
            let dash = text[..start].rfind('-').filter(|dash| *dash >= from).ok_or("an authorizer has no dash")?;
            let mut written = String::new();
            for comment in text[from..line_start(text, dash)].lines() {
                written.push_str(comment.trim_start());
                written.push('\n');
            }
            let column = start - line_start(text, start);
            for (at, line) in text[start..end].lines().enumerate() {
                let space = line.len() - line.trim_start_matches(' ').len();
                let rest = if at == 0 { line } else { &line[space.min(column)..] };
                let indentation = if at == 0 { "- " } else { "  " };
                let _ = writeln!(written, "{}", format!("{indentation}{rest}").trim_end());
            }
            authorizers.push(Authorizer { name, written, node: node.clone() });
            from = end;
        }
        let mut names: Vec<&str> = authorizers.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        if let Some([twice, ..]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two of its authorizers have the name {twice:?}"));
        }
        Ok(Self { version, head: &text[..head_end], authorizers, tail: &text[from..] })
    }
}

/// Past the end of the line in which `place` is; a value that ends with its line is not followed by the next one.
fn line_end(text: &str, place: usize) -> usize {
    if place > 0 && text[..place].ends_with('\n') {
        return place;
    }
    text[place..].find('\n').map_or(text.len(), |at| place + at + 1)
}

fn line_start(text: &str, place: usize) -> usize {
    text[..place].rfind('\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests;
