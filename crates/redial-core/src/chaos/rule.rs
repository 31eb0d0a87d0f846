//! Which requests, how often, and what happens to them.

use super::{ChaosHead, Cut, Injected, InvalidChaos, Latency, Pace, Pattern};

/// Which requests are hit, how often, and what happens to them.
///
/// Every request, unless set otherwise, and every time. A rule that does nothing is refused by
/// [`ChaosPolicy::rule`](super::ChaosPolicy::rule).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChaosRule {
    host: Option<Pattern>,
    path: Option<Pattern>,
    methods: Vec<String>,
    frequency: Frequency,
    total_max: Option<u64>,
    latency: Option<Latency>,
    ending: Option<Ending>,
    headers: Vec<(String, String)>,
    is_after: bool,
    cut: Option<Cut>,
    pace: Option<Pace>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Frequency {
    #[default]
    Always,
    /// The share, and how many of all 2⁶⁴ draws are hits.
    Rate(f64, u128),
    First(u64),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Status(u16),
    Reset,
}

impl ChaosRule {
    /// Creates a rule that matches every request and does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hits requests to hosts like this [`Pattern`] only, in whatever case: `shop.example`,
    /// `*.example`; with a port, those with that port written out: `*:8080`.
    ///
    /// # Errors
    ///
    /// If the pattern is empty.
    pub fn host(self, pattern: &str) -> Result<Self, InvalidChaos> {
        Ok(Self { host: Some(Pattern::new(pattern)?), ..self })
    }

    /// Hits requests for paths like this [`Pattern`] only, the query left aside: `/orders/*`.
    ///
    /// # Errors
    ///
    /// If the pattern is empty.
    pub fn path(self, pattern: &str) -> Result<Self, InvalidChaos> {
        Ok(Self { path: Some(Pattern::new(pattern)?), ..self })
    }

    /// Hits requests with this method only, or with one of those named before. Methods differ by case
    /// (RFC 9110 §9.1).
    ///
    /// # Errors
    ///
    /// If it is not a method.
    pub fn method(mut self, method: &str) -> Result<Self, InvalidChaos> {
        if !is_token(method) {
            return Err(InvalidChaos::Method { method: method.to_owned() });
        }
        self.methods.push(method.to_owned());
        Ok(self)
    }

    /// Hits a share of the requests, each one by a draw of its own: 0 none, 1 all of them.
    ///
    /// # Errors
    ///
    /// If `rate` is not between 0 and 1, or the rule hits the [first](Self::first) few.
    pub fn rate(self, rate: f64) -> Result<Self, InvalidChaos> {
        if !(0.0..=1.0).contains(&rate) {
            return Err(InvalidChaos::Share { share: rate });
        }
        if let Frequency::First(_) = self.frequency {
            return Err(InvalidChaos::Frequencies { first: "first", second: "a rate" });
        }
        Ok(Self { frequency: Frequency::Rate(rate, share_of_draws(rate)), ..self })
    }

    /// Hits the first `count` requests that match, and none after them.
    ///
    /// # Errors
    ///
    /// If the rule has a [rate](Self::rate) or a [total](Self::at_most).
    pub fn first(self, count: u64) -> Result<Self, InvalidChaos> {
        if let Frequency::Rate(..) = self.frequency {
            return Err(InvalidChaos::Frequencies { first: "a rate", second: "first" });
        }
        if self.total_max.is_some() {
            return Err(InvalidChaos::Frequencies { first: "a total", second: "first" });
        }
        Ok(Self { frequency: Frequency::First(count), ..self })
    }

    /// Hits `total_max` requests altogether, and none after them.
    ///
    /// # Errors
    ///
    /// If the rule hits the [first](Self::first) few: that is a total already.
    pub fn at_most(self, total_max: u64) -> Result<Self, InvalidChaos> {
        if let Frequency::First(_) = self.frequency {
            return Err(InvalidChaos::Frequencies { first: "first", second: "a total" });
        }
        Ok(Self { total_max: Some(total_max), ..self })
    }

    /// Delays a request before anything else happens to it.
    #[must_use]
    pub fn latency(self, latency: Latency) -> Self {
        Self { latency: Some(latency), ..self }
    }

    /// Answers with a status and an empty body.
    ///
    /// # Errors
    ///
    /// If `status` is not between 200 and 599, or the rule resets, cuts or slows the answer.
    pub fn status(self, status: u16) -> Result<Self, InvalidChaos> {
        if !(200..=599).contains(&status) {
            return Err(InvalidChaos::Status { status });
        }
        self.ends(Ending::Status(status))
    }

