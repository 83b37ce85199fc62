//! New data in the place of old: nothing else in the file moves by a byte.

use kubepki::pki::kubeconfig::{DataField, Kubeconfig, ReplaceError, Replacement};

use crate::judge::{base64, kubectl_reads};

fn replaced(text: &str, field: DataField, entry: &str, pem: &str) -> Result<String, ReplaceError> {
    let new = Kubeconfig::replace_data(text.as_bytes(), &[Replacement { field, entry, pem: pem.as_bytes() }])?;
    if let Some(read) = kubectl_reads(&new) {
        let config = read.unwrap();
        let (list, inner, data) = match field {
            DataField::CertificateAuthority => ("clusters", "cluster", "certificate-authority-data"),
            DataField::ClientCertificate => ("users", "user", "client-certificate-data"),
            DataField::ClientKey => ("users", "user", "client-key-data"),
        };
        let item = config[list].as_array().unwrap().iter().find(|item| item["name"] == entry).unwrap();
        assert_eq!(item[inner][data], base64(pem), "{}", String::from_utf8_lossy(&new));
    }
    Ok(String::from_utf8(new.to_vec()).unwrap())
}

const HEAD: &str = "# mine\napiVersion: v1\nkind:   Config # odd spacing\nx-unknown: [ 1e3, yes ]\n";

#[test]
fn every_way_to_write_a_value_is_replaced_in_place() {
    let new = base64("new");
    for (before, after) in [
        ("    client-key-data: b2xk\n", "    client-key-data: NEW\n".to_owned()),
        ("    client-key-data:   \"b2xk\"   # keep\n", "    client-key-data:   \"NEW\"   # keep\n".into()),
        ("    client-key-data: 'b2xk'\n", "    client-key-data: 'NEW'\n".into()),
        ("    \"client-key-data\" : b2xk\n", "    \"client-key-data\" : NEW\n".into()),
        ("    client-key-data: !!str b2xk # t\n", "    client-key-data: NEW # t\n".into()),
        ("    client-key-data: |  # pem\n      b2\n      xk\n\n", "    client-key-data: NEW  # pem\n\n".into()),
        ("    client-key-data: >-\n        b2xk\n", "    client-key-data: NEW\n".into()),
        ("    client-key-data:\n      b2xk\n", "    client-key-data:\n      NEW\n".into()),
        ("    client-key-data: # none yet\n", "    client-key-data: NEW # none yet\n".into()),
        ("    client-key-data: null\n", "    client-key-data: NEW\n".into()),
        ("    client-key-data: \"\"\n", "    client-key-data: \"NEW\"\n".into()),
    ] {
        for (head, tail) in
            [("", ""), (HEAD, "  # tail\n- name: other\n  user: {client-key-data: b2xk}\n# end\nzzz: 1\n")]
        {
            let entry =
                |fields: &str| format!("{head}users:\n- name: ann\n  user:\n    token: t # secret\n{fields}{tail}");
            let after = after.replace("NEW", &new);
            for (old, new) in [
                (entry(before), entry(&after)),
                (entry(before).replace('\n', "\r\n"), entry(&after).replace('\n', "\r\n")),
                (format!("\u{feff}# é\n{}", entry(before)), format!("\u{feff}# é\n{}", entry(&after))),
            ] {
                assert_eq!(replaced(&old, DataField::ClientKey, "ann", "new").unwrap(), new, "{old}");
            }
        }
    }
}

#[test]
fn flow_style_and_json_are_replaced_in_place() {
    let new = base64("new");
    for old in [
        "{\"clusters\":[{\"name\":\"a\",\"cluster\":{\"certificate-authority-data\":\"b2xk\",\"server\":\"https://a\"}}]}",
        "{\n\t\"clusters\": [\n\t\t{\"name\": \"a\", \"cluster\": {\"certificate-authority-data\": \"b2xk\"}}\n\t]\n}\n",
        "clusters: [{name: a, cluster: {certificate-authority-data: b2xk}}] # flow\n",
        "clusters: [{cluster: {x: [b2x], certificate-authority-data: 'b2xk', y: }, name: a}, {name: b}]\n",
        "clusters:\n- {name: b}\n-  name: a\n   cluster: {server: x,\n     certificate-authority-data: b2xk }\n",
    ] {
        let found =
            replaced(old, DataField::CertificateAuthority, "a", "new").unwrap_or_else(|error| panic!("{error}: {old}"));
        assert_eq!(found, old.replace("b2xk", &new));
    }
}

