//! A static pod's manifest as text: an annotation in it, or the value of a flag, changes what the kubelet runs; everything
//! else stays to the byte.
//!
//! The kubelet takes a static pod whose manifest says something else for another pod: it ends the old one, then starts
//! the new one (Kubernetes pkg/kubelet/config/common.go). That is how a component is made to read its files again.

use super::kubeconfig::node::Node;
use super::kubeconfig::tree::{self, colon};

/// The annotation that kubepki changes to have a pod started anew.
pub const RESTARTED_AT: &str = "kubepki.io/restarted-at";

/// The manifest `text` with the annotation `key` set to `value`, both plain words without quotes or spaces.
///
/// # Errors
/// In words, when it is no manifest of a pod that can be read.
pub fn annotated(text: &str, key: &str, value: &str) -> Result<String, String> {
    let document = tree::parse(text.as_bytes()).map_err(|problem| problem.to_string())?;
    let root = document.root.ok_or("it is empty")?;
    let kind = root.get("kind").and_then(|kind| kind.text());
    if kind != Some("Pod") {
        return Err(format!("it is no manifest of a pod, but of {}", kind.unwrap_or("something without a kind")));
    }
    let (metadata_key, metadata) = root.pair("metadata").ok_or("it has no metadata")?;
    let (at, inserted, until) = match metadata.pair("annotations") {
        Some((_, annotations)) if annotations.entries().is_some_and(|entries| !entries.is_empty()) => {
            match annotations.get(key) {
                Some(old) => (old.span.start, format!("\"{value}\""), old.span.end),
                None if annotations.flow => {
                    let after = annotations.span.start + 1;
                    (after, format!("\"{key}\": \"{value}\", "), after)
                }
                None => {
                    let (first, _) = &annotations.entries().unwrap_or_default()[0];
                    before(text, first.span.start, &format!("{key}: \"{value}\""))?
                }
            }
        }
        Some((_, empty)) if empty.entries().is_some() => {
            (empty.span.start, format!("{{\"{key}\": \"{value}\"}}"), empty.span.end)
        }
        Some((name, nothing)) if nothing.is_null() => {
            let from = colon(text, name.span.end).ok_or("its annotations have no value")?;
            (from, format!(" {{\"{key}\": \"{value}\"}}"), nothing.span.end.max(from))
        }
        Some(_) => return Err("its annotations are no mapping".to_owned()),
        None if metadata.flow => {
            let after = metadata.span.start + 1;
            (after, format!("\"annotations\": {{\"{key}\": \"{value}\"}}, "), after)
        }
        None => match metadata.entries() {
            Some([(first, _), ..]) => {
                let indentation = " ".repeat(first.span.start - line_start(text, first.span.start));
                let lines = format!("annotations:\n{indentation}  {key}: \"{value}\"");
                before(text, first.span.start, &lines)?
            }
            _ if !metadata.is_null() => return Err("its metadata is no mapping".to_owned()),
            _ => {
                let from = colon(text, metadata_key.span.end).ok_or("its metadata has no value")?;
                (from, format!(" {{\"annotations\": {{\"{key}\": \"{value}\"}}}}"), metadata.span.end.max(from))
            }
        },
    };
    let mut changed = String::with_capacity(text.len() + inserted.len());
    changed.push_str(text.get(..at).ok_or("it cannot be changed")?);
    changed.push_str(&inserted);
    changed.push_str(text.get(until..).ok_or("it cannot be changed")?);
    // Nothing is written that does not say what it should.
    let says = tree::parse(changed.as_bytes()).map_err(|problem| problem.to_string())?;
    let set = says.root.as_ref().and_then(|root| root.get("metadata")?.get("annotations")?.get(key)?.text());
    if set == Some(value) { Ok(changed) } else { Err("its annotations could not be changed".to_owned()) }
}

/// The manifest `text` with other values for flags of its program, `--name=value`, each of which has to be there, once.
///
/// # Errors
/// In words, when it is no manifest of a pod that can be read, or has one of the flags not at all or several times.
pub fn with_flags(text: &str, flags: &[(&str, &str)]) -> Result<String, String> {
    let document = tree::parse(text.as_bytes()).map_err(|problem| problem.to_string())?;
    let root = document.root.ok_or("it is empty")?;
    let words = words(&root);
    let mut edits = Vec::new();
    for (name, value) in flags {
        let is_it = |word: &str| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        let mut found = words.iter().filter(|word| word.text().is_some_and(is_it));
        let word = found.next().ok_or_else(|| format!("it has no {name}=…"))?;
        if found.next().is_some() {
            return Err(format!("it has {name} more than once"));
        }
        let is_plain = !word.flow && !text[word.span.clone()].starts_with(['"', '\'']);
        let new = format!("{name}={value}");
        let is_harmless = |letter: char| letter.is_ascii_alphanumeric() || "/._-=".contains(letter);
        let written =
            if is_plain && new.chars().all(is_harmless) { new } else { serde_json::Value::from(new).to_string() };
        edits.push((word.span.clone(), written));
    }
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut changed = text.to_owned();
    for (span, written) in edits {
        changed.replace_range(span, &written);
    }
    // Nothing is written that does not say what it should.
    let says = tree::parse(changed.as_bytes()).map_err(|problem| problem.to_string())?.root;
    let now: Vec<_> = says.iter().flat_map(self::words).filter_map(|word| word.text()).collect();
    let is_set = |(name, value): &(&str, &str)| now.contains(&format!("{name}={value}").as_str());
    if now.len() == words.len() && flags.iter().all(is_set) {
        Ok(changed)
    } else {
        Err("its flags could not be changed".to_owned())
    }
}

