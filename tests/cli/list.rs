//! `list`, cluster files, and the names a shell completes from them.

use crate::support::binary::Stage;

const LOCAL: &str = "\
apiVersion: kubepki.io/v1
kind: Cluster
metadata: {name: lab}
spec:
  nodes:
  - {name: cp1, host: local, role: control-plane}
";

fn stage() -> Stage {
    let stage = Stage::new();
    stage.put("home/.kubepki/clusters/lab.yaml", LOCAL);
    stage.put("home/.kubepki/clusters/prod/east.yaml", LOCAL.replace("local", "10.0.0.9"));
    stage.put("home/.kubepki/clusters/prod/west.yaml", LOCAL.replace("spec", "spce"));
    stage.put("home/.kubepki/clusters/notes.txt", "");
    stage
}

#[test]
fn every_cluster_file_is_listed_and_a_broken_one_with_its_error() {
    let stage = stage();
    let list = stage.run(&["list", "-o", "json"]).expect(0).json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|cluster| cluster["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["lab", "east", "west"]);
    assert_eq!(list[0]["provisioningState"], "Succeeded");
    // A list logs in nowhere, so of a cluster elsewhere it tells what its file tells.
    assert!(list[1]["error"].is_null() && list[1]["provisioningState"].is_null(), "{list}");
    assert_eq!(list[1]["nodes"], 1);
    assert!(list[2]["error"].as_str().unwrap().contains("west.yaml:4:1: spce: unknown field"), "{list}");
    let group = stage.run(&["list", "-g", "prod", "--query", "[].name", "-o", "tsv"]).expect(0);
    assert_eq!(group.out, "east\nwest\n");
}

#[test]
fn without_cluster_files_the_list_is_empty() {
    let stage = Stage::new();
    assert_eq!(stage.run(&["list", "-o", "json"]).expect(0).out, "[]\n");
    assert!(stage.run(&["list"]).expect(0).out.contains("no cluster files"));
    assert!(stage.run_with(&["list"], &[("HOME", "")]).expect(2).err.contains("HOME"));
}
