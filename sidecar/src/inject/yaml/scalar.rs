//! What a plain scalar means, and how values are written so that they mean the same to every reader.

use serde_json::{Number, Value};

/// What kubectl's reader (go-yaml 2) takes a plain scalar for.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix(['+', '-']) {
        Some(digits) => (&plain[..1], digits),
        None => ("", plain.as_str()),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        if sign != "-"
            && let Ok(number) = u64::from_str_radix(digits, radix)
        {
            return Some(number.into());
        }
        if let Ok(number) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
            return Some(number.into());
        }
    }
    if is_float(&plain) { plain.parse().ok().and_then(Number::from_f64) } else { None }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, go-yaml's expression.
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| !text.is_empty() && digits(text);
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => unsigned(fraction),
        Some((whole, fraction)) => unsigned(whole) && digits(fraction),
        None => unsigned(mantissa),
    };
    mantissa
        && exponent.is_none_or(|exponent| unsigned(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// A number for everyone: to YAML 1.1 proper, a float has a point, and its exponent a sign.
pub(super) fn written(number: &Number) -> String {
    let text = number.to_string();
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// Words that are no text to somebody, in any case.
const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];

/// True for a text that everyone takes for one without quotes.
pub(super) fn is_plain(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./@+=:".contains(&byte);
    // `a: b` is a map, and so is `a:`.
    starts
        && text.bytes().all(good)
        && !text.ends_with(':')
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// True for a scalar that was plain somewhere and may be so in a block.
pub(super) fn stays_plain(text: &str) -> bool {
    let bad_start = |c: char| "!&*?|>%@`\"'#,[]{}".contains(c) || c.is_whitespace();
    let number = text
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.'));
    let dash = text.starts_with(['-', ':']) && !number;
    !text.is_empty()
        && !text.starts_with(bad_start)
        && !dash
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && text.chars().all(|c| is_printable(c) && c != '\t')
}

/// Within quotes, whatever it is.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.extend([format!("\\u{:04x}", u32::from(c))]),
            c => quoted.extend([format!("\\U{:08x}", u32::from(c))]),
        }
    }
    quoted.push('"');
    quoted
}

/// A text of several lines that may be written as a literal block: each reader takes it as it stands.
pub(super) fn fits_a_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let good = |line: &str| line.trim_end().len() == line.len() && !line.starts_with('\t');
    body.contains('\n')
        && !body.starts_with([' ', '\n'])
        && !body.ends_with('\n')
        && body.split('\n').all(good)
        && body.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

/// On no reader's list of line breaks, controls and non-characters.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
        && u32::from(c) & 0xfffe != 0xfffe
}
