//! What the configuration says, and what stays in it.

use super::*;

const KUBECONFIG: &str = "/etc/kubernetes/pki/kubepki/deny.kubeconfig";

const OPERATORS: &str = "# ours
apiVersion: apiserver.config.k8s.io/v1beta1
kind: AuthorizationConfiguration
authorizers:
  # asked first
  - type: Webhook
    name: policy
    webhook:
      timeout: 3s # short
      matchConditions:
      - expression: |
          request.user == 'x' &&

            request.groups.size() > 0
      connectionInfo: {type: KubeConfigFile,
        kubeConfigFile: /a}
  - type: Node
    name: node
  -
    name: rbac
    type: RBAC
# the end
";

fn denied(fingerprints: usize, groups: &[&str]) -> Denied {
    Denied {
        fingerprints: (0..fingerprints).map(|number| format!("{number:064x}")).collect(),
        groups: groups.iter().map(ToString::to_string).collect(),
    }
}

fn names(text: &str) -> Vec<String> {
    Configuration::read(text).expect("a configuration").authorizers.into_iter().map(|one| one.name).collect()
}

#[test]
fn what_is_revoked_is_refused_before_anybody_else_is_asked() {
    let modes = of_modes("Node,RBAC").expect("kubeadm's");
    assert_eq!(names(&modes), ["node", "rbac"]);
    let text = with_denied(&modes, &denied(2, &["dev", "it's \\ ü"]), KUBECONFIG).expect("good");
    assert_eq!(names(&text), ["kubepki-revoked-certificates-1", "kubepki-revoked-groups", "node", "rbac"]);
    for part in
        ["'X509SHA256=0000", "g in [\n        'dev',\n        'it\\'s \\\\ \\U000000fc'\n", "failurePolicy: Deny"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(refused(&text).expect("good"), denied(2, &[]).fingerprints);
    assert_eq!(with_denied(&text, &denied(2, &["dev", "it's \\ ü"]), KUBECONFIG).expect("good"), text);
    assert_eq!(with_denied(&text, &Denied::default(), KUBECONFIG).expect("good"), modes);
}

#[test]
fn authorizers_of_others_stay_as_they_are_with_their_comments() {
    let once = with_denied(OPERATORS, &denied(1, &[]), KUBECONFIG).expect("good");
    assert_eq!(names(&once), ["kubepki-revoked-certificates-1", "policy", "node", "rbac"]);
    for part in ["# ours\n", "# asked first\n- type: Webhook\n", "timeout: 3s # short", "# the end\n", "v1beta1"] {
        assert!(once.contains(part), "{part}: {once}");
    }
    let back = with_denied(&once, &Denied::default(), KUBECONFIG).expect("good");
    assert_eq!(with_denied(&back, &denied(1, &[]), KUBECONFIG).expect("good"), once);
    let (first, last) = (Configuration::read(OPERATORS).expect("good"), Configuration::read(&back).expect("good"));
    assert!(first.authorizers.iter().zip(&last.authorizers).all(|(before, after)| before.node.same(&after.node)));
}

#[test]
fn many_certificates_are_spread_over_several_authorizers_within_the_limits() {
    let modes = of_modes("Node,RBAC").expect("kubeadm's");
    let text = with_denied(&modes, &denied(2500, &[]), KUBECONFIG).expect("good");
    assert_eq!(names(&text).len(), 5);
    assert_eq!(refused(&text).expect("good").len(), 2500);
    for one in Configuration::read(&text).expect("good").authorizers.iter().filter(|one| one.is_own()) {
        let conditions = one.node.get("webhook").expect("one").get("matchConditions").expect("some");
        let first = conditions.items().expect("a list")[0].get("expression").expect("one").text().expect("text");
        assert!(first.chars().count() < LONGEST_EXPRESSION);
    }
    assert!(with_denied(&modes, &denied(MOST + 1, &[]), KUBECONFIG).is_err_and(|why| why.contains("rotate-certs")));
}

#[test]
fn what_would_refuse_everybody_or_stop_a_server_is_never_written() {
    let modes = of_modes("Node,RBAC").expect("kubeadm's");
    for groups in [&["system:authenticated"][..], &[""]] {
        assert!(with_denied(&modes, &denied(0, groups), KUBECONFIG).is_err(), "{groups:?}");
    }
    let odd = Denied { fingerprints: ["ABC".to_owned()].into(), ..Denied::default() };
    assert!(with_denied(&modes, &odd, KUBECONFIG).is_err());
    let nobody = Denied::default();
    for text in [
        "",
        "kind: AuthorizationConfiguration",
        "kind: Pod\napiVersion: v1\nauthorizers:\n- type: Node\n",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: []\n",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: Node, name: node}]\n",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {name: a}\n- {name: a}\n",
    ] {
        assert!(with_denied(text, &nobody, KUBECONFIG).is_err(), "{text}");
    }
    assert!(of_modes("Node,Webhook,RBAC").is_err_and(|why| why.contains("--authorization-config")));
}
