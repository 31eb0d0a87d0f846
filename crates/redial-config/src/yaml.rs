//! YAML into a tree. Anchors, aliases and tags are refused: a file for people has no use for them, and
//! a hostile one has.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::{
    problem::Problem,
    tree::{DEPTH_MAX, Entry, Node, Place, Value, plain},
};

/// Reads one document.
pub(crate) fn read(text: &str, start: &Place) -> Result<Node, Problem> {
    let mut root = None;
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = start.at(error.marker().line(), error.marker().col() + 1);
            Problem::at(&at, "", format!("this is no YAML: {}", error.info()))
        })?;
        let place = place(start, &span);
        let node = match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse(anchor != 0 || tag.is_some(), &place)?;
                let value = match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => Value::Text(text.into_owned()),
                };
                Node { value, place }
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                refuse(true, &place)?;
                continue;
            }
            Event::SequenceStart(..) => {
                push(&mut open, Value::List(Vec::new()), place)?;
                continue;
            }
            Event::MappingStart(..) => {
                push(&mut open, Value::Map(Vec::new()), place)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => done.node,
                None => continue,
            },
            Event::Alias(_) => {
                refuse(true, &place)?;
                continue;
            }
            Event::DocumentStart(_) if root.is_some() => {
                return Err(Problem::at(&place, "", "a configuration is one document"));
            }
            _ => continue,
        };
        match open.last_mut() {
            Some(parent) => parent.add(node)?,
            None => root = Some(node),
        }
    }
    Ok(root.unwrap_or_else(|| Node { value: Value::Null, place: start.clone() }))
}

/// A list or a table that has not ended yet, and the key that waits for its value.
struct Open {
    node: Node,
    key: Option<(String, Place)>,
}

impl Open {
    fn add(&mut self, node: Node) -> Result<(), Problem> {
        match &mut self.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match self.key.take() {
                Some((key, place)) => entries.push(Entry { key, place, node }),
                None if matches!(node.value, Value::List(_) | Value::Map(_)) => {
                    return Err(Problem::at(&node.place, "", "a key must be text"));
                }
                None => self.key = Some((node.text(), node.place)),
            },
            _ => {}
        }
        Ok(())
    }
}

fn push(open: &mut Vec<Open>, value: Value, place: Place) -> Result<(), Problem> {
    if DEPTH_MAX <= open.len() {
        return Err(Problem::at(&place, "", format!("nested deeper than {DEPTH_MAX}")));
    }
    open.push(Open { node: Node { value, place }, key: None });
    Ok(())
}

fn refuse(is_there: bool, place: &Place) -> Result<(), Problem> {
    if is_there {
        let rule = "anchors, aliases and tags are not read";
        return Err(Problem::at(place, "", rule).suggest("write the value out"));
    }
    Ok(())
}

fn place(start: &Place, span: &Span) -> Place {
    start.at(span.start.line(), span.start.col() + 1)
}
