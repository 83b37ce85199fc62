//! `--query`: JMESPath over a result, with keys in the order people wrote them.
//!
//! The evaluator keeps objects in alphabetical order. The order is put back afterwards: an object with the keys of a
//! multi-select hash takes the order written there, one with the keys of an object of the input takes that one's.

use std::collections::{BTreeMap, HashMap};

use jmespath::ast::Ast;
use jmespath::{Expression, JmespathError};
use serde_json::Value;

use crate::error::Failure;

/// The longest expression (bytes).
const LONGEST: usize = 4096;

/// The evaluator goes some calls deeper with every bracket. So much stack is enough for the longest expression (bytes);
/// what is not used of it is no memory.
const STACK: usize = LONGEST * 16 * 1024;

/// A parsed expression.
#[derive(Clone)]
pub struct Query {
    expression: Expression<'static>,
    written: Vec<Vec<String>>,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Query({:?})", self.expression.as_str())
    }
}

impl Query {
    /// Parses `text`.
    ///
    /// # Errors
    /// A usage failure with the place in the expression.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.len() > LONGEST {
            let message = format!("--query: an expression of {} bytes; {LONGEST} are the most", text.len());
            return Err(Failure::usage(message).hint("print the whole result with -o json and pipe it into jq").into());
        }
        with_room(|| Self::compile(text))
    }

    fn compile(text: &str) -> anyhow::Result<Self> {
        let expression = jmespath::compile(text).map_err(|error| unusable(&error))?;
        let mut words = Words::default();
        words.collect(expression.as_ast());
        // The evaluator would notice this only when it gets there, which is after the work is done.
        match words.functions.iter().find(|name| jmespath::DEFAULT_RUNTIME.get_function(name).is_none()) {
            Some(unknown) => Err(Failure::usage(format!("--query {text:?}: there is no function {unknown}")).into()),
            None => Ok(Self { expression, written: words.hashes }),
        }
    }

    /// Applies the expression to `value`.
    ///
    /// # Errors
    /// A usage failure when a function does not fit the values it meets.
    pub fn apply(&self, value: &Value) -> anyhow::Result<Value> {
        with_room(|| self.evaluate(value))
    }

    fn evaluate(&self, value: &Value) -> anyhow::Result<Value> {
        let found = self.expression.search(value).map_err(|error| unusable(&error))?;
        let found = serde_json::to_value(&*found)?;
        let mut orders = Orders::default();
        for keys in &self.written {
            orders.remember(keys.iter().map(String::as_str));
        }
        orders.remember_all(value);
        Ok(orders.restore(found))
    }
}

/// Does `work` with [`STACK`].
fn with_room<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Failure::failed(format!("--query: no thread to evaluate it: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(Failure::failed("--query: evaluating it ended in a defect").into()))
    })
}

fn unusable(error: &JmespathError) -> Failure {
    let place = error.column + 1;
    Failure::usage(format!("--query {:?}, column {place}: {}", error.expression, error.reason))
        .hint("the language is described at https://jmespath.org; text is written 'text', numbers `12`")
}

/// What the expression mentions: the keys of its multi-select hashes as written, and its functions.
#[derive(Default)]
struct Words {
    hashes: Vec<Vec<String>>,
    functions: Vec<String>,
}

impl Words {
    fn collect(&mut self, ast: &Ast) {
        match ast {
            Ast::MultiHash { elements, .. } => {
                self.hashes.push(elements.iter().map(|pair| pair.key.clone()).collect());
                elements.iter().for_each(|pair| self.collect(&pair.value));
            }
            Ast::Function { name, args, .. } => {
                self.functions.push(name.clone());
                args.iter().for_each(|argument| self.collect(argument));
            }
            Ast::Comparison { lhs: first, rhs: second, .. }
            | Ast::Or { lhs: first, rhs: second, .. }
            | Ast::And { lhs: first, rhs: second, .. }
            | Ast::Projection { lhs: first, rhs: second, .. }
            | Ast::Subexpr { lhs: first, rhs: second, .. }
            | Ast::Condition { predicate: first, then: second, .. } => {
                self.collect(first);
                self.collect(second);
            }
            Ast::Expref { ast: node, .. }
            | Ast::Flatten { node, .. }
            | Ast::Not { node, .. }
            | Ast::ObjectValues { node, .. } => self.collect(node),
            Ast::MultiList { elements, .. } => elements.iter().for_each(|element| self.collect(element)),
            Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Literal { .. } | Ast::Slice { .. } => {}
        }
    }
}

