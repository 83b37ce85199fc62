//! The manifests of one node's static pods through the rounds: each change follows from the one before.

use std::collections::BTreeMap;
use std::path::Path;

use super::Setting;
use crate::error::Failure;
use crate::pki::manifest::{RESTARTED_AT, annotated, with_flags};
use crate::plan::blueprint::{FileContent, PlannedFile};
use crate::plan::operation::FileAction;
use crate::plan::restart::{Manifest, Means, Strategy, command};

/// One node's manifests.
#[derive(Debug)]
pub(super) struct Pods<'a> {
    node: &'a str,
    means: &'a Means,
    stamp: &'a str,
    /// By component: as found, and its text by now.
    manifests: BTreeMap<&'a str, (&'a Manifest, String)>,
    restarts: usize,
}

impl<'a> Pods<'a> {
    /// Those of `node`.
    pub(super) fn new(node: &'a str, setting: &Setting<'a>) -> Self {
        let own = setting.manifests.iter().filter(|manifest| manifest.node == node);
        let manifests = own.map(|manifest| (manifest.component.as_str(), (manifest, manifest.text.clone()))).collect();
        Self { node, means: setting.means, stamp: setting.stamp, manifests, restarts: 0 }
    }

    /// The node's name.
    pub(super) fn node(&self) -> &'a str {
        self.node
    }

    /// How components are restarted.
    pub(super) fn means(&self) -> &'a Means {
        self.means
    }

    /// Whether components are static pods.
    pub(super) fn are_static(&self) -> bool {
        self.means.strategy == Strategy::StaticPod
    }

    /// Refuses a node on which one of `components` cannot be restarted.
    pub(super) fn must_have(&self, components: &[String]) -> Result<(), Failure> {
        for component in components {
            let reason = match (command(self.means, component), self.are_static()) {
                (Some(_), _) => continue,
                (None, true) if self.manifests.contains_key(component.as_str()) => continue,
                (None, true) => "there is no manifest of a static pod for it",
                (None, false) => "the cluster file has no command for it",
            };
            return Err(Failure::failed(format!(
                "node {}: {component} has to be restarted between the rounds, but {reason}",
                self.node
            ))
            .hint("say in the cluster file how components are restarted: spec.restart"));
        }
        Ok(())
    }

    /// The text of a component's manifest as found.
    pub(super) fn found(&self, component: &str) -> Option<&'a str> {
        self.manifests.get(component).map(|(manifest, _)| manifest.text.as_str())
    }

    /// Where a component's manifest is.
    pub(super) fn path(&self, component: &str) -> Option<&'a Path> {
        self.manifests.get(component).map(|(manifest, _)| manifest.path.as_path())
    }

    /// Gives a component other flags from its next restart on.
    pub(super) fn set_flags(&mut self, component: &str, flags: &[(&str, &str)]) -> Result<(), Failure> {
        let node = self.node;
        let Some((manifest, text)) = self.manifests.get_mut(component) else { return Ok(()) };
        *text = with_flags(text, flags).map_err(|reason| {
            Failure::failed(format!("node {node}: {}: {reason}", manifest.path.display()))
                .hint("kubepki changes flags that are laid out as kubeadm does")
        })?;
        Ok(())
    }

    /// Gives a component its own flags back, from its next restart on.
    pub(super) fn as_before(&mut self, component: &str) {
        if let Some((manifest, text)) = self.manifests.get_mut(component) {
            text.clone_from(&manifest.text);
        }
    }

    /// The manifest that starts a component anew; `None` where a command does that.
    pub(super) fn restarted(&mut self, component: &str) -> Result<Option<PlannedFile>, Failure> {
        if command(self.means, component).is_some() {
            return Ok(None);
        }
        self.restarts += 1;
        let stamp = format!("{}-{}", self.stamp, self.restarts);
        let node = self.node;
        let Some((manifest, text)) = self.manifests.get_mut(component) else { return Ok(None) };
        *text = annotated(text, RESTARTED_AT, &stamp).map_err(|reason| {
            Failure::failed(format!("node {node}: {}: {reason}", manifest.path.display()))
                .hint("kubepki restarts static pods by an annotation in their manifest")
        })?;
        Ok(Some(planned(manifest, FileAction::Replaced, Some(FileContent::Manifest(text.clone())))))
    }

    /// The manifest's going away; `None` where there is none.
    pub(super) fn stopped(&self, component: &str) -> Option<PlannedFile> {
        self.manifests.get(component).map(|(manifest, _)| planned(manifest, FileAction::Removed, None))
    }
}

fn planned(manifest: &Manifest, action: FileAction, content: Option<FileContent>) -> PlannedFile {
    PlannedFile {
        path: manifest.path.clone(),
        name: format!("{}.yaml", manifest.component),
        step: 0,
        action,
        content,
        mode: 0o600,
        seen: Some(manifest.sha256.clone()),
        old_serial_number: None,
        not_after: None,
    }
}
