//! What values may be, for the schemas of our kinds: raw types keep all of them as text, so their fields say it with these.

use std::borrow::Cow;
use std::marker::PhantomData;

use clap::ValueEnum;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::shape::Spanned;

/// `true` or `false`.
pub(super) struct Boolean;
/// A whole number.
pub(super) struct Count;
/// A number from 0 to 100.
pub(super) struct Percent;
/// A share with its percent sign.
pub(super) struct Share;
/// A TCP port.
pub(super) struct Port;
/// Likewise, or 0.
pub(super) struct PortOrFree;
/// A time as the Gateway API writes it.
pub(super) struct Duration;
/// A size: a number of bytes, or one with a unit.
pub(super) struct Bytes;
/// A number, or the name that stands for it.
pub(super) struct NumberOrName;
/// One of the words of `T`.
pub(super) struct Choice<T>(PhantomData<T>);

/// Gives a type its schema, which stands wherever the type is used.
macro_rules! schema_of {
    ($($name:ident: $schema:tt,)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema_of! {
    Boolean: {"type": "boolean"},
    Count: {"type": "integer", "format": "int64", "minimum": 0},
    Percent: {"type": "number", "minimum": 0, "maximum": 100},
    Share: {"type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,4})?%$"},
    Port: {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
    PortOrFree: {"type": "integer", "format": "int32", "minimum": 0, "maximum": 65535},
    Duration: {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
    Bytes: {"x-kubernetes-int-or-string": true},
    NumberOrName: {"x-kubernetes-int-or-string": true},
}

impl<T: ValueEnum> JsonSchema for Choice<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Choice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let words: Vec<_> = words.map(|word| word.get_name().to_owned()).collect();
        json_schema!({"type": "string", "enum": words})
    }
}

/// Where a value stands is no part of it.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
