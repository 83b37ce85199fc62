//! `--query`: an expression is refused or applied, on a report like ours.

#![no_main]

use kubepki::report::query::Query;
use libfuzzer_sys::fuzz_target;

const REPORT: &str = r#"{"kind": "ExpiryReport", "certificates": [
  {"name": "apiserver", "status": "ok", "daysLeft": 364, "dnsNames": ["kubernetes", "cp1"], "issuer": {"name": "ca"}},
  {"name": "ca", "status": "warning", "daysLeft": -1.5, "dnsNames": [], "issuer": null}]}"#;

fuzz_target!(|text: &str| {
    let Ok(query) = Query::parse(text) else { return };
    let report: serde_json::Value = serde_json::from_str(REPORT).expect("JSON");
    let _ = query.apply(&report);
    let _ = query.apply(&serde_json::Value::Null);
});
