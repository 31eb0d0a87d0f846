//! What of a URL may be written down.
//!
//! The rules are those of OpenTelemetry's `url.full`: user and password go, and the values of query
//! keys that are known to carry a signature or a credential. The rest stays byte for byte, for a
//! log that changes URLs cannot be searched for them. Depends on nothing else.

use std::borrow::Cow;

/// Returns `url` without its user, password and known secrets of its query.
///
/// `user:password@` becomes `REDACTED:REDACTED@`. The values of `X-Amz-Signature`,
/// `X-Amz-Credential`, `X-Amz-Security-Token`, `AWSAccessKeyId`, `Signature`, `sig` and
/// `X-Goog-Signature` become `REDACTED`; keys are compared with their case, and as a server reads
/// them, after percent-decoding. Fragments are left alone. Costs no allocation where nothing is
/// replaced. Works on any text: what is no URL comes back as it was, unless it looks like one.
///
/// # Examples
///
/// ```
/// use redial_telemetry::redacted_url;
///
/// let url = "https://ada:secret@host/file?version=7&sig=c2VjcmV0";
/// assert_eq!(redacted_url(url), "https://REDACTED:REDACTED@host/file?version=7&sig=REDACTED");
/// assert_eq!(redacted_url("https://host/a@b"), "https://host/a@b");
/// ```
#[must_use]
pub fn redacted_url(url: &str) -> Cow<'_, str> {
    let start = authority_start(url);
    let end = find(url, start, "/?#").unwrap_or(url.len());
    // The last `@` counts: one inside a password, written without an escape, does not end it.
    let user = url[start..end].rfind('@').map(|at| start..start + at);
    let query = find(url, start, "?#").filter(|at| url[*at..].starts_with('?'));
    let query = query.map(|at| at + 1..find(url, at, "#").unwrap_or(url.len()));
    let secret = query.as_ref().is_some_and(|query| pairs(&url[query.clone()]).any(is_secret));
    if user.is_none() && !secret {
        return Cow::Borrowed(url);
    }
    let mut out = String::with_capacity(url.len() + MARK.len());
    let mut done = 0;
    if let Some(user) = user {
        out.push_str(&url[..user.start]);
        out.extend([MARK, ":", MARK]);
        done = user.end;
    }
    if let Some(query) = query.filter(|_| secret) {
        out.push_str(&url[done..query.start]);
        for (index, pair) in pairs(&url[query.clone()]).enumerate() {
            out.push_str(if index == 0 { "" } else { "&" });
            match pair.split_once('=') {
                Some((key, _)) if is_secret(pair) => out.extend([key, "=", MARK]),
                _ => out.push_str(pair),
            }
        }
        done = query.end;
    }
    out.push_str(&url[done..]);
    Cow::Owned(out)
}

/// Returns where user and host begin: behind `scheme://` or `//`, else at the start.
fn authority_start(url: &str) -> usize {
    match url.find("//") {
        Some(at) if !url[..at].contains(['/', '?', '#', '@']) => at + 2,
        _ => 0,
    }
}

fn find(text: &str, from: usize, any_of: &str) -> Option<usize> {
    text[from..].find(|c| any_of.contains(c)).map(|at| from + at)
}

fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&')
}

fn is_secret(pair: &str) -> bool {
    let key = pair.split_once('=').map(|(key, _)| key);
    key.is_some_and(|key| SECRET_KEYS.iter().any(|secret| decoded(key).eq(secret.bytes())))
}

/// Yields the bytes of a key after percent-decoding; a `%` without two digits stands for itself.
fn decoded(key: &str) -> impl Iterator<Item = u8> {
    let mut rest = key.as_bytes();
    std::iter::from_fn(move || {
        let (byte, left) = match *rest {
            [b'%', high, low, ref left @ ..] if hex(high).is_some() && hex(low).is_some() => {
                (hex(high)? << 4 | hex(low)?, left)
            }
            [byte, ref left @ ..] => (byte, left),
            [] => return None,
        };
        rest = left;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Stands where a secret was.
const MARK: &str = "REDACTED";

/// The keys whose values OpenTelemetry asks to replace (semantic conventions 1.44, `url.full`).
const SECRET_KEYS: [&str; 7] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_and_nothing_else() {
        for (url, expected) in [
            ("https://u:p@host/", "https://REDACTED:REDACTED@host/"),
            ("https://u@host", "https://REDACTED:REDACTED@host"),
            ("https://@host", "https://REDACTED:REDACTED@host"),
            ("https://u:p@ss@host:8443/x", "https://REDACTED:REDACTED@host:8443/x"),
            ("https://u:p@[::1]:80/", "https://REDACTED:REDACTED@[::1]:80/"),
            ("//u:p@host/x", "//REDACTED:REDACTED@host/x"),
            ("u:p@host/x", "REDACTED:REDACTED@host/x"),
            ("u:p@host//x", "REDACTED:REDACTED@host//x"),
            ("https://h/?sig=a", "https://h/?sig=REDACTED"),
            ("https://h?sig=a=b&x=1", "https://h?sig=REDACTED&x=1"),
            ("https://h/?sig=", "https://h/?sig=REDACTED"),
            ("https://h/?x=1&sig=a#sig=b", "https://h/?x=1&sig=REDACTED#sig=b"),
            ("https://h/?sig=a&sig=b", "https://h/?sig=REDACTED&sig=REDACTED"),
            ("https://h/?s%69g=a", "https://h/?s%69g=REDACTED"),
            ("/path?Signature=a", "/path?Signature=REDACTED"),
            ("?sig=a", "?sig=REDACTED"),
            ("https://u:p@h/?sig=ü#f", "https://REDACTED:REDACTED@h/?sig=REDACTED#f"),
        ] {
            assert_eq!(redacted_url(url), expected, "{url}");
        }
    }

    #[test]
    fn every_known_key_is_redacted() {
        for key in SECRET_KEYS {
            let url = format!("https://h/o?a=1&{key}=s3cret&b=2");
            let expected = format!("https://h/o?a=1&{key}=REDACTED&b=2");
            assert_eq!(redacted_url(&url), expected);
        }
    }

    #[test]
    fn other_urls_are_neither_changed_nor_copied() {
        for url in [
            "",
            "/",
            "https://host/a@b?c@d#e@f",
            "https://host/?next=https://u:p@other/",
            "https://h/?SIG=a&signature=b&x-amz-signature=c&sigx=d&xsig=e",
            "https://h/?sig",
            "https://h/#?sig=a",
            "https://h/?a=sig=b",
            "https://h/?%zz=1&%=2&%6=3",
            "&&==%%é//",
        ] {
            assert!(matches!(redacted_url(url), Cow::Borrowed(same) if same == url), "{url}");
        }
    }

    #[test]
    fn redacting_twice_changes_nothing_more() {
        let once = redacted_url("https://u:p@h/?sig=a&X-Amz-Signature=b").into_owned();
        assert_eq!(redacted_url(&once), once);
    }
}
