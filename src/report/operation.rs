//! How an operation looks to people: its files node by node, then where it stands and what to do now.

use std::path::Path;

use time::OffsetDateTime;

use super::table::{Cell, Table, Tone, View};
use super::text::counted;
use super::{Report, time_text, value_of};
use crate::plan::operation::{FileAction, FileReport, NodeReport, NodeState, Operation, ProvisioningState};
use crate::plan::rotate::COMMAND;

impl Report for Operation {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(self)
    }

    fn rows(&self) -> anyhow::Result<serde_json::Value> {
        let mut rows = Vec::new();
        for node in &self.nodes {
            for file in &node.files {
                // Rows have the same columns whatever changes.
                let mut row = value_of(&FileReport { differences: Vec::new(), ..file.clone() })?;
                row["node"] = node.name.as_str().into();
                rows.push(row);
            }
        }
        Ok(rows.into())
    }

    fn view(&self, now: OffsetDateTime) -> View {
        let planned = self.provisioning_state == ProvisioningState::Planned;
        let mut view = View::default();
        for node in &self.nodes {
            let title = format!("Node {}: {}", node.name, state_words(node, planned));
            let mut table = Table::new(["ACTION", "NAME", "PATH", "OLD SERIAL", "NEW SERIAL", "NOT AFTER", "RESIDUAL"])
                .dispensable(["OLD SERIAL", "NEW SERIAL", "NOT AFTER"]);
            for file in node.files.iter().filter(|file| file.action != FileAction::Unchanged) {
                table.push(row(file, planned, now));
            }
            view = if table.is_empty() { view.line(title) } else { view.titled(title, table.without_blank_columns()) };
            for (file, difference) in
                node.files.iter().flat_map(|file| file.differences.iter().map(move |words| (file, words)))
            {
                view = view.line(format!("{}: {difference}", file.name));
            }
            if !node.restarts.is_empty() {
                let word = if planned { "To be restarted" } else { "Restarted" };
                view = view.line(format!("{word}: {}", node.restarts.join(", ")));
            }
            if let Some(error) = &node.error {
                view = view.line(Cell::toned(format!("Node {}: {error}", node.name), Tone::Bad));
            }
        }
        view = self.rounds(view);
        if let Some(seconds) = self.unavailability_seconds {
            view = view.line(format!("API unavailable for {seconds:.1} s"));
        }
        view = view.line(self.summary());
        self.next_steps.iter().fold(view, |view, step| view.line(format!("Next: {step}")))
    }
}

impl Operation {
    /// What happens in which round, where there are several.
    fn rounds(&self, view: View) -> View {
        let mut table = Table::new(["ROUND", "TOOK", "NODE", "FILES", "RESTARTS"]).dispensable(["TOOK"]);
        for phase in &self.phases {
            let took = phase.started_at.zip(phase.ended_at).map(|(from, to)| time_text::duration(to - from));
            for (index, node) in phase.nodes.iter().enumerate() {
                let first = |text: &str| if index == 0 { text.into() } else { Cell::from("") };
                table.push([
                    first(&phase.name),
                    first(took.as_deref().unwrap_or("")),
                    node.name.as_str().into(),
                    node.files.len().to_string().into(),
                    node.restarts.join(", ").into(),
                ]);
            }
        }
        if table.is_empty() {
            view
        } else {
            view.titled("Rounds, each done on every node before the next begins", table.without_blank_columns())
        }
    }

    /// Whether it is about signing requests that a rotation writes where it runs.
    fn are_requests(&self) -> bool {
        let mut files = self.nodes.iter().flat_map(|node| &node.files);
        self.command == COMMAND && files.all(|file| Path::new(&file.path).extension().is_some_and(|it| it == "csr"))
    }

    /// One line: where the operation stands and how many files on how many nodes it is about.
    fn summary(&self) -> Cell {
        let files = self.nodes.iter().flat_map(|node| &node.files);
        let changes = files.filter(|file| file.action != FileAction::Unchanged).count();
        let touched = |node: &&NodeReport| node.files.iter().any(|file| file.action != FileAction::Unchanged);
        let nodes = counted(self.nodes.iter().filter(touched).count(), "node");
        let amount = format!("{} on {nodes}", counted(changes, "file"));
        let command = &self.command;
        if changes > 0 && self.are_requests() {
            let amount = format!("{} for {nodes}", counted(changes, "signing request"));
            match self.provisioning_state {
                ProvisioningState::Planned => return format!("{command}: would write {amount}").into(),
                ProvisioningState::Succeeded => {
                    return Cell::toned(format!("{command}: wrote {amount}; nothing on them was changed"), Tone::Good);
                }
                _ => {}
            }
        }
        match self.provisioning_state {
            ProvisioningState::Planned if changes == 0 => Cell::from(format!("{command}: nothing to change")),
            ProvisioningState::Planned => format!("{command}: would change {amount}; nothing was changed").into(),
            ProvisioningState::Succeeded if changes == 0 => {
                Cell::toned(format!("{command}: nothing to change"), Tone::Good)
            }
            ProvisioningState::Succeeded => Cell::toned(format!("{command}: changed {amount}"), Tone::Good),
            ProvisioningState::CertificateRotating => {
                Cell::toned(format!("{command}: not finished ({amount}); operation {}", self.id), Tone::Attention)
            }
            ProvisioningState::Failed => Cell::toned(format!("{command}: failed; operation {}", self.id), Tone::Bad),
            ProvisioningState::Canceled => format!("{command}: taken back; operation {}", self.id).into(),
        }
    }
}

