//! A YAML document as a tree whose nodes know their lines.
//!
//! Scalars stay text: what `1.10` or `off` means is for the field to say. Aliases and merge keys (`<<`) are resolved here.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::shape::{Step, Wrong};

/// What aliases may add to one document, in nodes.
const MAX_ALIASED: usize = 1_000;

/// How deep values may be within one another.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub line: u64,
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing, `~` or `null`, with the text.
    Null(String),
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key stands.
    pub line: u64,
    pub value: Node,
}

/// Reads the only document of `text`. Without any, it is null.
pub(super) fn read(text: &str) -> Result<Node, Wrong> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Wrong::yaml(line(error.marker().line()), message(&error)))?;
        builder.event(event, span)?;
    }
    Ok(builder.root.unwrap_or(Node { line: 1, content: Content::Null(String::new()) }))
}

/// The values that are not complete yet, the outermost first.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    root: Option<Node>,
}

/// A list or map of which more is to come.
struct Open {
    line: u64,
    anchor: usize,
    content: Collection,
}

enum Collection {
    List(Vec<Node>),
    /// Its fields, the key whose value is to come with its line, and what `<<` brings in.
    Map(Vec<Entry>, Option<(String, u64)>, Vec<Node>),
}

// === impl Builder ===

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Wrong> {
        let line = line(span.start.line());
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(Wrong::yaml(
                line,
                "another document begins here; write --- on a line of its own before it".to_owned(),
            )),
            Event::Scalar(text, style, anchor, tag) => {
                let content = scalar(text.into_owned(), style, tag.as_deref());
                self.complete(Node { line, content }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(line, anchor, Collection::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                self.begin(line, anchor, Collection::Map(Vec::new(), None, Vec::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, content }) = self.open.pop() else { return Ok(()) };
                let content = match content {
                    Collection::List(nodes) => Content::List(nodes),
                    Collection::Map(entries, _, merged) => Content::Map(merge(entries, merged)),
                };
                self.complete(Node { line, content }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Wrong::yaml(line, "an alias within what it stands for".to_owned()));
                };
                self.aliased += node.count();
                if self.aliased > MAX_ALIASED {
                    let why = format!("aliases stand for more than {MAX_ALIASED} values; write some out");
                    return Err(Wrong::yaml(line, why));
                }
                let node = Node { line, content: node.content.clone() };
                self.complete(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: u64, anchor: usize, content: Collection) -> Result<(), Wrong> {
        if self.open.len() == MAX_DEPTH {
            return Err(Wrong::yaml(line, format!("values are nested more than {MAX_DEPTH} deep")));
        }
        self.open.push(Open { line, anchor, content });
        Ok(())
    }

    /// Puts a value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Wrong> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Collection::List(nodes) => nodes.push(node),
            Collection::Map(entries, key, merged) => match key.take() {
                None => {
                    let Node { line, content: Content::Scalar(text) | Content::Null(text) } = node else {
                        let why = "the name of a field is a single value, not a list or a map".to_owned();
                        return Err(self.within(Wrong::yaml(node.line, why)));
                    };
                    if text != MERGE && entries.iter().any(|entry| entry.key == text) {
                        return Err(self.within(Wrong::twice(line, text)));
                    }
                    *key = Some((text, line));
                }
                Some((key, _)) if key == MERGE => merged.push(node),
                Some((key, line)) => entries.push(Entry { key, line, value: node }),
            },
        }
        Ok(())
    }

    /// The error, with the path of what is open.
    fn within(&self, wrong: Wrong) -> Wrong {
        let steps = self.open.iter().rev().skip(1);
        steps.fold(wrong, |wrong, open| match &open.content {
            Collection::List(nodes) => wrong.below(Step::Item(nodes.len()), 0),
            Collection::Map(_, Some((key, line)), _) => wrong.below(Step::Field(key.clone()), *line),
            Collection::Map(_, None, _) => wrong,
        })
    }
}

/// The key of what a map takes over from others.
const MERGE: &str = "<<";

/// The fields of a map, and of what it takes over those that it does not have, of the first that has them.
fn merge(mut entries: Vec<Entry>, merged: Vec<Node>) -> Vec<Entry> {
    for node in merged {
        let nodes = if let Content::List(nodes) = node.content { nodes } else { vec![node] };
        for node in nodes {
            let Content::Map(more) = node.content else { continue };
            for entry in more {
                if entries.iter().all(|other| other.key != entry.key) {
                    entries.push(entry);
                }
            }
        }
    }
    entries
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Content {
    let is_text = tag.is_some_and(|tag| tag.core_suffix() != Some("null"));
    if style == ScalarStyle::Plain && !is_text && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    {
        Content::Null(text)
    } else {
        Content::Scalar(text)
    }
}

fn line(line: usize) -> u64 {
    line.try_into().unwrap_or(u64::MAX)
}

fn message(error: &ScanError) -> String {
    error.kind().to_string()
}

// === impl Node ===

impl Node {
    /// The last line on which something of it begins.
    pub(super) fn last_line(&self) -> u64 {
        let last = match &self.content {
            Content::Null(_) | Content::Scalar(_) => None,
            Content::List(nodes) => nodes.last().map(Self::last_line),
            Content::Map(entries) => entries.last().map(|entry| entry.value.last_line()),
        };
        last.unwrap_or(self.line).max(self.line)
    }

    /// Itself and what is in it.
    fn count(&self) -> usize {
        1 + match &self.content {
            Content::Null(_) | Content::Scalar(_) => 0,
            Content::List(nodes) => nodes.iter().map(Self::count).sum::<usize>(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.count()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as JSON: null, text, lists and maps.
    fn shown(text: &str) -> serde_json::Value {
        fn json(node: &Node) -> serde_json::Value {
            match &node.content {
                Content::Null(_) => serde_json::Value::Null,
                Content::Scalar(text) => text.as_str().into(),
                Content::List(nodes) => nodes.iter().map(json).collect(),
                Content::Map(entries) => {
                    entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect()
                }
            }
        }
        match read(text) {
            Ok(node) => json(&node),
            Err(wrong) => format!("{wrong}").into(),
        }
    }

    #[test]
    fn scalars_stay_text() {
        let found = shown("[1.10, 0x10, off, 'null', null, ~, '', !!str null, ]");
        assert_eq!(found, serde_json::json!(["1.10", "0x10", "off", "null", null, null, "", "null"]));
    }

    #[test]
    fn maps_take_over_what_they_lack() {
        let found = shown("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 4}, *a]}\n");
        let expected = serde_json::json!({"a": {"x": "1", "y": "2"}, "b": {"x": "1", "y": "3"}, "c": {"x": "4", "y": "2"}});
        assert_eq!(found, expected);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| shown(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(nested(MAX_DEPTH).is_array());
        assert!(nested(MAX_DEPTH + 1).is_string());
    }

    #[test]
    fn an_alias_stands_where_it_is_written() {
        let Ok(Node { content: Content::Map(entries), .. }) = read("a: &a [1]\nb:\n- *a\n") else {
            panic!("no map");
        };
        let Content::List(nodes) = &entries[1].value.content else { panic!("no list") };
        assert_eq!((nodes[0].line, nodes[0].last_line()), (3, 3));
    }
}
