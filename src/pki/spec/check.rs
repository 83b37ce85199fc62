//! What a spec must fulfil beyond its form: names and files are unique, issuers exist, templates and values make sense.
//!
//! The first fault in document order ends the check, at its own line and column.

use super::{Spec, SpecError, Text, resolve, template};
use crate::pki::lifetime::Lifetime;
use crate::pki::san::San;

/// Folders below the Kubernetes folder that are not for kubeconfigs: the kubelet runs what lies in `manifests`.
const FOREIGN_FOLDERS: [&str; 3] = ["pki", "manifests", "tmp"];

impl Spec {
    /// Checks everything that can be told without knowing a node.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        if self.names().next().is_none() {
            let message = "the spec lists no authorities, certificates, serviceAccountKeys or kubeconfigs";
            return Err(SpecError::at(None, message).hint("add `profile: kubeadm` to build on a profile"));
        }
        self.check_cluster()?;
        self.check_names()?;
        self.check_files()?;
        self.check_subjects()?;
        self.check_issuers()?;
        self.check_lengths()
    }

    fn check_cluster(&self) -> Result<(), SpecError> {
        let cluster = &self.cluster;
        if let Some(endpoint) = &cluster.control_plane_endpoint {
            fits(endpoint, "controlPlaneEndpoint", resolve::endpoint(endpoint, cluster.api_server_port()))?;
        }
        if let Some(subnet) = &cluster.service_subnet {
            fits(subnet, "serviceSubnet", resolve::service_address(subnet))?;
        }
        if let Some(domain) = &cluster.dns_domain {
            fits(domain, "dnsDomain", resolve::dns_name(domain))?;
        }
        if let Some(name) = &cluster.name {
            fits(name, "name", plain(name))?;
        }
        if cluster.api_server_port == Some(0) {
            return Err(SpecError::at(None, "apiServerPort is 0"));
        }
        if let Some(name) = &self.node.name {
            fits(name, "name", resolve::dns_name(name))?;
        }
        if let Some(address) = &self.node.address {
            let parsed = address.parse::<std::net::IpAddr>().map_err(|_| format!("`{address}` is no IP address"));
            fits(address, "address", parsed)?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), SpecError> {
        let mut seen: Vec<&Text> = Vec::new();
        for name in self.names() {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
                let message = format!("name `{name}` has other characters than letters, digits, `-`, `_` and `.`");
                return Err(SpecError::at(name.place(), message));
            }
            if seen.contains(&name) {
                return Err(SpecError::at(name.place(), format!("name `{name}` is there twice")));
            }
            seen.push(name);
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), SpecError> {
        let pairs = self.authorities.iter().map(|entry| &entry.path).chain(self.certificates.iter().map(|e| &e.path));
        let pairs = pairs.map(|path| (path, ["crt", "key", "csr"].as_slice()));
        let keys = self.service_account_keys.iter().map(|entry| (&entry.path, ["key", "pub"].as_slice()));
        let mut seen: Vec<String> = Vec::new();
        for (path, endings) in pairs.chain(keys) {
            relative(path)?;
            for ending in endings {
                unique(path, format!("pki/{path}.{ending}"), &mut seen)?;
            }
        }
        for entry in &self.kubeconfigs {
            relative(&entry.path)?;
            let folder = entry.path.split('/').next().unwrap_or_default();
            if FOREIGN_FOLDERS.contains(&folder) {
                let message = format!("path `{}` lies in `{folder}`, which is no place for a kubeconfig", entry.path);
                return Err(SpecError::at(entry.path.place(), message));
            }
            unique(&entry.path, entry.path.to_string(), &mut seen)?;
        }
        Ok(())
    }

    fn check_subjects(&self) -> Result<(), SpecError> {
        for entry in &self.authorities {
            subject(&entry.common_name, &entry.organizations)?;
            entry.sans.iter().try_for_each(name)?;
            for text in entry.organizations.iter().chain(&entry.sans).chain([&entry.common_name]) {
                if text.contains("{{node.") || text.contains("{{ node.") {
                    let message = format!("`{text}` differs from node to node, but all nodes share an authority");
                    return Err(SpecError::at(text.place(), message));
                }
            }
        }
        for entry in &self.certificates {
            subject(&entry.common_name, &entry.organizations)?;
            entry.sans.iter().try_for_each(name)?;
        }
        for entry in &self.kubeconfigs {
            subject(&entry.common_name, &entry.organizations)?;
            templates(&entry.server)?;
            if !entry.server.starts_with("https://") || entry.server.chars().any(char::is_whitespace) {
                let message = format!("server `{}` is no https URL", entry.server);
                return Err(SpecError::at(entry.server.place(), message));
            }
        }
        Ok(())
    }

    fn check_issuers(&self) -> Result<(), SpecError> {
        let issuers = self.authorities.iter().filter_map(|entry| entry.issuer.as_ref());
        let issuers = issuers.chain(self.certificates.iter().map(|entry| &entry.issuer));
        for issuer in issuers.chain(self.kubeconfigs.iter().map(|entry| &entry.issuer)) {
            if self.authority(issuer).is_none() {
                let known: Vec<&str> = self.authorities.iter().map(|entry| &*entry.name).collect();
                let fault = SpecError::at(issuer.place(), format!("issuer `{issuer}` is not among the authorities"));
                return Err(if known.is_empty() {
                    fault.hint("add it to `authorities`, or `profile: kubeadm` to build on kubeadm's")
                } else {
                    fault.hint(format!("authorities are {}", known.join(", ")))
                });
            }
        }
        for entry in &self.authorities {
            let mut next = entry.issuer.as_ref();
            for _ in 0..self.authorities.len() {
                next = next.and_then(|name| self.authority(name)).and_then(|issuer| issuer.issuer.as_ref());
            }
            if next.is_some() {
                let place = entry.issuer.as_ref().and_then(Text::place);
                return Err(SpecError::at(place, format!("authority `{}` issues itself over others", entry.name)));
            }
        }
        Ok(())
    }

    fn check_lengths(&self) -> Result<(), SpecError> {
        let own = |name: &Text, validity: Option<Lifetime>| validity.map(|length| (name.clone(), length));
        let mut lengths = vec![
            (Text::from("defaults.caValidity"), self.defaults.ca_validity()),
            (Text::from("defaults.validity"), self.defaults.validity()),
        ];
        lengths.extend(self.authorities.iter().filter_map(|entry| own(&entry.name, entry.validity)));
        lengths.extend(self.certificates.iter().filter_map(|entry| own(&entry.name, entry.validity)));
        lengths.extend(self.kubeconfigs.iter().filter_map(|entry| own(&entry.name, entry.validity)));
        match lengths.iter().find(|(_, length)| length.duration().is_zero()) {
            Some((name, _)) => Err(SpecError::at(name.place(), format!("the validity of {name} is zero"))),
            None => Ok(()),
        }
    }
}

