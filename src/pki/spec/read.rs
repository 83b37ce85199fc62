//! Documents to specs: parsed, put on top of the profile they build on, changed by options, checked.

use std::str::FromStr;

use serde_saphyr::budget::BudgetBreach;

use super::{
    API_VERSION, Authority, Cluster, Defaults, KIND, Kubeconfig, LARGEST, Leaf, Node, Place, Spec, SpecError, Text,
};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::lifetime::Lifetime;
use crate::pki::profile::Profile;
use crate::pki::san::San;

/// What options say instead of the spec.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--key-algorithm`.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// `--ca-validity`.
    pub ca_validity: Option<Lifetime>,
    /// `--validity`.
    pub validity: Option<Lifetime>,
    /// `--san`: further names of the API server's certificate.
    pub sans: Vec<San>,
    /// `--control-plane-endpoint`.
    pub control_plane_endpoint: Option<String>,
    /// `--advertise-address`.
    pub advertise_address: Option<String>,
    /// `--node-name`.
    pub node_name: Option<String>,
    /// `--service-subnet`.
    pub service_subnet: Option<String>,
    /// `--service-dns-domain`.
    pub dns_domain: Option<String>,
}

impl Spec {
    /// Reads a document and puts it on top of the profile it names, or of `base` if it names none. Without either it
    /// stands alone.
    ///
    /// # Errors
    /// When the document is too long, no YAML, or not a spec that makes sense; with line and column where it is known.
    pub fn read(document: &[u8], base: Option<Profile>) -> Result<Self, SpecError> {
        let mut spec = Self::parse(document)?;
        expect(&spec.api_version, API_VERSION, "apiVersion")?;
        expect(&spec.kind, KIND, "kind")?;
        let named = match spec.profile.take() {
            Some(name) => Some(Profile::from_str(&name).map_err(|error| SpecError::at(name.place(), error))?),
            None => None,
        };
        if let (Some(named), Some(base)) = (named, base)
            && named != base
        {
            let message = format!("the spec builds on profile {named}, --profile says {base}");
            return Err(SpecError::at(None, message).hint("leave --profile out"));
        }
        let wanted = spec.defaults.key_algorithm.is_some();
        if let Some(profile) = named.or(base) {
            spec = spec.on_top_of(profile.spec())?;
        } else if let Some(name) = spec.without.first() {
            let message = "`without` leaves out entries of a profile, and this spec builds on none";
            return Err(SpecError::at(name.place(), message).hint("add `profile: kubeadm`"));
        }
        spec.algorithm_is_wanted = wanted;
        spec.check()?;
        Ok(spec)
    }

    fn parse(document: &[u8]) -> Result<Self, SpecError> {
        if document.len() > LARGEST {
            return Err(SpecError::at(None, format!("the document is longer than {} KiB", LARGEST / 1024)));
        }
        let text = std::str::from_utf8(document).map_err(|error| {
            let line = document[..error.valid_up_to()].split(|byte| *byte == b'\n').count() as u64;
            SpecError::at(Some(Place { line, column: 1 }), "the document is not UTF-8")
        })?;
        // Anchors are of no use in so flat a document, and a few of them can be made to stand for gigabytes.
        let budget = serde_saphyr::budget! { max_documents: 1, max_anchors: 0, max_aliases: 0, max_merge_keys: 0 };
        let options = serde_saphyr::options! { budget: budget, with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| fault(&error, text))
    }

    fn on_top_of(mut self, mut base: Self) -> Result<Self, SpecError> {
        for name in &self.without {
            if !base.names().any(|known| known == name) {
                let message = format!("`without` names `{name}`, which the profile does not have");
                return Err(SpecError::at(name.place(), message));
            }
        }
        let without = std::mem::take(&mut self.without);
        let keeps = |name: &Text| !without.contains(name);
        base.authorities.retain(|entry| keeps(&entry.name));
        base.certificates.retain(|entry| keeps(&entry.name));
        base.service_account_keys.retain(|entry| keeps(&entry.name));
        base.kubeconfigs.retain(|entry| keeps(&entry.name));
        Ok(Self {
            metadata: self.metadata.or(base.metadata),
            cluster: Cluster {
                name: self.cluster.name.or(base.cluster.name),
                control_plane_endpoint: self.cluster.control_plane_endpoint.or(base.cluster.control_plane_endpoint),
                api_server_port: self.cluster.api_server_port.or(base.cluster.api_server_port),
                service_subnet: self.cluster.service_subnet.or(base.cluster.service_subnet),
                dns_domain: self.cluster.dns_domain.or(base.cluster.dns_domain),
            },
            node: Node { name: self.node.name.or(base.node.name), address: self.node.address.or(base.node.address) },
            defaults: Defaults {
                key_algorithm: self.defaults.key_algorithm.or(base.defaults.key_algorithm),
                ca_validity: self.defaults.ca_validity.or(base.defaults.ca_validity),
                validity: self.defaults.validity.or(base.defaults.validity),
                backdating: self.defaults.backdating.or(base.defaults.backdating),
            },
            authorities: merge(base.authorities, self.authorities, |entry: &Authority| &entry.name),
            certificates: merge(base.certificates, self.certificates, |entry: &Leaf| &entry.name),
            service_account_keys: merge(base.service_account_keys, self.service_account_keys, |entry| &entry.name),
            kubeconfigs: merge(base.kubeconfigs, self.kubeconfigs, |entry: &Kubeconfig| &entry.name),
            ..self
        })
    }

