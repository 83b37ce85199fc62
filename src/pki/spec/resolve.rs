//! Entries of a spec for one node: templates replaced, subjects and names as they will be written.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Authority, Kubeconfig, Leaf, Spec, SpecError, Text, template};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::lifetime::Lifetime;
use crate::pki::name::Name;
use crate::pki::san::San;
use crate::pki::usage::ExtendedKeyUsage;

/// What a spec needs to know about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeValues {
    /// The node's name.
    pub name: String,
    /// The address its components are reached at.
    pub address: IpAddr,
}

/// An authority as it will be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedAuthority {
    /// Its subject.
    pub subject: Name,
    /// Its names.
    pub sans: Vec<San>,
    /// How long it is valid from the moment of issuing.
    pub validity: Lifetime,
    /// Of its key.
    pub algorithm: KeyAlgorithm,
}

/// A leaf as it will be made on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedLeaf {
    /// Its subject.
    pub subject: Name,
    /// Its names, in Go's order: DNS names sorted, then mail addresses, addresses and URIs as the spec has them.
    pub sans: Vec<San>,
    /// Its extended key usages.
    pub usages: Vec<ExtendedKeyUsage>,
    /// How long it is valid from the moment of issuing.
    pub validity: Lifetime,
    /// Of its key.
    pub algorithm: KeyAlgorithm,
}

/// A kubeconfig as it will be made on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedKubeconfig {
    /// Its client certificate.
    pub client: ResolvedLeaf,
    /// URL of the API server.
    pub server: String,
    /// Name of the cluster entry.
    pub cluster: String,
    /// Name of the user entry.
    pub user: String,
    /// Name of the context entry.
    pub context: String,
}

impl Spec {
    /// An authority, the same on every node.
    ///
    /// # Errors
    /// When a name is none once its templates are replaced.
    pub fn resolve_authority(&self, entry: &Authority) -> Result<ResolvedAuthority, SpecError> {
        // The check has seen that nothing of the node is asked for.
        let nobody = NodeValues { name: String::new(), address: IpAddr::from([0, 0, 0, 0]) };
        Ok(ResolvedAuthority {
            subject: self.subject(&entry.common_name, &entry.organizations, &nobody)?,
            sans: self.sans(&entry.sans, &nobody)?,
            validity: entry.validity.unwrap_or_else(|| self.defaults.ca_validity()),
            algorithm: entry.key_algorithm.unwrap_or_else(|| self.defaults.key_algorithm()),
        })
    }

    /// A certificate on `node`.
    ///
    /// # Errors
    /// As [`Spec::resolve_authority`].
    pub fn resolve_leaf(&self, entry: &Leaf, node: &NodeValues) -> Result<ResolvedLeaf, SpecError> {
        Ok(ResolvedLeaf {
            subject: self.subject(&entry.common_name, &entry.organizations, node)?,
            sans: self.sans(&entry.sans, node)?,
            usages: entry.usages.clone(),
            validity: entry.validity.unwrap_or_else(|| self.defaults.validity()),
            algorithm: entry.key_algorithm.unwrap_or_else(|| self.defaults.key_algorithm()),
        })
    }

    /// A kubeconfig on `node`. Entries are named as kubeadm names them.
    ///
    /// # Errors
    /// As [`Spec::resolve_authority`].
    pub fn resolve_kubeconfig(&self, entry: &Kubeconfig, node: &NodeValues) -> Result<ResolvedKubeconfig, SpecError> {
        let client = ResolvedLeaf {
            subject: self.subject(&entry.common_name, &entry.organizations, node)?,
            sans: Vec::new(),
            usages: vec![ExtendedKeyUsage::ClientAuth],
            validity: entry.validity.unwrap_or_else(|| self.defaults.validity()),
            algorithm: entry.key_algorithm.unwrap_or_else(|| self.defaults.key_algorithm()),
        };
        let (cluster, user) = (self.cluster.name().to_owned(), self.expand(&entry.common_name, node)?);
        let context = format!("{user}@{cluster}");
        Ok(ResolvedKubeconfig { client, server: self.expand(&entry.server, node)?, cluster, user, context })
    }

    fn subject(&self, common_name: &Text, organizations: &[Text], node: &NodeValues) -> Result<Name, SpecError> {
        let organizations: Vec<String> =
            organizations.iter().map(|text| self.expand(text, node)).collect::<Result<_, _>>()?;
        Ok(Name::new(&self.expand(common_name, node)?, &organizations))
    }

