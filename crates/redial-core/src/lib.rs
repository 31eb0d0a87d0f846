//! What to do when a call over a network fails, as pure functions.
//!
//! An attempt's outcome is *read* into a [`Reading`]: a [`Verdict`] (what it means), a [`Proof`]
//! (what is known about the server having acted) and a [`Pushback`] (what the server asked for).
//! [`RetryPolicy::decide`] turns that, the [`Budget`] and the time left into one [`Decision`].
//!
//! Nothing here reads a clock, sleeps, logs, locks or allocates: `now` and random draws are
//! arguments. The same code therefore runs in the library, the proxy, the command, the tests and
//! the simulator, and any run can be repeated from its seed.
//!
//! # Examples
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use redial_core::{
//!     Attempt, Class, Decision, Idempotency, Proof, Reading, RetryPolicy, Stop, Verdict,
//! };
//!
//! let policy = RetryPolicy::default();
//! let reset = Reading::new(Verdict::Transient(Class::Connection)).proof(Proof::Sent);
//!
//! // A POST that may have been applied is not repeated on hope …
//! let post = Attempt::first(reset, Idempotency::None);
//! assert_eq!(policy.decide(&post, None, 0), Decision::Stop(Stop::MaybeApplied));
//!
//! // … and is repeated when it provably never left.
//! let refused = reset.proof(Proof::NoConnection);
//! let post = Attempt::first(refused, Idempotency::None);
//! assert!(matches!(policy.decide(&post, None, 0), Decision::Retry { .. }));
//! ```

mod adaptive;
mod backoff;
mod breaker;
mod budget;
mod bulkhead;
mod cache;
mod chaos;
mod class;
mod deadline;
mod entropy;
mod event;
mod evidence;
mod fallback;
mod fault;
mod gate;
mod health;
mod hedge;
mod idempotency;
mod limiter;
mod policy;
mod profile;
mod pushback;
mod quantile;
mod resume;
mod retry;
mod stall;
mod sync;
mod throttle;
mod triggers;
mod verdict;
mod window;

pub use adaptive::{
    AdaptiveLimit, AdaptivePolicy, InvalidAdaptiveLimit, LimitAlgorithm, LimitChange, LimitPermit,
    LimitRound,
};
pub use backoff::{Backoff, Growth, InvalidBackoff, Jitter};
pub use breaker::{
    Abandoned, Admission, Breaker, BreakerChange, BreakerPolicy, BreakerRefusal, BreakerSnapshot,
    BreakerState, InvalidBreaker, Ticket, TripReason,
};
pub use budget::{
    Budget, BudgetPolicy, InvalidBudget, Throttle, TokenBucket, TokenBudget, Tokens, WindowBucket,
    WindowBudget,
};
pub use bulkhead::{BulkheadPolicy, BulkheadScope, InvalidBulkhead};
pub use cache::{CacheOutcome, CachePolicy, InvalidCache};
pub use chaos::{
    ChaosHead, ChaosPlan, ChaosPolicy, ChaosRule, ChaosState, Cut, Injected, InvalidChaos, Latency,
    Pace, Pattern,
};
pub use class::Class;
pub use deadline::Deadline;
pub use entropy::Entropy;
pub use event::{Event, HedgeCause, Severity};
pub use evidence::{Evidence, Proof};
pub use fallback::{FallbackErrors, FallbackPolicy, InvalidFallback};
pub use fault::{Fault, FaultSet};
pub use gate::{Entry, Gate};
pub use health::{Assessment, Health};
pub use hedge::{CopyEnd, HedgePolicy, HedgeTracker, Hedging, InvalidHedge, NextHedge};
pub use idempotency::{
    Begun, FencingToken, Fingerprint, IdempotencyRecord, KeyOutcome, RecordState,
};
pub use limiter::{
    FieldName, InvalidFieldName, InvalidRateLimit, RateKey, RateLimitPolicy, RateLimiter, Refusal,
    Reservation,
};
pub use policy::Policy;
pub use profile::Profile;
pub use pushback::{InvalidPushback, Pushback, PushbackPolicy};
pub use quantile::{LatencyWindow, Quantile};
pub use resume::ResumePolicy;
pub use retry::{Attempt, Decision, Progress, RetryPolicy, Rule, Stop, Why, Withdrawal};
pub use stall::{InvalidStall, Stall, StallMeter, StallPolicy};
pub use throttle::{AdaptiveThrottle, InvalidThrottle, ThrottlePolicy};
pub use triggers::{StatusSet, Triggers, UnknownTrigger};
pub use verdict::{Idempotency, Reading, Verdict};
pub use window::{Counts, InvalidWindow, Sample, SlidingCounts, Window};
