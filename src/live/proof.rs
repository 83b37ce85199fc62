//! Does a server accept a credential: asked of the server itself, so that the answer is its own.
//!
//! A refusal counts only when it comes from the right server: one whose certificate is checked. Nothing is changed, and
//! what is asked for is harmless: who one is, or whether the server is well.

use super::NoAnswer;
use super::api_server::ApiServer;
use super::component::Component;
use super::credential::Credential;
use crate::node::Node;
use crate::node::http::{Limits, Request, Response, Unanswered, ask};
use crate::node::probe::Endpoint;
use crate::pki::authorization::REVOKED;

/// Whom Kubernetes takes somebody for whom it does not know.
const ANONYMOUS: &str = "system:anonymous";

/// What a server did with a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it accepted it; `None` when it did not say, because it was not reached for example.
    pub accepted: Option<bool>,
    /// Whom it takes the holder for, or why there is no yes.
    pub reason: String,
}

impl Verdict {
    fn new(accepted: Option<bool>, reason: impl Into<String>) -> Self {
        Self { accepted, reason: reason.into() }
    }
}

/// Shows `credential` to the `component` that `node` reaches at `endpoint`.
///
/// An API server and an etcd member have to have a certificate of the credential's own authorities; whoever holds the
/// credential could not use it otherwise. Kubelets may sign theirs themselves, so they see certificates only, no tokens.
/// kube-controller-manager and kube-scheduler are not asked: they know nobody themselves.
pub fn prove(
    node: &dyn Node,
    component: Component,
    endpoint: &Endpoint,
    credential: &Credential,
    limits: Limits,
) -> Verdict {
    match component {
        Component::ApiServer => api_server(node, endpoint, credential, limits),
        Component::Etcd => etcd(node, endpoint, credential, limits),
        Component::Kubelet => kubelet(node, endpoint, credential, limits),
        Component::ControllerManager | Component::Scheduler => {
            Verdict::new(None, format!("{component} knows nobody itself, it asks the API server"))
        }
    }
}

fn api_server(node: &dyn Node, endpoint: &Endpoint, credential: &Credential, limits: Limits) -> Verdict {
    let server = match ApiServer::new(node, endpoint.clone(), credential, limits) {
        Ok(server) => server,
        Err(why) => return Verdict::new(None, why),
    };
    match server.who_am_i() {
        Ok(user) if user.is_anonymous() => Verdict::new(Some(false), format!("it is taken for {ANONYMOUS}")),
        Ok(user) => Verdict::new(Some(true), user.name),
        // Without the right to ask who one is, the refusal names who one is.
        Err(NoAnswer::Status { status: 403, message, .. }) => {
            let name = between(&message, "User \"", "\"").unwrap_or_default();
            if name.is_empty() { Verdict::new(None, message) } else { recognised(name) }
        }
        // A server from before SelfSubjectReview; who is not known is refused before that shows.
        Err(error) if error.is_not_found() => match server.get("/api") {
            Ok(_) => Verdict::new(Some(true), "known; this version does not say as whom"),
            Err(error) => refused(&error),
        },
        Err(error) => refused(&error),
    }
}

/// As [`prove`], to a member of etcd, beside a client that it is known to let in. Whom its revocation list names gets no answer but
/// the end of the connection; that is a refusal where it happens twice and the other one is answered in between.
pub fn prove_beside(
    node: &dyn Node,
    endpoint: &Endpoint,
    credential: &Credential,
    known: &Credential,
    limits: Limits,
) -> Verdict {
    let is_cut =
        |answer: &Result<Response, NoAnswer>| matches!(answer, Err(NoAnswer::Unanswered(Unanswered::Broken(_))));
    let first = health(node, endpoint, credential, limits);
    if is_cut(&first)
        && health(node, endpoint, known, limits).is_ok_and(|answer| matches!(answer.status, 200 | 503))
        && is_cut(&health(node, endpoint, credential, limits))
    {
        return Verdict::new(Some(false), "the connection ends without an answer, and others are answered");
    }
    client(first)
}

fn etcd(node: &dyn Node, endpoint: &Endpoint, credential: &Credential, limits: Limits) -> Verdict {
    client(health(node, endpoint, credential, limits))
}

fn health(node: &dyn Node, endpoint: &Endpoint, credential: &Credential, limits: Limits) -> Result<Response, NoAnswer> {
    let tls = credential.tls().map_err(super::api_server::unusable)?;
    Ok(ask(node, endpoint, Some(&tls), &Request::get("/health"), limits)?)
}

