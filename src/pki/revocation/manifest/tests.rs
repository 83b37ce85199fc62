//! Manifests: the example of the documentation, everything that may be written otherwise, and every fault in its place.

use super::*;
use time::macros::datetime;

const SEED: &str = include_str!("../seed.yaml");

fn entry(fields: &str) -> String {
    format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: x\nspec:\n  revocations:\n  - {}\n",
        fields.replace('\n', "\n    ")
    )
}

fn fault(text: &str) -> (Option<(u64, u64)>, String) {
    let error = read(text.as_bytes()).expect_err(text);
    (error.place.map(|place| (place.line, place.column)), error.message)
}

#[test]
fn the_example_of_the_documentation_is_read_as_it_stands() {
    let [revocation] = &read(SEED.as_bytes()).expect("the example")[..] else { panic!("one document") };
    assert_eq!((revocation.name.as_str(), revocation.namespace.as_str()), ("my-renew-revocation", "kube-system"));
    assert_eq!(revocation.description.as_deref(), Some("My list of renew revocations"));
    let values: Vec<String> = revocation.entries.iter().map(|entry| entry.to_string()).collect();
    assert_eq!(
        values,
        [
            "serial number 77fdf4b1033b387aaace6ce1c18710c2, issued before 2020-04-17 17:22:05 UTC",
            "group system:nodes",
            "DNS name kubernetes.default.svc",
            "DNS name .cluster.local",
            "address 170.63.128.124",
        ]
    );
    assert_eq!(revocation.entries[0].not_before, Some(datetime!(2020-04-17 17:22:05 UTC)));
}

#[test]
fn the_example_without_its_indentation_means_the_same() {
    let flat = SEED.lines().map(str::trim_start).collect::<Vec<_>>().join("\n") + "\n";
    assert_eq!(read(flat.as_bytes()), read(SEED.as_bytes()));
    let twice = format!("{flat}---\n{}", flat.replace("my-renew", "your-renew"));
    assert_eq!(read(twice.as_bytes()).expect("two documents").len(), 2);
    let wrong = flat.replace("77fdf4", "77gdf4");
    let line = 1 + wrong.lines().position(|line| line.contains("77gdf4")).expect("a line") as u64;
    assert_eq!(fault(&wrong).0, Some((line, "serialNumber: ".len() as u64 + 1)));
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let mut all = read(SEED.as_bytes()).expect("the example");
    let mut second = all[0].clone();
    second.name = "second".to_owned();
    second.created = Some(datetime!(2026-01-02 03:04:05 UTC));
    second.description = Some("yes: \"no\" # 1e3\nsecond line\u{1F980}".to_owned());
    second.entries[0].kind = Kind::Serial(entry::serial("1234567890").expect("a number"));
    second.entries[1].kind = Kind::Serial(entry::serial("12e456").expect("a number"));
    second.entries[2].kind = Kind::Group("on".to_owned());
    second.entries[4].kind = Kind::Ip("fd00::1".parse().expect("an address"));
    all.push(second);
    let text = write(&all).expect("YAML");
    assert_eq!(read(text.as_bytes()).as_ref(), Ok(&all), "{text}");
    let json = value(&all[1]).expect("JSON").to_string();
    assert_eq!(read(json.as_bytes()).expect("JSON is YAML"), all[1..]);
    // What readers of YAML 1.1 take for numbers and truth values is quoted.
    let other: serde_yaml::Value = serde_yaml::from_str(text.split("---\n").nth(1).expect("two")).expect("YAML 1.1");
    let entries = other["spec"]["revocations"].as_sequence().expect("a list");
    assert_eq!(entries[1]["serialNumber"].as_str(), Some("12e456"));
    assert_eq!(entries[2]["group"].as_str(), Some("on"));
}

