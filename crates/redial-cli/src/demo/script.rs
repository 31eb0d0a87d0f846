//! Which calls fail, and how: fixed by a seed.

use redial::core::Entropy;

/// What befalls each call, in the order of their numbers.
pub(super) struct Script {
    calls: Vec<Call>,
}

/// One call, and what befalls it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) trouble: Trouble,
    /// How many attempts in a row meet the trouble.
    pub(super) times: u32,
}

/// What kind of request a call makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Get,
    /// A POST that may not be repeated without proof.
    Post,
    /// A POST with an idempotency key.
    KeyedPost,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    None,
    Refused,
    Reset,
    Unavailable,
    Throttled,
    Slow,
    Truncated,
}

impl Script {
    pub(super) fn new(seed: u64, calls: u32) -> Self {
        let entropy = Entropy::seeded(seed);
        Self { calls: (0..calls).map(|_| Call::draw(&entropy)).collect() }
    }

    pub(super) fn call(&self, n: u32) -> Call {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        self.calls.get(index).copied().unwrap_or(Call::FINE)
    }

    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }
}

impl Call {
    const FINE: Self = Self { kind: Kind::Get, trouble: Trouble::None, times: 0 };

    /// One call in six meets trouble, one in four of these twice in a row; 4 % are POSTs with a key and
    /// 3 % POSTs without.
    fn draw(entropy: &Entropy) -> Self {
        let kind = match entropy.draw() % 100 {
            0..3 => Kind::Post,
            3..7 => Kind::KeyedPost,
            _ => Kind::Get,
        };
        let trouble = match entropy.draw() % 36 {
            0 => Trouble::Refused,
            1 => Trouble::Reset,
            2 => Trouble::Unavailable,
            3 => Trouble::Throttled,
            4 => Trouble::Slow,
            5 => Trouble::Truncated,
            _ => Trouble::None,
        };
        let times = if entropy.draw().is_multiple_of(4) { 2 } else { 1 };
        Self { kind, trouble, times: if trouble == Trouble::None { 0 } else { times } }
    }
}

impl Trouble {
    pub(super) const ALL: [Self; 7] = [
        Self::None,
        Self::Refused,
        Self::Reset,
        Self::Unavailable,
        Self::Throttled,
        Self::Slow,
        Self::Truncated,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "no trouble",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unavailable => "503",
            Self::Throttled => "429",
            Self::Slow => "slow",
            Self::Truncated => "truncated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_script_and_every_trouble_is_in_it() {
        let (a, b) = (Script::new(7, 2_000), Script::new(7, 2_000));
        assert_eq!(format!("{:?}", a.calls()), format!("{:?}", b.calls()));
        for trouble in Trouble::ALL {
            assert!(a.calls().iter().any(|call| call.trouble == trouble), "{trouble:?}");
        }
        assert!(a.calls().iter().any(|call| call.kind == Kind::Post));
        assert_eq!(a.call(9_999).trouble, Trouble::None);
    }
}