    /// Adds a header field to the answer that [`status`](Self::status) injects: `retry-after`, say.
    ///
    /// # Errors
    ///
    /// If the name or the value is not one of a header field, or the rule resets.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidChaos> {
        let is_value = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        if !is_token(name) || !is_value {
            return Err(InvalidChaos::Header { name: name.to_owned() });
        }
        if self.ending == Some(Ending::Reset) {
            return Err(InvalidChaos::Effects { first: "a reset", second: "header fields" });
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Resets the connection, as far as the caller can see.
    ///
    /// # Errors
    ///
    /// If the rule answers with a status, or cuts or slows the answer.
    pub fn reset(self) -> Result<Self, InvalidChaos> {
        if !self.headers.is_empty() {
            return Err(InvalidChaos::Effects { first: "header fields", second: "a reset" });
        }
        self.ends(Ending::Reset)
    }

    /// Sends the request before the status or the reset, so that the server has acted. Not so unless
    /// set.
    #[must_use]
    pub fn after(self, is_after: bool) -> Self {
        Self { is_after, ..self }
    }

    /// Ends the answer's body in an error.
    ///
    /// # Errors
    ///
    /// If the rule answers with a status or resets.
    pub fn truncate(self, cut: Cut) -> Result<Self, InvalidChaos> {
        self.leaves_body("a truncated body")?;
        Ok(Self { cut: Some(cut), ..self })
    }

    /// Slows the answer's body.
    ///
    /// # Errors
    ///
    /// If the rule answers with a status or resets.
    pub fn slow_body(self, pace: Pace) -> Result<Self, InvalidChaos> {
        self.leaves_body("a slow body")?;
        Ok(Self { pace: Some(pace), ..self })
    }

    /// Returns whether it applies to a request with this head.
    #[must_use]
    pub fn matches(&self, head: &ChaosHead<'_>) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| method == head.method))
            && self.path.as_ref().is_none_or(|path| path.matches(head.path))
            && self.host.as_ref().is_none_or(|host| {
                host.matches_in_any_case(head.host()) || host.matches_in_any_case(head.authority)
            })
    }

    /// Returns whether it hits the `nth` request that it matches, counted from 0, given 64 uniformly
    /// random bits. A total does not count here.
    #[must_use]
    pub fn hits(&self, nth: u64, draw: u64) -> bool {
        match self.frequency {
            Frequency::Always => true,
            Frequency::Rate(_, hits) => u128::from(draw) < hits,
            Frequency::First(count) => nth < count,
        }
    }

    /// Returns what hosts it applies to; `None` for any.
    #[must_use]
    pub const fn host_pattern(&self) -> Option<&Pattern> {
        self.host.as_ref()
    }

    /// Returns what paths it applies to; `None` for any.
    #[must_use]
    pub const fn path_pattern(&self) -> Option<&Pattern> {
        self.path.as_ref()
    }

    /// Returns the methods that it applies to; none for any.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Returns the share of requests that it hits, where it hits a share.
    #[must_use]
    pub const fn hit_rate(&self) -> Option<f64> {
        match self.frequency {
            Frequency::Rate(rate, _) => Some(rate),
            Frequency::Always | Frequency::First(_) => None,
        }
    }

    /// Returns how many requests it hits at most.
    #[must_use]
    pub const fn total_max(&self) -> Option<u64> {
        match self.frequency {
            Frequency::First(count) => Some(count),
            Frequency::Always | Frequency::Rate(..) => self.total_max,
        }
    }

    /// Returns how long it delays.
    #[must_use]
    pub const fn delays(&self) -> Option<Latency> {
        self.latency
    }

    /// Returns what stands in the place of an answer.
    #[must_use]
    pub fn answer(&self) -> Option<Injected<'_>> {
        let status = match self.ending? {
            Ending::Status(status) => Some((status, self.headers.as_slice())),
            Ending::Reset => None,
        };
        Some(Injected { status, is_after: self.is_after })
    }

    /// Returns where it cuts the answer's body.
    #[must_use]
    pub const fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Returns how it slows the answer's body.
    #[must_use]
    pub const fn pace(&self) -> Option<Pace> {
        self.pace
    }

    pub(super) fn check(&self) -> Result<(), InvalidChaos> {
        if !self.headers.is_empty() && self.ending.is_none() {
            return Err(InvalidChaos::WithoutAnswer { what: "a header field" });
        }
        if self.is_after && self.ending.is_none() {
            return Err(InvalidChaos::WithoutAnswer { what: "`after`" });
        }
        let is_inert = self.latency.is_none()
            && self.ending.is_none()
            && self.cut.is_none()
            && self.pace.is_none();
        if is_inert { Err(InvalidChaos::NoEffect) } else { Ok(()) }
    }

    fn ends(self, ending: Ending) -> Result<Self, InvalidChaos> {
        let first = match (self.ending, self.cut, self.pace) {
            (Some(other), ..) if other.name() != ending.name() => other.name(),
            (_, Some(_), _) => "a truncated body",
            (_, _, Some(_)) => "a slow body",
            _ => return Ok(Self { ending: Some(ending), ..self }),
        };
        Err(InvalidChaos::Effects { first, second: ending.name() })
    }

    fn leaves_body(&self, second: &'static str) -> Result<(), InvalidChaos> {
        let Some(ending) = self.ending else { return Ok(()) };
        Err(InvalidChaos::Effects { first: ending.name(), second })
    }
}

impl Ending {
    const fn name(self) -> &'static str {
        match self {
            Self::Status(_) => "a status",
            Self::Reset => "a reset",
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

/// How many of all 2⁶⁴ draws are below the share: exact, as the factor is a power of 2.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is between 0 and 1"
)]
fn share_of_draws(rate: f64) -> u128 {
    (rate * 18_446_744_073_709_551_616.0) as u128
}
