//! Our own kinds for the API of Kubernetes: custom resource definitions, whose schemas are made of the raw types.
//!
//! Schemas there are structural: each value has one type, and lists every field. They say the shape; what `sidecar validate`
//! knows beyond, such as which fields exclude one another, they do not. They set no defaults: the code does.

use std::iter;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{access, raw, route, traffic};

const GROUP: &str = "sidecar.dev";

/// One of our kinds.
struct Kind {
    name: &'static str,
    plural: &'static str,
    schema: fn() -> Value,
}

const KINDS: [Kind; 5] = [
    Kind { name: "AccessPolicy", plural: "accesspolicies", schema: schema_of::<access::Raw> },
    Kind { name: "Backend", plural: "backends", schema: schema_of::<raw::Backend> },
    Kind { name: "DirectResponse", plural: "directresponses", schema: schema_of::<route::RawDirectResponse> },
    Kind { name: "ProxyConfig", plural: "proxyconfigs", schema: schema_of::<raw::ProxyConfig> },
    Kind { name: "TrafficPolicy", plural: "trafficpolicies", schema: schema_of::<traffic::Raw> },
];

/// The name of a file for each of our kinds, and what is in it: a CustomResourceDefinition in YAML.
pub fn files() -> Vec<(String, String)> {
    KINDS.iter().map(|kind| (format!("{}.yaml", kind.plural), kind.file())).collect()
}

// === impl Kind ===

impl Kind {
    fn file(&self) -> String {
        let lines = lines(&self.definition()).join("\n");
        format!("# Made by `cargo xtask crds` from sidecar/src/config.\n{lines}\n")
    }

    fn definition(&self) -> Value {
        let Self { name: kind, plural, schema } = self;
        let mut spec = schema();
        let description =
            spec.as_object_mut().and_then(|spec| spec.remove("description")).unwrap_or_default();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{GROUP}"),
                "labels": {"app.kubernetes.io/name": "sidecar", "app.kubernetes.io/part-of": "sidecar"},
            },
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": kind,
                    "listKind": format!("{kind}List"),
                    "plural": plural,
                    "singular": kind.to_lowercase(),
                    "categories": ["sidecar"],
                },
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1alpha1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "description": description,
                        "required": ["spec"],
                        "properties": {
                            "apiVersion": {"type": "string", "description": format!("{GROUP}/v1alpha1")},
                            "kind": {"type": "string", "description": kind},
                            "metadata": {"type": "object"},
                            "spec": spec,
                        },
                    }},
                }],
            },
        })
    }
}

/// The schema of a raw type, as Kubernetes wants it.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    make_structural(&mut schema);
    schema
}

/// What JSON Schema says in ways of its own, in the one way that is structural.
fn make_structural(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    for keyword in ["title", "default", "nullable", "$schema"] {
        schema.remove(keyword);
    }
    // Something that may be left out is that, or null.
    for keyword in ["anyOf", "allOf"] {
        if let Some(Value::Array(options)) = schema.remove(keyword) {
            let given = options.into_iter().filter_map(|option| match option {
                Value::Object(option) if !is_null(&option) => Some(option),
                _ => None,
            });
            for (keyword, value) in given.flatten() {
                schema.entry(keyword).or_insert(value);
            }
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if schema.contains_key("properties") || schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        // Fields that are not listed are refused or pruned anyway.
        schema.remove("additionalProperties");
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(make_structural);
    }
    for keyword in ["items", "additionalProperties"] {
        schema.get_mut(keyword).into_iter().for_each(make_structural);
    }
}

fn is_null(schema: &Map<String, Value>) -> bool {
    schema.get("type") == Some(&json!("null")) || schema.get("enum") == Some(&json!([null]))
}

/// The lines of a value: maps and lists in block style, and each scalar as JSON has it where that is safe.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().flat_map(|(key, value)| field(key, value)).collect()
        }
        Value::Array(items) if !items.is_empty() => items.iter().flat_map(item).collect(),
        other => vec![scalar(other)],
    }
}

fn field(key: &str, value: &Value) -> Vec<String> {
    let key = scalar(&json!(key));
    let indent = match value {
        Value::Object(map) if !map.is_empty() => "  ",
        Value::Array(items) if !items.is_empty() => "",
        other => return vec![format!("{key}: {}", scalar(other))],
    };
    let below = lines(value).into_iter().map(|line| format!("{indent}{line}"));
    iter::once(format!("{key}:")).chain(below).collect()
}

fn item(value: &Value) -> Vec<String> {
    let marks = iter::once("-").chain(iter::repeat(" "));
    lines(value).into_iter().zip(marks).map(|(line, mark)| format!("{mark} {line}")).collect()
}

/// JSON is YAML; plain are only words that YAML reads as text.
fn scalar(value: &Value) -> String {
    let plain = |text: &&str| {
        let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-./".contains(&byte));
        let meaning = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
        word && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && !meaning.contains(&text.to_lowercase().as_str())
    };
    value.as_str().filter(plain).map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_files_are_up_to_date() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/base/crds");
        for (name, text) in files() {
            let found = fs::read_to_string(directory.join(&name)).unwrap_or_default();
            assert!(found == text, "{name} is out of date: cargo xtask crds");
        }
    }

    /// What is not structural (apiextensions.k8s.io, "Specifying a structural schema").
    fn wrong(path: &str, schema: &Value, found: &mut Vec<String>) {
        let known = schema["type"].as_str().is_some_and(|sort| sort != "null")
            || schema["x-kubernetes-int-or-string"] == json!(true);
        let forbidden = ["$ref", "anyOf", "allOf", "oneOf", "default", "nullable", "title", "definitions"];
        let forbidden = forbidden.into_iter().find(|keyword| schema.get(keyword).is_some());
        if !known || forbidden.is_some() {
            found.push(format!("{path}: {forbidden:?} {schema}"));
        }
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_some() {
            found.push(format!("{path}: properties and additionalProperties"));
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let has_description = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            if !has_description {
                found.push(format!("{path}.{name}: no description"));
            }
            wrong(&format!("{path}.{name}"), schema, found);
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(keyword) {
                wrong(&format!("{path}[]"), schema, found);
            }
        }
    }

    #[test]
    fn schemas_are_structural_and_explain_every_field() {
        let mut found = Vec::new();
        for Kind { name: kind, schema, .. } in &KINDS {
            wrong(kind, &schema(), &mut found);
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn every_kind_of_ours_has_one() {
        for Kind { name: kind, .. } in &KINDS {
            assert!(super::super::kind::recognise("sidecar.dev/v1alpha1", kind).is_ok(), "{kind}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (kind, (_, text)) in KINDS.iter().zip(files()) {
            let Ok(node) = super::super::yaml::read(&text) else { panic!("{}", kind.name) };
            assert_eq!(json_of(&node), stringified(&kind.definition()));
        }
    }

    fn json_of(node: &super::super::yaml::Node) -> Value {
        use super::super::yaml::Content;
        match &node.content {
            Content::Null(_) => Value::Null,
            Content::Scalar(text) => text.as_str().into(),
            Content::List(nodes) => nodes.iter().map(json_of).collect(),
            Content::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), json_of(&entry.value))).collect()
            }
        }
    }

    /// Scalars as text, as our reader has them.
    fn stringified(value: &Value) -> Value {
        match value {
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), stringified(value))).collect(),
            Value::Array(items) => items.iter().map(stringified).collect(),
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        }
    }
}
