//! `spec.rules` of an `AccessPolicy`.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::config::shape::Spanned;

use super::super::check::Check;
use super::super::raw::Text;
use super::super::value::{choice, header, network, port};
use super::model::{Action, From, Rule, To, When};
use super::{MAX_VALUES, pattern, raw, within, word};

/// How many rules a policy may have.
const MAX_RULES: usize = 256;
/// How many claims or headers one rule may name.
const MAX_CONDITIONS: usize = 16;

/// A text that is not a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a method in upper case, such as GET; leave methods out for any")]
struct MethodError;

pub(super) fn read(check: &mut Check<'_>, raw: &[Spanned<raw::Rule>]) -> Vec<Rule> {
    const FIELD: &str = "spec.rules";
    let raw = within(check, FIELD, raw, MAX_RULES, |raw| raw.line);
    let one =
        |(i, raw): (usize, &Spanned<raw::Rule>)| rule(check, &format!("{FIELD}[{i}]"), &raw.value, raw.line);
    raw.iter().enumerate().filter_map(one).collect()
}

fn rule(check: &mut Check<'_>, field: &str, raw: &raw::Rule, line: u64) -> Option<Rule> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let from = From {
        sources: list(check, &at("from.sources"), raw.from.sources.as_deref(), line, network::parse),
        principals: list(check, &at("from.principals"), raw.from.principals.as_deref(), line, pattern::parse),
    };
    let to = To {
        methods: list(check, &at("to.methods"), raw.to.methods.as_deref(), line, method),
        paths: list(check, &at("to.paths"), raw.to.paths.as_deref(), line, pattern::parse_path),
        hosts: list(check, &at("to.hosts"), raw.to.hosts.as_deref(), line, pattern::parse_host),
        ports: list(check, &at("to.ports"), raw.to.ports.as_deref(), line, port::parse),
    };
    let when = When {
        claims: conditions(check, &at("when.claims"), &raw.when.claims, line, word, word),
        headers: conditions(check, &at("when.headers"), &raw.when.headers, line, lower_case, pattern::parse),
    };
    let text = raw.unauthenticated.as_ref();
    let unauthenticated = check.value_or(&at("unauthenticated"), text, false, choice::parse_bool);
    let action: Action = check.value(&at("action"), &raw.action, choice::parse)?;
    if let (Some(text), true) = (text, unauthenticated) {
        if action == Action::Deny {
            check.refuse_value(&at("unauthenticated"), text, "is for ALLOW rules; leave it out");
        } else if !from.principals.is_empty() || !when.claims.is_empty() {
            let why = "a rule with principals or claims needs an identity; leave one of them out";
            check.refuse_value(&at("unauthenticated"), text, why);
        }
    }
    Some(Rule { action, from, to, when, unauthenticated })
}

/// The values of a list. One that is written but empty is refused: it reads as "none" and would mean "all".
fn list<T: Ord, E: Display>(
    check: &mut Check<'_>,
    field: &str,
    texts: Option<&[Text]>,
    line: u64,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let Some(texts) = texts else { return Vec::new() };
    if texts.is_empty() {
        check.refuse(line, field, "is empty; write at least one value, or leave it out");
    }
    let texts = within(check, field, texts, MAX_VALUES, |text| text.line);
    check.set(field, texts, parse)
}

fn conditions<T: Ord, E: Display, F: Display>(
    check: &mut Check<'_>,
    field: &str,
    raw: &BTreeMap<String, Vec<Text>>,
    line: u64,
    name: impl Fn(&str) -> Result<String, E>,
    parse: impl Fn(&str) -> Result<T, F>,
) -> BTreeMap<String, Vec<T>> {
    if raw.len() > MAX_CONDITIONS {
        let why = format_args!("{} are more than {MAX_CONDITIONS}; leave some out", raw.len());
        check.refuse(line, field, why);
        return BTreeMap::new();
    }
    let mut conditions = BTreeMap::new();
    for (key, texts) in raw {
        let field = format!("{field}.{}", key.escape_debug());
        let values = list(check, &field, Some(texts.as_slice()), line, &parse);
        match name(key) {
            Ok(name) if conditions.contains_key(&name) => {
                check.refuse(line, &field, "is given twice, in another case; leave one out");
            }
            Ok(name) => {
                conditions.insert(name, values);
            }
            Err(why) => check.refuse(line, &field, why),
        }
    }
    conditions
}

fn method(text: &str) -> Result<String, MethodError> {
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(upper) { Ok(text.to_owned()) } else { Err(MethodError) }
}

fn lower_case(text: &str) -> Result<String, header::HeaderError> {
    header::parse(text).map(|name| name.as_str().to_owned())
}
