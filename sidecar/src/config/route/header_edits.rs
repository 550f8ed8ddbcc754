//! Changes of header fields.

use crate::config::shape::Spanned;
use http::{HeaderName, HeaderValue};

use super::model::HeaderEdits;
use super::raw;
use crate::config::check::Check;
use crate::config::raw::Text;

/// As many as the Gateway API allows, of each sort.
const MAX_FIELDS: usize = 16;

/// Why a text is not a part of a header field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum FieldError {
    #[error("write the name of a header field: letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    #[error("write the value of a header field, without control characters")]
    Value,
    #[error("is the proxy's own business; leave it out")]
    Framing,
}

/// They say how the message is delimited and carried, which a change would contradict.
const FRAMING: [HeaderName; 3] =
    [http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING, http::header::CONNECTION];

/// Reads the changes.
pub(super) fn read(check: &mut Check<'_>, field: &str, raw: &raw::HeaderEdits) -> HeaderEdits {
    let mut remove = check.list(&format!("{field}.remove"), &raw.remove, MAX_FIELDS, |check, field, text| {
        check.value(field, text, parse_name)
    });
    let mut seen = Vec::new();
    remove.retain(|name| first(&mut seen, name));
    HeaderEdits {
        set: fields(check, &format!("{field}.set"), &raw.set),
        add: fields(check, &format!("{field}.add"), &raw.add),
        remove,
    }
}

/// Of several of one name, the first counts (Gateway API).
fn fields(check: &mut Check<'_>, field: &str, raw: &[Spanned<raw::Field>]) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = check.list(field, raw, MAX_FIELDS, |check, field, raw| {
        let raw = &raw.value;
        let name = check.value(&format!("{field}.name"), &raw.name, parse_name);
        let value = parse_value(check, &format!("{field}.value"), &raw.value);
        Some((name?, value?))
    });
    let mut seen = Vec::new();
    fields.retain(|(name, _)| first(&mut seen, name));
    fields
}

fn first(seen: &mut Vec<HeaderName>, name: &HeaderName) -> bool {
    let first = !seen.contains(name);
    seen.push(name.clone());
    first
}

/// Reads the name of a field that may be changed.
pub(super) fn parse_name(text: &str) -> Result<HeaderName, FieldError> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| FieldError::Name)?;
    if FRAMING.contains(&name) { Err(FieldError::Framing) } else { Ok(name) }
}

/// Reads the value of a field.
pub(super) fn parse_value(check: &mut Check<'_>, field: &str, text: &Text) -> Option<HeaderValue> {
    check.value(field, text, |text| HeaderValue::from_str(text).map_err(|_| FieldError::Value))
}
