//! What a planned file will hold, byte for byte, once its keys and certificates are minted.

use std::path::Path;

use anyhow::anyhow;
use zeroize::Zeroizing;

use super::existing;
use super::mint::Minted;
use crate::error::Failure;
use crate::node::Node;
use crate::pki::certificate::Certificate;
use crate::pki::kubeconfig::{Authentication, Credential, DataField, Kubeconfig, Names, Replacement};
use crate::pki::pem_file;
use crate::pki::{crl, csr};
use crate::plan::blueprint::{CertificateRef, FileContent, KubeconfigPlan};

/// The whole new content of the file at `path` on `node`.
///
/// # Errors
/// When the blueprint refers to what was not minted, or a kubeconfig that only changes in part cannot be read or changed.
pub fn file(
    node: &dyn Node,
    path: &Path,
    content: &FileContent,
    minted: &Minted,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    Ok(match content {
        FileContent::Certificates(references) => certificates(references, minted)?,
        FileContent::Der(reference) => Zeroizing::new(minted.resolve(reference)?.der().to_vec()),
        FileContent::PrivateKey(id) => Zeroizing::new(minted.key(id)?.to_pem().as_bytes().to_vec()),
        FileContent::PublicKeys(references) => {
            let mut bytes = Zeroizing::new(Vec::new());
            for reference in references {
                bytes.extend_from_slice(
                    pem_file::encode("PUBLIC KEY", minted.resolve_public_key(reference)?).as_bytes(),
                );
            }
            bytes
        }
        FileContent::CertificatesAndKey(references, id) => {
            let mut bytes = certificates(references, minted)?;
            bytes.extend_from_slice(minted.key(id)?.to_pem().as_bytes());
            bytes
        }
        FileContent::Request(id) => {
            let template = minted.template(id)?;
            let key = minted.key(minted.key_of(id)?)?;
            Zeroizing::new(csr::request(template, key)?.into_bytes())
        }
        FileContent::Kubeconfig(plan) => kubeconfig(node, path, plan, minted)?,
        FileContent::Manifest(text) => Zeroizing::new(text.clone().into_bytes()),
        FileContent::Bytes(bytes) => Zeroizing::new(bytes.clone()),
        FileContent::Dressed { content: Some(content), .. } => self::file(node, path, content, minted)?,
        FileContent::Dressed { content: None, .. } => existing::content(node, path)?,
        FileContent::RevocationList { list, authority, key, pem } => {
            let der = list.sign(minted.resolve(authority)?, minted.key(key)?)?;
            Zeroizing::new(if *pem { crl::to_pem(&der).into_bytes() } else { der })
        }
        FileContent::Link { .. } => return Err(anyhow!("{} is a link and has no content", path.display())),
    })
}

/// The minted certificate that a file will hold first: the one its report names.
pub fn leading_certificate<'a>(content: &'a FileContent, minted: &'a Minted) -> Option<&'a Certificate> {
    let reference = match content {
        FileContent::Certificates(references)
        | FileContent::CertificatesAndKey(references, _)
        | FileContent::Kubeconfig(KubeconfigPlan::New { client: (references, _), .. }) => references.first()?,
        FileContent::Kubeconfig(KubeconfigPlan::Existing { clients, .. }) => clients.first()?.1.first()?,
        FileContent::Der(reference) => reference,
        FileContent::Dressed { content, .. } => return leading_certificate(content.as_deref()?, minted),
        FileContent::PrivateKey(_)
        | FileContent::PublicKeys(_)
        | FileContent::Request(_)
        | FileContent::Kubeconfig(KubeconfigPlan::OfKubelet { .. })
        | FileContent::Manifest(_)
        | FileContent::Bytes(_)
        | FileContent::RevocationList { .. }
        | FileContent::Link { .. } => return None,
    };
    minted.resolve(reference).ok()
}

fn certificates(references: &[CertificateRef], minted: &Minted) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    for reference in references {
        bytes.extend_from_slice(minted.resolve(reference)?.to_pem().as_bytes());
    }
    Ok(bytes)
}

fn kubeconfig(
    node: &dyn Node,
    path: &Path,
    plan: &KubeconfigPlan,
    minted: &Minted,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match plan {
        KubeconfigPlan::New { cluster, server, user, context, authorities, client: (chain, key) } => {
            let names = Names { cluster: cluster.clone(), user: user.clone(), context: context.clone() };
            let authorities = certificates(authorities, minted)?;
            let certificate = certificates(chain, minted)?;
            let key = minted.key(key)?.to_pem();
            let authentication = Authentication::Embedded { certificate: &certificate, key: key.as_bytes() };
            Ok(Credential::new(names, server, &authorities, authentication).document())
        }
        KubeconfigPlan::OfKubelet { server, user, authorities, store } => {
            let cluster = "kubernetes".to_owned();
            let names = Names { context: format!("{user}@{cluster}"), cluster, user: user.clone() };
            let authorities = certificates(authorities, minted)?;
            let store = store.to_string_lossy();
            let authentication = Authentication::Files { certificate: &store, key: &store };
            Ok(Credential::new(names, server, &authorities, authentication).document())
        }
        KubeconfigPlan::Existing { authorities, clients } => {
            let text = existing::content(node, path)?;
            let mut fields: Vec<(DataField, &str, Zeroizing<Vec<u8>>)> = Vec::new();
            for (cluster, references) in authorities {
                fields.push((DataField::CertificateAuthority, cluster, certificates(references, minted)?));
            }
            for (user, references, key) in clients {
                // What is left out here lies in a file that the entry refers to, and is a file of the plan itself.
                if !references.is_empty() {
                    fields.push((DataField::ClientCertificate, user, certificates(references, minted)?));
                }
                if let Some(key) = key {
                    let key = minted.key(key)?.to_pem().as_bytes().to_vec();
                    fields.push((DataField::ClientKey, user, Zeroizing::new(key)));
                }
            }
            let replacements: Vec<Replacement<'_>> =
                fields.iter().map(|(field, entry, pem)| Replacement { field: *field, entry, pem }).collect();
            Kubeconfig::replace_data(&text, &replacements).map_err(|error| {
                anyhow!(
                    Failure::failed(format!("{}: {}: {error}", node.name(), path.display()))
                        .hint("correct the kubeconfig by hand, or move it away and make it anew with create-certs")
                )
            })
        }
    }
}
