//! Flags of a static pod's program that come, go, or take each other's place; everything else stays to the byte.
//!
//! kubeadm writes each flag as a word of its own, `- --name=value`, on a line of its own. Flags written otherwise are
//! refused rather than overlooked.

use super::kubeconfig::node::Node;
use super::kubeconfig::tree;
use super::manifest::{line_start, words};

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'a> {
    /// The flag has this value, whether it was there or not.
    Set(&'a str, &'a str),
    /// The first flag goes, and the second one has this value.
    Replace(&'a str, &'a str, &'a str),
    /// The flag goes.
    Remove(&'a str),
}

/// The manifest `text` with these changes, one after the other. Names have their two dashes. What is so already stays so.
///
/// # Errors
/// In words, when it is no manifest of a pod that can be read, or has one of the flags twice or in another form.
pub fn edited(text: &str, edits: &[Edit<'_>]) -> Result<String, String> {
    edits.iter().try_fold(text.to_owned(), |text, edit| one(&text, *edit))
}

fn one(text: &str, edit: Edit<'_>) -> Result<String, String> {
    let changed = match edit {
        Edit::Set(name, value) => set(text, name, value)?,
        Edit::Replace(old, name, value) => match (find(text, old)?, find(text, name)?) {
            (Some(word), None) => put(text, &word, &written(&word, text, name, value)),
            (Some(_), Some(_)) => set(&remove(text, old)?, name, value)?,
            (None, _) => set(text, name, value)?,
        },
        Edit::Remove(name) => remove(text, name)?,
    };
    // Nothing is written that does not say what it should.
    let before = flags(text)?;
    let mut expected = before.clone();
    let (gone, new) = match edit {
        Edit::Set(name, value) => (None, Some((name, value))),
        Edit::Replace(old, name, value) => (Some(old), Some((name, value))),
        Edit::Remove(name) => (Some(name), None),
    };
    let is = |word: &str, name: &str| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
    expected.retain(|word| !gone.is_some_and(|name| is(word, name)) && !new.is_some_and(|(name, _)| is(word, name)));
    expected.extend(new.map(|(name, value)| format!("{name}={value}")));
    let mut now = flags(&changed)?;
    expected.sort();
    now.sort();
    if now == expected { Ok(changed) } else { Err("its flags could not be changed".to_owned()) }
}

fn set(text: &str, name: &str, value: &str) -> Result<String, String> {
    if let Some(word) = find(text, name)? {
        return Ok(put(text, &word, &written(&word, text, name, value)));
    }
    let root = root(text)?;
    let all = words(&root);
    let is_flag = |word: &&&Node| word.text().is_some_and(|text| text.starts_with("--"));
    let last = all.iter().rfind(is_flag).ok_or("it has no flags")?;
    if last.flow {
        let new = format!(", {}", serde_json::Value::from(format!("{name}={value}")));
        return Ok(format!("{}{new}{}", &text[..last.span.end], &text[last.span.end..]));
    }
    let start = line_start(text, last.span.start);
    let dash = &text[start..last.span.start];
    if dash.trim() != "-" {
        return Err("its flags are laid out in a way that kubepki does not change".to_owned());
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let line = format!("{dash}{}", written(last, text, name, value));
    Ok(match text[last.span.end..].find('\n') {
        Some(at) => {
            let end = last.span.end + at + 1;
            format!("{}{line}{newline}{}", &text[..end], &text[end..])
        }
        None => format!("{text}{newline}{line}{newline}"),
    })
}

fn remove(text: &str, name: &str) -> Result<String, String> {
    let Some(word) = find(text, name)? else { return Ok(text.to_owned()) };
    let start = line_start(text, word.span.start);
    if word.flow || text[start..word.span.start].trim() != "-" {
        return Err(format!("{name} does not stand on a line of its own"));
    }
    let end = text[word.span.end..].find('\n').map_or(text.len(), |at| word.span.end + at + 1);
    Ok(format!("{}{}", &text[..start], &text[end..]))
}

/// The word of a flag; `None` when there is none.
fn find(text: &str, name: &str) -> Result<Option<Node>, String> {
    let root = root(text)?;
    let all = words(&root);
    let is_it = |word: &&&Node| {
        let rest = word.text().and_then(|text| text.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let mut found = all.iter().filter(is_it);
    let Some(word) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(format!("it has {name} more than once"));
    }
    if word.text().is_some_and(|text| text == name) {
        return Err(format!("the value of {name} is a word of its own; kubepki changes `{name}=value`"));
    }
    Ok(Some((*word).clone()))
}

fn root(text: &str) -> Result<Node, String> {
    let root = tree::parse(text.as_bytes()).map_err(|problem| problem.to_string())?.root.ok_or("it is empty")?;
    match root.get("kind").and_then(|kind| kind.text()) {
        Some("Pod") => Ok(root),
        other => Err(format!("it is no manifest of a pod, but of {}", other.unwrap_or("something without a kind"))),
    }
}

/// All words of the command lines, in order.
fn flags(text: &str) -> Result<Vec<String>, String> {
    let root = root(text)?;
    Ok(words(&root).into_iter().filter_map(|word| word.text()).map(str::to_owned).collect())
}

fn put(text: &str, word: &Node, new: &str) -> String {
    format!("{}{new}{}", &text[..word.span.start], &text[word.span.end..])
}

/// The word as it is written in the place of `word`: plain where that is, if it can be.
fn written(word: &Node, text: &str, name: &str, value: &str) -> String {
    let new = format!("{name}={value}");
    let is_plain = !word.flow && !text[word.span.clone()].starts_with(['"', '\'']);
    let is_harmless = |letter: char| letter.is_ascii_alphanumeric() || "/._-=".contains(letter);
    if is_plain && new.chars().all(is_harmless) { new } else { serde_json::Value::from(new).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "kind: Pod\nspec:\n  containers:\n  - command:\n    - kube-apiserver\n    - --a=1 # why\n    \
                       - --authorization-mode=Node,RBAC\n    image: x\n";

    #[test]
    fn a_flag_comes_takes_the_place_of_another_and_goes_and_every_other_byte_stays() {
        let mode = Edit::Replace("--authorization-mode", "--authorization-config", "/p/a.yaml");
        let once = edited(POD, &[mode]).expect("a pod");
        assert_eq!(once, POD.replace("mode=Node,RBAC", "config=/p/a.yaml"));
        assert_eq!(edited(&once, &[mode]).expect("a pod"), once, "it is so already");
        let crl = Edit::Set("--client-crl-file", "/p/c.crl");
        let with = edited(&once, &[crl]).expect("a pod");
        assert_eq!(with, once.replace("a.yaml\n", "a.yaml\n    - --client-crl-file=/p/c.crl\n"));
        assert_eq!(edited(&with, &[Edit::Remove("--client-crl-file")]).expect("a pod"), once);
        assert_eq!(edited(&with, &[Edit::Set("--a", "b c")]).expect("a pod"), with.replace("--a=1", "\"--a=b c\""));
        assert_eq!(edited(POD, &[Edit::Remove("--none")]).expect("a pod"), POD);
    }

    #[test]
    fn json_is_changed_as_well_and_what_is_odd_is_refused() {
        let flow = r#"{"kind": "Pod", "spec": {"containers": [{"command": ["x", "--a=1"]}]}}"#;
        let expected = flow.replace("\"--a=1\"", "\"--a=1\", \"--b=2\"");
        assert_eq!(edited(flow, &[Edit::Set("--b", "2")]).expect("a pod"), expected);
        assert!(edited(flow, &[Edit::Remove("--a")]).is_err());
        let pod = |words: &str| format!("kind: Pod\nspec:\n  containers:\n  - command: [{words}]\n");
        for words in ["x", "x, --a, b", "--a=1, --a=2"] {
            assert!(edited(&pod(words), &[Edit::Set("--a", "1")]).is_err(), "{words}");
        }
        assert!(edited("kind: Job\n", &[Edit::Set("--a", "1")]).is_err() && edited("", &[]).is_ok());
    }
}
