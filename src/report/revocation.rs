//! How revocations look to people: whom one hits, what each component does about it, and the list of all there are.

use std::fmt::Write as _;

use serde_json::Value;
use time::OffsetDateTime;

use super::table::{Cell, Table, Tone, View};
use super::text::counted;
use super::{Report, time_text, value_of};
use crate::pki::revocation::{Revocation, manifest};
use crate::plan::operation::{FileAction, ProvisioningState};
use crate::plan::revoke::result::{ComponentState, Enforcement, Holder, MatchRow, RevocationResult};

impl Report for RevocationResult {
    fn to_value(&self) -> anyhow::Result<Value> {
        value_of(self)
    }

    fn rows(&self) -> anyhow::Result<Value> {
        value_of(&self.matches)
    }

    fn view(&self, now: OffsetDateTime) -> View {
        let mut view = View::default();
        for holder in &self.holders {
            view = told(view, holder, now);
        }
        if self.matches.is_empty() {
            view = view.line("No certificate that is known matches.");
        } else {
            let title = format!("Matching: {}", counted(self.matches.len(), "certificate"));
            view = view.titled(title, matches(&self.matches, now));
        }
        let mut table = Table::new(["COMPONENT", "NODE", "STATE", "SINCE", "WHY"]).dispensable(["SINCE"]);
        for state in &self.components {
            table.push(component(state));
        }
        view = view.table(table.without_blank_columns());
        for node in &self.nodes {
            for file in node.files.iter().filter(|file| file.action != FileAction::Unchanged) {
                let action = match file.action {
                    FileAction::Created => "create",
                    FileAction::Removed => "remove",
                    FileAction::Replaced | FileAction::Unchanged => "replace",
                };
                view = view.line(Cell::toned(format!("{action} {} on {}", file.path, node.name), Tone::Faint));
            }
        }
        for proof in &self.proof {
            let (word, tone) = if proof.accepted { ("still let in", Tone::Bad) } else { ("refused", Tone::Good) };
            view = view.line(Cell::toned(format!("{}: {word}, {}", proof.endpoint, time_text::utc(proof.at)), tone));
        }
        view = view.line(self.summary());
        self.next_steps.iter().fold(view, |view, step| view.line(format!("Next: {step}")))
    }
}

impl RevocationResult {
    fn summary(&self) -> Cell {
        let name = if self.name.is_empty() { "revoke" } else { &self.name };
        match self.provisioning_state {
            ProvisioningState::Planned => format!("{name}: nothing was changed").into(),
            _ if self.taken_back => Cell::toned(format!("{name}: taken back"), Tone::Good),
            _ => {
                let open = self.components.iter().any(|state| state.state == Enforcement::NeedsPrepare);
                let tone = if open { Tone::Attention } else { Tone::Good };
                let rest = if open { "; some components need `revoke --prepare` to enforce it" } else { "" };
                Cell::toned(format!("{name}: on the ledger{rest}"), tone)
            }
        }
    }
}

fn told(view: View, holder: &Holder, now: OffsetDateTime) -> View {
    let groups = if holder.groups.is_empty() { "no group".to_owned() } else { holder.groups.join(", ") };
    let until = format!("{} ({})", time_text::utc(holder.not_after), time_text::relative(holder.not_after, now));
    view.line(format!("{}: user {:?}, {groups}", holder.entry, holder.user))
        .line(format!("  may: {}", holder.rights))
        .line(format!("  until: {until}"))
}

fn matches(rows: &[MatchRow], now: OffsetDateTime) -> Table {
    let mut table =
        Table::new(["CERTIFICATE", "NODE", "SUBJECT", "SERIAL", "NOT BEFORE", "RESIDUAL", "BECAUSE OF", "PATH"])
            .dispensable(["PATH", "NOT BEFORE", "SERIAL"]);
    for row in rows {
        let dash = || Cell::toned("-", Tone::Faint);
        let or_dash = |text: Option<String>| text.map_or_else(dash, Cell::from);
        let mut why = format!("{} {}", row.revoked_by.kind, row.revoked_by.value);
        if let Some(moment) = row.revoked_by.not_before {
            let _ = write!(why, " before {}", time_text::utc(moment));
        }
        table.push([
            Cell::toned(row.name.as_str(), Tone::Bad),
            or_dash(row.node.clone()),
            or_dash(row.subject.clone()),
            or_dash(row.serial_number.clone()),
            or_dash(row.not_before.map(time_text::utc)),
            or_dash(row.not_after.map(|end| time_text::relative(end, now))),
            why.into(),
            or_dash(row.path.clone()),
        ]);
    }
    table
}

fn component(state: &ComponentState) -> [Cell; 5] {
    let tone = match state.state {
        Enforcement::Enforced => Tone::Good,
        Enforcement::NeedsPrepare => Tone::Attention,
        Enforcement::NotEnforceable => Tone::Faint,
    };
    let dash = || Cell::toned("-", Tone::Faint);
    [
        state.component.into(),
        state.node.as_deref().map_or_else(dash, Cell::from),
        Cell::toned(state.state.name(), tone),
        state.since.map_or_else(dash, |since| time_text::utc(since).into()),
        state.reason.as_str().into(),
    ]
}

/// `revoke --list`: the ledger.
#[derive(Debug)]
pub struct LedgerReport<'a>(pub &'a [Revocation]);

impl Report for LedgerReport<'_> {
    fn to_value(&self) -> anyhow::Result<Value> {
        self.0.iter().map(|revocation| manifest::value(revocation).map_err(|error| anyhow::anyhow!(error))).collect()
    }

    fn view(&self, now: OffsetDateTime) -> View {
        let mut table = Table::new(["NAME", "SINCE", "KIND", "VALUE", "NOT BEFORE", "DESCRIPTION"])
            .dispensable(["DESCRIPTION", "SINCE"]);
        for revocation in self.0 {
            for (place, entry) in revocation.entries.iter().enumerate() {
                let first = |text: String| if place == 0 { text.into() } else { Cell::from("") };
                let since = revocation.created.map(|at| time_text::relative(at, now));
                let description = entry.description.as_ref().or(revocation.description.as_ref());
                table.push([
                    first(revocation.name.clone()),
                    first(since.unwrap_or_else(|| "-".to_owned())),
                    entry.kind.name().into(),
                    entry.kind.value().into(),
                    entry.not_before.map_or_else(|| "-".into(), |moment| time_text::utc(moment).into()),
                    description.map_or("-", String::as_str).into(),
                ]);
            }
        }
        if table.is_empty() { View::default().line("nothing is revoked") } else { View::default().table(table) }
    }
}
