//! Completion: scripts for five shells, and candidates that are on this machine at that moment.

use crate::support::binary::{Run, Stage};

/// What bash is offered after `line`, whose last word is the one to complete.
fn offered(stage: &Stage, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let index = (words.len() - 1).to_string();
    let output = stage
        .command(&[&["--"], words.as_slice()].concat())
        .env("KUBEPKI_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", index)
        .output();
    Run::from(output.unwrap()).expect(0).out.lines().map(|word| word.trim_end().to_owned()).collect()
}

#[test]
fn every_shell_has_a_script() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stage.run(&["completion", shell]).expect(0).out;
        assert!(script.contains("KUBEPKI_COMPLETE") && script.contains("kubepki"), "{shell}: {script}");
    }
    assert!(stage.run(&["completion", "cmd"]).expect(2).err.contains("powershell"));
}

#[test]
fn bash_accepts_its_script_and_completes_with_it() {
    let stage = Stage::new();
    let script = stage.put("script", stage.run(&["completion", "bash"]).expect(0).out);
    let line = "source \"$1\"; COMP_WORDS=(kubepki versi); COMP_CWORD=1; \
                _clap_complete_kubepki kubepki versi kubepki; echo \"${COMPREPLY[@]}\"";
    let output = std::process::Command::new("bash").args(["-c", line, "bash"]).arg(script).output().unwrap();
    assert_eq!(Run::from(output).expect(0).out.trim(), "version");
}

#[test]
fn commands_options_and_values_are_offered() {
    let stage = Stage::new();
    assert!(offered(&stage, "kubepki compl").contains(&"completion".to_owned()));
    assert!(offered(&stage, "kubepki version --out").contains(&"--output".to_owned()));
    assert_eq!(offered(&stage, "kubepki version --output y"), ["yaml"]);
}

#[test]
fn groups_of_clusters_are_offered_as_they_are_at_that_moment() {
    let stage = Stage::new();
    assert_eq!(offered(&stage, "kubepki list -g p"), [""; 0]);
    stage.put("home/.kubepki/clusters/prod/east.yaml", "");
    stage.put("home/.kubepki/clusters/test/east.yaml", "");
    assert_eq!(offered(&stage, "kubepki list -g p"), ["prod"]);
    assert_eq!(offered(&stage, "kubepki list --resource-group ").len(), 2);
}

#[test]
fn clusters_and_nodes_are_offered_for_the_cluster_on_the_line() {
    let stage = Stage::new();
    let node = |name: &str| format!("{{name: {name}, host: local, role: worker}}");
    let file = |nodes: &str| {
        format!("apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {{name: x}}\nspec: {{nodes: [{nodes}]}}\n")
    };
    stage.put("home/.kubepki/clusters/lab.yaml", file(&node("lab-cp1")));
    stage.put("home/.kubepki/clusters/prod/east.yaml", file(&node("east-cp1")));
    stage.put("home/.kubepki/clusters/broken.yaml", "{");
    assert_eq!(offered(&stage, "kubepki show -n "), ["broken", "lab"]);
    assert_eq!(offered(&stage, "kubepki show -g prod -n "), ["east"]);
    assert_eq!(offered(&stage, "kubepki show --node "), ["east-cp1", "lab-cp1"]);
    assert_eq!(offered(&stage, "kubepki show -n lab --node "), ["lab-cp1"]);
}

#[test]
fn certificates_are_offered_as_they_are_in_the_folder_on_the_line() {
    let stage = Stage::new();
    let options = ["--pki-dir", "pki", "--key-algorithm", "ecdsa-p256", "--yes", "--only", "ca,apiserver"];
    stage.run(&[&["create-certs"], options.as_slice()].concat()).expect(0);
    assert_eq!(offered(&stage, "kubepki rotate-certs --pki-dir pki --only ap"), ["apiserver"]);
    assert_eq!(
        offered(&stage, "kubepki rotate-certs --pki-dir pki --only "),
        ["apiserver", "ca", "cluster-ca", "leaf", "sa"]
    );
}