fn client(answer: Result<Response, NoAnswer>) -> Verdict {
    match answer {
        // 503: it answers its clients, that it has no quorum.
        Ok(answer) if matches!(answer.status, 200 | 503) => Verdict::new(Some(true), "client of etcd"),
        Ok(answer) => refused(&super::api_server::refusal(&answer)),
        Err(error) => refused(&error),
    }
}

fn kubelet(node: &dyn Node, endpoint: &Endpoint, credential: &Credential, limits: Limits) -> Verdict {
    let answer = credential
        .tls_with_anybody()
        .map_err(super::api_server::unusable)
        .and_then(|tls| Ok(ask(node, endpoint, Some(&tls), &Request::get("/healthz"), limits)?));
    match answer {
        Ok(answer) if answer.status == 200 => Verdict::new(Some(true), "may read /healthz"),
        // Known, but without the right, or nobody was there to ask about it: the text names whom.
        Ok(answer) => match named(&answer) {
            Some(name) => recognised(&name),
            None => refused(&super::api_server::refusal(&answer)),
        },
        Err(error) => refused(&error),
    }
}

/// The user in a kubelet's refusal (`Forbidden (user=NAME, verb=get, …)`).
fn named(answer: &Response) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.body);
    matches!(answer.status, 403 | 500).then(|| between(&text, "user=", ",").map(str::to_owned)).flatten()
}

fn recognised(name: &str) -> Verdict {
    if name == ANONYMOUS {
        return Verdict::new(Some(false), format!("it is taken for {ANONYMOUS}"));
    }
    Verdict::new(Some(true), super::tidy(name))
}

fn refused(error: &NoAnswer) -> Verdict {
    let accepted = match error {
        _ if error.is_unauthenticated() => Some(false),
        // Who holds the credential does not get as far as showing it.
        NoAnswer::Unanswered(Unanswered::Untrusted(_)) => Some(false),
        // An authorizer of kubepki's, see `pki::authorization`: it fails for what is revoked, and for nothing else.
        NoAnswer::Status { status: 500, message, .. } if message.contains(REVOKED) => {
            return Verdict::new(Some(false), "its certificate is revoked");
        }
        _ => None,
    };
    Verdict::new(accepted, error.to_string())
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubelet_said(status: u16, body: &str) -> Option<Verdict> {
        let body = zeroize::Zeroizing::new(body.as_bytes().to_vec());
        named(&Response { status, headers: Vec::new(), body, shown: Vec::new() }).map(|name| recognised(&name))
    }

    #[test]
    fn a_refusal_that_names_somebody_is_an_acceptance_of_the_credential() {
        let text = "Forbidden (user=kubernetes-admin, verb=get, resource=nodes, subresource(s)=[healthz proxy])";
        assert_eq!(kubelet_said(403, text), Some(Verdict::new(Some(true), "kubernetes-admin")));
        let text = "Authorization error (user=kubernetes-admin, verb=get, resource=nodes)";
        assert_eq!(kubelet_said(500, text).and_then(|verdict| verdict.accepted), Some(true));
        let text = "Forbidden (user=system:anonymous, verb=get, resource=nodes)";
        assert_eq!(kubelet_said(403, text).and_then(|verdict| verdict.accepted), Some(false));
        assert_eq!(kubelet_said(401, "Unauthorized"), None);
    }

    #[test]
    fn an_error_is_a_refusal_only_where_it_speaks_of_a_revoked_certificate() {
        let said =
            |message: &str| refused(&NoAnswer::Status { status: 500, reason: String::new(), message: message.into() });
        let text = "Internal Server Error: \"/api\": cel evaluation error: expression \
                    'request.extra['client-certificate-revoked'].size() > 0' resulted in error: no such key";
        assert_eq!(said(text).accepted, Some(false));
        assert_eq!(said("Internal Server Error: \"/api\": connection refused").accepted, None);
    }

    #[test]
    fn silence_proves_nothing() {
        for error in [Unanswered::Unreachable("x".into()), Unanswered::Broken("x".into())] {
            assert_eq!(refused(&error.into()).accepted, None);
        }
        let busy = NoAnswer::Status { status: 429, reason: String::new(), message: String::new() };
        assert_eq!(refused(&busy).accepted, None);
        assert_eq!(refused(&Unanswered::Refused("x".into()).into()).accepted, Some(false));
    }
}
