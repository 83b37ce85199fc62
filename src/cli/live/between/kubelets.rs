//! After the kubelets' round: each accepts API servers that come with a certificate of the new CA, and its node is Ready.

use super::material::At;
use super::round::{LIMITS, Round, accepted, places};
use crate::cli::live::proof;
use crate::cli::target::TargetNode;
use crate::live::component::Component;
use crate::live::credential::Credential;
use crate::live::places::Listener;
use crate::live::proof::{Verdict, prove as show};
use crate::node::Node;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::http::{Request, ask};
use crate::plan::gates::Gate;
use crate::plan::phase::Phase;

/// Waits for every kubelet of the target.
pub(super) fn prove(round: &Round<'_>) -> anyhow::Result<()> {
    if round.material.cluster.is_none() {
        return Ok(());
    }
    let client = client(round, At::After(Phase::IssueNew))?;
    each(round, &|node, listener| {
        let name = node.node.name();
        if let Some(client) = &client {
            round.wait(name, "the kubelet accepts API servers with a certificate of the new CA", || {
                accepted(ask_kubelet(round, node, listener, client))
            })?;
        }
        round.wait(name, "the node is Ready and its kubelet renews its lease", || {
            proof::look(round.target, node, &Gate::NodeReady, round.session.by_now())
        })
    })
}

/// How API servers show themselves to kubelets at a point of the operation.
pub(super) fn client(round: &Round<'_>, at: At) -> anyhow::Result<Option<Credential>> {
    match round.target.nodes.first() {
        Some(any) => round.pair(any, "apiserver-kubelet-client", at, &[]),
        None => Ok(None),
    }
}

/// Does `work` for every node with a kubelet that listens, side by side; the first error is the result.
pub(super) fn each(
    round: &Round<'_>,
    work: &(dyn Fn(&TargetNode, &Listener) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    let nodes: Vec<&dyn Node> = round.target.nodes.iter().map(|node| &*node.node).collect();
    let done = side_by_side(&nodes, AT_ONCE, &round.session.interrupt, &|_| {}, &|node| {
        let Some(node) = round.target.nodes.iter().find(|one| one.node.name() == node.name()) else { return Ok(()) };
        match places(round.target, node)?.kubelet {
            Some(listener) => work(node, &listener),
            None => Ok(()),
        }
    });
    done.into_iter().collect()
}

/// What Go's TLS says when a server has no certificate, as a kubelet whose request for one nobody has approved.
const NO_CERTIFICATE: &str = "refused the handshake: InternalError";

/// Shows a credential to a kubelet. One that speaks no TLS accepts whoever comes; one without a certificate serves nobody, and
/// reads its trust from the same file whenever it has one.
pub(super) fn ask_kubelet(round: &Round<'_>, node: &TargetNode, listener: &Listener, client: &Credential) -> Verdict {
    let verdict = show(&*node.node, Component::Kubelet, &listener.endpoint, client, LIMITS);
    if serves_nobody(&verdict, node, listener) {
        round.session.ui.debug(&format!("{}: its kubelet speaks no TLS, so it was not asked", node.node.name()));
        return Verdict { accepted: Some(true), reason: "no TLS".to_owned() };
    }
    verdict
}

/// Whether a kubelet cannot be asked for a verdict, because it has no certificate or no TLS.
pub(super) fn serves_nobody(verdict: &Verdict, node: &TargetNode, listener: &Listener) -> bool {
    verdict.reason.contains(NO_CERTIFICATE) || verdict.accepted.is_none() && speaks_plainly(node, listener)
}

/// Whether a kubelet answers without TLS. One with TLS says that it was asked wrongly (400).
fn speaks_plainly(node: &TargetNode, listener: &Listener) -> bool {
    let answer = ask(&*node.node, &listener.endpoint, None, &Request::get("/healthz"), LIMITS);
    answer.is_ok_and(|answer| answer.status != 400)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::node::local::LocalNode;
    use crate::node::probe::Endpoint;
    use crate::node::tls::{Tls, Trust};
    use crate::pki::layout::{Layout, Role};

    #[test]
    fn a_kubelet_without_tls_is_told_from_one_that_wants_it() {
        let node = Box::new(LocalNode::open("w1", "/").expect("this machine"));
        let node = TargetNode { node, role: Role::Worker, layout: Layout::folder("/nowhere"), trouble: None };
        let plain = |answer: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("bound").port();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody");
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            });
            let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
            let is_plain = speaks_plainly(&node, &Listener { endpoint, tls: true });
            server.join().expect("it answered");
            is_plain
        };
        assert!(plain("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        assert!(!plain("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"));
        assert!(!plain("\u{15}\u{3}\u{1}"));
    }

    #[test]
    fn a_kubelet_without_a_certificate_is_told_from_one_that_refuses() {
        let node = Box::new(LocalNode::open("w1", "/").expect("this machine"));
        let node = TargetNode { node, role: Role::Worker, layout: Layout::folder("/nowhere"), trouble: None };
        // A fatal alert (RFC 8446 section 6.2), as Go's server sends it when it has no certificate.
        let serves_nobody = |alert: u8| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("bound").port();
            let server = std::thread::spawn(move || {
                // The second one asks without TLS.
                for stream in listener.incoming().take(if alert == 80 { 1 } else { 2 }) {
                    let mut stream = stream.expect("somebody");
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]);
                }
            });
            let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
            let tls = Tls::new(Trust::Anybody, None).expect("TLS");
            let asked = ask(&*node.node, &endpoint, Some(&tls), &Request::get("/healthz"), LIMITS);
            let reason = asked.expect_err("an alert").to_string();
            let verdict = Verdict { accepted: None, reason };
            let serves_nobody = super::serves_nobody(&verdict, &node, &Listener { endpoint, tls: true });
            server.join().expect("it answered");
            serves_nobody
        };
        assert!(serves_nobody(80), "internal_error");
        assert!(!serves_nobody(40), "handshake_failure");
    }
}
