//! Templates in specs: `{{node.name}}` and the few other values that differ from node to node or cluster to cluster.
//!
//! No expressions, no defaults, no escapes: a value either is in the list or the spec is wrong.

/// What a template may name, with its meaning.
pub const VARIABLES: [(&str, &str); 8] = [
    ("node.name", "name of the node"),
    ("node.address", "address of the node"),
    ("node.endpoint", "address and API server port of the node"),
    ("cluster.name", "name of the cluster"),
    ("cluster.controlPlaneEndpoint", "host and port of the control plane"),
    ("cluster.controlPlaneHost", "host of the control plane"),
    ("cluster.dnsDomain", "domain of services"),
    ("cluster.serviceAddress", "first address of the service network"),
];

/// Whether `text` has templates in it.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("}}")
}

/// Replaces every template in `text` by what `value` says.
///
/// # Errors
/// When braces do not match, or `value` does not know a name.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").ok_or_else(|| format!("`{text}` has `{{{{` without `}}}}`"))?;
        let name = rest[start + 2..start + end].trim();
        push_plain(&mut expanded, &rest[..start], text)?;
        expanded.push_str(&value(name).ok_or_else(|| unknown(name))?);
        rest = &rest[start + end + 2..];
    }
    push_plain(&mut expanded, rest, text)?;
    Ok(expanded)
}

/// Checks that `text` can be expanded, without values.
///
/// # Errors
/// As [`expand`].
pub fn check(text: &str) -> Result<(), String> {
    expand(text, |name| VARIABLES.iter().any(|(known, _)| *known == name).then(String::new)).map(drop)
}

fn push_plain(expanded: &mut String, plain: &str, text: &str) -> Result<(), String> {
    if plain.contains("}}") {
        return Err(format!("`{text}` has `}}}}` without `{{{{`"));
    }
    expanded.push_str(plain);
    Ok(())
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = VARIABLES.iter().map(|(known, _)| *known).collect();
    format!("unknown template `{{{{{name}}}}}`; one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_wherever_they_stand() {
        let value = |name: &str| (name == "node.name").then(|| "cp1".to_owned());
        assert_eq!(expand("system:node:{{node.name}}", value), Ok("system:node:cp1".into()));
        assert_eq!(expand("{{ node.name }}{{node.name}}.x", value), Ok("cp1cp1.x".into()));
        assert_eq!(expand("plain {x}", value), Ok("plain {x}".into()));
    }

    #[test]
    fn unknown_names_and_lonely_braces_are_faults() {
        assert!(
            check("{{node.nmae}}").is_err_and(|error| error.contains("{{node.nmae}}") && error.contains("node.name"))
        );
        for text in ["{{node.name", "node.name}}", "{{node.name}} }}", "{{}}", "{{ {{node.name}} }}"] {
            assert!(check(text).is_err(), "{text}");
        }
        for (name, _) in VARIABLES {
            assert_eq!(check(&format!("a{{{{{name}}}}}b")), Ok(()));
        }
    }
}
