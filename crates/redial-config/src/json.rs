//! JSON into a tree: checked strictly first, then read for its places as the YAML that it also is.

use crate::{
    problem::Problem,
    tree::{Node, Place},
    yaml,
};

pub(crate) fn read(text: &str, start: &Place) -> Result<Node, Problem> {
    serde_json::from_str::<serde_json::Value>(text).map_err(|error| {
        let at = start.at(error.line(), error.column().max(1));
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        Problem::at(&at, "", format!("this is no JSON: {words}"))
    })?;
    yaml::read(text, start)
}
