//! Kubeconfigs with a client certificate of their own: kept, made, or asked for with a signing request.

use std::path::PathBuf;

use super::authority::Standing;
use super::{Builder, Place, Refusal, SECRET, Signer};
use crate::pki::certificate::Certificate;
use crate::pki::spec::{Kubeconfig, ResolvedKubeconfig};
use crate::plan::blueprint::{CertificateRef, FileContent, KeySource, KubeconfigPlan};
use crate::plan::compare;
use crate::snapshot::{self, FoundKey, Material, User};

/// What is there.
enum Found<'a> {
    /// Nothing.
    Nothing,
    /// A key that waits for its certificate, as `--csr-only` leaves it.
    Waiting(&'a User, &'a FoundKey),
    /// Something that fits.
    Fits(&'a User),
    /// Something else.
    Differs(Vec<String>),
}

impl<'a> Builder<'a> {
    /// Plans the kubeconfigs of one node.
    pub(super) fn kubeconfigs(&mut self, place: &'a Place) -> Result<(), Refusal> {
        let Some(folder) = &place.kubernetes_dir else { return Ok(()) };
        for entry in &self.request.spec.kubeconfigs {
            let path = folder.join(&*entry.path);
            let follows = self.replaced.contains(&*entry.issuer) && self.is_there(place, &path);
            let is_wanted = self.is_wanted(&entry.name, entry.on_demand) && (place.is_first || !entry.first_node_only);
            if is_wanted || follows {
                self.kubeconfig(place, entry, path)?;
            }
        }
        Ok(())
    }

    fn kubeconfig(&mut self, place: &'a Place, entry: &'a Kubeconfig, path: PathBuf) -> Result<(), Refusal> {
        let wanted = self.request.spec.resolve_kubeconfig(entry, &place.values)?;
        let standing = self.authority(&entry.issuer)?;
        if matches!(standing, Standing::Unusable) {
            return Ok(());
        }
        let id = format!("{}/{}", place.node, entry.name);
        let request = PathBuf::from(format!("{}.csr", path.display()));
        let is_external = matches!(standing, Standing::External { .. });
        let mut waiting = None;
        match self.kubeconfig_found(place, &path, &wanted, &entry.issuer, &standing) {
            Found::Nothing => {}
            Found::Fits(user) => match user.key.key().filter(|_| self.is_request_wanted(&entry.name)) {
                Some(key) => waiting = Some((user, key)),
                None => {
                    self.keep(place, path, &entry.name);
                    return Ok(());
                }
            },
            Found::Waiting(user, key) => waiting = Some((user, key)),
            Found::Differs(words) => {
                if !self.may_replace(place, &[&path], &entry.name, &words) {
                    return Ok(());
                }
            }
        }
        match waiting {
            Some((user, _)) => {
                let (node, user) = (place.node.clone(), user.name.clone());
                self.key(&id, KeySource::Kubeconfig { node, path: path.clone(), user });
            }
            None => self.new_key(&id, wanted.client.algorithm),
        }
        let client = wanted.client.clone();
        if is_external {
            let key = waiting.map(|(_, key)| key);
            let document = (document(wanted, &standing, Vec::new(), &id), SECRET);
            let key_file = key.is_none().then(|| (path.clone(), document));
            if key.is_some() {
                self.keep(place, path, &entry.name);
            }
            self.request_for(place, &entry.name, &id, client, key, &request, key_file);
            return Ok(());
        }
        let Standing::Signs { plan, period, above, .. } = &standing else { return Ok(()) };
        let signer = Signer { plan: (**plan).clone(), period: Some(*period) };
        let not_after = self.certificate(&id, super::leaf::basis(client.clone()), client.validity, signer);
        let mut chain = vec![CertificateRef::Planned(id.clone())];
        chain.extend(above.iter().cloned());
        let content = (document(wanted, &standing, chain, &id), SECRET);
        self.write(place, path, &entry.name, content, Some(not_after));
        if self.is_there(place, &request) {
            self.remove(place, request, &entry.name);
        }
        Ok(())
    }