fn fits<T>(text: &Text, field: &str, parsed: Result<T, String>) -> Result<(), SpecError> {
    parsed.map(drop).map_err(|error| SpecError::at(text.place(), format!("{field}: {error}")))
}

fn plain(text: &Text) -> Result<(), String> {
    let odd = text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace());
    if odd || template::is_template(text) { Err(format!("`{text}` is no plain word")) } else { Ok(()) }
}

/// A path stays below its folder, whatever is done with it.
fn relative(path: &Text) -> Result<(), SpecError> {
    let fault = |message: String| Err(SpecError::at(path.place(), message));
    if path.starts_with('/') {
        return fault(format!("path `{path}` is absolute; paths are relative to the PKI or Kubernetes folder"));
    }
    if template::is_template(path) {
        return fault(format!("path `{path}` has a template; every node has the same files"));
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return fault(format!("path `{}` has a character that paths do not have", path.escape_debug()));
    }
    if path.split('/').any(|part| part.is_empty() || part == ".." || part == ".") {
        return fault(format!("path `{path}` has an empty, `.` or `..` component"));
    }
    if path.split('/').next() == Some(".kubepki") {
        return fault(format!("path `{path}` lies in kubepki's own folder"));
    }
    if [".crt", ".key", ".pub", ".csr"].iter().any(|ending| path.ends_with(ending)) {
        return Err(SpecError::at(path.place(), format!("path `{path}` has an ending"))
            .hint(format!("write it without: `{}`", &path[..path.len() - 4])));
    }
    Ok(())
}

