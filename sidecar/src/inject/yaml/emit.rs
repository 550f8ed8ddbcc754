//! Writes a value as a document in block style.

use serde_json::Value;

use super::node::{Kind, Node, Scalar};
use super::scalar::{fits_a_block, is_plain, quoted, resolve, stays_plain, written};

/// The steps of indentation.
const STEP: usize = 2;

/// Writes `value`. What it has in common with `before`, which it was made from, keeps its order and its scalars.
pub(in crate::inject) fn emit(value: &Value, before: Option<&Node>) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, before, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, before, 0),
        _ => {
            out.push_str(&scalar(value, before, 0));
            out.push('\n');
        }
    }
    out
}

/// A map or list that is not empty, in lines of its own.
fn block(out: &mut String, value: &Value, before: Option<&Node>, indent: usize) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for name in in_order(map, before) {
                let Some(value) = map.get(&name) else { continue };
                out.push_str(&margin);
                out.push_str(&key(&name));
                out.push(':');
                let before = before.and_then(|before| before.get(&name));
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        out.push('\n');
                        block(out, value, before, indent + STEP);
                    }
                    // As kubectl writes them: the dash is indentation enough.
                    Value::Array(list) if !list.is_empty() => {
                        out.push('\n');
                        block(out, value, before, indent);
                    }
                    _ => {
                        out.push(' ');
                        out.push_str(&scalar(value, before, indent));
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                out.push_str(&margin);
                out.push_str("- ");
                let before = counterpart(before, item, index);
                match item {
                    Value::Object(_) | Value::Array(_) if !is_empty(item) => {
                        // The item's first line goes on behind the dash.
                        let start = out.len();
                        block(out, item, before, indent + STEP);
                        out.replace_range(start..start + indent + STEP, "");
                    }
                    _ => {
                        out.push_str(&scalar(item, before, indent));
                        out.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// A value for the rest of a line; a text of several lines goes on below, indented.
fn scalar(value: &Value, before: Option<&Node>, indent: usize) -> String {
    if let Some(Node::Scalar(Scalar { text, kind: Kind::Plain, .. })) = before
        && stays_plain(text)
        && resolve(text) == *value
    {
        return text.clone();
    }
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => written(number),
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) if fits_a_block(text) => literal(text, indent + STEP),
        Value::String(text) => quoted(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

fn literal(text: &str, indent: usize) -> String {
    let (mut block, body) = match text.strip_suffix('\n') {
        Some(body) => ("|".to_owned(), body),
        None => ("|-".to_owned(), text),
    };
    for line in body.split('\n') {
        block.push('\n');
        if !line.is_empty() {
            block.push_str(&" ".repeat(indent));
            block.push_str(line);
        }
    }
    block
}

fn key(name: &str) -> String {
    if is_plain(name) && !name.contains(':') { name.to_owned() } else { quoted(name) }
}

/// The keys of a map: those that were there in their order, then the others.
fn in_order(map: &serde_json::Map<String, Value>, before: Option<&Node>) -> Vec<String> {
    let mut names = Vec::with_capacity(map.len());
    if let Some(Node::Map(entries)) = before {
        let known = entries.iter().filter_map(|(key, _)| key.name().ok()).map(|(name, _)| name);
        names.extend(known.filter(|name| map.contains_key(name)));
    }
    let new: Vec<_> = map.keys().filter(|name| !names.contains(name)).cloned().collect();
    names.extend(new);
    names
}

/// What an item of a list was: the one of its name, or at its place.
fn counterpart<'a>(before: Option<&'a Node>, item: &Value, index: usize) -> Option<&'a Node> {
    let Some(Node::List(nodes)) = before else { return None };
    let Some(name) = item.get("name").and_then(Value::as_str) else { return nodes.get(index) };
    let is_named =
        |node: &&Node| matches!(node.get("name"), Some(Node::Scalar(scalar)) if scalar.text == name);
    nodes.iter().find(is_named)
}
