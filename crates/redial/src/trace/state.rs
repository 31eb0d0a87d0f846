//! `tracestate`: what each tracing system noted about a trace (W3C Trace Context, §3.3).

use http::{HeaderMap, HeaderValue};

use super::{TRACESTATE, joined};

/// Returns the members as they came, in one line; `None` where there are none, or where the whole is
/// malformed or has more members than may be. Of more bytes than are kept, the members that are longest go
/// first, and then the oldest, which are last (§3.3.1.5).
pub(super) fn read_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let field = joined(headers, &TRACESTATE)?;
    let mut members: Vec<&str> =
        field.split(',').map(str::trim_ascii).filter(|member| !member.is_empty()).collect();
    if MEMBERS_MAX < members.len() || !members.iter().all(|member| is_member(member)) {
        return None;
    }
    if BYTES_MAX < bytes(&members) {
        members.retain(|member| member.len() <= LONG_MEMBER_BYTES);
    }
    while BYTES_MAX < bytes(&members) {
        members.pop();
    }
    if members.is_empty() {
        return None;
    }
    HeaderValue::try_from(members.join(",")).ok()
}

/// The length of the members with their commas.
fn bytes(members: &[&str]) -> usize {
    members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1)
}

/// Returns whether this is a key and a value of those that may be (§3.3.1.3).
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let starts_well = |part: &str, may_be_digit: bool| {
        part.bytes().next().is_some_and(|first| {
            first.is_ascii_lowercase() || (may_be_digit && first.is_ascii_digit())
        })
    };
    let is_key_part = |part: &str, bytes_max| {
        part.len() <= bytes_max
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte)
            })
    };
    let is_key = match key.split_once('@') {
        None => starts_well(key, true) && is_key_part(key, 256),
        Some((tenant, system)) => {
            starts_well(tenant, true)
                && is_key_part(tenant, 241)
                && starts_well(system, false)
                && is_key_part(system, 14)
        }
    };
    let is_value = !value.is_empty()
        && value.len() <= 256
        && value.bytes().all(|byte| (0x20..=0x7E).contains(&byte) && byte != b'=');
    is_key && is_value
}

/// §3.3.1.1.
const MEMBERS_MAX: usize = 32;
/// What has to be passed on at least (§3.3.1.5), and with it all that is.
const BYTES_MAX: usize = 512;
/// Longer ones go first (§3.3.1.5).
const LONG_MEMBER_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&TRACESTATE, HeaderValue::from_str(line).unwrap());
        }
        read_state(&headers).map(|value| value.to_str().unwrap().to_owned())
    }

    fn members(count: usize, value_bytes: usize) -> String {
        let member = |n| format!("k{n:02}={}", "x".repeat(value_bytes));
        (0..count).map(member).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn lines_are_joined_and_the_order_stays() {
        assert_eq!(
            read(&["b=2 , a=1", "t61rcw@vendor=00f0"]).unwrap(),
            "b=2,a=1,t61rcw@vendor=00f0"
        );
        assert_eq!(read(&["a=1,,", ""]).unwrap(), "a=1");
        assert_eq!(read(&["", ","]), None);
    }

    #[test]
    fn a_malformed_member_or_one_too_many_spoils_the_whole() {
        for line in ["a", "A=1", "=1", "a=", "a=1=2", "a b=1", "a@=1", "@b=1", "a@1b=1", "a=\t"] {
            assert_eq!(read(&["ok=1", line]), None, "{line}");
        }
        assert_eq!(read(&[&members(32, 1)]), Some(members(32, 1)));
        assert_eq!(read(&[&members(33, 1)]), None);
    }

    #[test]
    fn of_too_many_bytes_long_members_go_first_and_then_the_last() {
        let exact = format!("{},z={}", members(4, 115), "y".repeat(30));
        assert_eq!((exact.len(), read(&[&exact])), (512, Some(exact.clone())));
        assert_eq!(read(&[&format!("{exact}y")]), Some(members(4, 115)));
        let long = format!("long={},{}", "y".repeat(200), members(4, 100));
        assert_eq!(read(&[&long]), Some(members(4, 100)));
        assert_eq!(read(&[&members(6, 100)]), Some(members(4, 100)));
    }
}