fn unique(path: &Text, file: String, seen: &mut Vec<String>) -> Result<(), SpecError> {
    if seen.contains(&file) {
        return Err(SpecError::at(path.place(), format!("path `{path}`: two entries write {file}")));
    }
    seen.push(file);
    Ok(())
}

fn subject(common_name: &Text, organizations: &[Text]) -> Result<(), SpecError> {
    for text in std::iter::once(common_name).chain(organizations) {
        templates(text)?;
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            let message = format!("`{}` is no name for a subject", text.escape_debug());
            return Err(SpecError::at(text.place(), message));
        }
    }
    Ok(())
}

fn name(san: &Text) -> Result<(), SpecError> {
    templates(san)?;
    if template::is_template(san) {
        return Ok(());
    }
    San::parse(san).map(drop).map_err(|error| SpecError::at(san.place(), format!("sans: {error}")))
}

fn templates(text: &Text) -> Result<(), SpecError> {
    template::check(text).map_err(|error| SpecError::at(text.place(), error))
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    fn fault(body: &str) -> SpecError {
        let document = format!("{HEAD}{body}");
        match Spec::read(document.as_bytes(), None) {
            Ok(_) => panic!("accepted:\n{body}"),
            Err(error) => error,
        }
    }

    const HEAD: &str = "apiVersion: kubepki.io/v1\nkind: CertificateSpec\n";
    const CA: &str = "authorities:\n- {name: ca, path: ca, commonName: x}\n";

    /// Where `needle` first stands in the document, from the last line backwards.
    fn find(body: &str, needle: &str) -> Option<Place> {
        let document = format!("{HEAD}{body}");
        let lines: Vec<&str> = document.lines().collect();
        let (line, text) = lines.iter().enumerate().rev().find(|(_, line)| line.contains(needle))?;
        Some(Place { line: line as u64 + 1, column: text.find(needle)? as u64 + 1 })
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let leaf = |fields: &str| format!("{CA}certificates:\n- {{{fields}}}\n");
        let complete = "name: a, path: a, issuer: ca, commonName: x, usages: [clientAuth]";
        for (body, at, words) in [
            (leaf(&format!("{complete}, bogus: 1")), "bogus", "unknown field `bogus`"),
            (leaf("name: a, path: a, issuer: cb, commonName: x, usages: []"), "cb", "issuer `cb`"),
            (leaf("name: a, path: ../a, issuer: ca, commonName: x, usages: []"), "../a", "`..` component"),
            (leaf("name: a, path: /a, issuer: ca, commonName: x, usages: []"), "/a", "absolute"),
            (leaf("name: a, path: a.crt, issuer: ca, commonName: x, usages: []"), "a.crt", "ending"),
            (leaf("name: ca, path: a, issuer: ca, commonName: x, usages: []"), "ca, path", "`ca` is there twice"),
            (leaf("name: a, path: ca, issuer: ca, commonName: x, usages: []"), "ca, issuer", "write pki/ca.crt"),
            (leaf("name: a, path: a, issuer: ca, commonName: '{{node}}', usages: []"), "'{{", "unknown template"),
            (leaf("name: a, path: a, issuer: ca, commonName: x, usages: [flying]"), "flying", "flying"),
            (leaf("name: a, path: a, issuer: ca, commonName: x, usages: [], sans: [a b]"), "a b", "a b"),
            (leaf("name: a, path: a, issuer: ca, commonName: x"), "commonName", "missing field `usages`"),
            (leaf("name: a/b, path: a, issuer: ca, commonName: x, usages: []"), "a/b", "name `a/b`"),
            (leaf("name: a, path: a, issuer: ca, commonName: '', usages: []"), "''", "no name"),
            (leaf(&format!("{complete}, validity: 0d")), "a, path", "validity of a is zero"),
            (leaf(&format!("{complete}, validity: 1 year")), "1 year", "1 year"),
            (leaf(&format!("{complete}, keyAlgorithm: dsa")), "dsa", "dsa"),
            (format!("{CA}bogus: 1\n"), "bogus", "unknown field `bogus`"),
            (format!("{CA}cluster: {{serviceSubnet: 10.96.0.0}}\n"), "10.96", "serviceSubnet"),
            (format!("{CA}cluster: {{controlPlaneEndpoint: 'a b'}}\n"), "'a b'", "controlPlaneEndpoint"),
            (format!("{CA}without: [etcd-ca]\n"), "etcd-ca", "without"),
            ("authorities:\n- {name: a, path: a, commonName: '{{node.name}}'}\n".into(), "'{{", "share an authority"),
            ("profile: kubeadn\n".into(), "kubeadn", "unknown profile"),
            ("profile: kubeadm\nwithout: [nothing]\n".into(), "nothing", "does not have"),
            (String::new(), "not in it", "lists no"),
            (format!("{CA}---\nx: 1\n"), "---", "document"),
            (format!("{CA}metadata: {{name: &x y}}\n"), "y}", "anchor"),
            (format!("{CA}{CA}"), "authorities", "authorities"),
        ] {
            let fault = fault(&body);
            assert!(fault.message.contains(words), "{body}: {fault}");
            assert_eq!(fault.place, find(&body, at), "{body}: {fault}");
        }
    }

    #[test]
    fn an_unquoted_template_is_explained() {
        let fault = fault(&format!("{CA}node: {{name: {{{{node.name}}}}}}\n"));
        assert!(fault.hint.is_some_and(|hint| hint.contains("quote")) && fault.place.is_some());
    }

    #[test]
    fn authorities_that_issue_each_other_are_a_cycle() {
        let authority =
            |name: &str, issuer: &str| format!("- {{name: {name}, path: {name}, issuer: {issuer}, commonName: x}}\n");
        let cycle = format!("authorities:\n{}{}", authority("a", "b"), authority("b", "a"));
        assert_eq!(fault(&cycle).message, "authority `a` issues itself over others");
        let itself = format!("authorities:\n{}", authority("a", "a"));
        assert_eq!(fault(&itself).place, find(&itself, "a, commonName"));
    }

    #[test]
    fn kubeconfigs_keep_out_of_foreign_folders() {
        let entry = |path: &str, server: &str| {
            format!("{CA}kubeconfigs:\n- {{name: a, path: {path}, issuer: ca, commonName: x, server: '{server}'}}\n")
        };
        assert!(fault(&entry("manifests/a.conf", "https://x")).message.contains("manifests"));
        assert!(fault(&entry("pki/ca", "https://x")).message.contains("pki"));
        assert!(fault(&entry("a.conf", "http://x")).message.contains("no https URL"));
        assert!(fault(&entry("a.conf", "https://{{node.x}}")).message.contains("unknown template"));
    }

    #[test]
    fn a_damaged_document_is_an_error_or_another_spec_but_never_a_panic() {
        let whole = crate::pki::profile::Profile::AksArc.document().as_bytes();
        for cut in (0..whole.len()).step_by(11) {
            let _ = Spec::read(&whole[..cut], None);
            let mut flipped = whole.to_vec();
            flipped[cut] ^= 1 << (cut % 8);
            let _ = Spec::read(&flipped, None);
        }
    }

    #[test]
    fn bombs_and_rubbish_are_refused() {
        assert!(
            Spec::read(&vec![b'#'; super::super::LARGEST + 1], None).is_err_and(|e| e.message.contains("1024 KiB"))
        );
        assert!(Spec::read(b"a: \xff", None).is_err_and(|e| e.message.contains("UTF-8")));
        for text in ["", "-", "[", "null", "{", "\0", "a: *x", "? [", "kind: CertificateSpec"] {
            assert!(Spec::read(text.as_bytes(), None).is_err(), "{text:?}");
        }
        let wrong = b"apiVersion: kubepki.io/v2\nkind: CertificateSpec\n";
        assert!(
            Spec::read(wrong, None)
                .is_err_and(|e| e.place == Some(Place { line: 1, column: 13 }) && e.message.contains("apiVersion"))
        );
    }
}
