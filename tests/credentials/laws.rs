//! Laws that hold for any kubeconfig, however it is laid out.

use std::path::Path;

use kubepki::pki::kubeconfig::{DataField, Kubeconfig, Replacement};
use proptest::prelude::*;

use crate::judge::{base64, credential};

/// Names that people give, and names that YAML misreads.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9.@-]{0,8}",
        Just("yes".into()),
        Just("0x1f".into()),
        Just("a: b".into()),
        Just("é'\"".into())
    ]
}

/// One list entry in one of several layouts, with a comment now and then.
fn entry(inner: &'static str, fields: &'static str) -> impl Strategy<Value = (String, String)> {
    (name(), 0..5u8, any::<bool>()).prop_map(move |(name, layout, comment)| {
        let quoted = serde_json::to_string(&name).unwrap();
        let comment = if comment { " # kept" } else { "" };
        let block = format!("    {}{comment}\n", fields.replace(", ", &format!("{comment}\n    ")));
        let text = match layout {
            0 => format!("- {{name: {quoted}, {inner}: {{{fields}}}}}{comment}\n"),
            1 => format!("- name: {quoted}{comment}\n  {inner}:\n{block}"),
            2 => format!("- {inner}:{comment}\n{block}  x-unknown: [1e3, {{a: ~}}]\n  name: {quoted}\n"),
            3 => format!("# above\n-\n  name: {quoted}\n  {inner}: {{{fields}}}{comment}\n\n"),
            _ => format!("- name: {quoted}\n  {inner}:\n{block}    x-text: |\n      one{comment}\n\n"),
        };
        (name, text)
    })
}

fn list(key: &'static str, inner: &'static str, fields: &'static str) -> impl Strategy<Value = String> {
    (prop::collection::vec(entry(inner, fields), 0..4), any::<bool>()).prop_map(move |(entries, indented)| {
        let mut seen = std::collections::HashSet::new();
        let text: String =
            entries.into_iter().filter(|(name, _)| seen.insert(name.clone())).map(|(_, text)| text).collect();
        let shift = if indented { "  " } else { "" };
        let lines = text.lines().flat_map(|line| [shift, line, "\n"]).collect::<String>();
        if lines.is_empty() { format!("{key}: []\n") } else { format!("{key}: # list\n{lines}") }
    })
}

/// A whole kubeconfig with its parts in any order, or with some of them missing.
fn kubeconfig() -> impl Strategy<Value = String> {
    let parts = (
        list("clusters", "cluster", "server: 'https://x:1', certificate-authority-data: b2xk"),
        list("users", "user", "client-certificate-data: b2xk, client-key-data: \"b2xk\", token: '12'"),
        list("contexts", "context", "cluster: c, user: 'yes', namespace: dev"),
        Just("kind: Config\n".to_owned()),
        prop_oneof![Just("current-context: 'a' # now\n"), Just("current-context: \"\"\n"), Just("current-context:\n")],
        Just("preferences: {colors: true}\nx-mine:\n  - 1_000\n  - {a: [b]}\n"),
    );
    (parts, Just([0, 1, 2, 3, 4, 5]).prop_shuffle(), 3..=6usize, any::<bool>(), any::<bool>()).prop_map(
        |((clusters, users, contexts, kind, current, other), order, count, crlf, newline)| {
            let parts = [clusters, users, contexts, kind, current.to_owned(), other.to_owned()];
            let mut text: String = order[..count].iter().map(|index| parts[*index].as_str()).collect();
            if !newline {
                text.truncate(text.trim_end().len());
            }
            if crlf { text.replace('\n', "\r\n") } else { text }
        },
    )
}

