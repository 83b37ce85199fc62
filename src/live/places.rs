//! Where the components of a node listen, by the manifests of its static pods and its kubelet's configuration.
//!
//! What is not said there is as kubeadm leaves it. Addresses are the node's own: they are dialled from it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::node::probe::Endpoint;
use crate::node::{FoundState, Node, Query};
use crate::pki::component::flag;

use super::component::Component;

/// Where a component listens, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port.
    pub endpoint: Endpoint,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Where the components of one node listen; `None` for those that do not run there as static pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// kube-apiserver, at an address that is in its certificate.
    pub api_server: Option<Listener>,
    /// kube-controller-manager.
    pub controller_manager: Option<Listener>,
    /// kube-scheduler.
    pub scheduler: Option<Listener>,
    /// The kubelet.
    pub kubelet: Option<Listener>,
    /// etcd, for clients.
    pub etcd: Option<Listener>,
    /// etcd's metrics, when they have a port of their own.
    pub etcd_metrics: Option<Listener>,
}

impl Places {
    /// Reads a node's `manifests/` and its kubelet's `config.yaml`.
    ///
    /// # Errors
    /// When the node cannot be read.
    pub fn read(node: &dyn Node, kubernetes_dir: &Path, kubelet_dir: &Path) -> anyhow::Result<Self> {
        let manifests = kubernetes_dir.join("manifests");
        let named = |component: Component| manifests.join(format!("{component}.yaml"));
        let kubelet = kubelet_dir.join("config.yaml");
        let paths: Vec<PathBuf> = Component::ALL
            .into_iter()
            .map(|component| if component == Component::Kubelet { kubelet.clone() } else { named(component) })
            .collect();
        let found = node.read(&paths.iter().cloned().map(Query::File).collect::<Vec<_>>())?;
        let texts: HashMap<PathBuf, String> = found
            .into_iter()
            .filter_map(|found| match found.state {
                FoundState::File(content) => Some((found.path, String::from_utf8_lossy(&content).into_owned())),
                _ => None,
            })
            .collect();
        Ok(Self::of_texts(|component| {
            let path = if component == Component::Kubelet { kubelet.clone() } else { named(component) };
            texts.get(&path).map(String::as_str)
        }))
    }

    /// Works the places out from the texts: a manifest, or for the kubelet its configuration.
    pub fn of_texts<'t>(text: impl Fn(Component) -> Option<&'t str>) -> Self {
        let secure = |component: Component, port: u16| {
            let manifest = text(component)?;
            let host = specific(flag(manifest, "--bind-address"));
            let host = match component {
                // Its certificate is for the address it tells others, and rarely for the loopback.
                Component::ApiServer => host.or_else(|| specific(flag(manifest, "--advertise-address"))),
                _ => host,
            };
            let port = flag(manifest, "--secure-port").and_then(|port| port.parse().ok()).unwrap_or(port);
            Some(listener(host.unwrap_or("127.0.0.1"), port, true))
        };
        let kubelet = text(Component::Kubelet).map(|config| {
            let port = setting(config, "port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            listener(specific(setting(config, "address")).unwrap_or("127.0.0.1"), port.unwrap_or(10250), true)
        });
        let etcd = text(Component::Etcd);
        let metrics = etcd.and_then(|manifest| flag(manifest, "--listen-metrics-urls")).and_then(nearest);
        Self {
            api_server: secure(Component::ApiServer, 6443),
            controller_manager: secure(Component::ControllerManager, 10257),
            scheduler: secure(Component::Scheduler, 10259),
            kubelet,
            etcd: etcd.map(|manifest| {
                let named = flag(manifest, "--listen-client-urls").and_then(nearest);
                named.unwrap_or_else(|| listener("127.0.0.1", 2379, true))
            }),
            etcd_metrics: metrics,
        }
    }

    /// Where one component listens.
    pub fn of(&self, component: Component) -> Option<&Listener> {
        match component {
            Component::ApiServer => self.api_server.as_ref(),
            Component::ControllerManager => self.controller_manager.as_ref(),
            Component::Scheduler => self.scheduler.as_ref(),
            Component::Kubelet => self.kubelet.as_ref(),
            Component::Etcd => self.etcd.as_ref(),
        }
    }
}

