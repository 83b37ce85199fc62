//! Flags that kubeadm gives to components whenever it writes their manifests: `extraArgs` in the ClusterConfiguration, which
//! kubeadm keeps in the config map `kube-system/kubeadm-config`.
//!
//! v1beta3 has a mapping there, v1beta4 a list of names and values (kubeadm `apis/kubeadm/v1beta4/types.go`). Everything else
//! keeps its meaning; kubeadm itself writes the text anew with every change, so comments cannot be in it.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

/// Whose flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// etcd, where kubeadm runs it.
    Etcd,
}

impl Part {
    fn path(self) -> &'static [&'static str] {
        match self {
            Self::ApiServer => &["apiServer"],
            Self::ControllerManager => &["controllerManager"],
            Self::Etcd => &["etcd", "local"],
        }
    }
}

/// One flag, by its name without dashes; without a value it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraArgument {
    /// Whose.
    pub part: Part,
    /// As `client-ca-file`.
    pub name: String,
    /// What it is to say.
    pub value: Option<String>,
}

/// The ClusterConfiguration `text` with these flags; `None` when it says so already.
///
/// # Errors
/// In words, when it is none, or of a version that kubepki does not know.
pub fn with_extra_arguments(text: &str, arguments: &[ExtraArgument]) -> Result<Option<String>, String> {
    let before: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let word = |name: &str| before.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if word("kind") != "ClusterConfiguration" {
        return Err("it is no ClusterConfiguration".to_owned());
    }
    let is_list = match word("apiVersion").as_str() {
        "kubeadm.k8s.io/v1beta1" | "kubeadm.k8s.io/v1beta2" | "kubeadm.k8s.io/v1beta3" => false,
        "kubeadm.k8s.io/v1beta4" => true,
        other => return Err(format!("its version is {other:?}, which kubepki does not know")),
    };
    let mut after = before.clone();
    for argument in arguments {
        let is_elsewhere =
            argument.part == Part::Etcd && before.get("etcd").is_some_and(|etcd| etcd.get("external").is_some());
        if !is_elsewhere {
            put(&mut after, argument, is_list)?;
        }
    }
    if after == before {
        return Ok(None);
    }
    serde_yaml::to_string(&after).map(Some).map_err(|error| error.to_string())
}

/// The ClusterConfiguration `text` without flags whose value is a path below one of `folders`; `None` when it has none.
///
/// # Errors
/// As [`with_extra_arguments`].
pub fn without_values_below(text: &str, folders: &[PathBuf]) -> Result<Option<String>, String> {
    let document: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut gone = Vec::new();
    for part in [Part::ApiServer, Part::ControllerManager, Part::Etcd] {
        let place = part.path().iter().try_fold(&document, |place, name| place.get(name));
        let Some(arguments) = place.and_then(|place| place.get("extraArgs")) else { continue };
        let pairs: Vec<(&str, &str)> = match arguments {
            Value::Mapping(map) => {
                map.iter().filter_map(|(name, value)| Some((name.as_str()?, value.as_str()?))).collect()
            }
            Value::Sequence(list) => {
                let word = |entry: &'_ Value, name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
                let own = list.iter().filter(|entry| {
                    word(entry, "value")
                        .is_some_and(|value| folders.iter().any(|folder| Path::new(&value).starts_with(folder)))
                });
                gone.extend(
                    own.filter_map(|entry| Some(ExtraArgument { part, name: word(entry, "name")?, value: None })),
                );
                continue;
            }
            _ => continue,
        };
        let own =
            pairs.into_iter().filter(|(_, value)| folders.iter().any(|folder| Path::new(value).starts_with(folder)));
        gone.extend(own.map(|(name, _)| ExtraArgument { part, name: name.to_owned(), value: None }));
    }
    with_extra_arguments(text, &gone)
}

