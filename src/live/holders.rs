//! Who else in the cluster keeps a copy of certain CA certificates: webhooks, aggregated APIs, conversions, config maps,
//! and Secrets, all of which belong to somebody else and are only told of.
//!
//! Of Secrets nothing is kept but entries that are named like CA certificates.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::NoAnswer;
use super::api_server::ApiServer;
use super::authority_set::AuthoritySet;
use super::credential::certificates;
use super::list::{Metadata, SMALL_PAGE};

/// Config maps that Kubernetes itself keeps, wherever they are.
const OWN_CONFIG_MAPS: [&str; 3] = ["kube-root-ca.crt", "cluster-info", "extension-apiserver-authentication"];

/// What holds some of the authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Each as `ConfigMap namespace/name`.
    pub found: Vec<String>,
    /// What could not be looked through, each as `Secret: why`.
    pub unread: Vec<String>,
}

/// An object that may carry CA certificates.
trait Carrier: DeserializeOwned {
    fn metadata(&self) -> &Metadata;
    /// Texts (PEM) with certificates, decoded.
    fn bundles(self) -> Vec<Vec<u8>>;
}

impl ApiServer<'_> {
    /// Everything that carries one of `authorities` and is nobody's of Kubernetes' own.
    ///
    /// # Errors
    /// When the server does not answer. What one may not read is told in [`Holders::unread`].
    pub fn holders_of(&self, authorities: &AuthoritySet) -> Result<Holders, NoAnswer> {
        let mut holders = Holders::default();
        let admission = "/apis/admissionregistration.k8s.io/v1";
        let wanted = Wanted(authorities);
        for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            let path = format!("{admission}/{}s", kind.to_ascii_lowercase());
            self.look::<Webhooks>(kind, &path, &wanted, &mut holders)?;
        }
        let services = "/apis/apiregistration.k8s.io/v1/apiservices";
        self.look::<ApiService>("APIService", services, &wanted, &mut holders)?;
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.look::<Definition>("CustomResourceDefinition", definitions, &wanted, &mut holders)?;
        self.look::<ConfigMap>("ConfigMap", "/api/v1/configmaps", &wanted, &mut holders)?;
        for kind in ["Opaque", "kubernetes.io%2Ftls"] {
            let path = format!("/api/v1/secrets?fieldSelector=type%3D{kind}");
            self.look::<Secret>("Secret", &path, &wanted, &mut holders)?;
        }
        holders.unread.dedup();
        Ok(holders)
    }

    fn look<T: Carrier>(
        &self,
        kind: &str,
        path: &str,
        wanted: &Wanted<'_>,
        holders: &mut Holders,
    ) -> Result<(), NoAnswer> {
        let objects: Vec<T> = match self.list(path, SMALL_PAGE) {
            Ok(objects) => objects,
            // Not for us, or not served by this cluster.
            Err(error) if error.status() == Some(403) => {
                holders.unread.push(format!("{kind}: {error}"));
                return Ok(());
            }
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        for object in objects {
            let Metadata { name, namespace, .. } = object.metadata().clone();
            if (namespace.is_empty() || !OWN_CONFIG_MAPS.contains(&name.as_str()))
                && object.bundles().iter().any(|bundle| wanted.is_in(bundle))
            {
                let place = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
                holders.found.push(format!("{kind} {}", super::tidy(&place)));
            }
        }
        Ok(())
    }
}

struct Wanted<'a>(&'a AuthoritySet);

impl Wanted<'_> {
    fn is_in(&self, bundle: &[u8]) -> bool {
        certificates(bundle).iter().any(|der| self.0.contains(der))
            || embedded(bundle).iter().any(|pem| certificates(pem).iter().any(|der| self.0.contains(der)))
    }
}

/// What the `certificate-authority-data` and `caBundle` fields of a text hold.
fn embedded(text: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for field in ["certificate-authority-data", "caBundle"] {
        for rest in text.split(field).skip(1) {
            let rest = rest.trim_start_matches(['"', '\'', ':', ' ', '\t']);
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+/=".contains(letter));
            found.extend(STANDARD.decode(&rest[..end.unwrap_or(rest.len())]).ok());
        }
    }
    found
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConfig {
    ca_bundle: Option<String>,
}

fn decoded(text: Option<String>) -> Option<Vec<u8>> {
    STANDARD.decode(text?).ok()
}

#[derive(Deserialize)]
struct Webhooks {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    webhooks: Option<Vec<Webhook>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    #[serde(default)]
    client_config: ClientConfig,
}

impl Carrier for Webhooks {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bundles(self) -> Vec<Vec<u8>> {
        self.webhooks.into_iter().flatten().filter_map(|webhook| decoded(webhook.client_config.ca_bundle)).collect()
    }
}

#[derive(Deserialize)]
struct ApiService {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: ClientConfig,
}

impl Carrier for ApiService {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bundles(self) -> Vec<Vec<u8>> {
        decoded(self.spec.ca_bundle).into_iter().collect()
    }
}

#[derive(Deserialize)]
struct Definition {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: DefinitionSpec,
}

#[derive(Default, Deserialize)]
struct DefinitionSpec {
    #[serde(default)]
    conversion: Option<Conversion>,
}

#[derive(Deserialize)]
struct Conversion {
    #[serde(default)]
    webhook: Option<ConversionWebhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConversionWebhook {
    #[serde(default)]
    client_config: Option<ClientConfig>,
}

impl Carrier for Definition {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bundles(self) -> Vec<Vec<u8>> {
        let webhook = self.spec.conversion.and_then(|conversion| conversion.webhook);
        decoded(webhook.and_then(|webhook| webhook.client_config).and_then(|config| config.ca_bundle))
            .into_iter()
            .collect()
    }
}

/// Entries of a config map or a Secret of which only some are kept.
#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, deserialize_with = "all_entries")]
    data: Vec<String>,
}

impl Carrier for ConfigMap {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bundles(self) -> Vec<Vec<u8>> {
        self.data.into_iter().map(String::into_bytes).collect()
    }
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, deserialize_with = "authority_entries")]
    data: Vec<String>,
}

