//! A download to a file, which goes on where it broke off, in this run or in a later one.
//!
//! Nothing is handed on before the file is complete, so whatever goes wrong it can always begin anew. What
//! is left to decide is whether it has to: that is [`redial::Representation`]'s.

use std::{path::Path, pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header, response::Parts};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use redial::{
    BoxError, Continuation, DigestCheck, FellBack, Fresh, LogEvents, Observe, Rejection,
    core::{Class, Entropy, Event, Policy, ResumePolicy, StallPolicy, Stop},
};

use super::{
    body::{answered, broken, head_bytes},
    call::{Caller, Ended, IDLE_MAX, fault_of, is_late},
    partial::Partial,
};
use crate::{cli::Failure, show};

/// Downloads to `name`; returns how that has ended.
pub(super) async fn download(
    caller: Caller<'_>,
    request: Request<Bytes>,
    name: &Path,
) -> Result<Ended, Failure> {
    let is_repeatable = is_repeatable(&request) && !caller.args.include;
    if caller.args.is_continuing && !is_repeatable {
        return Err(Failure::usage(
            "only a GET without a Range and a body can be continued; leave --continue out",
        ));
    }
    let partial = Partial::open(name, &request.uri().to_string())?;
    let mut download = Download::new(caller, request, partial, is_repeatable);
    download.look_at_what_is_there();
    if download.is_all_there() {
        let ended = Ended {
            status: None,
            stop: Stop::Success,
            is_refused: false,
            fell_back: None,
            message: None,
        };
        return download.finish(ended).await;
    }
    download.run().await
}

struct Download<'a> {
    caller: Caller<'a>,
    request: Request<Bytes>,
    partial: Partial,
    /// Whether it can be asked for more than once.
    is_repeatable: bool,
    /// Whether the next request asks for the rest of what is there.
    is_going_on: bool,
    policy: ResumePolicy,
    entropy: Entropy,
    resumes: u32,
    fruitless: u32,
    previous: Duration,
}

/// What an answer means for the download.
enum Meaning {
    /// The whole of it, or what is taken for it.
    Begins,
    /// The rest of what is there, before this byte.
    GoesOn { end: Option<u64> },
    /// No help: it has to be asked for as a whole.
    Anew(&'static str),
    /// A failure.
    Fails,
}

impl<'a> Download<'a> {
    fn new(
        mut caller: Caller<'a>,
        mut request: Request<Bytes>,
        partial: Partial,
        is_repeatable: bool,
    ) -> Self {
        let waits = caller.policy.retry.rule(Class::Connection).backoff;
        let policy = caller.policy.resume.unwrap_or_else(|| ResumePolicy::default().backoff(waits));
        let max = caller.args.max_resumes.unwrap_or(policy.resumes());
        let policy = policy.max_resumes(if is_repeatable { max } else { 0 });
        if is_repeatable {
            // All of it is done here, where more can be done.
            let stall = StallPolicy::default().idle(IDLE_MAX).ok();
            let stall = caller.policy.stall.or(stall);
            caller.policy = Policy { resume: None, stall, ..caller.policy };
            caller.ahead_bytes_max = 0;
            let identity = HeaderValue::from_static("identity");
            request.headers_mut().entry(header::ACCEPT_ENCODING).or_insert(identity);
        }
        let seed = caller.args.seed.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
        Self {
            caller,
            request,
            partial,
            is_repeatable,
            is_going_on: false,
            policy,
            entropy: Entropy::seeded(seed),
            resumes: 0,
            fruitless: 0,
            previous: Duration::ZERO,
        }
    }

    /// Says what becomes of the partial file of an earlier run.
    fn look_at_what_is_there(&mut self) {
        let (at, is_continuing) = (self.partial.at(), self.caller.args.is_continuing);
        if at == 0 {
            return;
        }
        let is_usable = self.partial.goes_on().is_some();
        self.is_going_on = is_continuing && is_usable;
        let there = show::amount(at);
        match (is_continuing, is_usable) {
            (true, true) => self.line(&format!("{there} are there already")),
            (true, false) => self.tell(&format!(
                "the {there} that are there cannot be gone on with (of another URL, or without a strong \
                 validator); beginning anew"
            )),
            (false, true) => self.line(&format!(
                "the {there} of an earlier run are not used; --continue would go on from there"
            )),
            (false, false) => {}
        }
    }

    fn is_all_there(&self) -> bool {
        let kept = self.partial.kept().filter(|_| self.is_going_on);
        kept.is_some_and(|kept| kept.at == kept.length)
    }

