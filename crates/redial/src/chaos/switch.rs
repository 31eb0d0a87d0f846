//! Chaos off and on while calls are running.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::Shared;

/// Turns chaos off and on while calls are running. Clones share it.
///
/// Turned off, it lets everything that is being held back go on at once: a delayed request is sent, a
/// slowed body flows, and one that was to be cut is not. What has failed stays failed.
///
/// # Examples
///
/// ```
/// use redial::ChaosSwitch;
///
/// let switch = ChaosSwitch::new();
/// switch.clone().turn(false);
/// assert!(!switch.is_on());
/// ```
#[derive(Clone)]
pub struct ChaosSwitch {
    state: Arc<State>,
}

struct State {
    is_on: AtomicBool,
    turned_off: Notify,
}

impl ChaosSwitch {
    /// Creates a switch that is on.
    #[must_use]
    pub fn new() -> Self {
        let state = State { is_on: AtomicBool::new(true), turned_off: Notify::new() };
        Self { state: Arc::new(state) }
    }

    /// Turns it on or off.
    pub fn turn(&self, is_on: bool) {
        self.state.is_on.store(is_on, Ordering::Release);
        if !is_on {
            self.state.turned_off.notify_waiters();
        }
    }

    /// Returns whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state.is_on.load(Ordering::Acquire)
    }
}

/// Whether chaos is still on for one call.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    is_own: bool,
}

impl Watch {
    /// `is_own` for a call that brought its own policy, which nobody can switch.
    pub(super) const fn new(shared: Arc<Shared>, is_own: bool) -> Self {
        Self { shared, is_own }
    }

    pub(super) fn is_on(&self) -> bool {
        self.shared.switch.is_on() && (self.is_own || self.shared.is_active())
    }

    /// Waits for `delay`, or until chaos is turned off.
    ///
    /// The switch is seen at once. Another policy in a cell is seen within a moment: cells tell nobody.
    pub(super) async fn sleep(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let now = Instant::now();
        let end = now.checked_add(delay).unwrap_or(now + FAR);
        let is_switchable = !self.is_own && self.shared.policy.is_switchable();
        loop {
            let mut off = pin!(self.shared.switch.state.turned_off.notified());
            // It listens before it looks: a switch in between is not missed.
            off.as_mut().enable();
            if !self.is_on() {
                return;
            }
            let until = if is_switchable { end.min(Instant::now() + MOMENT) } else { end };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = off => return,
            }
            if end <= until {
                return;
            }
        }
    }
}

impl Default for ChaosSwitch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ChaosSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosSwitch").field("is_on", &self.is_on()).finish()
    }
}

/// Thirty years: what is never reached, and can still be added to a clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How soon a delayed call looks whether it is to go on under another policy.
const MOMENT: Duration = Duration::from_millis(100);
