//! `traceparent`: version, trace id, parent id, flags (W3C Trace Context, §3.2).

use http::HeaderValue;

use super::id::TraceId;

/// What of a `traceparent` is passed on. The parent's own id is not: each attempt is a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Parent {
    pub(super) id: TraceId,
    pub(super) flags: u8,
}

impl Parent {
    /// Reads a field of version 00, and of later versions what they share with it: more may follow there,
    /// after another dash.
    pub(super) fn parse(field: &[u8]) -> Option<Self> {
        let (head, rest) = field.split_at_checked(LENGTH)?;
        let dashes = [2, 35, 52].map(|at| head[at]);
        if dashes != [b'-'; 3] {
            return None;
        }
        let version = hex(&head[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xFF => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let id = TraceId::of(hex(&head[3..35])?)?;
        let span = hex(&head[36..52])?;
        let flags = u8::try_from(hex(&head[53..])?).ok()?;
        (is_whole && span != 0).then_some(Self { id, flags: flags & (SAMPLED | RANDOM) })
    }

    /// Writes a field of version 00, the one whose flags are known here.
    pub(super) fn write(self, span: u64) -> HeaderValue {
        let mut field = [b'-'; LENGTH];
        write_hex(&mut field[..2], 0);
        let Self { id, flags } = self;
        write_hex(&mut field[3..35], id.number());
        write_hex(&mut field[36..52], u128::from(span));
        write_hex(&mut field[53..], u128::from(flags));
        // Digits and dashes are a value.
        HeaderValue::from_bytes(&field).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Reads lower-case hexadecimal digits, of which 32 are the most: upper case is malformed.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn write_hex(place: &mut [u8], mut number: u128) {
    for digit in place.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(number & 0xF).unwrap_or_default()];
        number >>= 4;
    }
}

pub(super) const SAMPLED: u8 = 0x01;
/// The trace id is random to its last seven bytes (Trace Context level 2, §3.2.2.5.2).
pub(super) const RANDOM: u8 = 0x02;

const LENGTH: usize = 55;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDS: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

    fn flags(field: &str) -> Option<u8> {
        Parent::parse(field.as_bytes()).map(|parent| parent.flags)
    }

    #[test]
    fn known_flags_are_kept_and_unknown_ones_zeroed() {
        for (sent, kept) in [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0)] {
            assert_eq!(flags(&format!("00-{IDS}-{sent}")), Some(kept), "{sent}");
        }
    }

    #[test]
    fn later_versions_may_go_on_after_a_dash() {
        for rest in ["", "-", "-what-the-future-will-be-like"] {
            assert_eq!(flags(&format!("cc-{IDS}-01{rest}")), Some(1), "{rest}");
        }
        assert_eq!(flags(&format!("cc-{IDS}-01.what")), None);
        assert_eq!(flags(&format!("00-{IDS}-01-")), None);
    }

    #[test]
    fn what_is_malformed_is_no_parent() {
        let zeros = "0".repeat(32);
        let malformed = [
            String::new(),
            format!("ff-{IDS}-01"),
            format!("00-{}-01", IDS.to_uppercase()),
            format!("00-{zeros}-b7ad6b7169203331-01"),
            format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", &zeros[..16]),
            format!("00-{IDS}-1"),
            format!("00-{IDS}-0G"),
            format!("0-{IDS}-01"),
            format!("00_{IDS}_01"),
            format!("00-{}-01", &IDS[1..]),
            format!(" 00-{IDS}-01"),
        ];
        for field in malformed {
            assert_eq!(flags(&field), None, "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(id in 1_u128.., span in 1_u64.., flags in 0_u8..=3) {
            let parent = Parent { id: TraceId::of(id).unwrap(), flags };
            prop_assert_eq!(Parent::parse(parent.write(span).as_bytes()), Some(parent));
        }

        #[test]
        fn nothing_is_a_trap(field: Vec<u8>) {
            let _ = Parent::parse(&field);
        }
    }
}
