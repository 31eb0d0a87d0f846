//! Dates as HTTP writes them: the three forms of RFC 9110 §5.6.7, and nothing else.
//!
//! A date that is not exactly of one of the forms is no date. Guessing at others is how one client
//! waits an hour and another not at all for the same answer.

/// Parses an HTTP-date into seconds since 1970, reading a two-digit year as seen from `now`.
///
/// The name of the day must be one, but need not fit the date. A leap second counts as the second
/// after it.
///
/// # Examples
///
/// ```
/// use redial::http::parse_http_date;
///
/// let now = 1_790_000_000;
/// for date in [
///     "Sun, 06 Nov 1994 08:49:37 GMT",
///     "Sunday, 06-Nov-94 08:49:37 GMT",
///     "Sun Nov  6 08:49:37 1994",
/// ] {
///     assert_eq!(parse_http_date(date, now), Some(784_111_777));
/// }
/// assert_eq!(parse_http_date("Sun, 6 Nov 1994 08:49:37 GMT", now), None);
/// ```
#[must_use]
pub fn parse_http_date(text: &str, now: i64) -> Option<i64> {
    let bytes = text.as_bytes();
    imf_fixdate(bytes).or_else(|| rfc850(bytes, now)).or_else(|| asctime(bytes))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<i64> {
    let rest = after_name(text, &DAYS.map(|day| &day[..3]))?;
    let rest = rest.strip_prefix(b", ")?;
    let (day, rest) = digits(rest, 2)?;
    let (month, rest) = month(rest.strip_prefix(b" ")?)?;
    let (year, rest) = digits(rest.strip_prefix(b" ")?, 4)?;
    let (seconds, rest) = time_of_day(rest.strip_prefix(b" ")?)?;
    (rest == b" GMT").then(|| instant(year, month, day, seconds))?
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8], now: i64) -> Option<i64> {
    let rest = after_name(text, &DAYS)?;
    let rest = rest.strip_prefix(b", ")?;
    let (day, rest) = digits(rest, 2)?;
    let (month, rest) = month(rest.strip_prefix(b"-")?)?;
    let (year, rest) = digits(rest.strip_prefix(b"-")?, 2)?;
    let (seconds, rest) = time_of_day(rest.strip_prefix(b" ")?)?;
    (rest == b" GMT").then(|| instant(full_year(year, now), month, day, seconds))?
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<i64> {
    let rest = after_name(text, &DAYS.map(|day| &day[..3]))?;
    let (month, rest) = month(rest.strip_prefix(b" ")?)?;
    let rest = rest.strip_prefix(b" ")?;
    let (day, rest) = match rest.strip_prefix(b" ") {
        Some(padded) => digits(padded, 1)?,
        None => digits(rest, 2)?,
    };
    let (seconds, rest) = time_of_day(rest.strip_prefix(b" ")?)?;
    let (year, rest) = digits(rest.strip_prefix(b" ")?, 4)?;
    rest.is_empty().then(|| instant(year, month, day, seconds))?
}

fn after_name<'a>(text: &'a [u8], names: &[&str]) -> Option<&'a [u8]> {
    names.iter().find_map(|name| text.strip_prefix(name.as_bytes()))
}

fn month(text: &[u8]) -> Option<(i64, &[u8])> {
    let named = |name: &&str| text.starts_with(name.as_bytes());
    let index = MONTHS.iter().position(named)?;
    Some((i64::try_from(index).ok()? + 1, &text[3..]))
}

/// `08:49:37`, as seconds since midnight.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(b":")?, 2)?;
    let (second, rest) = digits(rest.strip_prefix(b":")?, 2)?;
    let is_time = hour < 24 && minute < 60 && second <= 60;
    is_time.then_some((hour * 3_600 + minute * 60 + second, rest))
}

fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(count)?;
    let value =
        |sum, digit: &u8| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'));
    Some((number.iter().try_fold(0, value)?, rest))
}

/// Reads a two-digit year: one that seems more than 50 years ahead is past (RFC 9110 §5.6.7).
fn full_year(two_digits: i64, now: i64) -> i64 {
    let this_year = year_of(now);
    let year = this_year - this_year.rem_euclid(100) + two_digits;
    if this_year + 50 < year {
        year - 100
    } else if year + 50 <= this_year {
        year + 100
    } else {
        year
    }
}

fn instant(year: i64, month: i64, day: i64, seconds: i64) -> Option<i64> {
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=length).contains(&day).then(|| days_since_1970(year, month, day) * 86_400 + seconds)
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn year_of(now: i64) -> i64 {
    // An average year is 31,556,952 s; the guess is at most one off.
    let guess = 1_970 + now.div_euclid(31_556_952);
    (guess - 1..=guess + 1)
        .rev()
        .find(|year| days_since_1970(*year, 1, 1) * 86_400 <= now)
        .unwrap_or(guess)
}

const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_790_000_000; // September 2026

    proptest! {
        #[test]
        fn every_second_is_read_back(at in 0_i64..253_402_300_800) {
            let stamp = jiff::Timestamp::from_second(at).unwrap();
            let text = stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            prop_assert_eq!(parse_http_date(&text, NOW), Some(at));
            let text = stamp.strftime("%a %b %e %H:%M:%S %Y").to_string();
            prop_assert_eq!(parse_http_date(&text, NOW), Some(at));
        }

        #[test]
        fn near_years_survive_two_digits(at in NOW - 1_500_000_000..NOW + 1_500_000_000) {
            let stamp = jiff::Timestamp::from_second(at).unwrap();
            let text = stamp.strftime("%A, %d-%b-%y %H:%M:%S GMT").to_string();
            prop_assert_eq!(parse_http_date(&text, NOW), Some(at));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,40}", now: i64) {
            let _ = parse_http_date(&text, now);
        }

        #[test]
        fn the_year_of_a_time_is_exact(at in -100_000_000_000_i64..253_402_300_800) {
            let year = jiff::Timestamp::from_second(at).unwrap().strftime("%Y").to_string();
            prop_assert_eq!(year_of(at), year.parse::<i64>().unwrap());
        }
    }

    #[test]
    fn two_digit_years_are_read_from_where_we_stand() {
        let year = |text: &str| year_of(parse_http_date(text, NOW).unwrap());
        assert_eq!(year("Sunday, 06-Nov-94 08:49:37 GMT"), 1994);
        assert_eq!(year("Sunday, 06-Nov-75 08:49:37 GMT"), 2075);
        assert_eq!(year("Sunday, 06-Nov-76 08:49:37 GMT"), 2076);
        assert_eq!(year("Sunday, 06-Nov-77 08:49:37 GMT"), 1977);
        assert_eq!(year("Sunday, 06-Nov-26 08:49:37 GMT"), 2026);
    }

    #[test]
    fn almost_dates_are_no_dates() {
        for text in [
            "",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun Nov 6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse_http_date(text, NOW), None, "{text}");
        }
        let leap = parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW);
        assert_eq!(leap, parse_http_date("Sun, 01 Jan 2017 00:00:00 GMT", NOW));
    }
}