    fn kubeconfig_found(
        &self,
        place: &'a Place,
        path: &std::path::Path,
        wanted: &ResolvedKubeconfig,
        issuer: &str,
        standing: &Standing,
    ) -> Found<'a> {
        if !self.is_there(place, path) {
            return Found::Nothing;
        }
        let artifact = self.find(place, path);
        let found = match artifact.and_then(|artifact| artifact.content()?.kubeconfig.as_ref()) {
            Some(Ok(found)) => found,
            Some(Err(error)) => return Found::Differs(vec![error.clone()]),
            None => return Found::Differs(vec!["it is no kubeconfig".to_owned()]),
        };
        let Some(user) = found.current_user() else {
            return Found::Differs(vec!["it has no user of a current context".to_owned()]);
        };
        let mut words: Vec<String> = found.problems.clone();
        words.extend(server_words(found, user, wanted, standing, issuer));
        let client = &wanted.client;
        match (user.certificate.certificates().next(), user.key.key()) {
            (None, Some(key)) if user.certificate.content.is_none() && words.is_empty() => {
                return match self.algorithm_words(key, client) {
                    Some(differs) => Found::Differs(vec![differs]),
                    None => Found::Waiting(user, key),
                };
            }
            (None, _) => words.push(material_words("client certificate", &user.certificate)),
            (Some(certificate), key) => {
                words.extend(compare::differences(certificate, client, self.request.now));
                let rest: Vec<Certificate> = user.certificate.certificates().skip(1).cloned().collect();
                let leads = compare::leads_to(certificate, &rest, standing.known(), self.request.now);
                words.extend(issuer_words(certificate, standing, issuer, leads));
                match key {
                    Some(key) if !certificate.certifies(&key.public_key) => {
                        words.push("its key does not belong to its certificate".to_owned());
                    }
                    Some(key) => words.extend(self.algorithm_words(key, client)),
                    None => words.push(material_words("client key", &user.key)),
                }
            }
        }
        if words.is_empty() { Found::Fits(user) } else { Found::Differs(words) }
    }
}

/// What differs about where a kubeconfig leads to and whom it trusts there.
fn server_words(
    found: &snapshot::Kubeconfig,
    user: &User,
    wanted: &ResolvedKubeconfig,
    standing: &Standing,
    issuer: &str,
) -> Vec<String> {
    let Some(cluster) = found.clusters_of(&user.name).next() else {
        return vec!["it has no cluster of a current context".to_owned()];
    };
    let mut words = Vec::new();
    let server = cluster.server.as_deref().unwrap_or_default();
    if server.trim_end_matches('/') != wanted.server {
        words.push(format!("its server is {server}, not {}", wanted.server));
    }
    let trusted: Vec<&Certificate> = cluster.authority.certificates().collect();
    let is_trusted = |authority: &Certificate| trusted.iter().any(|known| known.der() == authority.der());
    if standing.is_new() || !standing.known().is_empty() && !standing.known().iter().any(is_trusted) {
        words.push(format!("it does not trust `{issuer}`"));
    }
    words
}

fn issuer_words(certificate: &Certificate, standing: &Standing, issuer: &str, leads: bool) -> Option<String> {
    let is_foreign = standing.is_new() || !standing.known().is_empty() && !leads;
    is_foreign.then(|| format!("its certificate is not issued by `{issuer}`, but by {}", certificate.issuer().text()))
}

fn material_words(what: &str, material: &Material) -> String {
    match &material.content {
        Some(Err(error)) => format!("its {what}: {error}"),
        _ => format!("its {what} is missing or cannot be read"),
    }
}

fn document(wanted: ResolvedKubeconfig, standing: &Standing, chain: Vec<CertificateRef>, key: &str) -> FileContent {
    FileContent::Kubeconfig(KubeconfigPlan::New {
        cluster: wanted.cluster,
        server: wanted.server,
        user: wanted.user,
        context: wanted.context,
        authorities: standing.bundle(),
        client: (chain, key.to_owned()),
    })
}
