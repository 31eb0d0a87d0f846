//! `baggage`: what a program wants every hop of a call to know (W3C Baggage).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::joined;

/// Members of `baggage` as they came, passed on without being looked into.
///
/// Whoever is called sees them. They are no place for secrets, and should stay behind where a call leaves
/// one's own systems: [`PropagateLayer::without_baggage`](crate::PropagateLayer::without_baggage).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Baggage {
    value: HeaderValue,
}

impl Baggage {
    /// Reads the baggage of a request; `None` where there is none.
    ///
    /// Up to 64 members of up to 8192 bytes together are passed on: those that fit, from the first on, and only
    /// whole ones. So many every hop has to pass on (W3C Baggage, §3.3.2). Members without a key are dropped.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let field = joined(headers, &BAGGAGE)?;
        let mut kept = String::new();
        let members = field.split(',').map(str::trim_ascii).filter(|member| is_member(member));
        for member in members.take(MEMBERS_MAX) {
            let comma = usize::from(!kept.is_empty());
            if BYTES_MAX < kept.len() + comma + member.len() {
                continue;
            }
            if comma == 1 {
                kept.push(',');
            }
            kept.push_str(member);
        }
        let value = HeaderValue::try_from(kept).ok()?;
        (!value.is_empty()).then_some(Self { value })
    }

    /// Returns the members as they stand in the field.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }

    /// Writes the field, in the place of what was there.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(&BAGGAGE, self.value.clone());
    }
}

/// Returns whether this has a key: a token before the first equals sign. Values are the programs' own.
fn is_member(member: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let key = member.split_once('=').map(|(key, _)| key.trim_ascii_end());
    key.is_some_and(|key| !key.is_empty() && key.bytes().all(is_token))
}

pub(crate) static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

const MEMBERS_MAX: usize = 64;
const BYTES_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&BAGGAGE, HeaderValue::from_str(line).unwrap());
        }
        Baggage::read(&headers).map(|baggage| baggage.as_str().to_owned())
    }

    fn members(count: usize, value_bytes: usize) -> String {
        let member = |n| format!("k{n:03}={}", "x".repeat(value_bytes));
        (0..count).map(member).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn members_come_through_with_their_properties() {
        let line = "tenant=blue%20whale;ttl=3,user = 7";
        assert_eq!(read(&[line, "more=1"]).unwrap(), format!("{line},more=1"));
        assert_eq!(read(&["novalue,=x,a b=1,ok=,é=1".replace('é', "@").as_str()]).unwrap(), "ok=");
        assert_eq!(read(&[" , "]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn of_too_many_members_only_whole_ones_are_dropped() {
        assert_eq!(read(&[&members(64, 10)]), Some(members(64, 10)));
        assert_eq!(read(&[&members(65, 10)]), Some(members(64, 10)));
    }

    #[test]
    fn of_too_many_bytes_only_whole_members_are_dropped() {
        // 64 members of 122 bytes and 63 commas are 7,871 bytes; one of 127 and its comma, more than that.
        assert_eq!(read(&[&members(64, 122)]), Some(members(64, 122)));
        let kept = read(&[&members(64, 140)]).unwrap();
        assert_eq!(kept, members(56, 140));
        assert!(kept.len() <= 8_192 && 8_192 < kept.len() + 146);
        let large = format!("large={},small=1", "x".repeat(9_000));
        assert_eq!(read(&[&large]).unwrap(), "small=1");
    }
}
