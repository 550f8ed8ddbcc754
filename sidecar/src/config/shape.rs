//! Reads raw types from a tree of YAML: serde's side of it, in one version for all types, and small.

use std::fmt;

use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::yaml::{Content, Node};

/// The newtype under whose name a [`Spanned`] asks for its place.
const SPANNED: &str = "sidecar::Spanned";

/// How much of a name or message that the file determines is shown, in characters.
const MAX_SHOWN: usize = 200;

/// A value, and the line of the document on which it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spanned<T> {
    pub value: T,
    pub line: u64,
}

/// Why a document has not the shape of a type.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    /// From 1; 0 while it is not known.
    pub line: u64,
    /// The way to the field, the last step first.
    steps: Vec<Step>,
    /// No field is wrong, but the YAML.
    is_yaml: bool,
    why: String,
}

/// One step of the path to a field.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    Field(String),
    Item(usize),
}

/// What is wrong with a value where another is asked for.
const NOT_TEXT: &str = "write a single value here, not a list or a map";
const NOT_MAP: &str = "write a map of fields here";
const NOT_LIST: &str = "write a list here";
const EMPTY: &str = "is empty; write a value";

// === impl Wrong ===

impl Wrong {
    /// What is not YAML.
    pub(super) fn yaml(line: u64, why: String) -> Self {
        Self { line, steps: Vec::new(), is_yaml: true, why }
    }

    /// A field that is there already.
    pub(super) fn twice(line: u64, field: String) -> Self {
        let why = "is given twice; leave one out".to_owned();
        Self { line, steps: vec![Step::Field(field)], is_yaml: false, why }
    }

    fn of(node: &Node, why: &str) -> Self {
        Self { line: node.line, steps: Vec::new(), is_yaml: false, why: why.to_owned() }
    }

    /// The same, seen from what has the value as this step, which stands on that line.
    pub(super) fn below(mut self, step: Step, line: u64) -> Self {
        self.steps.push(step);
        self.at(line)
    }

    fn at(mut self, line: u64) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// The field's path as we print it, such as `spec.listeners[0].name`; of the document itself, there is none.
    pub(super) fn field(&self) -> Option<String> {
        let path = self.steps.iter().rev().fold(String::new(), |path, step| match step {
            Step::Field(name) if path.is_empty() => shown(name),
            Step::Field(name) => format!("{path}.{}", shown(name)),
            Step::Item(index) => format!("{path}[{index}]"),
        });
        (!path.is_empty() && !self.is_yaml).then_some(path)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_yaml {
            f.write_str("not valid YAML: ")?;
        }
        f.write_str(&shown(&self.why))
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { line: 0, steps: Vec::new(), is_yaml: false, why: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let why = match expected {
            [] => "unknown field; there are no fields here".to_owned(),
            _ => format!("unknown field; the fields here are {}", expected.join(", ")),
        };
        Self { steps: vec![Step::Field(field.to_owned())], ..Self::custom(why) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { steps: vec![Step::Field(field.to_owned())], ..Self::custom("is required") }
    }
}

/// What the file says, fit for one line of output.
fn shown(text: &str) -> String {
    let shown = text.chars().take(MAX_SHOWN);
    shown.map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

// === impl Deserializer ===

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Null(_) => visitor.visit_unit(),
            Content::Scalar(_) => self.deserialize_str(visitor),
            Content::List(_) => self.deserialize_seq(visitor),
            Content::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Scalar(text) => visitor.visit_str(text).map_err(|wrong: Wrong| wrong.at(self.line)),
            Content::Null(_) => Err(Wrong::of(self, EMPTY)),
            Content::List(_) | Content::Map(_) => Err(Wrong::of(self, NOT_TEXT)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::Null(_) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A list without a value is an empty one.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.content {
            Content::List(nodes) => visitor.visit_seq(Items { nodes, next: 0 }),
            Content::Null(_) => visitor.visit_seq(Items { nodes: &[], next: 0 }),
            Content::Scalar(_) | Content::Map(_) => Err(Wrong::of(self, NOT_LIST)),
        }
    }

    /// Likewise a map.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let entries = match &self.content {
            Content::Map(entries) => entries.as_slice(),
            Content::Null(_) => &[],
            Content::Scalar(_) | Content::List(_) => return Err(Wrong::of(self, NOT_MAP)),
        };
        // What is missing is missed at the end.
        visitor.visit_map(Fields { entries, next: 0 }).map_err(|wrong: Wrong| wrong.at(self.last_line()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name == SPANNED {
            visitor.visit_seq(Placed { node: self, told: false })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        enum identifier
    }
}

/// The items of a list, from `next` on.
struct Items<'de> {
    nodes: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(node) = self.nodes.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(node).map(Some).map_err(|wrong| wrong.below(Step::Item(index), node.line))
    }
}

/// The fields of a map, from `next` on.
struct Fields<'de> {
    entries: &'de [super::yaml::Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Wrong> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|wrong| wrong.at(entry.line))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let Some(entry) = self.entries.get(self.next) else {
            return Err(de::Error::custom("there is no value"));
        };
        self.next += 1;
        seed.deserialize(&entry.value)
            .map_err(|wrong| wrong.below(Step::Field(entry.key.clone()), entry.value.line))
    }
}

/// A value's line, then the value.
struct Placed<'de> {
    node: &'de Node,
    told: bool,
}

impl<'de> SeqAccess<'de> for Placed<'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        if self.told {
            return seed.deserialize(self.node).map(Some);
        }
        self.told = true;
        let line: U64Deserializer<Wrong> = self.node.line.into_deserializer();
        seed.deserialize(line).map(Some)
    }
}

// === impl Spanned ===

impl<'de, T: de::Deserialize<'de>> de::Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_newtype_struct(SPANNED, LineAndValue(std::marker::PhantomData))
    }
}

struct LineAndValue<T>(std::marker::PhantomData<T>);

impl<'de, T: de::Deserialize<'de>> Visitor<'de> for LineAndValue<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Spanned<T>, A::Error> {
        let missing = || de::Error::custom("there is no value");
        let line = seq.next_element()?.ok_or_else(missing)?;
        let value = seq.next_element()?.ok_or_else(missing)?;
        Ok(Spanned { value, line })
    }
}
