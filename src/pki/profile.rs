//! The built-in profiles: specs that ship with the program, to be used as they are or built on.

use std::fmt;
use std::str::FromStr;

use super::spec::{Spec, SpecError};

/// A built-in spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// What `kubeadm init` makes.
    #[default]
    Kubeadm,
    /// The certificates of AKS enabled by Azure Arc.
    AksArc,
    /// The certificates of AKS.
    Aks,
}

impl Profile {
    /// Every profile, in the order shown to users.
    pub const ALL: [Self; 3] = [Self::Kubeadm, Self::AksArc, Self::Aks];

    /// The name in options, specs and cluster files, as `aks-arc`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubeadm => "kubeadm",
            Self::AksArc => "aks-arc",
            Self::Aks => "aks",
        }
    }

    /// The profile's own document.
    pub const fn document(self) -> &'static str {
        match self {
            Self::Kubeadm => include_str!("profiles/kubeadm.yaml"),
            Self::AksArc => include_str!("profiles/aks-arc.yaml"),
            Self::Aks => include_str!("profiles/aks.yaml"),
        }
    }

    /// The profile as a spec, what it builds on included.
    pub fn spec(self) -> Spec {
        let read: Result<Spec, SpecError> = Spec::read(self.document().as_bytes(), None);
        // Over JSON, because places in a profile would be taken for places in the document that builds on it.
        let plain = read.map_err(|error| error.to_string()).and_then(|spec| {
            serde_json::to_value(&spec).and_then(serde_json::from_value).map_err(|error| error.to_string())
        });
        plain.expect("the built-in profiles are read by the tests")
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown profile `{text}`; one of {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::lifetime::Lifetime;

    #[test]
    fn every_profile_is_a_spec_that_survives_printing() {
        for profile in Profile::ALL {
            let spec = profile.spec();
            let printed = spec.to_yaml().expect("plain values");
            let again = Spec::read(printed.as_bytes(), None).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(again.to_yaml().as_deref(), Ok(printed.as_str()));
            assert_eq!(Spec { algorithm_is_wanted: false, ..again }, spec.explicit(), "{profile}");
            assert!(spec.profile.is_none() && spec.without.is_empty());
            assert!(spec.names().all(|name| name.place().is_none()));
        }
    }

    #[test]
    fn the_profiles_differ_where_their_sources_do() {
        let [kubeadm, arc, aks] = Profile::ALL.map(Profile::spec);
        let issuer = |spec: &Spec, name: &str| spec.certificate(name).map(|leaf| leaf.issuer.to_string());
        assert_eq!(kubeadm.defaults.key_algorithm(), KeyAlgorithm::Rsa2048);
        assert_eq!(arc.defaults.key_algorithm(), KeyAlgorithm::Rsa4096);
        assert_eq!(arc.defaults.validity(), Lifetime::days(4));
        assert_eq!(aks.defaults.ca_validity(), Lifetime::days(30 * 365));
        assert_eq!(issuer(&kubeadm, "etcd-server").as_deref(), Some("etcd-ca"));
        assert_eq!(issuer(&arc, "etcd-server").as_deref(), Some("ca"));
        assert_eq!(issuer(&arc, "etcd-peer").as_deref(), Some("etcd-ca"));
        assert_eq!(arc.authority("agent-ca").and_then(|ca| ca.validity), Some(Lifetime::days(365)));
        assert_eq!(issuer(&aks, "front-proxy-client").as_deref(), Some("ca"));
        assert!(aks.authority("front-proxy-ca").is_none());
        assert!(!arc.kubeconfig("admin.conf").is_some_and(|entry| entry.managed));
        assert!(arc.kubeconfig("scheduler.conf").is_some_and(|entry| entry.managed));
    }
}
