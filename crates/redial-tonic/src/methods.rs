//! Which gRPC methods something holds for.

use std::sync::Arc;

/// A set of gRPC methods: all of them, or those that a list of patterns names.
///
/// A pattern is a method's path, `/package.Service/Method`, or the beginning of one and a `*`.
///
/// # Examples
///
/// ```
/// use redial_tonic::MethodSet;
///
/// let reads = MethodSet::of(["/shop.Orders/Get*", "/shop.Stock/Count"])?;
/// assert!(reads.contains("/shop.Orders/GetOrder"));
/// assert!(!reads.contains("/shop.Orders/Place") && !reads.contains("/shop.Stock/CountAll"));
/// # Ok::<(), redial_tonic::InvalidMethod>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MethodSet {
    /// `None` for all.
    patterns: Option<Arc<[Pattern]>>,
}

/// A pattern that matches no gRPC method.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{pattern}` matches no gRPC method: write /package.Service/Method, or its beginning and a `*`"
)]
pub struct InvalidMethod {
    /// The pattern.
    pub pattern: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    text: Box<str>,
    is_prefix: bool,
}

impl MethodSet {
    /// Every method.
    pub const ALL: Self = Self { patterns: None };

    /// Creates a set of the methods that match one of `patterns`; without patterns, of none.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidMethod`] for the first pattern that does not begin with `/`, has a `*`
    /// elsewhere than at its end, or without one is not a whole path.
    pub fn of<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, InvalidMethod> {
        let patterns = patterns.into_iter().map(|pattern| Pattern::parse(pattern.as_ref()));
        Ok(Self { patterns: Some(patterns.collect::<Result<_, _>>()?) })
    }

    /// Returns whether the method at `path` is in the set.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        let matches = |pattern: &Pattern| {
            if pattern.is_prefix {
                path.starts_with(&*pattern.text)
            } else {
                path == &*pattern.text
            }
        };
        self.patterns.as_ref().is_none_or(|patterns| patterns.iter().any(matches))
    }
}

impl Default for MethodSet {
    fn default() -> Self {
        Self::ALL
    }
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, InvalidMethod> {
        let prefix = pattern.strip_suffix('*');
        let text = prefix.unwrap_or(pattern);
        let is_whole = text.splitn(3, '/').skip(1).filter(|part| !part.is_empty()).count() == 2;
        let is_pattern =
            text.starts_with('/') && !text.contains('*') && (prefix.is_some() || is_whole);
        if is_pattern {
            Ok(Self { text: text.into(), is_prefix: prefix.is_some() })
        } else {
            Err(InvalidMethod { pattern: pattern.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_paths_and_beginnings_match() {
        let set = MethodSet::of(["/a.B/C", "/d.E/*", "/f.G/Get*"]).unwrap();
        for path in ["/a.B/C", "/d.E/Any", "/d.E/", "/f.G/Get", "/f.G/GetAll"] {
            assert!(set.contains(path), "{path}");
        }
        for path in ["/a.B/CC", "/a.B", "/d.EE/Any", "/f.G/Put", "", "a.B/C"] {
            assert!(!set.contains(path), "{path}");
        }
        assert!(MethodSet::ALL.contains("/x/y") && MethodSet::default() == MethodSet::ALL);
        assert!(MethodSet::of(["/*"]).unwrap().contains("/x/y"));
        assert!(!MethodSet::of::<&str>([]).unwrap().contains("/x/y"));
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        for pattern in ["", "*", "a.B/C", "/a.B", "/a.B/", "//C", "/a.B/*C", "/a.B/**", "Get*"] {
            let refused = MethodSet::of([pattern]).unwrap_err();
            assert!(refused.to_string().starts_with(&format!("`{pattern}` matches no")));
        }
    }
}