    /// The spec with what options say instead. The key algorithm and the validities replace the defaults; an entry that
    /// has its own keeps it.
    ///
    /// # Errors
    /// When a value makes no sense, or there is no `apiserver` for further names.
    pub fn with(mut self, options: Overrides) -> Result<Self, SpecError> {
        self.algorithm_is_wanted |= options.key_algorithm.is_some();
        self.defaults.key_algorithm = options.key_algorithm.or(self.defaults.key_algorithm);
        self.defaults.ca_validity = options.ca_validity.or(self.defaults.ca_validity);
        self.defaults.validity = options.validity.or(self.defaults.validity);
        for (value, field) in [
            (options.control_plane_endpoint, &mut self.cluster.control_plane_endpoint),
            (options.service_subnet, &mut self.cluster.service_subnet),
            (options.dns_domain, &mut self.cluster.dns_domain),
            (options.node_name, &mut self.node.name),
            (options.advertise_address, &mut self.node.address),
        ] {
            if let Some(value) = value {
                *field = Some(Text::from(value.as_str()));
            }
        }
        if !options.sans.is_empty() {
            let Some(server) = self.certificates.iter_mut().find(|entry| &*entry.name == "apiserver") else {
                let message = "--san adds names to the certificate `apiserver`, which this spec does not have";
                return Err(SpecError::at(None, message).hint("add them to `sans` in the spec"));
            };
            for san in options.sans {
                // With its kind in front: `IP:` and `URI:` survive printing, whatever they look like.
                let text = Text::from(san.to_string().as_str());
                if !server.sans.contains(&text) {
                    server.sans.push(text);
                }
            }
        }
        self.check()?;
        Ok(self)
    }
}

fn expect(found: &Text, wanted: &str, field: &str) -> Result<(), SpecError> {
    if **found == *wanted {
        return Ok(());
    }
    Err(SpecError::at(found.place(), format!("{field} is `{found}`, expected `{wanted}`")))
}

/// The entries of `base` with those of `top` in the place of their namesakes, and the others behind.
fn merge<T>(base: Vec<T>, top: Vec<T>, name: fn(&T) -> &Text) -> Vec<T> {
    let inherited = base.len();
    let mut merged = base;
    let mut replaced = vec![false; inherited];
    for entry in top {
        // Each inherited entry is replaced once: two of the same document are a duplicate, which the check reports.
        match (0..inherited).find(|at| !replaced[*at] && name(&merged[*at]) == name(&entry)) {
            Some(at) => {
                merged[at] = entry;
                replaced[at] = true;
            }
            None => merged.push(entry),
        }
    }
    merged
}

fn fault(error: &serde_saphyr::Error, text: &str) -> SpecError {
    let place = error
        .location()
        .filter(|location| location.line() > 0)
        .map(|location| Place { line: location.line(), column: location.column() });
    let formatter = serde_saphyr::DefaultMessageFormatter;
    let message = match error.without_snippet() {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => {
            "anchors and aliases are not for specs; write the value out".to_owned()
        }
        other => serde_saphyr::MessageFormatter::format_message(&formatter, other).into_owned(),
    };
    let fault = SpecError::at(place, message);
    let line = place.and_then(|place| text.lines().nth(usize::try_from(place.line).ok()?.saturating_sub(1)));
    // YAML takes an unquoted template for a mapping in a mapping.
    if line.is_some_and(|line| line.contains("{{") && !line.contains("\"{{") && !line.contains("'{{")) {
        return fault.hint("quote templates: \"{{node.name}}\"");
    }
    fault
}
