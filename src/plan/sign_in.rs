//! Which plugin signs people in, and with which arguments: told by the API server's own OIDC options.
//!
//! Two programs are called `kubelogin` and take different arguments: Azure's for Entra ID, int128's for every other
//! OpenID Connect provider.

/// The program in the kubeconfig.
pub const COMMAND: &str = "kubelogin";

/// Public client of Microsoft's Kubernetes sign-in, the same for every tenant.
const ENTRA_CLIENT: &str = "80faf920-1908-4b52-b5ef-a8e7bedfc67a";

const ENTRA_ISSUERS: [&str; 3] =
    ["https://sts.windows.net/", "https://login.microsoftonline.com/", "https://sts.chinacloudapi.cn/"];

/// How a person signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Arguments of [`COMMAND`].
    pub args: Vec<String>,
    /// What to type to get the program.
    pub install_hint: String,
    /// Whether the arguments are complete; otherwise somebody has to add the identity provider.
    pub is_complete: bool,
}

impl SignIn {
    /// What fits the API server started by `manifest`, its static pod (YAML text).
    pub fn for_server(manifest: Option<&str>) -> Self {
        let option = |name: &str| manifest.and_then(|manifest| argument(manifest, name));
        match (option("oidc-issuer-url"), option("oidc-client-id")) {
            (Some(issuer), Some(client)) => Self::with_provider(issuer, client),
            _ => Self { args: vec!["get-token".to_owned()], install_hint: either_hint(), is_complete: false },
        }
    }

    fn with_provider(issuer: &str, client: &str) -> Self {
        let tenant = ENTRA_ISSUERS.iter().find_map(|known| issuer.strip_prefix(known)?.split('/').next());
        if let Some(tenant) = tenant {
            let server = client.strip_prefix("spn:").unwrap_or(client);
            let words = ["get-token", "--login", "devicecode", "--server-id", server, "--client-id", ENTRA_CLIENT];
            return Self {
                args: words.into_iter().chain(["--tenant-id", tenant]).map(str::to_owned).collect(),
                install_hint: "install kubelogin: https://azure.github.io/kubelogin/install.html".to_owned(),
                is_complete: true,
            };
        }
        Self {
            args: vec![
                "get-token".to_owned(),
                format!("--oidc-issuer-url={issuer}"),
                format!("--oidc-client-id={client}"),
            ],
            install_hint: "install kubelogin: https://github.com/int128/kubelogin#setup".to_owned(),
            is_complete: true,
        }
    }
}

fn either_hint() -> String {
    "install kubelogin: https://github.com/int128/kubelogin#setup, or for Entra ID \
     https://azure.github.io/kubelogin/install.html"
        .to_owned()
}

/// The value of `--NAME=` in the list of a container's words.
fn argument<'m>(manifest: &'m str, name: &str) -> Option<&'m str> {
    manifest.lines().find_map(|line| {
        let word = line.trim().strip_prefix('-')?.trim().trim_matches(['"', '\'']);
        let value = word.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=')?;
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(options: &str) -> String {
        format!("spec:\n  containers:\n  - command:\n    - kube-apiserver\n    - --secure-port=6443\n{options}")
    }

    #[test]
    fn the_plugin_gets_the_provider_the_api_server_trusts() {
        let found = SignIn::for_server(Some(&manifest(
            "    - --oidc-issuer-url=https://id.example.com\n    - \"--oidc-client-id=kubernetes\"\n",
        )));
        assert!(found.is_complete);
        assert_eq!(
            found.args,
            ["get-token", "--oidc-issuer-url=https://id.example.com", "--oidc-client-id=kubernetes"]
        );
    }

    #[test]
    fn entra_is_recognised_by_its_issuer() {
        let found = SignIn::for_server(Some(&manifest(
            "    - --oidc-issuer-url=https://sts.windows.net/tenant-1/\n    - --oidc-client-id=spn:app-1\n",
        )));
        let expected = ["get-token", "--login", "devicecode", "--server-id", "app-1", "--client-id", ENTRA_CLIENT];
        assert_eq!(found.args[..7], expected);
        assert_eq!(found.args[7..], ["--tenant-id", "tenant-1"]);
    }

    #[test]
    fn without_a_provider_the_arguments_are_incomplete() {
        assert!(!SignIn::for_server(None).is_complete);
        assert!(!SignIn::for_server(Some(&manifest("    - --oidc-issuer-url=\n"))).is_complete);
    }
}
