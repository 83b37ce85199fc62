//! `--only`: which certificates, authorities and keys a rotation is about.
//!
//! A scope is a class (`ca`, `leaf`, `sa`) or a name, as `check-expiry` prints it. An unknown name is an error that lists
//! the known ones, because a rotation of nothing must not look like a success.

use std::convert::Infallible;
use std::path::Path;
use std::str::FromStr;

use crate::error::Failure;

/// One value of `--only`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// `ca`: every certificate authority, and so everything they signed.
    Authorities,
    /// `leaf`: every certificate that is no authority's, in files and kubeconfigs.
    Leaves,
    /// `sa`: the keys that sign service-account tokens.
    ServiceAccounts,
    /// One certificate, authority or key pair by its name or absolute path.
    Named(String),
}

impl FromStr for Scope {
    type Err = Infallible;

    /// Reads the contract's words; `cluster-ca` is kubeadm's `ca`, whose own name means all authorities here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            "ca" => Self::Authorities,
            "leaf" => Self::Leaves,
            "sa" => Self::ServiceAccounts,
            "cluster-ca" => Self::Named("ca".to_owned()),
            name => Self::Named(name.to_owned()),
        })
    }
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A certificate authority.
    Authority,
    /// A certificate that is no authority's.
    Leaf,
    /// A key pair that signs service-account tokens.
    ServiceAccount,
}

/// Something that can be selected.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What it is.
    pub class: Class,
    /// Its name, as `apiserver`.
    pub name: &'a str,
    /// Its file.
    pub path: &'a Path,
}

/// All values of `--only`; none means everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(pub Vec<Scope>);

impl Scopes {
    /// Whether nothing was singled out.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `candidate` is meant.
    pub fn contain(&self, candidate: Candidate<'_>) -> bool {
        self.is_everything() || self.0.iter().any(|scope| scope.means(candidate))
    }

    /// Whether `candidate` is meant by its own name, not only by its class.
    pub fn name(&self, candidate: Candidate<'_>) -> bool {
        self.0.iter().any(|scope| matches!(scope, Scope::Named(_)) && scope.means(candidate))
    }

