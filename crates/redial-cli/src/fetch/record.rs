//! What happened to each attempt: for the report, and for people as it happens.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial::{
    Call, Diagnosis, Observe,
    core::{Event, Evidence, Fault, Stop, Verdict},
};
use serde::Serialize;
use tokio::time::Instant;

use super::timeline::Timeline;
use crate::show;

/// One attempt, as the report has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AttemptReport {
    pub(crate) attempt: u32,
    start_ms: f64,
    duration_ms: f64,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<&'static str>,
    pub(crate) evidence: Option<&'static str>,
    verdict: &'static str,
    class: Option<&'static str>,
    pub(crate) decision: &'static str,
    pub(crate) reason: String,
    pushback_ms: Option<f64>,
    delay_ms: Option<f64>,
}

/// The whole call, as the report has it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) method: String,
    pub(crate) outcome: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) stop: &'static str,
    pub(crate) total_ms: f64,
    pub(crate) attempts: Vec<AttemptReport>,
}

/// Notes every attempt of a call, redirects included. Clones share the notes.
#[derive(Clone)]
pub(crate) struct Recorder {
    notes: Arc<Mutex<Notes>>,
}

struct Notes {
    started: Instant,
    attempts: Vec<AttemptReport>,
    /// Attempts of the hops before this one.
    before: u32,
    /// More than one where a call is hedged.
    running: Vec<(u32, Instant)>,
    stop: Option<Stop>,
    timeline: Timeline,
}

impl Recorder {
    pub(crate) fn new(timeline: Timeline) -> Self {
        let notes = Notes {
            started: Instant::now(),
            attempts: Vec::new(),
            before: 0,
            running: Vec::new(),
            stop: None,
            timeline,
        };
        Self { notes: Arc::new(Mutex::new(notes)) }
    }

    /// Begins another hop: its attempts are counted on.
    pub(crate) fn next_hop(&self) {
        let mut notes = self.lock();
        notes.before = u32::try_from(notes.attempts.len()).unwrap_or(u32::MAX);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.lock().started.elapsed()
    }

    pub(crate) fn attempts(&self) -> Vec<AttemptReport> {
        self.lock().attempts.clone()
    }

    /// Returns why the last call gave up, if it did.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.lock().stop
    }

    /// Notes that the answer's body broke off, and what follows from it.
    pub(crate) fn broke_off(&self, diagnosis: Diagnosis, decision: &'static str, reason: &str) {
        let mut notes = self.lock();
        if let Some(last) = notes.attempts.last_mut() {
            let Diagnosis { fault, proof } = diagnosis;
            last.error = Some(fault.name());
            last.evidence = Some(proof.evidence().name());
            (last.verdict, last.decision) = ("transient", decision);
            last.class = Some(fault.class().name());
            reason.clone_into(&mut last.reason);
        }
    }

    pub(crate) fn timeline<T>(&self, work: impl FnOnce(&mut Timeline) -> T) -> T {
        work(&mut self.lock().timeline)
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for Recorder {
    fn observe(&self, _: &Call<'_>, event: &Event) {
        self.lock().note(event);
    }
}

impl Notes {
    fn note(&mut self, event: &Event) {
        match *event {
            Event::AttemptStarted { attempt } => {
                let attempt = self.before + attempt;
                self.running.push((attempt, Instant::now()));
                self.timeline.started(attempt);
            }
            Event::AttemptEnded {
                attempt, took, status, fault, verdict, proof, pushback, ..
            } => {
                let attempt = self.before + attempt;
                let Some(at) = self.running.iter().position(|(other, _)| *other == attempt) else {
                    return;
                };
                let (attempt, started) = self.running.swap_remove(at);
                let is_failure = verdict != Verdict::Success;
                let evidence = proof.filter(|_| is_failure).map(|proof| proof.evidence().name());
                self.attempts.push(AttemptReport {
                    attempt,
                    start_ms: show::millis(started.duration_since(self.started)),
                    duration_ms: show::millis(took),
                    status,
                    error: fault.map(Fault::name),
                    evidence,
                    verdict: verdict.name(),
                    class: verdict.class().map(redial::core::Class::name),
                    decision: "stop",
                    reason: String::new(),
                    pushback_ms: pushback.map(|wish| show::millis(wish.wait())),
                    delay_ms: None,
                });
                if let Some(last) = self.attempts.last() {
                    self.timeline.ended(last, took);
                }
            }
            Event::Retrying { after, why, .. } => {
                if let Some(last) = self.attempts.last_mut() {
                    last.decision = "retry";
                    last.reason = why.name().to_owned();
                    last.delay_ms = Some(show::millis(after));
                }
                self.timeline.waits(after, why);
            }
            Event::Hedged { attempt, after, .. } => {
                self.timeline.hedges(self.before + attempt, after);
            }
            Event::Succeeded { .. } => self.end(Stop::Success),
            Event::GaveUp { stop, .. } => self.end(stop),
            _ => {}
        }
    }

    fn end(&mut self, stop: Stop) {
        self.stop = Some(stop);
        let running = std::mem::take(&mut self.running);
        if (running.is_empty() || stop == Stop::Success)
            && let Some(last) = self.attempts.last_mut()
        {
            last.decision = "stop";
            last.reason = stop.to_string();
        }
        for (attempt, started) in running {
            self.attempts.push(self.cut(attempt, started, stop));
        }
        self.attempts.sort_by_key(|attempt| attempt.attempt);
    }

    /// An attempt that was still running when the call ended.
    fn cut(&self, attempt: u32, started: Instant, stop: Stop) -> AttemptReport {
        let is_late = stop == Stop::Deadline;
        AttemptReport {
            attempt,
            start_ms: show::millis(started.duration_since(self.started)),
            duration_ms: show::millis(started.elapsed()),
            status: None,
            error: Some(if is_late { "deadline_exceeded" } else { Fault::Cancelled.name() }),
            evidence: Some(Evidence::MaybeApplied.name()),
            verdict: if is_late { "transient" } else { "permanent" },
            class: Some(if is_late { "timeout" } else { "other" }),
            decision: "stop",
            reason: if is_late {
                "the deadline came while the attempt was running".to_owned()
            } else if stop == Stop::Success {
                "another copy had the answer first".to_owned()
            } else {
                stop.to_string()
            },
            pushback_ms: None,
            delay_ms: None,
        }
    }
}

impl Report {
    /// Writes the report to a file, or to stderr for `-`.
    pub(crate) fn write(&self, to: &std::path::Path) -> std::io::Result<()> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        if to.as_os_str() == "-" {
            return std::io::stderr().write_all(text.as_bytes());
        }
        std::fs::write(to, text)
    }
}
