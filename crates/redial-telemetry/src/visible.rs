//! Characters that would change how a line looks, or where it ends, instead of being seen.
//!
//! A value may come from anywhere. In a log it must neither start a line of its own, nor speak to
//! the terminal (ESC, and the one-character CSI U+009B), nor turn the reading direction around.

use std::fmt::{self, Write};

/// Tells whether `c` acts rather than shows.
pub(crate) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes `text` with its active characters as Rust escapes: `\n`, `\u{1b}`.
pub(crate) fn write_escaped(out: &mut impl Write, text: &str) -> fmt::Result {
    write_pieces(out, text, |out, c| write!(out, "{}", c.escape_default()))
}

/// Writes a JSON text with the active characters of its strings as JSON escapes: `\u001b`.
///
/// JSON itself asks that for U+0000 to U+001F only (RFC 8259 section 7).
pub(crate) fn write_json(out: &mut impl Write, json: &str) -> fmt::Result {
    write_pieces(out, json, |out, c| write!(out, "\\u{:04x}", u32::from(c)))
}

fn write_pieces<W: Write>(
    out: &mut W,
    text: &str,
    escape: impl Fn(&mut W, char) -> fmt::Result,
) -> fmt::Result {
    let mut rest = text;
    while let Some((index, c)) = rest.char_indices().find(|(_, c)| is_active(*c)) {
        out.write_str(&rest[..index])?;
        escape(out, c)?;
        rest = &rest[index + c.len_utf8()..];
    }
    out.write_str(rest)
}