#[test]
fn an_absent_field_is_added_where_it_belongs() {
    for (old, new) in [
        (
            "users:\n- name: a\n  user:\n    token: t\n",
            "users:\n- name: a\n  user:\n    client-key-data: bmV3\n    token: t\n",
        ),
        ("users: [{name: a, user: {token: t}}]", "users: [{name: a, user: {\"client-key-data\": \"bmV3\", token: t}}]"),
        ("users:\n- name: a\n  user: {} # c", "users:\n- name: a\n  user: {\"client-key-data\": \"bmV3\"} # c"),
        ("users:\n- name: a\n  user: # c\n", "users:\n- name: a\n  user: {\"client-key-data\": \"bmV3\"} # c\n"),
        ("users:\n- name: a\n  user: ~\n", "users:\n- name: a\n  user: {\"client-key-data\": \"bmV3\"}\n"),
        ("users:\n- name: a # c\n", "users:\n- user:\n    client-key-data: bmV3\n  name: a # c\n"),
    ] {
        assert_eq!(replaced(old, DataField::ClientKey, "a", "new").unwrap(), new);
    }
}

#[test]
fn certificate_and_key_are_exchanged_together() {
    let old = "users:\n- name: a\n  user: {}\n- name: b\n  user:\n    client-certificate-data: eA==\n    client-key-data: eQ==\n";
    let field = |field, entry, pem| Replacement { field, entry, pem };
    let new = Kubeconfig::replace_data(
        old.as_bytes(),
        &[
            field(DataField::ClientKey, "b", b"k"),
            field(DataField::ClientCertificate, "a", b"c"),
            field(DataField::ClientKey, "a", b"k"),
            field(DataField::ClientCertificate, "b", b"c"),
        ],
    )
    .unwrap();
    let expected = old.replace("{}", "{\"client-certificate-data\": \"Yw==\", \"client-key-data\": \"aw==\"}");
    assert_eq!(String::from_utf8_lossy(&new), expected.replace("eA==", "Yw==").replace("eQ==", "aw=="));
    assert_eq!(*Kubeconfig::replace_data(&new, &[field(DataField::ClientKey, "b", b"k")]).unwrap(), *new);
}

#[test]
fn only_the_first_document_is_touched() {
    let old = "---\nusers:\n- name: a\n  user: {client-key-data: b2xk}\n---\nusers:\n- name: a\n  user: {client-key-data: b2xk}\n";
    let new = replaced(old, DataField::ClientKey, "a", "new").unwrap();
    assert_eq!(new, old.replacen("b2xk", "bmV3", 1));
}

#[test]
fn a_file_reference_is_handed_back_and_what_cannot_be_changed_is_refused() {
    let reference = replaced("users: [{name: a, user: {client-key: pki/a.key}}]", DataField::ClientKey, "a", "new");
    let expected =
        ReplaceError::FileReference { field: DataField::ClientKey, entry: "a".into(), path: "pki/a.key".into() };
    assert_eq!(reference, Err(expected));
    for (text, message) in [
        ("users: [{name: b}]", "there is no user named \"a\""),
        ("users: [{name: a}, {name: a}]", "line 1, column 27: users has a second entry named \"a\""),
        (
            "users: [{name: a, user: {client-key-data: eA==, client-key-data: eA==}}]",
            "line 1, column 49: the key \"client-key-data\" occurs twice",
        ),
        ("users: [{name: a, user: [}]", "line 1, column 26"),
        ("a: &b 1\nusers: [{name: a}]", "line 1, column 4: a YAML anchor"),
    ] {
        let error = replaced(text, DataField::ClientKey, "a", "new").unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
