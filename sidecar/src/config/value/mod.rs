//! The values of fields: each file reads one sort from text. Errors say what to write instead.

pub(super) mod address;
pub(crate) mod choice;
pub(super) mod duration;
pub(super) mod header;
pub(crate) mod name;
pub(crate) mod network;
pub(super) mod number;
pub(super) mod path;
pub(super) mod percent;
pub(crate) mod port;
pub(super) mod size;

/// True for one or more ASCII digits: `str::parse` alone would also take a sign.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