impl Carrier for Secret {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn bundles(self) -> Vec<Vec<u8>> {
        self.data.into_iter().filter_map(|text| decoded(Some(text))).collect()
    }
}

fn all_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    entries(deserializer, |_| true)
}

fn authority_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    entries(deserializer, is_authority)
}

/// Whether an entry of that name holds CA certificates and no secret.
fn is_authority(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let names_authority = words.iter().any(|word| matches!(*word, "ca" | "cacert" | "cacerts" | "cabundle" | "rootca"));
    names_authority && !words.iter().any(|word| matches!(*word, "key" | "token" | "password" | "pass" | "srl"))
}

/// The values of a mapping whose names are `wanted`; those of others are skipped unread. `null` is an empty mapping.
fn entries<'de, D: Deserializer<'de>>(deserializer: D, wanted: fn(&str) -> bool) -> Result<Vec<String>, D::Error> {
    struct Entries<'de>(fn(&str) -> bool, PhantomData<&'de ()>);
    impl<'de> Visitor<'de> for Entries<'de> {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of texts")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut kept = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                if (self.0)(&name) {
                    kept.extend(map.next_value::<Option<String>>()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(kept)
        }
    }
    deserializer.deserialize_any(Entries(wanted, PhantomData))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::authority_set::bundle;
    use super::*;

    #[test]
    fn of_a_secret_only_entries_named_like_authorities_are_read() {
        for name in ["ca.crt", "ca-bundle.crt", "CA.pem", "root-ca.pem", "cacert", "tls-ca", "ca"] {
            assert!(is_authority(name), "{name}");
        }
        for name in ["ca.key", "tls.crt", "tls.key", "token", "password", "cat.txt", "ca-key.pem", "ca-token"] {
            assert!(!is_authority(name), "{name}");
        }
        let object = json!({"metadata": {"name": "s"}, "data": {"ca.crt": "YQ==", "tls.key": "Yg==", "ca.key": 7, "ca.pem": null}});
        let secret: Secret = serde_json::from_str(&object.to_string()).expect("a secret");
        assert_eq!(secret.bundles(), [b"a".to_vec()]);
        for text in [r#"{"data": null}"#, "{}"] {
            assert!(serde_json::from_str::<Secret>(text).expect("a secret").bundles().is_empty());
        }
    }

    #[test]
    fn a_certificate_is_found_in_every_kind_of_carrier() {
        let wanted: AuthoritySet = std::iter::once(b"old".to_vec()).collect();
        let wanted = Wanted(&wanted);
        let pem = bundle(&[b"other".to_vec(), b"old".to_vec()]);
        let data = STANDARD.encode(&pem);
        let found = |bundles: Vec<Vec<u8>>| bundles.iter().any(|bundle| wanted.is_in(bundle));
        let hooks = json!({"webhooks": [{"clientConfig": {}}, {"clientConfig": {"caBundle": data}}]});
        assert!(found(serde_json::from_value::<Webhooks>(hooks).expect("webhooks").bundles()));
        let service = json!({"spec": {"caBundle": data}});
        assert!(found(serde_json::from_value::<ApiService>(service).expect("an APIService").bundles()));
        let definition =
            json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": data}}}}});
        assert!(found(serde_json::from_value::<Definition>(definition).expect("a definition").bundles()));
        let plain = json!({"spec": {"conversion": {"strategy": "None"}}});
        assert!(!found(serde_json::from_value::<Definition>(plain).expect("a definition").bundles()));
        for text in
            [pem.clone(), format!("certificate-authority-data: {data}\n"), format!(r#"{{"caBundle":"{data}"}}"#)]
        {
            let map = json!({"data": {"x": text}});
            assert!(found(serde_json::from_value::<ConfigMap>(map).expect("a map").bundles()), "{text}");
        }
        assert!(!wanted.is_in(bundle(&[b"other".to_vec()]).as_bytes()));
    }
}
