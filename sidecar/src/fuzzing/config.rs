//! Configurations.

use crate::config::Config;
use crate::config::access::AccessPolicy;
use crate::config::route::{Filter, HttpMatch, PathEdit};

/// A text is a configuration that can be served by, or has errors that say where.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Config::parse(text, "fuzz.yaml") {
        Ok(config) => {
            assert!(serde_json::to_string(&config).is_ok(), "it cannot be dumped");
            assert_eq!(Config::parse(text, "fuzz.yaml").as_ref(), Ok(&config), "it reads otherwise again");
            crate::http::fuzzing::plan(&config);
        }
        Err(errors) => {
            let lines = text.replace("\r\n", "\n").split(['\r', '\n']).count() as u64;
            assert!((1..=100).contains(&errors.iter().count()));
            for error in &errors {
                assert_eq!(error.file, "fuzz.yaml");
                assert_ne!(error.field.as_deref(), Some(""), "{error}");
                assert!(
                    error.line.is_some_and(|line| (1..=lines).contains(&line)),
                    "{error} has no line of {lines}"
                );
                let shown = error.to_string();
                assert!(
                    !shown.contains(char::is_control) && shown.len() < 10_000,
                    "{shown:?} is not fit for a line"
                );
            }
        }
    }
}

/// A rule for paths under a prefix, which puts this in its place, where both can be written so.
pub(super) fn prefix_edit(prefix: &str, replacement: &str) -> Option<(HttpMatch, PathEdit)> {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: a}}\nspec:\n  parentRefs: \
         [{{group: sidecar.dev, kind: Inbound, port: 80}}]\n  rules:\n  - matches: [{{path: {{type: PathPrefix, value: \
         {}}}}}]\n    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: \
         {}}}}}}}]\n",
        quoted(prefix),
        quoted(replacement)
    );
    let config = Config::parse(&text, "fuzz.yaml").ok()?;
    let rule = config.routes.http.first()?.rules.first()?;
    let edit = rule.filters.iter().find_map(|filter| match filter {
        Filter::Rewrite(rewrite) => rewrite.path.clone(),
        _ => None,
    });
    Some((rule.matches.first()?.clone(), edit?))
}

/// A policy with these fields, where they are right.
pub(super) fn policy(fields: &str) -> Option<AccessPolicy> {
    let head = "apiVersion: sidecar.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: own}\nspec:\n";
    let target = "  targetRefs: [{group: sidecar.dev, kind: Inbound, port: 8080}]\n";
    Config::parse(&format!("{head}{target}{fields}\n"), "fuzz.yaml").ok()?.access.pop()
}

/// A text as YAML writes any (YAML 1.2.2, section 5.7).
pub(super) fn quoted(text: &str) -> String {
    let quoted: String = text
        .chars()
        .map(|c| match c {
            ' '..='~' if !matches!(c, '"' | '\\') => c.to_string(),
            c => format!("\\U{:08X}", u32::from(c)),
        })
        .collect();
    format!("\"{quoted}\"")
}