/// The words of the command lines in a pod.
pub(super) fn words(pod: &Node) -> Vec<&Node> {
    let containers = pod.get("spec").and_then(|spec| spec.get("containers")?.items()).unwrap_or_default();
    let lists = containers.iter().flat_map(|container| ["command", "args"].map(|name| container.get(name)));
    lists.flatten().filter_map(|list| list.items()).flatten().collect()
}

/// Whole lines in front of the one that begins, after its indentation, at `place`.
fn before(text: &str, place: usize, lines: &str) -> Result<(usize, String, usize), String> {
    let start = line_start(text, place);
    let indentation = &text[start..place];
    if !indentation.bytes().all(|byte| byte == b' ') {
        return Err("it is laid out in a way that kubepki does not change".to_owned());
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = lines.replace('\n', newline);
    Ok((start, format!("{indentation}{lines}{newline}"), start))
}

pub(super) fn line_start(text: &str, place: usize) -> usize {
    text[..place].rfind('\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarted(text: &str) -> String {
        annotated(text, RESTARTED_AT, "T1").expect("a pod")
    }

    #[test]
    fn a_manifest_without_annotations_gets_one_and_keeps_every_other_byte() {
        let text = "# mine\napiVersion: v1\nkind: Pod\nmetadata:\n  labels: {tier: a}\n  name: x\nspec: {}\n";
        let annotation = "  annotations:\n    kubepki.io/restarted-at: \"T1\"\n";
        let expected = text.replace("  labels", &format!("{annotation}  labels"));
        assert_eq!(restarted(text), expected);
        assert_eq!(annotated(&expected, RESTARTED_AT, "T2").expect("a pod"), expected.replace("T1", "T2"));
    }

    #[test]
    fn other_annotations_stay() {
        let text = "kind: Pod\nmetadata:\n  name: x\n  annotations:\n    a.b/c: 10.0.0.1:6443 # why\nspec: {}\n";
        let expected = text.replace("    a.b/c", "    kubepki.io/restarted-at: \"T1\"\n    a.b/c");
        assert_eq!(restarted(text), expected);
    }

    #[test]
    fn every_layout_that_means_the_same_is_understood() {
        for text in [
            "{\"kind\": \"Pod\", \"metadata\": {\"name\": \"x\"}}",
            "{\"kind\": \"Pod\", \"metadata\": {\"annotations\": {\"a\": \"b\"}, \"name\": \"x\"}}",
            "{\"kind\": \"Pod\", \"metadata\": {\"annotations\": {}, \"name\": \"x\"}}",
            "kind: Pod\nmetadata: {name: x, annotations: {}}\n",
            "kind: Pod\nmetadata:\n  annotations:\n  name: x\n",
            "kind: Pod\nmetadata:\n  annotations: null\n  name: x\n",
            "kind: Pod\r\nmetadata:\r\n  name: x\r\n",
            "kind: Pod\nmetadata:\n",
            "kind: Pod\nmetadata: {}\n",
        ] {
            let changed = restarted(text);
            assert_ne!(changed, text);
            assert!(annotated(&changed, RESTARTED_AT, "T2").expect("a pod").contains("T2"), "{changed}");
        }
    }

    #[test]
    fn flags_get_other_values_and_nothing_else_changes() {
        let text = "kind: Pod\nspec:\n  containers:\n  - command:\n    - kube-controller-manager\n    - --root-ca-file=/p/ca.crt # why\n    \
                    - \"--cluster-signing-cert-file=/p/ca.crt\"\n    image: x\n";
        let flags = [("--root-ca-file", "/p/k/root.crt"), ("--cluster-signing-cert-file", "/p/k/ca.crt")];
        let changed = with_flags(text, &flags).expect("it has them");
        let expected = text
            .replace("--root-ca-file=/p/ca.crt", "--root-ca-file=/p/k/root.crt")
            .replace("cert-file=/p/ca.crt", "cert-file=/p/k/ca.crt");
        assert_eq!(changed, expected);
        let back = [("--cluster-signing-cert-file", "/p/ca.crt"), ("--root-ca-file", "/p/ca.crt")];
        assert_eq!(with_flags(&changed, &back).expect("it has them"), text);
        let flow = r#"{"kind": "Pod", "spec": {"containers": [{"command": ["x", "--root-ca-file=/a b"]}]}}"#;
        let expected = flow.replace("/a b", "/c: d");
        assert_eq!(with_flags(flow, &[("--root-ca-file", "/c: d")]).expect("it has it"), expected);
    }

    #[test]
    fn a_flag_that_is_not_there_once_is_refused() {
        let text = |words: &str| format!("kind: Pod\nspec:\n  containers:\n  - command: [{words}]\n");
        for words in ["x", "x, --root-ca-file", "--root-ca-file=/a, --root-ca-file=/b", "--root-ca-files=/a"] {
            assert!(with_flags(&text(words), &[("--root-ca-file", "/c")]).is_err(), "{words}");
        }
        assert!(with_flags("", &[("--root-ca-file", "/c")]).is_err());
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for text in
            ["", "kind: Deployment\nmetadata: {}\n", "- a", "kind: Pod\n", "kind: [", "kind: Pod\nmetadata: 3\n"]
        {
            assert!(annotated(text, RESTARTED_AT, "T1").is_err(), "{text}");
        }
    }
}
