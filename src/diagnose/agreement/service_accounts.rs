//! Tokens: what the controller manager of one control-plane node signs, the API server of every other must accept.

use super::{camps, names};
use crate::diagnose::case::Case;
use crate::diagnose::finding::FindingId;
use crate::diagnose::row::{Member, Row};
use crate::snapshot::NodeSnapshot;

/// What a node signs tokens with and accepts.
#[derive(Debug, PartialEq)]
struct Keys<'a> {
    /// Public half of `sa.key`.
    signs: Option<&'a [u8]>,
    /// The keys in `sa.pub`, sorted.
    accepts: Vec<&'a [u8]>,
}

impl Keys<'_> {
    /// Whether tokens signed by `other` are good here, as far as that can be told.
    fn takes(&self, other: &Self) -> bool {
        self.accepts.is_empty() || other.signs.is_none_or(|key| self.accepts.contains(&key))
    }

    /// Whether tokens signed here are good here; if not, that is a finding of its own.
    fn is_whole(&self) -> bool {
        self.takes(self)
    }
}

pub(super) fn check(case: &mut Case<'_, '_>) {
    let nodes = &case.snapshot.nodes;
    let known = nodes.iter().enumerate().filter_map(|(index, node)| Some((index, keys(node)?)));
    let camps = camps(nodes, known);
    let Some((measure, others)) = camps.split_first() else { return };
    for (camp, node) in others.iter().flat_map(|camp| camp.nodes.iter().map(move |node| (camp, *node))) {
        let (here, there) = (&camp.has, names(case, &measure.nodes));
        let signs_otherwise = here.signs != measure.has.signs && here.signs.is_some() && measure.has.signs.is_some();
        let refuses = !here.takes(&measure.has) && here.is_whole();
        let is_refused = !measure.has.takes(here) && measure.has.is_whole();
        // Without any public keys to look into, two keys that sign are two keys too many.
        let is_blind = here.accepts.is_empty() || measure.has.accepts.is_empty();
        let (id, what, is_key) = match (refuses, is_refused) {
            (_, true) => (FindingId::ServiceAccountDisagrees, "tokens signed with it are refused by", true),
            (true, false) => (FindingId::ServiceAccountDisagrees, "it refuses the tokens signed by", false),
            // A node at odds with itself is told so by another rule.
            _ if !here.is_whole() => continue,
            _ if signs_otherwise && is_blind => {
                (FindingId::ServiceAccountDisagrees, "tokens are signed with another key than by", true)
            }
            _ if signs_otherwise => {
                (FindingId::ServiceAccountMixed, "tokens are signed with another key than by", true)
            }
            _ if here.accepts != measure.has.accepts && !is_blind => {
                (FindingId::ServiceAccountMixed, "it accepts the tokens of other keys than", false)
            }
            _ => continue,
        };
        let is_place = |row: &Row<'_>, strictly: bool| {
            let fits = !strictly || row.artifact.part.is_some_and(|part| part.is_key == is_key);
            row.node == node && row.id() == Some("sa") && row.member == Member::Keys && fits
        };
        let place = case.rows.iter().position(|row| is_place(row, true));
        let Some(row) = place.or_else(|| case.rows.iter().position(|row| is_place(row, false))) else { continue };
        let path = case.rows[row].artifact.path.display();
        let message = format!("{path}: {what} {there}");
        let remedy = match id {
            FindingId::ServiceAccountMixed => case.command("rotate-certs --continue"),
            _ => case.command("rotate-certs --only sa"),
        };
        case.add(row, id, message, remedy);
    }
}

fn keys(node: &NodeSnapshot) -> Option<Keys<'_>> {
    let private = node.key_of("sa").and_then(|file| file.content()?.private_key.as_ref()?.as_ref().ok());
    let public = node.entry("sa").and_then(|file| file.content());
    let found = public.into_iter().flat_map(|content| content.public_keys.iter().flatten());
    let mut accepts: Vec<&[u8]> = found.map(Vec::as_slice).collect();
    accepts.sort_unstable();
    accepts.dedup();
    let signs = private.map(|key| key.public_key.as_slice());
    (signs.is_some() || !accepts.is_empty()).then_some(Keys { signs, accepts })
}
