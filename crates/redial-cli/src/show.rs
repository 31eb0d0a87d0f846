//! Figures as people read them.

use std::time::Duration;

/// Writes a span in the unit that suits it: `0`, `850 µs`, `12 ms`, `1.25 s`, `2 min 5 s`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    match span.as_nanos() {
        0 => "0".to_owned(),
        1..1_000 => format!("{} ns", span.as_nanos()),
        1_000..1_000_000 => format!("{} µs", short(seconds * 1e6)),
        1_000_000..1_000_000_000 => format!("{} ms", short(seconds * 1e3)),
        1_000_000_000..120_000_000_000 => format!("{} s", short(seconds)),
        _ => {
            let whole = span.as_secs();
            let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
            let parts = [(hours, "h"), (minutes, "min"), (seconds, "s")];
            let parts =
                parts.iter().filter(|(n, _)| *n != 0).map(|(n, unit)| format!("{n} {unit}"));
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Writes milliseconds for programs: to the microsecond.
pub(crate) fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Draws a bar for `share` of `width` characters, in eighths of a character.
pub(crate) fn bar(share: f64, width: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a terminal's width"
    )]
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

/// Pads `text` to `width` characters.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// Cuts `text` to `width` characters; an ellipsis stands for what is left out.
pub(crate) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width.saturating_sub(1)) {
        Some((end, _)) if width < text.chars().count() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters, where words are that short. A
/// number stays with its unit.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_number = |last: &String| {
            last.chars().all(|c| c.is_ascii_digit() || c == '.') && !last.is_empty()
        };
        match words.last_mut() {
            Some(last) if is_number(last) => *last = format!("{last} {word}"),
            _ => words.push(word.to_owned()),
        }
    }
    for word in &words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

/// Writes a number of bytes in the largest binary unit that divides it: `64 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(bits, _)| 0 < count && count.is_multiple_of(1 << bits));
    unit.map_or_else(|| format!("{count} B"), |(bits, unit)| format!("{} {unit}", count >> bits))
}

/// Writes about how many bytes there are: `12.5 MiB`.
pub(crate) fn amount(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(bits, _)| 1 << bits <= count);
    #[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
    let share = |bits: u32| count as f64 / (1_u64 << bits) as f64;
    unit.map_or_else(
        || format!("{count} B"),
        |(bits, unit)| format!("{} {unit}", short(share(*bits))),
    )
}

/// Writes a share as people say it: `12.5 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// Writes a number with at most three digits that matter, or whole.
pub(crate) fn number(number: f64) -> String {
    short(number)
}

/// At most three digits that matter.
fn short(number: f64) -> String {
    let decimals = if number < 10.0 {
        2
    } else if number < 100.0 {
        1
    } else {
        0
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_in_the_unit_that_suits_them() {
        let table = [
            (0, "0"),
            (999, "999 ns"),
            (850_000, "850 µs"),
            (12_000_000, "12 ms"),
            (12_340_000, "12.3 ms"),
            (1_250_000_000, "1.25 s"),
            (119_000_000_000, "119 s"),
            (125_000_000_000, "2 min 5 s"),
            (86_400_000_000_000, "24 h"),
        ];
        for (nanos, text) in table {
            assert_eq!(span(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.5625, 2), "█▏");
        assert_eq!(bar(2.0, 3), "███");
        assert_eq!(bar(-1.0, 3), "");
        assert_eq!(pad("é", 3), "é  ");
    }

    #[test]
    fn long_texts_are_cut_or_wrapped_and_short_ones_stay() {
        assert_eq!((cut("abcdé", 5), cut("abcdéf", 5)), ("abcdé".to_owned(), "abcd…".to_owned()));
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrap("after 30 s", 8), ["after", "30 s"]);
    }

    #[test]
    fn amounts_are_written_with_their_units() {
        let table = [(0, "0 B"), (1_000, "1000 B"), (65_536, "64 KiB"), (1 << 20, "1 MiB")];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
        let table = [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (12_345_678, "11.8 MiB")];
        for (count, text) in table {
            assert_eq!(amount(count), text);
        }
        assert_eq!((percent(0.125), percent(1.0)), ("12.5 %".to_owned(), "100 %".to_owned()));
    }
}
