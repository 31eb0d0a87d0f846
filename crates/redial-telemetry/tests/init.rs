//! `init` in processes of their own, because a process has one log: each test starts this test
//! program once more, with a part to play.

#![expect(clippy::unwrap_used, reason = "a test that cannot start a process should stop")]

use std::{
    env, io,
    process::{Command, Output, Stdio},
};

use redial_telemetry::{Format, Options, init};
use tracing::{debug, info};

const PART: &str = "REDIAL_TEST_PART";

/// The part of the process that is started; without a part, nothing.
#[test]
fn the_started_process_plays_its_part() {
    let Ok(part) = env::var(PART) else { return };
    let mut options = Options::new("orders", "1.4.0");
    match part.as_str() {
        "ecs" => options.format = Format::EcsJson,
        "quiet" => options.filter = Some("off".into()),
        "twice" => init(Options::new("first", "1")).unwrap(),
        _ => {}
    }
    init(options).unwrap();
    info!("for everybody");
    debug!("for the curious");
}

fn play(part: &str, filter: Option<&str>, stderr: Stdio) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "the_started_process_plays_its_part", "--nocapture", "--quiet"]);
    command.env(PART, part).env_remove("REDIAL_LOG").stderr(stderr).stdout(Stdio::piped());
    command.envs(filter.map(|filter| ("REDIAL_LOG", filter)));
    command.spawn().unwrap().wait_with_output().unwrap()
}

fn lines(part: &str, filter: Option<&str>) -> Vec<String> {
    let output = play(part, filter, Stdio::piped());
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("for everybody"));
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn lines_go_to_standard_error_in_the_chosen_format() {
    let human = lines("human", None);
    assert_eq!(human.len(), 1);
    assert!(human[0].ends_with("INFO  init: for everybody"), "{human:?}");
    let ecs = lines("ecs", None);
    assert_eq!(ecs.len(), 1);
    let object: serde_json::Value = serde_json::from_str(&ecs[0]).unwrap();
    assert_eq!(object["service.name"], "orders");
}

#[test]
fn the_filter_comes_from_the_options_then_the_environment_then_info() {
    assert_eq!(lines("human", Some("debug")).len(), 2);
    assert_eq!(lines("human", Some("warn,init=debug")).len(), 2);
    assert_eq!(lines("human", Some(" ")).len(), 1);
    assert_eq!(lines("human", Some("off")).len(), 0);
    assert_eq!(lines("quiet", Some("debug")).len(), 0);
}

#[test]
fn a_second_call_leaves_the_first_in_place() {
    assert_eq!(lines("twice", None).len(), 1);
}

#[test]
fn a_closed_standard_error_stops_nobody() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = play("human", None, Stdio::from(writer));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_filter_that_cannot_be_read_is_an_error_that_states_the_rule() {
    let mut options = Options::new("orders", "1.4.0");
    options.filter = Some("redial=loud".into());
    let error = init(options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`redial=loud` is not a log filter: it takes a level (error, warn, info, debug, trace, \
         off) or source=level, several joined by commas"
    );
    assert!(std::error::Error::source(&error).is_some());
}