    fn sans(&self, texts: &[Text], node: &NodeValues) -> Result<Vec<San>, SpecError> {
        let mut sans = Vec::new();
        for text in texts {
            let expanded = self.expand(text, node)?;
            let san = San::parse(&expanded).map_err(|error| SpecError::at(text.place(), format!("sans: {error}")))?;
            if !sans.contains(&san) {
                sans.push(san);
            }
        }
        // Go writes the kinds in this order, and kubeadm sorts the DNS names (pki_helpers.go, RemoveDuplicateAltNames).
        let kind = |san: &San| match san {
            San::Dns(_) => 0,
            San::Email(_) => 1,
            San::Ip(_) => 2,
            San::Uri(_) | San::Other(_) => 3,
        };
        sans.sort_by(|one, other| match (one, other) {
            (San::Dns(one), San::Dns(other)) => one.cmp(other),
            _ => kind(one).cmp(&kind(other)),
        });
        Ok(sans)
    }

    fn expand(&self, text: &Text, node: &NodeValues) -> Result<String, SpecError> {
        template::expand(text, |name| self.value(name, node)).map_err(|error| SpecError::at(text.place(), error))
    }

    /// What a template stands for on `node`.
    fn value(&self, name: &str, node: &NodeValues) -> Option<String> {
        let cluster = &self.cluster;
        let port = cluster.api_server_port();
        let own = || host_and_port(&node.address.to_string(), port);
        let control_plane = cluster.control_plane_endpoint.as_ref().and_then(|text| endpoint(text, port).ok());
        Some(match name {
            "node.name" => node.name.clone(),
            "node.address" => node.address.to_string(),
            "node.endpoint" => own(),
            "cluster.name" => cluster.name().to_owned(),
            "cluster.controlPlaneEndpoint" => control_plane.map_or_else(own, |(host, port)| host_and_port(&host, port)),
            "cluster.controlPlaneHost" => control_plane.map_or_else(|| node.address.to_string(), |(host, _)| host),
            "cluster.dnsDomain" => cluster.dns_domain().to_owned(),
            "cluster.serviceAddress" => service_address(cluster.service_subnet()).ok()?.to_string(),
            _ => return None,
        })
    }
}

/// `host:port`, an IPv6 address in brackets.
fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host and port of `HOST[:PORT]`; an IPv6 address may stand with or without brackets, with a port only within them.
pub(super) fn endpoint(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let wrong = || format!("`{text}` is no HOST[:PORT]");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_string(), default_port));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            let address: std::net::Ipv6Addr = host.parse().map_err(|_| wrong())?;
            (address.to_string(), if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            match San::parse(host) {
                Ok(San::Dns(name)) if !name.starts_with('*') => (name, port),
                Ok(San::Ip(address)) => (address.to_string(), port),
                _ => return Err(wrong()),
            }
        }
    };
    let port = port.map_or(Ok(default_port), |port| port.parse::<u16>().map_err(|_| wrong()))?;
    if port == 0 { Err(wrong()) } else { Ok((host, port)) }
}

/// The first address of the first of one or two networks: the one the API server has as a service.
pub(super) fn service_address(subnets: &str) -> Result<IpAddr, String> {
    let networks: Vec<IpNet> = subnets
        .split(',')
        .map(|text| text.trim().parse().map_err(|_| format!("`{text}` is no network; write it as 10.96.0.0/12")))
        .collect::<Result<_, _>>()?;
    let both = |networks: &[IpNet]| networks[0].addr().is_ipv4() != networks[1].addr().is_ipv4();
    if networks.len() > 2 || networks.len() == 2 && !both(&networks) {
        return Err(format!("`{subnets}`: two networks are one of IPv4 and one of IPv6"));
    }
    let Some(first) = networks.first() else { return Err(format!("`{subnets}` is no network")) };
    match first.trunc() {
        IpNet::V4(network) if network.prefix_len() <= 30 => {
            Ok(IpAddr::from(u32::from(network.network()).saturating_add(1).to_be_bytes()))
        }
        IpNet::V6(network) if network.prefix_len() <= 126 => {
            Ok(IpAddr::from(u128::from(network.network()).saturating_add(1).to_be_bytes()))
        }
        _ => Err(format!("`{first}` is too small for services")),
    }
}