/// Known orders of keys: by the set of keys, and for unknown sets by where a key was met first.
#[derive(Default)]
struct Orders {
    by_set: BTreeMap<Vec<String>, Vec<String>>,
    first_met: HashMap<String, usize>,
}

impl Orders {
    fn remember<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        for key in &keys {
            let next = self.first_met.len();
            self.first_met.entry(key.clone()).or_insert(next);
        }
        let mut set = keys.clone();
        set.sort_unstable();
        self.by_set.entry(set).or_insert(keys);
    }

    fn remember_all(&mut self, value: &Value) {
        match value {
            Value::Object(object) => {
                self.remember(object.keys().map(String::as_str));
                object.values().for_each(|value| self.remember_all(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.remember_all(value)),
            _ => {}
        }
    }

    fn restore(&self, value: Value) -> Value {
        match value {
            Value::Array(values) => values.into_iter().map(|value| self.restore(value)).collect(),
            Value::Object(mut object) => {
                let mut keys: Vec<String> = object.keys().cloned().collect();
                keys.sort_unstable();
                match self.by_set.get(&keys) {
                    Some(order) => keys.clone_from(order),
                    // The sort is stable: keys nobody has met keep the alphabetical order.
                    None => keys.sort_by_key(|key| self.first_met.get(key).copied().unwrap_or(usize::MAX)),
                }
                let field = |key: String| {
                    let value = object.remove(&key).unwrap_or_default();
                    (key, self.restore(value))
                };
                Value::Object(keys.into_iter().map(field).collect())
            }
            scalar => scalar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ExitCode, exit_code};
    use serde_json::json;

    fn ask(query: &str, value: &Value) -> String {
        Query::parse(query).and_then(|query| query.apply(value)).expect("a good query").to_string()
    }

    #[test]
    fn multi_select_hashes_keep_the_order_in_which_they_are_written() {
        let rows = json!([{"name": "ca", "left": 3}]);
        assert_eq!(ask("[].{Name: name, Left: left}", &rows), r#"[{"Name":"ca","Left":3}]"#);
        assert_eq!(ask("[0].{z: {y: name, a: left}, b: name}", &rows), r#"{"z":{"y":"ca","a":3},"b":"ca"}"#);
    }

    #[test]
    fn objects_of_the_input_keep_their_own_order() {
        let value = json!({"rows": [{"name": "ca", "left": 3, "at": {"z": 1, "b": 2}}]});
        assert_eq!(ask("rows[0]", &value), r#"{"name":"ca","left":3,"at":{"z":1,"b":2}}"#);
        assert_eq!(
            ask("merge(rows[0], {extra: `1`})", &value),
            r#"{"extra":1,"name":"ca","left":3,"at":{"z":1,"b":2}}"#
        );
    }

    #[test]
    fn numbers_come_through_unchanged() {
        let value = json!({"big": 18_446_744_073_709_551_615_u64, "part": 12.5});
        assert_eq!(ask("[big, part]", &value), "[18446744073709551615,12.5]");
    }

    #[test]
    fn a_bad_expression_is_a_usage_failure_that_names_the_place() {
        let broken = Query::parse("rows[").expect_err("broken");
        assert_eq!(exit_code(&broken), ExitCode::Usage);
        assert!(broken.to_string().contains("column"), "{broken}");
        let unknown = Query::parse("rows[?nosuch(name)]").expect_err("unknown function, found without any rows");
        assert_eq!(exit_code(&unknown), ExitCode::Usage);
        let misfit = Query::parse("length(`1`)").and_then(|query| query.apply(&json!({}))).expect_err("misfit");
        assert_eq!(exit_code(&misfit), ExitCode::Usage);
    }

    #[test]
    fn the_deepest_expressions_are_answered_or_refused_and_longer_ones_refused() {
        let deepest =
            ["(", "!", "[", "{a:", "&", "a.", "a[*].", "a||", "a|", "[*]", "[]", "[?a]", "a[?b].", "not_null("];
        for part in deepest {
            let longest = part.repeat(LONGEST / part.len() - 1);
            for text in [longest.clone(), format!("{longest}a")] {
                if let Ok(query) = Query::parse(&text) {
                    let _ = query.apply(&json!({"a": [{"a": 1, "b": [[]]}]}));
                }
            }
        }
        assert!(Query::parse(&format!("{}a", "!".repeat(LONGEST - 1))).is_ok());
        let longer = Query::parse(&format!("{}a", "!".repeat(LONGEST))).expect_err("too long");
        assert_eq!(exit_code(&longer), ExitCode::Usage);
    }
}