fn put(document: &mut Value, argument: &ExtraArgument, is_list: bool) -> Result<(), String> {
    let mut place = document;
    for name in argument.part.path().iter().copied().chain(["extraArgs"]) {
        if place.is_null() {
            *place = Value::Mapping(Mapping::new());
        }
        let mapping = place.as_mapping_mut().ok_or_else(|| format!("there is no place for {name} in it"))?;
        if !mapping.contains_key(name) && argument.value.is_none() {
            return Ok(());
        }
        place = mapping.entry(name.into()).or_insert(Value::Null);
    }
    let value = argument.value.as_deref();
    if place.is_null() {
        *place = if is_list { Value::Sequence(Vec::new()) } else { Value::Mapping(Mapping::new()) };
    }
    match (place, is_list) {
        (Value::Mapping(map), false) => match value {
            Some(value) => drop(map.insert(argument.name.as_str().into(), value.into())),
            None => drop(map.shift_remove(argument.name.as_str())),
        },
        (Value::Sequence(list), true) => {
            let is_it = |entry: &Value| entry.get("name").and_then(Value::as_str) == Some(argument.name.as_str());
            let at = list.iter().position(is_it);
            list.retain(|entry| !is_it(entry));
            if let Some(value) = value {
                let entry = [("name", argument.name.as_str()), ("value", value)];
                let entry = entry.into_iter().map(|(key, value)| (Value::from(key), Value::from(value)));
                list.insert(at.unwrap_or(list.len()).min(list.len()), Value::Mapping(entry.collect()));
            }
        }
        _ => return Err("its extraArgs are of another form than its version has".to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(part: Part, name: &str, value: Option<&str>) -> ExtraArgument {
        ExtraArgument { part, name: name.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn both_forms_get_flags_and_lose_them_and_nothing_else_changes() {
        for (version, empty, expected) in [
            ("v1beta3", "{}", "extraArgs:\n    a: 1.0\n    client-ca-file: /p/t.crt\n"),
            ("v1beta4", "{}", "extraArgs:\n  - name: client-ca-file\n    value: /p/t.crt\n"),
        ] {
            let kept = if version == "v1beta3" { "apiServer:\n  extraArgs: {a: '1.0'}\n" } else { "" };
            let text = format!(
                "{kept}apiVersion: kubeadm.k8s.io/{version}\netcd:\n  local:\n    dataDir: /var/lib/etcd\nkind: ClusterConfiguration\n\
                 kubernetesVersion: v1.36.2\nproxy: {empty}\n"
            );
            let new = [
                argument(Part::ApiServer, "client-ca-file", Some("/p/t.crt")),
                argument(Part::Etcd, "client-crl-file", Some("/p/c.crl")),
            ];
            let with = with_extra_arguments(&text, &new).expect("good").expect("changed");
            assert!(with.replace('\'', "").contains(expected), "{with}");
            assert!(with.contains("dataDir: /var/lib/etcd") && with.contains("client-crl-file"), "{with}");
            assert_eq!(with_extra_arguments(&with, &new).expect("good"), None);
            let below = without_values_below(&with, &["/p".into()]).expect("good").expect("changed");
            let gone = new.map(|one| ExtraArgument { value: None, ..one });
            let back = with_extra_arguments(&with, &gone).expect("good").expect("changed");
            assert!(!back.contains("client-c"), "{back}");
            assert_eq!(below, back);
            assert_eq!(with_extra_arguments(&back, &gone).expect("good"), None);
            assert_eq!(with_extra_arguments(&text, &gone).expect("good"), None);
        }
    }

    #[test]
    fn a_flag_said_twice_is_said_once_and_etcd_elsewhere_gets_none() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: {external: {endpoints: [x]}}\n\
                    apiServer: {extraArgs: [{name: a, value: '1'}, {name: b, value: '2'}, {name: a, value: '3'}]}\n";
        let new = [argument(Part::ApiServer, "a", Some("4")), argument(Part::Etcd, "c", Some("5"))];
        let with = with_extra_arguments(text, &new).expect("good").expect("changed");
        assert_eq!(with.matches("name: a").count(), 1, "{with}");
        assert!(!with.contains("name: c") && with.contains("name: b"), "{with}");
        for odd in ["", "kind: Pod", "kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v9\n"] {
            assert!(with_extra_arguments(odd, &new).is_err(), "{odd}");
        }
        let wrong = text.replace("v1beta4", "v1beta3");
        assert!(with_extra_arguments(&wrong, &new).is_err());
    }
}
