//! Values as documents: JSON, YAML, tab-separated values, and a table for whatever a query returns.
//!
//! The habits are az's: null is not shown, scalars stand unquoted in tsv, a list there is its length.

use anyhow::Context;
use serde_json::Value;

use super::table::{Table, View};

/// JSON with two spaces of indentation and a line break at the end. Null is nothing at all.
///
/// # Errors
/// When the value cannot be written, which is a defect.
pub fn json(value: &Value) -> anyhow::Result<String> {
    if value.is_null() {
        return Ok(String::new());
    }
    let mut text = serde_json::to_string_pretty(value).context("cannot write the result as JSON")?;
    text.push('\n');
    Ok(text)
}

/// YAML that readers of YAML 1.1, kubectl among them, understand alike: `yes`, `on` and `1_000` come out quoted.
///
/// # Errors
/// When the value cannot be written, which is a defect.
pub fn yaml(value: &Value) -> anyhow::Result<String> {
    if value.is_null() {
        return Ok(String::new());
    }
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(value, options).context("cannot write the result as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Tab-separated values without a header: one line for each element of a list, else one line. Null is `None`, a list
/// its length, an object empty. Line breaks and tabs inside a value are written `\n` and `\t`.
///
/// Keys are taken in alphabetical order when `sorted`, else as they stand.
pub fn tsv(value: &Value, sorted: bool) -> String {
    let line = |row: &Value| -> String {
        let fields: Vec<String> = match row {
            Value::Object(object) => {
                let mut fields: Vec<_> = object.iter().collect();
                if sorted {
                    fields.sort_by_key(|(key, _)| *key);
                }
                fields.into_iter().map(|(_, value)| field(value)).collect()
            }
            Value::Array(values) => values.iter().map(field).collect(),
            // az writes a truth value in small letters when it is the whole line, and only then.
            Value::Bool(truth) => vec![truth.to_string()],
            scalar => vec![field(scalar)],
        };
        fields.join("\t") + "\n"
    };
    match value {
        Value::Null => String::new(),
        Value::Array(rows) => rows.iter().map(line).collect(),
        other => line(other),
    }
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"),
        Value::Array(values) => values.len().to_string(),
        Value::Object(_) => String::new(),
    }
}

/// A table of what a query returned: one row for each element of a list, columns named by the keys with a capital
/// first letter. Nested values and keys that are null everywhere are left out.
pub fn generic_view(value: &Value) -> View {
    let single = std::slice::from_ref(value);
    let rows = match value {
        Value::Null => return View::default(),
        Value::Array(rows) => rows.as_slice(),
        _ => single,
    };
    let mut columns: Vec<String> = Vec::new();
    let cells: Vec<Vec<(String, String)>> = rows.iter().map(named_cells).collect();
    for (name, _) in cells.iter().flatten() {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    if columns.is_empty() {
        return View::default();
    }
    let mut table = Table::new(columns.iter().map(|name| capitalised(name)));
    for row in &cells {
        let cell = |column: &String| row.iter().find(|(name, _)| name == column).map_or("", |(_, text)| text).into();
        table.push(columns.iter().map(cell));
    }
    View::default().table(table)
}

fn named_cells(row: &Value) -> Vec<(String, String)> {
    let shown = |value: &Value| !matches!(value, Value::Null | Value::Array(_) | Value::Object(_));
    match row {
        Value::Object(object) => {
            object.iter().filter(|(_, value)| shown(value)).map(|(key, value)| (key.clone(), field(value))).collect()
        }
        Value::Array(values) => {
            let named = values.iter().enumerate().map(|(index, value)| (format!("Column{}", index + 1), value));
            named.filter(|(_, value)| shown(value)).map(|(name, value)| (name, field(value))).collect()
        }
        scalar => vec![("Result".into(), field(scalar))],
    }
}

fn capitalised(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Look;
    use serde_json::json;

    #[test]
    fn tsv_follows_az() {
        let rows = json!([{"b": "x", "a": null, "c": [1, 2], "d": {"e": 1}, "f": true}, {"b": "tab\there"}]);
        assert_eq!(tsv(&rows, false), "x\tNone\t2\t\tTrue\ntab\\there\n");
        assert_eq!(tsv(&rows, true), "None\tx\t2\t\tTrue\ntab\\there\n");
        assert_eq!(tsv(&json!("plain"), false), "plain\n");
        assert_eq!(tsv(&json!(["a", true, null]), false), "a\ntrue\nNone\n");
        assert_eq!(tsv(&json!([["a", 1], ["b", 2.5]]), false), "a\t1\nb\t2.5\n");
        assert_eq!(tsv(&Value::Null, false), "");
    }

    #[test]
    fn a_query_table_keeps_the_order_and_leaves_out_what_is_nested_or_null() {
        let rows = json!([{"name": "ca", "left": 3, "sans": [], "x": null}, {"name": "sa", "extra": true}]);
        let text = generic_view(&rows).render(Look { width: None, coloured: false });
        assert_eq!(text, "Name  Left  Extra\nca    3\nsa          True\n");
        assert_eq!(generic_view(&json!(["a"])).render(Look { width: None, coloured: false }), "Result\na\n");
        assert_eq!(generic_view(&json!([])).render(Look { width: None, coloured: false }), "");
    }

    #[test]
    fn yaml_strings_stay_strings_for_readers_of_yaml_1_1() {
        let words =
            ["yes", "no", "on", "off", "y", "n", "1_000", "null", "~", "1e3", "0x1f", "", "a: b", "1:30", "=", "0o7"];
        let value = json!({ "words": words, "number": 12, "nested": {"text": "line\nbreak"} });
        let text = yaml(&value).expect("YAML");
        assert_eq!(serde_yaml::from_str::<Value>(&text).expect("reads back"), value);
        for word in ["yes", "no", "on", "off", "y", "n", "1_000"] {
            assert!(text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'")), "{word} in {text}");
        }
    }

    #[test]
    fn keys_keep_their_order_in_json_and_yaml() {
        let value = json!({"b": 1, "a": 2});
        assert_eq!(json(&value).expect("JSON"), "{\n  \"b\": 1,\n  \"a\": 2\n}\n");
        assert_eq!(yaml(&value).expect("YAML"), "b: 1\na: 2\n");
    }
}
