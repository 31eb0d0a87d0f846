use redial_testkit::{H2Reply, Reason};

use super::*;

#[tokio::test]
async fn wherever_it_breaks_off_the_file_is_byte_exact() {
    const LENGTH: usize = 3_000;
    for tag in ["\"v1\"", "W/\"v1\""] {
        for cut in [0, 1, 1_000, LENGTH - 1] {
            for is_reset in [false, true] {
                let upstream = upstream(move |nth, request| {
                    let whole = Reply::file(request, file(LENGTH), tag);
                    match (nth, is_reset) {
                        (1, true) => whole.reset_at(cut),
                        (1, false) => whole.truncate_at(cut),
                        _ => whole,
                    }
                })
                .await;
                let folder = Folder::new();
                let ran = download(&folder, &upstream, &[]).await;
                let case = format!("{tag} {cut} {is_reset}: {}", ran.stderr);
                assert_eq!(ran.status, Some(0), "{case}");
                assert!(folder.holds_only(&file(LENGTH)), "{case}");
                let asked_for = ranges(&upstream);
                assert_eq!((asked_for.len(), &asked_for[0]), (2, &None), "{case}");
                // A reset may overtake what was sent before it.
                let is_exact = !is_reset && 0 < cut && tag.starts_with('"');
                let rest = is_exact.then(|| format!("bytes={cut}-"));
                assert!(is_reset || asked_for[1] == rest, "{case}: {asked_for:?}");
            }
        }
    }
}

#[tokio::test]
async fn over_http2_it_goes_on_alike() {
    let whole = file(100_000);
    let sent = whole.clone();
    let upstream = Upstream::h2_with(move |request| {
        let Some(range) = request.header("range") else {
            let answer = H2Reply::status(200).header("content-length", "100000");
            let answer = answer.header("etag", "\"v1\"").body(sent.clone());
            return answer.reset_at(30_000, Reason::INTERNAL_ERROR);
        };
        let first = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        let first: usize = first.unwrap().parse().unwrap();
        let range = format!("bytes {first}-99999/100000");
        let answer = H2Reply::status(206).header("content-range", &range);
        answer.header("etag", "\"v1\"").body(sent.slice(first..))
    })
    .await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &["--http2"]).await;
    assert_eq!((ran.status, upstream.requests().len()), (Some(0), 2), "{}", ran.stderr);
    assert!(folder.holds_only(&whole));
}

#[tokio::test]
async fn a_download_goes_on_as_often_as_it_is_told_to_and_is_then_kept() {
    let upstream =
        upstream(|_, request| Reply::file(request, file(1_000), "\"v1\"").truncate_at(100)).await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &["--max-resumes", "2"]).await;
    assert_eq!((ran.status, upstream.requests().len()), (Some(4), 3), "{}", ran.stderr);
    assert_eq!(folder.part().unwrap(), file(300));
    let kept = format!("300 B of 1000 B are kept in {}.part", folder.file());
    assert!(ran.stderr.contains(&kept) && ran.stderr.contains("--continue"), "{}", ran.stderr);
    let ran = download(&folder, &upstream, &["-c", "--max-resumes", "6"]).await;
    assert_eq!((ran.status, upstream.requests().len()), (Some(0), 10), "{}", ran.stderr);
    assert!(folder.holds_only(&file(1_000)));
}