/// A name as Kubernetes takes it for nodes and domains: lower-case DNS labels.
pub(super) fn dns_name(text: &str) -> Result<(), String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(())
    } else {
        Err(format!("`{text}` is no DNS name in lower case"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::profile::Profile;
    use crate::pki::spec::Overrides;

    fn cp1() -> NodeValues {
        NodeValues { name: "cp1".into(), address: "10.0.0.5".parse().expect("address") }
    }

    fn server(spec: &Spec, node: &NodeValues) -> Vec<String> {
        let entry = spec.certificate("apiserver").expect("in every profile");
        spec.resolve_leaf(entry, node).expect("resolves").sans.iter().map(San::to_string).collect()
    }

    #[test]
    fn the_api_server_has_kubeadms_names_in_kubeadms_order() {
        let options = Overrides {
            sans: vec![San::Dns("extra.example.com".into()), San::Ip("192.0.2.9".parse().expect("address"))],
            control_plane_endpoint: Some("api.example.com:8443".into()),
            service_subnet: Some("10.96.0.0/12,fd00::/108".into()),
            ..Overrides::default()
        };
        let spec = Profile::Kubeadm.spec().with(options).expect("good options");
        assert_eq!(
            server(&spec, &cp1()),
            [
                "DNS:api.example.com",
                "DNS:cp1",
                "DNS:extra.example.com",
                "DNS:kubernetes",
                "DNS:kubernetes.default",
                "DNS:kubernetes.default.svc",
                "DNS:kubernetes.default.svc.cluster.local",
                "IP:10.96.0.1",
                "IP:10.0.0.5",
                "IP:192.0.2.9"
            ]
        );
        let admin = spec.resolve_kubeconfig(spec.kubeconfig("admin.conf").expect("admin"), &cp1()).expect("resolves");
        assert_eq!(admin.server, "https://api.example.com:8443");
        assert_eq!(admin.context, "kubernetes-admin@kubernetes");
        let local =
            spec.resolve_kubeconfig(spec.kubeconfig("scheduler.conf").expect("local"), &cp1()).expect("resolves");
        assert_eq!(local.server, "https://10.0.0.5:6443");
    }

    #[test]
    fn without_an_endpoint_the_node_stands_for_the_control_plane() {
        let node = NodeValues { name: "cp1".into(), address: "fd00::5".parse().expect("address") };
        let options = Overrides { service_subnet: Some("fd01::/108,10.96.0.0/12".into()), ..Overrides::default() };
        let spec = Profile::Kubeadm.spec().with(options).expect("good options");
        assert_eq!(server(&spec, &node)[5..], ["IP:fd01::1", "IP:fd00::5"]);
        let admin = spec.resolve_kubeconfig(spec.kubeconfig("admin.conf").expect("admin"), &node).expect("resolves");
        assert_eq!(admin.server, "https://[fd00::5]:6443");
    }

    #[test]
    fn endpoints_and_networks_are_read_in_every_form() {
        for (text, host, port) in [
            ("api.example.com", "api.example.com", 6443),
            ("10.0.0.1:8443", "10.0.0.1", 8443),
            ("fd00::1", "fd00::1", 6443),
            ("[fd00::1]", "fd00::1", 6443),
            ("[fd00::1]:8443", "fd00::1", 8443),
        ] {
            assert_eq!(endpoint(text, 6443), Ok((host.to_owned(), port)));
        }
        for text in
            ["", "a b", "a:b", "a:0", "a:70000", "https://a", "[fd00::1", "[a]:1", "fd00::1:x", "*.a:1", "a:1:2"]
        {
            assert!(endpoint(text, 6443).is_err(), "{text}");
        }
        for (text, address) in
            [("10.96.5.7/12", "10.96.0.1"), ("fd00::/112", "fd00::1"), ("10.0.0.0/30, fd00::/64", "10.0.0.1")]
        {
            assert_eq!(service_address(text).map(|address| address.to_string()), Ok(address.to_owned()));
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/31",
            "10.0.0.0/8,10.1.0.0/16",
            "a/8",
            "10.0.0.0/8,fd00::/64,fd01::/64",
        ] {
            assert!(service_address(text).is_err(), "{text}");
        }
        assert!(dns_name("cluster.local").is_ok() && dns_name("Cluster").is_err() && dns_name("a..b").is_err());
    }
}
