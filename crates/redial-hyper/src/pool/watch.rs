//! What is looked at from time to time: old connections, calls that keep theirs, the counts.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use super::{Pool, State, Todo};
use crate::{leak::Leak, snapshot::PoolSnapshot};

impl Pool {
    /// Starts the sweep unless it runs. It may have died with the runtime that it was started in.
    pub(super) fn keep_watch(self: &Arc<Self>, state: &mut State, todo: &mut Todo) {
        if state.sweep.as_ref().is_some_and(|sweep| !sweep.is_finished()) {
            return;
        }
        todo.is_watch_over = true;
    }

    /// Starts the sweep, without the lock: a runtime that ends drops what it is given.
    pub(super) fn start_watch(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let sweep = runtime.spawn(sweep(Arc::downgrade(self), self.sweep_every())).abort_handle();
        let before = self.lock().sweep.replace(sweep);
        if let Some(before) = before {
            before.abort();
        }
    }

    fn sweep_every(&self) -> Duration {
        let spans = [self.limits.idle_timeout, self.limits.max_lifetime, self.limits.leak_after];
        let shortest = spans.into_iter().filter(|span| !span.is_zero()).min();
        (shortest.unwrap_or(SWEEP_EVERY_MAX) / 2).clamp(SWEEP_EVERY_MIN, SWEEP_EVERY_MAX)
    }

    /// Closes what is too old, finds the calls that keep their connection, and forgets origins
    /// without any. Returns whether anything is left.
    fn sweep(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        let (mut todo, mut leaks) = (Todo::default(), Vec::new());
        let mut state = self.lock();
        let State { slots, totals, sweep } = &mut *state;
        for (origin, slot) in slots.iter_mut() {
            let before = slot.idle.len();
            slot.prune(now, &self.limits, &mut todo.gone);
            totals.idle -= before - slot.idle.len();
            if self.limits.leak_after.is_zero() {
                continue;
            }
            for (_, lent) in slot.lent.iter_mut().filter(|(_, lent)| !lent.is_reported) {
                let age = now.saturating_duration_since(lent.since);
                if self.limits.leak_after <= age {
                    lent.is_reported = true;
                    slot.counts.leaks += 1;
                    leaks.push((lent.caller, origin.clone(), age));
                }
            }
        }
        slots.retain(|_, slot| {
            let is_kept = !slot.is_empty();
            if !is_kept {
                totals.past.add(&slot.counts);
            }
            is_kept
        });
        let is_left = !slots.is_empty();
        if !is_left {
            *sweep = None;
        }
        drop(state);
        self.carry_out(todo);
        for (caller, origin, age) in leaks {
            let leak: Leak = caller.leak(origin.to_string(), age);
            leak.report(self.on_leak.as_ref());
        }
        is_left
    }

    pub(crate) fn snapshot(&self) -> PoolSnapshot {
        let state = self.lock();
        let mut total = state.totals.past;
        let counts = state.slots.iter().map(|(origin, slot)| (origin.to_string(), slot.counts()));
        let mut origins: Vec<_> = counts.inspect(|(_, counts)| total.add(counts)).collect();
        drop(state);
        origins.sort_by(|(one, _), (other, _)| one.cmp(other));
        PoolSnapshot { total, origins }
    }
}

async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            return;
        }
    }
}

/// Often enough for any timeout, seldom enough to cost nothing.
const SWEEP_EVERY_MIN: Duration = Duration::from_millis(10);
/// What is too old does not stay for much longer than this.
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(15);