#[cfg(unix)]
#[tokio::test]
async fn what_was_killed_goes_on_and_asks_only_for_the_rest() {
    let whole = file(1_000_000);
    let upstream = upstream(|nth, request| {
        let answer = Reply::file(request, file(1_000_000), "\"v1\"");
        if nth == 1 { slow(answer) } else { answer }
    })
    .await;
    let folder = Folder::new();
    let mut child = command(&folder, &upstream.url("/f"), &[]).spawn().unwrap();
    folder.until(200_000).await;
    signal(&child, "-KILL");
    assert_eq!(child.wait().await.unwrap().code(), None);
    let there = folder.part().unwrap();
    assert!(there.len() < 1_000_000 && there == whole[..there.len()]);
    assert_eq!(folder.names(), ["f.part", "f.part.json"]);
    let ran = download(&folder, &upstream, &["--continue"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(folder.holds_only(&whole));
    assert_eq!(ranges(&upstream), [None, Some(format!("bytes={}-", there.len()))]);
    assert_eq!(upstream.requests()[1].header("if-range"), Some("\"v1\""));
}

#[cfg(unix)]
#[tokio::test]
async fn killed_at_any_moment_again_and_again_it_is_one_file_in_the_end() {
    let other = Bytes::from(file(400_007).iter().map(|byte| !byte).collect::<Vec<_>>());
    let sent = other.clone();
    let upstream = upstream(move |nth, request| {
        let file = if nth <= 4 { (file(400_000), "\"v1\"") } else { (sent.clone(), "\"v2\"") };
        Reply::file(request, file.0, file.1).slow(2_000, MS)
    })
    .await;
    let folder = Folder::new();
    let entropy = redial::core::Entropy::seeded(7);
    for _ in 0..12 {
        let mut child = command(&folder, &upstream.url("/f"), &["-c"]).spawn().unwrap();
        tokio::time::sleep(MS * u32::try_from(entropy.draw() % 60).unwrap()).await;
        if child.try_wait().unwrap().is_none() {
            signal(&child, "-KILL");
        }
        child.wait().await.unwrap();
        assert!(!folder.names().contains(&"f".to_owned()) || folder.holds_only(&other));
    }
    let ran = download(&folder, &upstream, &["-c"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(folder.holds_only(&other), "{:?}", folder.names());
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_says_how_to_go_on() {
    let upstream =
        upstream(|_, request| slow(Reply::file(request, file(1_000_000), "\"v1\""))).await;
    let folder = Folder::new();
    let child = command(&folder, &upstream.url("/f"), &[]).spawn().unwrap();
    folder.until(100_000).await;
    signal(&child, "-INT");
    let ran = Ran::from(child.wait_with_output().await.unwrap());
    assert_eq!(ran.status, Some(130));
    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the same command with --continue goes on"), "{}", ran.stderr);
    assert_eq!(folder.names(), ["f.part", "f.part.json"]);
}

#[tokio::test]
async fn a_deadline_ends_it_and_what_came_is_kept() {
    let upstream =
        upstream(|_, request| slow(Reply::file(request, file(10_000_000), "\"v1\""))).await;
    let folder = Folder::new();
    let report = folder.0.join("report").to_string_lossy().into_owned();
    let ran = download(&folder, &upstream, &["--deadline", "2s", "--report", &report]).await;
    assert_eq!((ran.status, upstream.requests().len()), (Some(5), 1), "{}", ran.stderr);
    assert_eq!(folder.names(), ["f.part", "f.part.json", "report"]);
    assert!(ran.stderr.contains("are kept in"), "{}", ran.stderr);
}

#[tokio::test]
async fn the_report_says_which_attempt_went_on() {
    let upstream = upstream(|nth, request| match nth {
        1 => Reply::file(request, file(1_000), "\"v1\"").truncate_at(400),
        2 => Reply::status(503),
        _ => Reply::file(request, file(1_000), "\"v1\""),
    })
    .await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &["--report", "-"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    let attempts = report["attempts"].as_array().unwrap();
    let column = |key: &str| {
        serde_json::Value::from_iter(attempts.iter().map(|attempt| attempt[key].clone()))
    };
    assert_eq!(column("attempt"), serde_json::json!([1, 2, 3]));
    assert_eq!(column("decision"), serde_json::json!(["resume", "retry", "stop"]));
    assert_eq!(column("status"), serde_json::json!([200, 503, 206]));
    assert_eq!(attempts[0]["error"], "response_truncated");
    assert_eq!(attempts[0]["reason"], "the download goes on at 400");
}

/// A run that leaves the first 400 of 1,000 bytes of `"v1"`, then what `reply` makes of it.
async fn broken(
    folder: &Folder,
    reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> Upstream {
    let upstream = upstream(move |nth, request| match nth {
        1 => Reply::file(request, file(1_000), "\"v1\"").truncate_at(400),
        _ => reply(nth, request),
    })
    .await;
    let ran = download(folder, &upstream, &["--max-resumes", "0"]).await;
    assert_eq!((ran.status, folder.part().unwrap().len()), (Some(4), 400), "{}", ran.stderr);
    upstream
}

#[tokio::test]
async fn a_file_that_was_changed_between_two_runs_begins_anew() {
    let folder = Folder::new();
    let other = Bytes::from(vec![b'x'; 900]);
    let sent = other.clone();
    let upstream =
        broken(&folder, move |_, request| Reply::file(request, sent.clone(), "\"v2\"")).await;
    let ran = download(&folder, &upstream, &["--continue"]).await;
    assert_eq!((ran.status, upstream.requests().len()), (Some(0), 2), "{}", ran.stderr);
    assert!(ran.stderr.contains("it was changed on the server: beginning anew"), "{}", ran.stderr);
    assert!(folder.holds_only(&other));
}

#[tokio::test]
async fn a_file_that_is_changed_while_it_comes_begins_anew() {
    let other = Bytes::from(vec![b'x'; 900]);
    let sent = other.clone();
    let upstream = upstream(move |nth, request| match nth {
        1 => Reply::file(request, file(1_000), "\"v1\"").truncate_at(400),
        2 => Reply::file(request, sent.clone(), "\"v2\"").truncate_at(300),
        _ => Reply::file(request, sent.clone(), "\"v2\""),
    })
    .await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &[]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("changed on the server"), "{}", ran.stderr);
    assert!(folder.holds_only(&other));
    let range = |at| Some(format!("bytes={at}-"));
    assert_eq!(ranges(&upstream), [None, range(400), range(300)]);
}

#[tokio::test]
async fn what_is_not_proven_to_be_the_rest_begins_anew() {
    let part =
        |range: &str| Reply::status(206).header("content-range", range).header("etag", "\"v1\"");
    let multipart = "multipart/byteranges; boundary=x";
    for (reply, words, requests) in [
        (Reply::ok(file(1_000)).header("etag", "\"v1\""), "the server sends no ranges", 2),
        (Reply::status(416), "it was changed", 3),
        (Reply::status(412), "it was changed", 3),
        (part("bytes 399-999/1000").body(file(601)), "it was changed", 3),
        (part("bytes 400-1000/1001").body(file(601)), "it was changed", 3),
        (
            part("bytes 400-999/1000").header("content-type", multipart).body("--x--"),
            "cannot be",
            3,
        ),
        (Reply::status(206).body(file(600)), "cannot be told to be the rest", 3),
    ] {
        let folder = Folder::new();
        let second = reply.clone();
        let upstream = broken(&folder, move |nth, request| match nth {
            2 => second.clone(),
            _ => Reply::file(request, file(1_000), "\"v1\""),
        })
        .await;
        let ran = download(&folder, &upstream, &["--continue"]).await;
        assert_eq!(ran.status, Some(0), "{reply:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{reply:?}: {}", ran.stderr);
        assert!(folder.holds_only(&file(1_000)), "{reply:?}");
        let asked_for = ranges(&upstream);
        assert_eq!((asked_for.len(), asked_for[1].as_deref()), (requests, Some("bytes=400-")));
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_not_asked_for_any() {
    for head in [("accept-ranges", "none"), ("x", "no validator")] {
        let upstream = upstream(move |nth, _| {
            let whole = Reply::ok(file(1_000)).header(head.0, head.1);
            let whole = if head.0 == "x" { whole } else { whole.header("etag", "\"v1\"") };
            if nth < 3 { whole.truncate_at(700) } else { whole }
        })
        .await;
        let folder = Folder::new();
        let ran = download(&folder, &upstream, &[]).await;
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(folder.holds_only(&file(1_000)));
        assert_eq!(ranges(&upstream), [None, None, None]);
    }
}

#[tokio::test]
async fn a_failure_leaves_the_partial_file_for_later() {
    let folder = Folder::new();
    let upstream = broken(&folder, |nth, request| match nth {
        2 => Reply::status(404),
        3 => Reply::status(302).header("location", "/login"),
        _ => Reply::file(request, file(1_000), "\"v1\""),
    })
    .await;
    for _ in 0..2 {
        let ran = download(&folder, &upstream, &["--continue"]).await;
        assert_eq!(ran.status, Some(3), "{}", ran.stderr);
        assert_eq!(folder.part().unwrap(), file(400));
        assert!(ran.stderr.contains("400 B of 1000 B are kept"), "{}", ran.stderr);
    }
    let ran = download(&folder, &upstream, &["--continue"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(folder.holds_only(&file(1_000)));
}

#[tokio::test]
async fn what_came_complete_and_wrong_does_not_get_the_name() {
    let answers: [fn(usize, Reply) -> Reply; 2] =
        [|_, reply| reply, |nth, reply| if nth == 1 { reply.truncate_at(400) } else { reply }];
    for (announced, status) in [(digest(&file(1_000)), 0), (digest(b"something else"), 3)] {
        for name in ["repr-digest", "content-digest"] {
            for answer in answers {
                let digest = announced.clone();
                let upstream = upstream(move |nth, request| {
                    let reply = Reply::file(request, file(1_000), "\"v1\"");
                    answer(nth, reply.header(name, digest.clone()))
                })
                .await;
                let folder = Folder::new();
                fs::write(folder.file(), "of before").unwrap();
                let ran = download(&folder, &upstream, &[]).await;
                assert_eq!(ran.status, Some(status), "{}", ran.stderr);
                if status == 0 {
                    assert!(folder.holds_only(&file(1_000)));
                } else {
                    assert!(ran.stderr.contains("sha-256 digest"), "{}", ran.stderr);
                    assert!(folder.holds_only(b"of before"), "{:?}", folder.names());
                }
            }
        }
    }
}

#[tokio::test]
async fn a_partial_file_that_was_tampered_with_is_found_out_by_its_digest() {
    let folder = Folder::new();
    let upstream = upstream(|nth, request| {
        let reply = Reply::file(request, file(1_000), "\"v1\"");
        let reply = reply.header("repr-digest", digest(&file(1_000)));
        if nth == 1 { reply.truncate_at(400) } else { reply }
    })
    .await;
    download(&folder, &upstream, &["--max-resumes", "0"]).await;
    fs::write(folder.0.join("f.part"), vec![b'?'; 400]).unwrap();
    let ran = download(&folder, &upstream, &["--continue"]).await;
    assert_eq!((ran.status, folder.names().len()), (Some(3), 0), "{}", ran.stderr);
}
