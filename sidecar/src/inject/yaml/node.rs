//! Reads a document.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::scalar::resolve;

/// A value of a document, as it is written. Aliases are replaced by what they stand for.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::inject) enum Node {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the document's order.
    Map(Vec<(Node, Node)>),
}

#[derive(Clone, PartialEq, Debug)]
pub(in crate::inject) struct Scalar {
    pub text: String,
    pub kind: Kind,
    line: usize,
}

#[derive(Clone, PartialEq, Debug)]
pub(in crate::inject) enum Kind {
    /// Its text says what it is.
    Plain,
    /// A text: quoted, or tagged so.
    Text,
    /// Of a type that JSON does not have.
    Tagged(String),
}

/// What is wrong with a document, on which of its lines, from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::inject) struct Broken {
    pub line: usize,
    pub why: String,
}

/// What is open while a document is read.
struct Open {
    anchor: usize,
    node: Node,
    /// The key whose value is next.
    key: Option<Node>,
}

/// How many nodes all aliases of a document may stand for.
const MAX_ALIASED: usize = 100_000;
/// How deep a document may be; the parser's own bound is 255 in block style and as much in flow style.
const MAX_DEPTH: usize = 400;

impl Node {
    /// Reads one document; `None`: it is empty.
    pub(in crate::inject) fn read(text: &str) -> Result<Option<Self>, Broken> {
        let (mut open, mut anchors, mut aliased) = (Vec::<Open>::new(), BTreeMap::<usize, Node>::new(), 0);
        let mut root = None;
        for event in Parser::new_from_str(text) {
            let (event, span) =
                event.map_err(|error| Broken { line: error.marker().line(), why: error.info().clone() })?;
            let line = span.start.line();
            let broken = |why: &str| Broken { line, why: why.to_owned() };
            let (anchor, node) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let kind = Kind::of(style, tag.as_deref());
                    (anchor, Node::Scalar(Scalar { text: text.into_owned(), kind, line }))
                }
                Event::Alias(anchor) => {
                    let Some(node) = anchors.get(&anchor) else {
                        return Err(broken("an alias stands within what it stands for"));
                    };
                    aliased += node.size();
                    if aliased > MAX_ALIASED {
                        return Err(broken("its aliases stand for too much"));
                    }
                    (0, node.clone())
                }
                Event::SequenceStart(_, anchor, _) => {
                    open.push(Open { anchor, node: Node::List(Vec::new()), key: None });
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    open.push(Open { anchor, node: Node::Map(Vec::new()), key: None });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                    Some(done) => (done.anchor, done.node),
                    None => continue,
                },
                _ => continue,
            };
            if open.len() > MAX_DEPTH {
                return Err(broken("it is too deep"));
            }
            if anchor != 0 {
                anchors.insert(anchor, node.clone());
            }
            match open.last_mut() {
                None => root = Some(node),
                Some(Open { node: Node::List(items), .. }) => items.push(node),
                Some(Open { node: Node::Map(entries), key, .. }) => match key.take() {
                    Some(key) => entries.push((key, node)),
                    None => *key = Some(node),
                },
                Some(_) => {}
            }
        }
        // Nothing at all is a null as well.
        Ok(root.filter(|node: &Self| node.value() != Ok(Value::Null)))
    }

    /// As JSON has it.
    pub(in crate::inject) fn value(&self) -> Result<Value, Broken> {
        match self {
            Node::Scalar(scalar) => scalar.value(),
            Node::List(items) => items.iter().map(Self::value).collect::<Result<_, _>>().map(Value::Array),
            Node::Map(entries) => {
                let (mut map, mut merged) = (Map::new(), Map::new());
                for (key, value) in entries {
                    if key.is_merge() {
                        value.merge_into(&mut merged)?;
                        continue;
                    }
                    let (name, line) = key.name()?;
                    if map.insert(name.clone(), value.value()?).is_some() {
                        return Err(Broken { line, why: format!("{name:?} is given twice; leave one out") });
                    }
                }
                for (name, value) in merged {
                    map.entry(name).or_insert(value);
                }
                Ok(Value::Object(map))
            }
        }
    }

    /// The value of a key, as it is written.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Node::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| key.name().is_ok_and(|(key, _)| key == name)).map(|(_, value)| value)
    }

    /// As a key of JSON, which are texts; and its line.
    pub(super) fn name(&self) -> Result<(String, usize), Broken> {
        let Node::Scalar(scalar) = self else {
            return Err(Broken { line: self.line(), why: "a key must be a single value".to_owned() });
        };
        let name = match scalar.value()? {
            Value::String(text) => text,
            Value::Null => {
                return Err(Broken { line: scalar.line, why: "a key must not be empty".to_owned() });
            }
            other => other.to_string(),
        };
        Ok((name, scalar.line))
    }

    /// The line of its first scalar.
    fn line(&self) -> usize {
        match self {
            Node::Scalar(scalar) => scalar.line,
            Node::List(items) => items.first().map_or(1, Self::line),
            Node::Map(entries) => entries.first().map_or(1, |(key, _)| key.line()),
        }
    }

    /// `<<` (of YAML 1.1).
    fn is_merge(&self) -> bool {
        matches!(self, Node::Scalar(Scalar { text, kind: Kind::Plain, .. }) if text == "<<")
    }

    /// What is merged first counts.
    fn merge_into(&self, map: &mut Map<String, Value>) -> Result<(), Broken> {
        match self {
            Node::Map(_) => {
                let Value::Object(found) = self.value()? else { return Ok(()) };
                for (name, value) in found {
                    map.entry(name).or_insert(value);
                }
                Ok(())
            }
            Node::List(items) => items.iter().try_for_each(|item| item.merge_into(map)),
            Node::Scalar(scalar) => {
                Err(Broken { line: scalar.line, why: "<< must have a map, or a list of maps".to_owned() })
            }
        }
    }

    fn size(&self) -> usize {
        1 + match self {
            Node::Scalar(_) => 0,
            Node::List(items) => items.iter().map(Self::size).sum(),
            Node::Map(entries) => entries.iter().map(|(key, value)| key.size() + value.size()).sum::<usize>(),
        }
    }
}

impl Scalar {
    fn value(&self) -> Result<Value, Broken> {
        match &self.kind {
            Kind::Plain => Ok(resolve(&self.text)),
            Kind::Text => Ok(Value::String(self.text.clone())),
            Kind::Tagged(tag) => {
                Err(Broken { line: self.line, why: format!("the tag {tag} is none that Kubernetes knows") })
            }
        }
    }
}

impl Kind {
    fn of(style: ScalarStyle, tag: Option<&Tag>) -> Self {
        match tag.map(|tag| (tag.core_suffix(), tag)) {
            None if style == ScalarStyle::Plain => Self::Plain,
            None | Some((Some("str"), _)) => Self::Text,
            // A text by the specification, but not to go-yaml, nor to any other descendant of libyaml.
            Some((_, tag)) if tag.original() == "!" => Self::Plain,
            Some((Some("int" | "float" | "bool" | "null"), _)) => Self::Plain,
            Some((_, tag)) => Self::Tagged(tag.original()),
        }
    }
}