#[test]
fn kinds_are_known_in_any_case_with_or_without_separators() {
    for kind in ["serialnumber", "SerialNumber", "SERIALNUMBER", "serial-number", "Serial_Number", "\"serial number\""]
    {
        let text = entry(&format!("kind: {kind}\nserialNumber: 1234"));
        assert!(read(text.as_bytes()).is_ok(), "{kind}");
    }
    for (kind, field) in [("dns", "dns: a.b"), ("Dns", "dns: a.b"), ("ip", "ip: 10.0.0.1"), ("gROUP", "group: g")] {
        assert!(read(entry(&format!("kind: {kind}\n{field}")).as_bytes()).is_ok(), "{kind}");
    }
}

#[test]
fn digits_alone_are_hexadecimal_digits() {
    for (written, meant) in [
        ("12345678901234567890123456789012", "12345678901234567890123456789012"),
        ("1e10", "1e10"),
        ("0x1F", "1f"),
        ("077", "77"),
    ] {
        let all = read(entry(&format!("kind: serialNumber\nserialNumber: {written}")).as_bytes()).expect(written);
        assert_eq!(all[0].entries[0].kind.value(), meant);
    }
}

#[test]
fn what_a_cluster_adds_to_an_object_is_passed_over() {
    let text = SEED.replace(
        "metadata:\n",
        "metadata:\n  uid: 1\n  resourceVersion: \"5\"\n  generation: 1\n  creationTimestamp: \"2026-01-02T03:04:05Z\"\n  \
         labels: {a: b}\n  annotations: {c: d}\n  managedFields: [{manager: kubectl}]\n",
    ) + "status: {}\n";
    assert_eq!(read(text.as_bytes()).expect("good")[0].created, Some(datetime!(2026-01-02 03:04:05 UTC)));
}

#[test]
fn every_fault_is_shown_where_it_is() {
    for (text, line, words) in [
        (SEED.replace("certificates.microsoft.com/v1", "v2"), 1, "apiVersion"),
        (SEED.replace("kind: RenewRevocation", "kind: Renew"), 2, "kind"),
        (SEED.replace("my-renew-revocation", "My_List"), 4, "My_List"),
        (SEED.replace("  namespace:", "  nameSpace:"), 5, "nameSpace"),
        (SEED.replace("77fdf4b1033b387aaace6ce1c18710c2", "77fdf4b1033b387aaace6ce1c18710cg"), 12, "'g'"),
        (SEED.replace("2020-04-17T17:22:05Z", "2020-04-17"), 11, "2020-04-17"),
        (SEED.replace("kind: serialnumber", "kind: serial"), 10, "`serial`"),
        (SEED.replace("group: system:nodes", "dns: system.nodes"), 14, "no field `dns`"),
        (SEED.replace("    group: system:nodes\n", ""), 13, "no `group`"),
        (SEED.replace("170.63.128.124", "170.63.128.256"), 23, "170.63.128.256"),
        (SEED.replace("dns: .cluster.local", "dns: .cluster..local"), 20, "cluster..local"),
        (SEED.replace("dns: .cluster.local", "dns: kubernetes.default.svc"), 19, "overlaps"),
        (SEED.replace("dns: .cluster.local", "dns: .default.svc"), 16, "overlaps"),
        (SEED.replace("    ip:", "    IP:"), 23, "IP"),
        (format!("{SEED}---\n{SEED}"), 29, "two documents"),
        (SEED.replace("description: My", "description: &a My"), 7, ""),
        (format!("{SEED}  - [\n"), 25, ""),
    ] {
        let (place, message) = fault(&text);
        assert_eq!(place.map(|(line, _)| line), Some(line), "{message}\n{text}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn an_empty_list_and_an_empty_text_are_refused() {
    let empty = SEED.split("  revocations:").next().expect("a head").to_owned();
    assert!(fault(&format!("{empty}  revocations: []\n")).1.contains("no entry"));
    assert!(read(empty.as_bytes()).is_err());
    for text in ["", "# nothing\n", "---\n---\n", "null"] {
        assert!(read(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(read(b"\xff").is_err());
}