    async fn run(mut self) -> Result<Ended, Failure> {
        loop {
            let answer = match self.caller.reach(self.next_request()).await {
                Ok(answer) => answer,
                Err(ended) => return Ok(ended),
            };
            let (head, body) = answer.into_parts();
            let end = match self.meaning(&head) {
                Meaning::Begins => self.begin(&head).await?,
                Meaning::GoesOn { end } => self.go_on(&head, end).await?,
                Meaning::Anew(why) => {
                    self.begin_anew(why);
                    if self.policy.resumes() <= self.resumes {
                        return Ok(exhausted(&head, why));
                    }
                    self.resumes += 1;
                    self.caller.recorder.next_hop();
                    continue;
                }
                Meaning::Fails => return Ok(self.fail(&head, body).await),
            };
            let at = self.partial.at();
            let ending = self.pour(body, end).await?;
            self.partial.flush().await?;
            if at < self.partial.at() {
                (self.fruitless, self.previous) = (0, Duration::ZERO);
            }
            let error = match ending {
                // What breaks off after the last byte has not broken off.
                Err(_) if self.length() == Some(self.partial.at()) => None,
                Ok(()) => {
                    self.length().filter(|length| *length != self.partial.at()).map(|length| {
                        let (bytes, announced) = (self.partial.at(), length);
                        Rejection::WrongLength { bytes, announced }.into()
                    })
                }
                Err(error) => Some(error),
            };
            let Some(error) = error else {
                let ended = answered(&head, self.caller.recorder);
                return self.finish(ended).await;
            };
            if let Some(ended) = self.wait_to_go_on(&error, head.status.as_u16()).await {
                return Ok(ended);
            }
        }
    }

    fn next_request(&self) -> Request<Bytes> {
        let mut request = self.request.clone();
        if 0 < self.resumes {
            // The connection is gone or suspect.
            request.extensions_mut().insert(Fresh);
        }
        let representation = self.partial.goes_on().filter(|_| self.is_going_on);
        let validator = representation.as_ref().and_then(redial::Representation::if_range);
        let range = HeaderValue::try_from(format!("bytes={}-", self.partial.at()));
        if let (Some(validator), Ok(range)) = (validator, range) {
            request.headers_mut().insert(header::RANGE, range);
            request.headers_mut().insert(header::IF_RANGE, validator.clone());
        }
        request
    }

    fn meaning(&self, head: &Parts) -> Meaning {
        let status = head.status;
        let asked_for = self.partial.goes_on().filter(|_| self.is_going_on);
        let is_about_ranges = matches!(status.as_u16(), 412 | 416) && asked_for.is_some();
        if 400 <= status.as_u16() && !is_about_ranges {
            return Meaning::Fails;
        }
        let Some(representation) = asked_for else {
            let is_unasked = self.is_repeatable && status == StatusCode::PARTIAL_CONTENT;
            return if is_unasked { Meaning::Fails } else { Meaning::Begins };
        };
        if head.extensions.get::<FellBack>().is_some() {
            return Meaning::Fails;
        }
        let is_whole = status == StatusCode::OK;
        match representation.judge(self.partial.at(), status, &head.headers) {
            Continuation::GoesOn { end } => Meaning::GoesOn { end },
            Continuation::Changed | Continuation::Useless if is_whole => Meaning::Begins,
            Continuation::Changed => Meaning::Anew("it was changed on the server"),
            Continuation::Useless if status == StatusCode::PARTIAL_CONTENT => {
                Meaning::Anew("the part that the server sends cannot be told to be the rest")
            }
            Continuation::Useless | Continuation::Failed => Meaning::Fails,
        }
    }

    async fn begin(&mut self, head: &Parts) -> Result<Option<u64>, Failure> {
        if let Some(representation) = self.partial.goes_on().filter(|_| self.is_going_on) {
            let judgment = representation.judge(self.partial.at(), head.status, &head.headers);
            self.begin_anew(if judgment == Continuation::Changed {
                "it was changed on the server"
            } else {
                "the server sends no ranges"
            });
        }
        if let Some(coding) = head.headers.get(header::CONTENT_ENCODING) {
            let coding = String::from_utf8_lossy(coding.as_bytes()).into_owned();
            self.tell(&format!("the file is encoded ({coding}), as the server has stored it"));
        }
        let is_described = self.is_repeatable && head.status == StatusCode::OK;
        self.partial.begin(is_described.then_some(&head.headers)).await?;
        if self.caller.args.include {
            self.partial.write(&head_bytes(head)).await?;
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.show(length);
        Ok(length.filter(|_| self.is_repeatable))
    }

    async fn go_on(&mut self, head: &Parts, end: Option<u64>) -> Result<Option<u64>, Failure> {
        let at = self.partial.at();
        self.partial.go_on().await?;
        let (method, uri) = (self.request.method(), self.request.uri());
        LogEvents.observe(&redial::Call { method, uri }, &Event::Resumed { at });
        self.line(&format!("     ↪ {} from {} on", head.status, show::amount(at)));
        self.show(self.partial.kept().map(|kept| kept.length));
        Ok(end)
    }

    /// Writes what comes; returns how that ended.
    async fn pour(
        &mut self,
        body: UnsyncBoxBody<Bytes, BoxError>,
        end: Option<u64>,
    ) -> Result<Result<(), BoxError>, Failure> {
        let mut body = pin!(body);
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Ok(Err(error)),
            };
            let Ok(data) = frame.into_data() else { continue };
            self.partial.write(&data).await?;
            let at = self.partial.at();
            if let Some(announced) = end.filter(|end| *end < at) {
                // Whose bytes these are, nobody knows.
                self.partial.forget();
                return Ok(Err(Rejection::WrongLength { bytes: at, announced }.into()));
            }
            self.caller.recorder.timeline(|timeline| timeline.advance(at));
        }
        // From here on more of it can be asked for.
        Ok(Ok(()))
    }