    /// Refuses a value that means nothing among `candidates`.
    ///
    /// # Errors
    /// Exit code 3: the message names the value, the hint the nearest known name and all of them.
    pub fn check(&self, candidates: &[Candidate<'_>]) -> Result<(), Failure> {
        let found = |scope: &&Scope| candidates.iter().any(|candidate| scope.means(*candidate));
        let Some(missing) = self.0.iter().find(|scope| !found(scope)) else { return Ok(()) };
        let known = known_names(candidates);
        Err(match missing {
            Scope::Authorities => Failure::not_found("there is no certificate authority here"),
            Scope::Leaves => Failure::not_found("there is no certificate here that is not an authority's"),
            Scope::ServiceAccounts => Failure::not_found("there is no service-account key here"),
            Scope::Named(name) if name == "ca" => Failure::not_found("there is no cluster CA (`ca`) here"),
            Scope::Named(name) => Failure::not_found(format!("there is no certificate `{name}` here")),
        }
        .hint(advice(missing, &known)))
    }
}

impl Scope {
    fn means(&self, candidate: Candidate<'_>) -> bool {
        match self {
            Self::Authorities => candidate.class == Class::Authority,
            Self::Leaves => candidate.class == Class::Leaf,
            Self::ServiceAccounts => candidate.class == Class::ServiceAccount,
            Self::Named(name) => {
                // A file that has no id may be named without its ending as well.
                let has_id = candidate.path.file_name().is_none_or(|file| file != candidate.name);
                let is_stem = || !has_id && candidate.path.file_stem().is_some_and(|stem| *stem == **name);
                candidate.name == name || candidate.path == Path::new(name) || is_stem()
            }
        }
    }
}

/// The values `--only` takes for these candidates: the three classes, then every name once.
pub fn known_names(candidates: &[Candidate<'_>]) -> Vec<String> {
    let classes = [(Class::Authority, "ca"), (Class::Leaf, "leaf"), (Class::ServiceAccount, "sa")];
    let mut known: Vec<String> = classes
        .into_iter()
        .filter(|(class, _)| candidates.iter().any(|candidate| candidate.class == *class))
        .map(|(_, word)| word.to_owned())
        .collect();
    for candidate in candidates {
        let is_cluster_ca = candidate.class == Class::Authority && candidate.name == "ca";
        let name = if is_cluster_ca { "cluster-ca" } else { candidate.name };
        if !known.iter().any(|other| other == name) {
            known.push(name.to_owned());
        }
    }
    known
}

fn advice(missing: &Scope, known: &[String]) -> String {
    if known.is_empty() {
        return "nothing that can be rotated was found; `kubepki check-expiry` shows what was read".to_owned();
    }
    let all = format!("known: {}", known.join(", "));
    let Scope::Named(name) = missing else { return all };
    let similar = |other: &&String| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    match known.iter().max_by(|a, b| similar(a).total_cmp(&similar(b))).filter(|best| similar(best) > 0.8) {
        Some(best) => format!("did you mean `{best}`? {all}"),
        None => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ExitCode, exit_code, hints};

    fn scopes(words: &[&str]) -> Scopes {
        let Ok(scopes) = words.iter().map(|word| word.parse()).collect::<Result<_, Infallible>>();
        Scopes(scopes)
    }

    fn candidates() -> Vec<Candidate<'static>> {
        [
            (Class::Authority, "ca", "/pki/ca.crt"),
            (Class::Authority, "etcd-ca", "/pki/etcd/ca.crt"),
            (Class::Leaf, "apiserver", "/pki/apiserver.crt"),
            (Class::Leaf, "admin.conf", "/admin.conf"),
            (Class::ServiceAccount, "sa", "/pki/sa.pub"),
            (Class::Leaf, "web.crt", "/pki/web.crt"),
        ]
        .map(|(class, name, path)| Candidate { class, name, path: Path::new(path) })
        .to_vec()
    }

    fn chosen(words: &[&str]) -> Vec<&'static str> {
        let scopes = scopes(words);
        candidates()
            .into_iter()
            .filter(|candidate| scopes.contain(*candidate))
            .map(|candidate| candidate.name)
            .collect()
    }

    #[test]
    fn classes_and_names_choose_what_they_say() {
        assert_eq!(chosen(&[]).len(), 6);
        assert_eq!(chosen(&["ca"]), ["ca", "etcd-ca"]);
        assert_eq!(chosen(&["cluster-ca"]), ["ca"]);
        assert_eq!(chosen(&["leaf"]), ["apiserver", "admin.conf", "web.crt"]);
        assert_eq!(chosen(&["sa"]), ["sa"]);
        assert_eq!(chosen(&["web"]), ["web.crt"]);
        assert_eq!(chosen(&["etcd-ca", "/admin.conf"]), ["etcd-ca", "admin.conf"]);
    }

    #[test]
    fn an_unknown_name_is_not_found_and_the_nearest_one_is_offered() {
        let error = anyhow::Error::from(scopes(&["leaf", "api-server"]).check(&candidates()).expect_err("unknown"));
        assert_eq!(exit_code(&error), ExitCode::NotFound);
        let hint = "did you mean `apiserver`? known: ca, leaf, sa, cluster-ca, etcd-ca, apiserver, admin.conf, web.crt";
        assert_eq!(hints(&error), [hint]);
        assert!(scopes(&["ca", "leaf", "sa", "apiserver"]).check(&candidates()).is_ok());
    }

    #[test]
    fn a_class_without_members_is_not_found() {
        let error = scopes(&["sa"]).check(&candidates()[..1]).expect_err("no keys");
        assert_eq!(error.to_string(), "there is no service-account key here");
        assert!(scopes(&[]).check(&[]).is_ok());
    }
}
