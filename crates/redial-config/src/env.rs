//! Environment variables, laid over a tree: `REDIAL__POLICIES__DEFAULT__MAX_RETRIES=2`.

use crate::{
    keys::COMPACT,
    problem::Problem,
    tree::{DEPTH_MAX, Entry, Node, Place, Value, plain},
};

/// Lays every variable that begins with `REDIAL__` over `root`, in the order of their names. The
/// parts of a name are keys, whatever their case; routes are counted from 0. What the keys mean is
/// checked later, with everything else. What is more specific rules: a variable for
/// `BREAKER__PROBES` makes a table of a breaker that is `off`.
pub(crate) fn lay_over(root: &mut Node, env: &[(String, String)], problems: &mut Vec<Problem>) {
    let mut ours: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    for (name, value) in ours {
        let source = format!("env {name}");
        let place = Place { source: source.as_str().into(), line: 0, column: 0 };
        let keys: Vec<_> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let is_path = keys.len() <= DEPTH_MAX && keys.iter().all(|key| !key.is_empty());
        let node = Node { value: plain(value.trim()), place: place.clone() };
        if !is_path || set(root, &keys, node, &place).is_none() {
            let rule = "this variable names no setting";
            let example = "write REDIAL__POLICIES__DEFAULT__MAX_RETRIES";
            problems.push(Problem::at(&place, "", rule).suggest(example));
        }
    }
}

fn set(node: &mut Node, keys: &[String], value: Node, place: &Place) -> Option<()> {
    let Some((key, rest)) = keys.split_first() else {
        *node = value;
        return Some(());
    };
    if let Value::List(items) = &mut node.value {
        return set(items.get_mut(key.parse::<usize>().ok()?)?, rest, value, place);
    }
    if !matches!(node.value, Value::Map(_)) {
        *node = Node { value: Value::Map(Vec::new()), place: place.clone() };
    }
    let Value::Map(entries) = &mut node.value else { return None };
    let index = entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(key));
    let index = index.unwrap_or_else(|| {
        let compact = COMPACT.iter().find(|known| known.eq_ignore_ascii_case(key));
        let name = compact.map_or_else(|| key.clone(), |known| (*known).to_owned());
        let empty = Node { value: Value::Null, place: place.clone() };
        entries.push(Entry { key: name, place: place.clone(), node: empty });
        entries.len() - 1
    });
    set(&mut entries.get_mut(index)?.node, rest, value, place)
}

const PREFIX: &str = "REDIAL__";