fn listener(host: &str, port: u16, tls: bool) -> Listener {
    Listener { endpoint: Endpoint { host: host.to_owned(), port }, tls }
}

/// An address that stands for itself and not for all there are.
fn specific(host: Option<&str>) -> Option<&str> {
    host.filter(|host| !host.is_empty() && !host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()))
}

/// The first address of a list of URLs, loopback ones before others.
fn nearest(urls: &str) -> Option<Listener> {
    let read = |url: &str| {
        let (tls, rest) = match url.trim() {
            url if url.starts_with("https://") => (true, url.strip_prefix("https://")?),
            url => (false, url.strip_prefix("http://")?),
        };
        let mut endpoint: Endpoint = rest.parse().ok()?;
        if specific(Some(&endpoint.host)).is_none() {
            "127.0.0.1".clone_into(&mut endpoint.host);
        }
        Some(Listener { endpoint, tls })
    };
    let listeners: Vec<Listener> = urls.split(',').filter_map(read).collect();
    let is_near = |listener: &&Listener| {
        listener.endpoint.host == "localhost"
            || listener.endpoint.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    listeners.iter().find(is_near).or(listeners.first()).cloned()
}

/// The value of a field at the top of a YAML mapping.
fn setting<'c>(config: &'c str, name: &str) -> Option<&'c str> {
    let value = config.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(listener: Option<&Listener>) -> String {
        listener.map_or_else(String::new, |found| format!("{}{}", if found.tls { "tls " } else { "" }, found.endpoint))
    }

    #[test]
    fn what_kubeadm_writes_is_understood() {
        let places = Places::of_texts(|component| {
            Some(match component {
                Component::ApiServer => {
                    "    - kube-apiserver\n    - --advertise-address=10.0.0.1\n    - --secure-port=6443\n"
                }
                Component::ControllerManager => "    - --bind-address=127.0.0.1\n",
                Component::Scheduler => "    - kube-scheduler\n",
                Component::Kubelet => {
                    "apiVersion: v1\nauthentication:\n  port: 1\nport: 10250 # usual\naddress: 0.0.0.0\n"
                }
                Component::Etcd => {
                    "    - --listen-client-urls=https://10.0.0.1:2379,https://127.0.0.1:2379\n    \
                     - --listen-metrics-urls=http://127.0.0.1:2381\n"
                }
            })
        });
        let all = Component::ALL.map(|component| shown(places.of(component)));
        let expected = [
            "tls 10.0.0.1:6443",
            "tls 127.0.0.1:10257",
            "tls 127.0.0.1:10259",
            "tls 127.0.0.1:10250",
            "tls 127.0.0.1:2379",
        ];
        assert_eq!(all, expected);
        assert_eq!(shown(places.etcd_metrics.as_ref()), "127.0.0.1:2381");
    }

    #[test]
    fn other_ports_and_addresses_are_honoured_and_what_is_not_there_is_nowhere() {
        let places = Places::of_texts(|component| match component {
            Component::ApiServer => {
                Some("- \"--bind-address=fd00::5\"\n- --advertise-address=10.0.0.1\n- '--secure-port=443'")
            }
            Component::Etcd => Some("- --listen-client-urls=https://0.0.0.0:3379"),
            Component::Kubelet => Some("port: 0\naddress: \"10.0.0.9\""),
            _ => None,
        });
        assert_eq!(shown(places.api_server.as_ref()), "tls [fd00::5]:443");
        assert_eq!(shown(places.etcd.as_ref()), "tls 127.0.0.1:3379");
        assert_eq!(shown(places.kubelet.as_ref()), "tls 10.0.0.9:10250");
        assert_eq!((places.scheduler, places.etcd_metrics), (None, None));
    }
}