fn lines_kept(old: &str, new: &str) -> bool {
    let mut lines = new.lines();
    old.lines().filter(|line| !line.starts_with("current-context")).all(|line| {
        let list = line.trim_end().strip_suffix(": []");
        lines.any(|found| found == line || list.is_some_and(|key| found.trim_end() == format!("{key}:")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_keeps_every_line_and_its_order_and_a_second_time_changes_nothing(old in kubeconfig(), set_current: bool) {
        let new = credential("fresh").merge_into(old.as_bytes(), set_current).unwrap();
        let text = std::str::from_utf8(&new.text).unwrap();
        prop_assert!(lines_kept(&old, text), "{old}\n-----\n{text}");
        let (before, after) = (
            Kubeconfig::parse(old.as_bytes(), Path::new("/")).unwrap(),
            Kubeconfig::parse(&new.text, Path::new("/")).unwrap(),
        );
        let count = before.users.len();
        prop_assert_eq!(format!("{:?}", &after.users[..count]), format!("{:?}", &before.users));
        prop_assert_eq!(&after.contexts[..before.contexts.len()], &before.contexts[..]);
        let current = if set_current { Some("fresh".to_owned()) } else { before.current_context };
        prop_assert_eq!(after.current_context, current);
        prop_assert_eq!(after.users[count].name.as_str(), "clusterUser_fresh");
        let again = credential("fresh").merge_into(&new.text, set_current).unwrap();
        prop_assert!(!again.changed && again.replaced.is_empty() && *again.text == *new.text);
    }

    #[test]
    fn replaced_data_is_the_only_difference(old in kubeconfig(), pick: prop::sample::Index, field in 0..3u8) {
        let config = Kubeconfig::parse(old.as_bytes(), Path::new("/")).unwrap();
        let names: Vec<String> = if field == 0 {
            config.clusters.iter().map(|cluster| cluster.name.clone()).collect()
        } else {
            config.users.iter().map(|user| user.name.clone()).collect()
        };
        if names.is_empty() {
            return Ok(());
        }
        let index = pick.index(names.len());
        let field = [DataField::CertificateAuthority, DataField::ClientCertificate, DataField::ClientKey][usize::from(field)];
        let pem = "a much longer value than before";
        let replacement = Replacement { field, entry: &names[index], pem: pem.as_bytes() };
        let new = Kubeconfig::replace_data(old.as_bytes(), &[replacement]).unwrap();
        let key = format!("{}-data", field.file_field());
        let at = old.match_indices(&key).nth(index).unwrap().0 + key.len();
        let value = at + old[at..].find("b2xk").unwrap();
        let expected = format!("{}{}{}", &old[..value], base64(pem), &old[value + 4..]);
        prop_assert_eq!(std::str::from_utf8(&new).unwrap(), expected);
    }

    #[test]
    fn an_overwritten_entry_keeps_its_place(old in kubeconfig(), pick: prop::sample::Index) {
        let config = Kubeconfig::parse(old.as_bytes(), Path::new("/")).unwrap();
        if config.users.is_empty() {
            return Ok(());
        }
        let index = pick.index(config.users.len());
        let mut names = credential("fresh").names().clone();
        names.user.clone_from(&config.users[index].name);
        let new = credential("fresh").named(names).merge_into(old.as_bytes(), true).unwrap();
        let after = Kubeconfig::parse(&new.text, Path::new("/")).unwrap();
        let order = |config: &Kubeconfig| config.users.iter().map(|user| user.name.clone()).collect::<Vec<_>>();
        prop_assert_eq!(order(&after), order(&config));
        prop_assert!(after.users[index].token.is_none());
        prop_assert_eq!(new.replaced.len(), 1);
    }

    #[test]
    fn damaged_text_is_an_error_or_an_honest_result_and_never_a_panic(
        old in kubeconfig(), cut: prop::sample::Index, flip: prop::sample::Index, byte: u8,
    ) {
        let mut bytes = old.into_bytes();
        bytes.truncate(cut.index(bytes.len() + 1));
        if !bytes.is_empty() {
            let at = flip.index(bytes.len());
            bytes[at] = byte;
        }
        let before = Kubeconfig::parse(&bytes, Path::new("/"));
        match credential("fresh").merge_into(&bytes, true) {
            Ok(new) => {
                prop_assert!(before.unwrap().problems.is_empty());
                prop_assert!(Kubeconfig::parse(&new.text, Path::new("/")).unwrap().user("clusterUser_fresh").is_some());
            }
            Err(problem) => prop_assert!(!problem.message.contains("b2xk"), "{}", problem),
        }
    }
}
