//! What the operator should know about a PKI that is made, and do afterwards.

use std::collections::BTreeSet;

use super::Builder;
use crate::pki::lifetime::Lifetime;
use crate::pki::spec::Spec;
use crate::pki::usage::ExtendedKeyUsage;
use crate::plan::operation::FileAction;

/// Certificates that last no longer need somebody who renews them without being told.
const SHORT: Lifetime = Lifetime::days(30);

impl Builder<'_> {
    /// Remembers that an authority is replaced, and says what follows.
    pub(super) fn replaced_authority(&mut self, name: &str) {
        self.replaced.insert(name.to_owned());
        self.blueprint.warnings.push(format!(
            "the CA {name} is replaced at once: what trusts the old one elsewhere (kubelets, other nodes, kubeconfigs of \
             people) stops working until it gets the new one; `kubepki rotate-certs` does it without interruption"
        ));
    }

    /// Adds the next steps to a blueprint that is otherwise complete.
    pub(super) fn advise(&mut self) {
        let spec = self.request.spec;
        let requests = std::mem::take(&mut self.requests);
        if !requests.is_empty() {
            let list: Vec<String> = requests.iter().map(|path| path.display().to_string()).collect();
            let step = format!(
                "have these signing requests signed, collect the certificates in a folder, and run `{} --import-signed \
                 FOLDER`: {}",
                self.request.command_line,
                list.join(", ")
            );
            self.blueprint.next_steps.push(step);
        }
        if self.blueprint.is_empty() {
            return;
        }
        if spec.defaults.validity() <= SHORT {
            let length = spec.defaults.validity();
            let words =
                format!("certificates last only {length}: turn automatic rotation on, `kubepki auto-rotate enable`");
            self.blueprint.next_steps.push(words);
        }
        let flags = self.flags();
        self.blueprint.next_steps.extend(flags);
        let replaced: BTreeSet<&str> = self
            .blueprint
            .changes()
            .filter(|(_, file)| file.action == FileAction::Replaced)
            .flat_map(|(_, file)| readers(&file.name))
            .copied()
            .collect();
        if !replaced.is_empty() {
            let list: Vec<&str> = replaced.into_iter().collect();
            self.blueprint.next_steps.push(format!("restart what has read the old files: {}", list.join(", ")));
        }
    }

    /// Options that components need because authorities are shared or parted in an unusual way.
    fn flags(&self) -> Vec<String> {
        let spec = self.request.spec;
        let mut steps = Vec::new();
        if let Some(proxy) = spec.certificate("front-proxy-client")
            && has_other_clients(spec, &proxy.issuer)
        {
            steps.push(format!(
                "the front proxy shares the CA {} with other clients: run kube-apiserver with \
                 --requestheader-allowed-names={}, or every client of that CA can act as any user",
                proxy.issuer, proxy.common_name
            ));
        }
        let (server, client) = (spec.certificate("etcd-server"), spec.certificate("apiserver-etcd-client"));
        if let (Some(server), Some(client)) = (server, client)
            && server.issuer != client.issuer
            && let (Some(serving), Some(clients)) = (spec.authority(&server.issuer), spec.authority(&client.issuer))
            && let Some(place) = self.request.nodes.first()
        {
            let pki = place.pki_dir.display();
            steps.push(format!(
                "etcd shows the API server a certificate of {}: run kube-apiserver with --etcd-cafile={pki}/{}.crt, and \
                 etcd with --trusted-ca-file={pki}/{}.crt",
                serving.name, serving.path, clients.path
            ));
        }
        steps
    }
}

/// Whether `authority` signs clients other than the front proxy.
fn has_other_clients(spec: &Spec, authority: &str) -> bool {
    let is_client = |usages: &[ExtendedKeyUsage]| usages.contains(&ExtendedKeyUsage::ClientAuth);
    spec.kubeconfigs.iter().any(|entry| *entry.issuer == *authority)
        || spec.certificates.iter().any(|entry| {
            &*entry.name != "front-proxy-client" && *entry.issuer == *authority && is_client(&entry.usages)
        })
}

/// The components that read a file only when they start.
fn readers(name: &str) -> &'static [&'static str] {
    match name {
        "ca" => &["kube-apiserver", "kube-controller-manager", "kubelet"],
        "sa" | "front-proxy-ca" => &["kube-apiserver", "kube-controller-manager"],
        "apiserver" | "apiserver-kubelet-client" | "apiserver-etcd-client" | "front-proxy-client" => {
            &["kube-apiserver"]
        }
        "etcd-ca" => &["etcd", "kube-apiserver"],
        "etcd-server" | "etcd-peer" => &["etcd"],
        "controller-manager.conf" => &["kube-controller-manager"],
        "scheduler.conf" => &["kube-scheduler"],
        "kubelet.conf" => &["kubelet"],
        _ => &[],
    }
}
