//! Values with units, as people write them.

use std::time::Duration;

use redial_core::Jitter;

use crate::settings::BackoffKind;

/// A value that is not written as its kind has to be. Says how it has to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidValue {
    rule: String,
}

impl InvalidValue {
    fn new(rule: impl Into<String>) -> Self {
        Self { rule: rule.into() }
    }
}

/// Reads a duration: numbers with units, like `250ms`, `1.5s` or `1m30s`. The units are `ns`, `us`,
/// `ms`, `s`, `m`, `h` and `d`; the longest duration is 366 days.
///
/// # Errors
///
/// Returns [`InvalidValue`] for anything else; a number without a unit is told which to choose
/// from.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use redial_config::parse_duration;
///
/// assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
/// assert_eq!(
///     parse_duration("250").unwrap_err().to_string(),
///     "`250` has no unit; write 250ms, 250s or 250m"
/// );
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, InvalidValue> {
    let is_bare = text.parse::<f64>().is_ok_and(|number| number != 0.0);
    if is_bare {
        return Err(InvalidValue::new(format!(
            "`{text}` has no unit; write {text}ms, {text}s or {text}m"
        )));
    }
    let wrong = || InvalidValue::new(format!("`{text}` is no duration; write 250ms, 2s or 1m30s"));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(wrong()),
        };
        nanos = nanos.checked_add(scaled(number, unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = tail;
    }
    let duration = u64::try_from(nanos).map(Duration::from_nanos);
    match duration {
        Ok(duration) if !text.is_empty() && duration <= LONGEST => Ok(duration),
        _ if text.is_empty() => Err(wrong()),
        _ => Err(InvalidValue::new(format!("`{text}` is longer than 366 days"))),
    }
}

/// Reads a number of bytes: a number, or one with `B`, `KiB`, `MiB`; 64 MiB at most.
///
/// # Errors
///
/// Returns [`InvalidValue`] for anything else.
pub fn parse_bytes(text: &str) -> Result<usize, InvalidValue> {
    let bytes = usize::try_from(parse_size(text)?).ok().filter(|bytes| *bytes <= BYTES_MAX);
    bytes.ok_or_else(|| InvalidValue::new(format!("`{text}` is above 64MiB")))
}

/// Reads a number of bytes of any size, `GiB` and `TiB` included.
pub(crate) fn parse_size(text: &str) -> Result<u64, InvalidValue> {
    let wrong =
        || InvalidValue::new(format!("`{text}` is no number of bytes; write 65536, 64KiB or 1MiB"));
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(wrong)
}

/// Reads a jitter: `none`, `full`, `equal`, `additive`, or `proportional:` with a share from 0 to
/// 1.
///
/// # Errors
///
/// Returns [`InvalidValue`] for anything else.
pub fn parse_jitter(text: &str) -> Result<Jitter, InvalidValue> {
    match text {
        "none" => Ok(Jitter::None),
        "full" => Ok(Jitter::Full),
        "equal" => Ok(Jitter::Equal),
        "additive" => Ok(Jitter::Additive),
        _ => {
            let share = text.strip_prefix("proportional:").and_then(|share| share.parse().ok());
            let share = share.filter(|share| (0.0..=1.0).contains(share));
            share.map(Jitter::Proportional).ok_or_else(|| {
                InvalidValue::new(format!(
                    "`{text}` is no jitter; there are none, full, equal, additive and proportional:F with F from 0 to 1"
                ))
            })
        }
    }
}

/// Reads a kind of backoff: `fixed`, `linear`, `exponential` or `decorrelated`.
///
/// # Errors
///
/// Returns [`InvalidValue`] for anything else.
pub fn parse_backoff_kind(text: &str) -> Result<BackoffKind, InvalidValue> {
    BackoffKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let kinds = BackoffKind::ALL.map(BackoffKind::name).join(", ");
        InvalidValue::new(format!("`{text}` is no backoff; there are {kinds}"))
    })
}

/// Returns `number × unit`, exact to the unit of the result.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = !whole.is_empty() && part.len() <= 9 && !part.contains('.');
    let digits = u32::try_from(part.len()).ok().filter(|_| is_number)?;
    let part = if part.is_empty() { 0 } else { part.parse::<u128>().ok()? };
    let whole = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    whole.checked_add(part * unit / 10_u128.pow(digits))
}

const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const BYTES_MAX: usize = 64 * 1_024 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let table = [
            ("0", 0),
            ("0s", 0),
            ("100ns", 100),
            ("500us", 500_000),
            ("250ms", 250_000_000),
            ("2s", 2_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("1h", 3_600_000_000_000),
            ("366d", 366 * 86_400_000_000_000),
        ];
        for (text, nanos) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "1.5", "s", "5 s", "-1s", "1e3s", "1..5s", "5x", "1s5", "soon"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let long = parse_duration("367d").unwrap_err().to_string();
        assert_eq!(long, "`367d` is longer than 366 days");
        assert!(parse_duration("99999999999999999999999999999999999999999d").is_err());
    }

    #[test]
    fn bytes_jitters_and_kinds_are_read_or_refused() {
        assert_eq!(parse_bytes("65536"), Ok(65_536));
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("64MiB"), Ok(BYTES_MAX));
        assert_eq!(parse_bytes("1GiB").unwrap_err().to_string(), "`1GiB` is above 64MiB");
        assert_eq!(parse_size("1TiB"), Ok(1 << 40));
        assert!(parse_size("99999999TiB").is_err());
        for text in ["", "64 kb", "65MiB", "-1", "1.5KiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_jitter("proportional:0.2"), Ok(Jitter::Proportional(0.2)));
        for text in ["", "proportional", "proportional:1.1", "proportional:-0.1", "Full"] {
            assert!(parse_jitter(text).is_err(), "{text}");
        }
        for kind in BackoffKind::ALL {
            assert_eq!(parse_backoff_kind(kind.name()), Ok(kind));
        }
        assert!(parse_backoff_kind("fibonacci").is_err());
    }
}
