//! Who is let in and who is trusted, from the cluster file and from the command line.

use crate::binary::Stage;
use crate::machines::{Fleet, run};
use crate::server::{client_key, make_key};

#[test]
fn a_machine_whose_key_is_not_known_is_refused_and_nothing_changes() {
    let Some(fleet) = Fleet::with_certificates("a_machine_whose_key_is_not_known_is_refused_and_nothing_changes")
    else {
        return;
    };
    let before = fleet.look();
    let stage = fleet.elsewhere();
    let all = std::fs::read_to_string(stage.at("known_hosts")).unwrap();
    let lines: Vec<&str> = all.lines().collect();
    let without: String = [lines[0], lines[2]].map(|line| format!("{line}\n")).concat();
    // Another machine answers in its place.
    let wrong = all.replace(lines[1], &lines[1].replace(key(lines[1]), key(lines[0])));
    for (known, says) in [(without, "not known"), (wrong, "known_hosts")] {
        stage.put("known_hosts", &known);
        for words in [&["rotate-certs", "--only", "leaf", "--yes"][..], &["create-certs", "--yes"]] {
            let refused = run(&stage, words).expect(1);
            assert!(refused.err.contains("cp2") && refused.err.contains(says), "{refused:#?}");
        }
        assert_eq!(fleet.look(), before);
        let trace = std::fs::read_to_string(stage.at("known_hosts")).unwrap();
        assert_eq!(trace, known, "nothing is added without a yes");
    }
}

fn key(line: &str) -> &str {
    line.rsplit(' ').next().unwrap()
}

#[test]
fn what_stands_on_the_command_line_comes_before_the_cluster_file() {
    let Some(fleet) = Fleet::with_certificates("what_stands_on_the_command_line_comes_before_the_cluster_file") else {
        return;
    };
    let stage = Stage::new();
    let strange = make_key(&stage.home(), "strange", &["-t", "ed25519"]);
    let (server, port) = (fleet.server("cp1"), fleet.server("cp1").port().to_string());
    stage.put("known_hosts", server.host_line("ed25519"));
    stage.put("nobody_known", "");
    // Everything about the login is wrong in the file.
    let text = fleet.cluster_file("nobody_known", &stage);
    let text = text.replace(&client_key().display().to_string(), &strange.display().to_string());
    let text = text.replace(&format!("port: {port}"), "port: 1").replace("user: root", "user: guest");
    stage.put("cluster.yaml", text);
    let (known, own) = (stage.at("known_hosts"), client_key());
    let options = [
        ("--ssh-user", "root"),
        ("--ssh-port", port.as_str()),
        ("--known-hosts", known.to_str().unwrap()),
        ("--ssh-private-key-file", own.to_str().unwrap()),
    ];
    let words = |without: Option<usize>| -> Vec<&str> {
        let kept = options.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        let mut words = vec!["check-expiry", "--node", "cp1", "-o", "json"];
        words.extend(kept.flat_map(|(_, (option, value))| [*option, *value]));
        words
    };
    let list = run(&stage, &words(None)).expect(0).json();
    assert!(list["certificates"].as_array().is_some_and(|rows| rows.len() > 8), "{list:#}");
    for (index, (option, _)) in options.iter().enumerate() {
        let run = run(&stage, &words(Some(index)));
        assert_eq!(run.code, Some(6), "without {option}: {run:#?}");
    }
    // Hints name the same way in.
    let before = fleet.look();
    let all: Vec<&str> = options.iter().flat_map(|(option, value)| [*option, *value]).collect();
    run(&stage, &[&["rotate-certs", "--only", "apiserver", "--node", "cp1", "--yes"], &all[..]].concat()).expect(0);
    assert_ne!(fleet.look()["cp1"], before["cp1"]);
}
