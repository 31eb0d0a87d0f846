//! TOML into a tree.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    problem::Problem,
    tree::{DEPTH_MAX, Entry, Node, Place, Value},
};

pub(crate) fn read(text: &str, start: &Place) -> Result<Node, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or_else(|| start.clone(), |span| place(text, start, span.start));
        Problem::at(&at, "", format!("this is no TOML: {}", error.message()))
    })?;
    let reader = Reader { text, start };
    reader.table(table.get_ref(), start.clone(), 0)
}

struct Reader<'a> {
    text: &'a str,
    start: &'a Place,
}

impl Reader<'_> {
    fn table(&self, table: &DeTable<'_>, place: Place, depth: usize) -> Result<Node, Problem> {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            let place = self.place(key.span().start);
            Ok(Entry { key: name.to_string(), place, node: self.value(value, depth + 1)? })
        };
        let entries: Result<Vec<_>, Problem> = table.iter().map(entry).collect();
        Ok(Node { value: Value::Map(entries?), place })
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Problem> {
        let place = self.place(value.span().start);
        if DEPTH_MAX < depth {
            return Err(Problem::at(&place, "", format!("nested deeper than {DEPTH_MAX}")));
        }
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => number_of(&number.to_string()),
            DeValue::Float(number) => number_of(&number.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(date) => Value::Text(date.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| self.value(item, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => return self.table(table, place, depth),
        };
        Ok(Node { value, place })
    }

    fn place(&self, offset: usize) -> Place {
        place(self.text, self.start, offset)
    }
}

/// A number, or the text of one that is none to us, like `inf` or `0x10`.
fn number_of(text: &str) -> Value {
    let text = text.replace('_', "");
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::Number(number, text),
        _ => Value::Text(text),
    }
}

fn place(text: &str, start: &Place, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    start.at(line, column)
}
