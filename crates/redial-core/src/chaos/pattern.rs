//! Names with holes in them.

use super::invalid::InvalidChaos;

/// What a host or a path looks like: `*` stands for any run of characters, none included, and
/// everything else for itself.
///
/// Without a `*` it is that one name. What begins with `/api/` is `/api/*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, InvalidChaos> {
        if text.is_empty() {
            return Err(InvalidChaos::EmptyPattern);
        }
        Ok(Self { text: text.to_owned() })
    }

    /// Returns the pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether `name` looks like this, letter by letter.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        fits(self.text.as_bytes(), name.as_bytes(), u8::eq)
    }

    /// Returns whether `name` looks like this, whatever the case of its letters.
    #[must_use]
    pub fn matches_in_any_case(&self, name: &str) -> bool {
        fits(self.text.as_bytes(), name.as_bytes(), u8::eq_ignore_ascii_case)
    }
}

/// Goes back to the last `*` only: what an earlier one took can stay as it is. At most
/// `pattern * name` steps.
fn fits(pattern: &[u8], name: &[u8], is_same: impl Fn(&u8, &u8) -> bool) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
        } else if pattern.get(p).is_some_and(|letter| is_same(letter, &name[n])) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((after, taken)) = star {
            (p, n) = (after, taken + 1);
            star = Some((after, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}
