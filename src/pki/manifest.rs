//! A static pod's manifest as text: an annotation in it changes what the kubelet runs, everything else stays to the byte.
//!
//! The kubelet takes a static pod whose manifest says something else for another pod: it ends the old one, then starts
//! the new one (Kubernetes pkg/kubelet/config/common.go). That is how a component is made to read its files again.

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

fn line_start(text: &str, place: usize) -> usize {
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
    fn what_is_no_pod_is_refused() {
        for text in
            ["", "kind: Deployment\nmetadata: {}\n", "- a", "kind: Pod\n", "kind: [", "kind: Pod\nmetadata: 3\n"]
        {
            assert!(annotated(text, RESTARTED_AT, "T1").is_err(), "{text}");
        }
    }
}