    /// How many bytes the whole has, where that was announced.
    fn length(&self) -> Option<u64> {
        self.partial.note()?.representation().length()
    }

    /// After it broke off: waits until it is time to ask for more, or says how the download has ended.
    async fn wait_to_go_on(&mut self, error: &BoxError, status: u16) -> Option<Ended> {
        let recorder = self.caller.recorder;
        if is_late(error) || self.policy.resumes() <= self.resumes {
            let mut ended = broken(error, status, recorder);
            if ended.stop == Stop::NotReplayable && 0 < self.policy.resumes() {
                ended.stop = Stop::RetriesExhausted;
            }
            return Some(ended);
        }
        self.is_going_on = self.partial.goes_on().is_some();
        (self.resumes, self.fruitless) = (self.resumes + 1, self.fruitless + 1);
        let schedule = self.policy.schedule();
        let wait = schedule.delay(self.fruitless, self.previous, self.entropy.draw());
        self.previous = wait;
        let at = if self.is_going_on { self.partial.at() } else { 0 };
        recorder.broke_off(fault_of(error), "resume", &format!("the download goes on at {at}"));
        if self.caller.time_left().is_some_and(|left| left <= wait) {
            let message = Some(format!("the answer broke off: {error}"));
            let (status, stop) = (Some(status), Stop::Deadline);
            return Some(Ended { status, stop, is_refused: false, fell_back: None, message });
        }
        let (from, wait_text) = (show::amount(at), show::span(wait));
        self.line(&format!("     ✂ {error}: again from {from} on, in {wait_text}"));
        recorder.next_hop();
        tokio::time::sleep(wait).await;
        None
    }

    /// Looks at the whole, and gives it its name.
    async fn finish(mut self, ended: Ended) -> Result<Ended, Failure> {
        let headers = self.partial.note().map(super::note::Note::headers).unwrap_or_default();
        if let Some(digest) = DigestCheck::of(&headers)
            && let Some(wrong) = self.partial.check(digest).await?
        {
            self.partial.forget();
            let message = Some(format!("{wrong}; it was removed, and a new run begins anew"));
            return Ok(Ended { stop: Stop::Permanent, message, ..ended });
        }
        let (at, resumes) = (show::amount(self.partial.at()), self.resumes);
        self.partial.finish().await?;
        if 0 < resumes {
            let times = if resumes == 1 { "once" } else { "times" };
            let count = if resumes == 1 { String::new() } else { format!("{resumes} ") };
            self.caller.recorder.timeline(|timeline| {
                timeline.line(&format!("     {at}, resumed {count}{times}"));
            });
        }
        Ok(ended)
    }

    /// The answer is no part of the file.
    async fn fail(&self, head: &Parts, body: UnsyncBoxBody<Bytes, BoxError>) -> Ended {
        let status = head.status.as_u16();
        if 400 <= status {
            // Its end is the end of the call; nobody wants to read it.
            let mut body = pin!(body);
            while let Some(Ok(_)) = body.frame().await {}
        }
        let ended = answered(head, self.caller.recorder);
        if 400 <= status && ended.stop != Stop::Success {
            return ended;
        }
        let message = Some("the answer is not the file, nor the rest of it".to_owned());
        Ended { stop: Stop::Permanent, fell_back: None, message, ..ended }
    }

    fn begin_anew(&mut self, why: &str) {
        self.is_going_on = false;
        self.partial.forget();
        self.tell(&format!("{why}: beginning anew"));
    }

    fn show(&self, length: Option<u64>) {
        let (at, resumes) = (self.partial.at(), self.resumes);
        self.caller.recorder.timeline(|timeline| timeline.progress(at, length, resumes));
    }

    /// For those who watch.
    fn line(&self, text: &str) {
        self.caller.recorder.timeline(|timeline| timeline.line(text));
    }

    /// For everybody who has not said `--quiet`.
    fn tell(&self, text: &str) {
        if !self.caller.args.quiet {
            self.caller.recorder.timeline(|timeline| timeline.say(&format!("note: {text}")));
        }
    }
}

fn exhausted(head: &Parts, why: &str) -> Ended {
    let (status, message) = (Some(head.status.as_u16()), Some(why.to_owned()));
    let stop = Stop::RetriesExhausted;
    Ended { status, stop, is_refused: false, fell_back: None, message }
}

/// Whether asking again brings the same thing, or is told apart from it.
fn is_repeatable(request: &Request<Bytes>) -> bool {
    request.method() == Method::GET
        && !request.headers().contains_key(header::RANGE)
        && request.body().is_empty()
}