fn row(file: &FileReport, planned: bool, now: OffsetDateTime) -> [Cell; 7] {
    let dash = || Cell::toned("-", Tone::Faint);
    let action = match file.action {
        FileAction::Created => "create",
        FileAction::Replaced => "replace",
        FileAction::Unchanged => "keep",
        FileAction::Removed => "remove",
    };
    let action = if planned || file.action == FileAction::Unchanged { action.into() } else { format!("{action}d") };
    let new = match &file.new_serial_number {
        Some(serial) => serial.as_str().into(),
        None if planned && file.not_after.is_some() => Cell::toned("(new)", Tone::Faint),
        None => dash(),
    };
    [
        action.into(),
        file.name.as_str().into(),
        file.path.as_str().into(),
        file.old_serial_number.as_deref().map_or_else(dash, Cell::from),
        new,
        file.not_after.map_or_else(dash, |at| time_text::utc(at).into()),
        file.not_after.map_or_else(dash, |at| time_text::relative(at, now).into()),
    ]
}

fn state_words(node: &NodeReport, planned: bool) -> String {
    let kept = node.files.iter().filter(|file| file.action == FileAction::Unchanged).count();
    let changes = node.files.len() - kept;
    let state = match node.state {
        _ if planned && changes == 0 => "nothing to change",
        _ if planned => "planned",
        NodeState::Pending => "not begun",
        NodeState::Running => "some files changed",
        NodeState::Finished if changes == 0 => "nothing to change",
        NodeState::Finished => "finished",
        NodeState::RolledBack => "back to the state before",
        NodeState::Failed => "failed",
    };
    if kept == 0 { state.into() } else { format!("{state}, {} unchanged", counted(kept, "file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Look;
    use time::macros::datetime;

    fn operation(state: ProvisioningState, new_serial_number: Option<&str>) -> Operation {
        let file = |name: &str, action, serial: Option<&str>| FileReport {
            path: format!("/etc/kubernetes/pki/{name}.crt"),
            name: name.into(),
            action,
            old_serial_number: serial.map(Into::into),
            new_serial_number: serial.and(new_serial_number).map(Into::into),
            not_after: serial.map(|_| datetime!(2027-01-02 03:04:05 UTC)),
            differences: if name == "apiserver" { vec!["+ DNS:api.example.com".into()] } else { Vec::new() },
        };
        Operation {
            kind: "Operation".into(),
            id: "20260102T030405Z-00000001".into(),
            command: "rotate-certs".into(),
            provisioning_state: state,
            started_at: None,
            ended_at: None,
            unavailability_seconds: None,
            phases: Vec::new(),
            nodes: vec![NodeReport {
                name: "cp1".into(),
                state: if new_serial_number.is_some() { NodeState::Finished } else { NodeState::Pending },
                files: vec![
                    file("apiserver", FileAction::Replaced, Some("1f")),
                    file("sa", FileAction::Created, None),
                    file("ca", FileAction::Unchanged, Some("07")),
                ],
                restarts: vec!["kube-apiserver".into()],
                error: None,
            }],
            next_steps: vec!["refresh kubeconfigs".into()],
        }
    }

    fn text(operation: &Operation) -> String {
        let now = datetime!(2026-12-29 23:00:00 UTC);
        operation.view(now).render(Look { width: None, coloured: false })
    }

    #[test]
    fn a_plan_says_what_would_happen_and_that_nothing_did() {
        insta::assert_snapshot!(text(&operation(ProvisioningState::Planned, None)), @r"
        Node cp1: planned, 1 file unchanged
        ACTION   NAME       PATH                               OLD SERIAL  NEW SERIAL  NOT AFTER             RESIDUAL
        replace  apiserver  /etc/kubernetes/pki/apiserver.crt  1f          (new)       2027-01-02 03:04 UTC  in 3 d 4 h
        create   sa         /etc/kubernetes/pki/sa.crt         -           -           -                     -

        apiserver: + DNS:api.example.com
        To be restarted: kube-apiserver
        rotate-certs: would change 2 files on 1 node; nothing was changed
        Next: refresh kubeconfigs
        ");
    }

    #[test]
    fn a_result_says_what_is_true_now_and_what_to_do_next() {
        insta::assert_snapshot!(text(&operation(ProvisioningState::Succeeded, Some("2a"))), @r"
        Node cp1: finished, 1 file unchanged
        ACTION    NAME       PATH                               OLD SERIAL  NEW SERIAL  NOT AFTER             RESIDUAL
        replaced  apiserver  /etc/kubernetes/pki/apiserver.crt  1f          2a          2027-01-02 03:04 UTC  in 3 d 4 h
        created   sa         /etc/kubernetes/pki/sa.crt         -           -           -                     -

        apiserver: + DNS:api.example.com
        Restarted: kube-apiserver
        rotate-certs: changed 2 files on 1 node
        Next: refresh kubeconfigs
        ");
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let mut operation = operation(ProvisioningState::Planned, None);
        operation.nodes[0].files.remove(0);
        assert!(text(&operation).contains("\nACTION  NAME  PATH\ncreate  sa    /etc/kubernetes/pki/sa.crt\n"));
    }

    #[test]
    fn tsv_has_one_line_for_each_file() {
        let rows = operation(ProvisioningState::Succeeded, Some("2a")).rows().expect("rows");
        let tsv = crate::report::structured::tsv(&rows, true);
        assert_eq!(tsv.lines().count(), 3, "{tsv}");
        assert!(tsv.starts_with("replaced\tapiserver\t2a\tcp1\t2027-01-02T03:04:05Z\t1f\t/etc/"), "{tsv}");
    }
}
