//! Requests of kubelets for serving certificates, once the API is back: those of nodes under repair are approved when they ask
//! for nothing but that node's own names and addresses.

use std::net::IpAddr;

use super::sight::Sight;
use crate::cli::live;
use crate::cli::session::Session;
use crate::cli::target::TargetNode;
use crate::live::NoAnswer;
use crate::live::api_server::ApiServer;
use crate::live::signing::{SigningRequest, State};
use crate::pki::csr::Request;
use crate::pki::san::San;
use crate::pki::usage::ExtendedKeyUsage;

/// Signer of kubelets' serving certificates (Kubernetes: certificates.k8s.io/v1, well-known signers).
const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// Usages that such a request may name (pkg/apis/certificates/helpers.go).
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

/// Waits for the requests of these nodes' kubelets, approves those that fit, and waits until the kubelets serve.
///
/// # Errors
/// Exit code 6 when a kubelet does not serve in time; 130 when interrupted.
pub(super) fn approve(session: &Session, sight: &Sight, nodes: &[String]) -> anyhow::Result<()> {
    for name in nodes {
        let Some(node) = sight.node(name) else { continue };
        let hint = "`kubectl get csr` shows its requests; `kubectl certificate approve NAME` signs one by hand";
        live::wait_within(session, name, "its kubelet has a serving certificate", hint, || {
            let refused = live::administered(&sight.target, node, |api| one_round(session, sight, node, api))?;
            let serving = live::serves_tls(node);
            serving.map_err(|reason| match refused.as_slice() {
                [] => reason,
                several => format!("{reason}; not approved: {}", several.join("; ")),
            })
        })?;
    }
    Ok(())
}

/// Approves what waits and fits; returns why others do not.
fn one_round(
    session: &Session,
    sight: &Sight,
    node: &TargetNode,
    api: &ApiServer<'_>,
) -> Result<Vec<String>, NoAnswer> {
    let name = node.node.name();
    let known = known_names(sight, node, api);
    let mut refused = Vec::new();
    for request in api.signing_requests()? {
        if request.signer != SIGNER || request.state != State::Pending || request.user != format!("system:node:{name}")
        {
            continue;
        }
        match fits(&request, name, &known) {
            Ok(()) => {
                api.approve(&request.name, "KubepkiRepair", "the request fits the node under repair")?;
                session.ui.status(&format!("{name}: approved its kubelet's request {}", request.name));
            }
            Err(reason) => refused.push(format!("{}: {reason}", request.name)),
        }
    }
    Ok(refused)
}

/// The names and addresses under which a node is known: by the cluster file, by itself, and by the API.
fn known_names(sight: &Sight, node: &TargetNode, api: &ApiServer<'_>) -> Vec<San> {
    let name = node.node.name();
    let mut known = vec![San::Dns(name.to_owned())];
    let listed = sight.target.cluster.as_ref().map(|cluster| cluster.spec.nodes.as_slice()).unwrap_or_default();
    let host = listed.iter().find(|listed| listed.name == name).and_then(|listed| San::parse(&listed.host).ok());
    known.extend(host);
    if let Ok(facts) = node.node.facts() {
        known.push(San::Dns(facts.host_name.to_lowercase()));
        known.extend(facts.addresses.into_iter().map(San::Ip));
    }
    if let Ok(status) = api.node(name) {
        known.extend(status.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(San::Ip));
    }
    known
}

/// Whether a request is what the kubelet of that node asks for, and nothing more.
fn fits(request: &SigningRequest, name: &str, known: &[San]) -> Result<(), String> {
    if !request.groups.iter().any(|group| group == "system:nodes") {
        return Err("whoever asks is not in system:nodes".to_owned());
    }
    if let Some(usage) = request.usages.iter().find(|usage| !USAGES.contains(&usage.as_str())) {
        return Err(format!("it asks for the usage `{usage}`"));
    }
    if !request.usages.iter().any(|usage| usage == "server auth") {
        return Err("it does not ask for a server's certificate".to_owned());
    }
    let wanted = Request::from_pem(&request.request)?;
    let user = format!("system:node:{name}");
    if wanted.subject.common_name() != Some(&user) || wanted.subject.organizations() != ["system:nodes"] {
        return Err(format!("its subject is {}", wanted.subject.text()));
    }
    if wanted.usages.iter().any(|usage| *usage != ExtendedKeyUsage::ServerAuth) {
        return Err("it asks for more than a server's usage".to_owned());
    }
    if wanted.sans.is_empty() {
        return Err("it names nothing".to_owned());
    }
    let is_known = |san: &&San| match san {
        San::Dns(text) => known.iter().any(|own| matches!(own, San::Dns(own) if own.eq_ignore_ascii_case(text))),
        other => known.contains(other),
    };
    match wanted.sans.iter().find(|san| !is_known(san)) {
        Some(stranger) => Err(format!("{stranger} is not known as this node's")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::mint::passing_key;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::csr;
    use crate::pki::issue::Template;
    use crate::pki::name::Name;
    use time::macros::datetime;

    fn request(common_name: &str, organization: &str, sans: &[&str], usages: &[&str]) -> SigningRequest {
        let key = passing_key(KeyAlgorithm::EcdsaP256).expect("a key");
        let sans: Vec<San> = sans.iter().map(|text| San::parse(text).expect("a name")).collect();
        let validity = (datetime!(2026-01-01 0:00 UTC), datetime!(2027-01-01 0:00 UTC));
        let subject = Name::new(common_name, &[organization.to_owned()]);
        let template = Template::leaf(subject, &[ExtendedKeyUsage::ServerAuth], &sans, key.public_key(), validity);
        SigningRequest {
            name: "csr-1".to_owned(),
            user: "system:node:w1".to_owned(),
            groups: vec!["system:nodes".to_owned()],
            signer: SIGNER.to_owned(),
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            request: csr::request(&template, &key).expect("a request").into_bytes(),
            created_at: None,
            state: State::Pending,
        }
    }

    #[test]
    fn only_a_nodes_own_names_and_usages_are_approved() {
        let known = [San::Dns("w1".to_owned()), San::Ip(IpAddr::from([10, 0, 0, 5]))];
        let usages = ["digital signature", "server auth"];
        let judge = |request: SigningRequest| fits(&request, "w1", &known);
        assert_eq!(judge(request("system:node:w1", "system:nodes", &["w1", "10.0.0.5"], &usages)), Ok(()));
        for (odd, words) in [
            (request("system:node:w2", "system:nodes", &["w1"], &usages), "subject"),
            (request("system:node:w1", "system:masters", &["w1"], &usages), "subject"),
            (request("system:node:w1", "system:nodes", &["kubernetes"], &usages), "kubernetes"),
            (request("system:node:w1", "system:nodes", &["10.0.0.6"], &usages), "10.0.0.6"),
            (request("system:node:w1", "system:nodes", &["w1"], &["client auth", "server auth"]), "client auth"),
            (request("system:node:w1", "system:nodes", &["w1"], &["digital signature"]), "server's certificate"),
            (request("system:node:w1", "system:nodes", &[], &usages), "names nothing"),
        ] {
            assert!(judge(odd).is_err_and(|reason| reason.contains(words)), "{words}");
        }
        let stranger =
            SigningRequest { groups: Vec::new(), ..request("system:node:w1", "system:nodes", &["w1"], &usages) };
        assert!(judge(stranger).is_err());
    }
}
