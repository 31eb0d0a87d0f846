use super::*;

#[tokio::test]
async fn two_runs_do_not_write_to_one_file() {
    let upstream = upstream(|_, request| slow(Reply::file(request, file(300_000), "\"v1\""))).await;
    let folder = Folder::new();
    let first = command(&folder, &upstream.url("/f"), &[]).spawn().unwrap();
    folder.until(1).await;
    for args in [&[][..], &["--continue"]] {
        let ran = download(&folder, &upstream, args).await;
        assert_eq!(ran.status, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("f.part is being written by another run"), "{}", ran.stderr);
    }
    let ran = Ran::from(first.wait_with_output().await.unwrap());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(folder.holds_only(&file(300_000)));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn an_earlier_partial_file_is_used_when_that_is_asked_for() {
    let folder = Folder::new();
    let upstream = upstream(|nth, request| {
        let whole = Reply::file(request, file(1_000), "\"v1\"");
        if nth % 2 == 1 { whole.truncate_at(400) } else { whole }
    })
    .await;
    let broken = || download(&folder, &upstream, &["--max-resumes", "0"]);
    assert_eq!(broken().await.status, Some(4));
    let ran = download(&folder, &upstream, &["-v"]).await;
    assert!(ran.stderr.contains("--continue would go on from there"), "{}", ran.stderr);
    assert!(ran.status == Some(0) && folder.holds_only(&file(1_000)));
    assert_eq!(broken().await.status, Some(4));
    // Of another URL, it is something else.
    let other = command(&folder, &upstream.url("/other"), &["-c"]);
    let ran = Ran::from({ other }.output().await.unwrap());
    assert!(ran.stderr.contains("of another URL"), "{}", ran.stderr);
    assert!(ran.status == Some(0) && folder.holds_only(&file(1_000)));
    assert_eq!(ranges(&upstream), [None, None, None, None]);
    let ran = download(&folder, &upstream, &["-c"]).await;
    assert_eq!(ran.status, Some(0), "with no partial file it is an ordinary download");
}

#[tokio::test]
async fn a_partial_file_that_is_complete_only_gets_its_name() {
    let folder = Folder::new();
    let upstream = upstream(|nth, request| {
        let whole = Reply::file(request, file(1_000), "\"v1\"");
        if nth == 1 { whole.truncate_at(400) } else { whole }
    })
    .await;
    download(&folder, &upstream, &["--max-resumes", "0"]).await;
    fs::write(folder.0.join("f.part"), file(1_000)).unwrap();
    let ran = download(&folder, &upstream, &["-c"]).await;
    assert_eq!((ran.status, upstream.requests().len()), (Some(0), 1), "{}", ran.stderr);
    assert!(folder.holds_only(&file(1_000)));
}

#[tokio::test]
async fn what_cannot_be_written_is_said_with_its_path_before_anything_is_asked_for() {
    let upstream = upstream(|_, request| Reply::file(request, file(10), "\"v1\"")).await;
    let folder = Folder::new();
    fs::write(folder.0.join("theirs.part"), "not ours").unwrap();
    let path = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
    for (name, words) in [
        (path(""), "is a folder; name a file in it"),
        (path("nowhere/f"), "nowhere/f.part: No such file"),
        (path("theirs"), "theirs.part is in the way"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redial"));
        let ran = command.args(["fetch", &upstream.url("/f"), "-o", &name]).output().await.unwrap();
        let ran = Ran::from(ran);
        assert_eq!(ran.status, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(fs::read(folder.0.join("theirs.part")).unwrap(), b"not ours");
}

#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_said_and_what_came_is_gone_on_with() {
    let upstream = upstream(|_, request| Reply::file(request, file(500_000), "\"v1\"")).await;
    let folder = Folder::new();
    // Files may have 64 to 128 kB, and writing more is an error instead of a signal.
    let limited = "trap '' XFSZ; ulimit -f 128; exec \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, "sh", env!("CARGO_BIN_EXE_redial"), "fetch", &upstream.url("/f")]);
    let ran = Ran::from(shell.args(["-o", &folder.file()]).output().await.unwrap());
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    let said = format!("cannot write {}.part: File too large", folder.file());
    assert!(ran.stderr.contains(&said) && ran.stderr.contains("--continue"), "{}", ran.stderr);
    let there = folder.part().unwrap().len();
    assert!(0 < there && there < 500_000, "{there}");
    let ran = download(&folder, &upstream, &["--continue"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(folder.holds_only(&file(500_000)));
    assert_eq!(ranges(&upstream), [None, Some(format!("bytes={there}-"))]);
}

#[cfg(unix)]
#[tokio::test]
async fn devices_are_written_to_as_it_comes() {
    let upstream = upstream(|_, request| Reply::file(request, file(10), "\"v1\"")).await;
    let url = upstream.url("/f");
    let to = async |name: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redial"));
        Ran::from(command.args(["fetch", &url, "-o", name]).args(more).output().await.unwrap())
    };
    assert_eq!(to("/dev/null", &[]).await.status, Some(0));
    assert!(!std::path::Path::new("/dev/null.part").exists());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    assert_eq!(to("/dev/null", &["--continue"]).await.status, Some(2));
    if cfg!(target_os = "linux") {
        let ran = to("/dev/full", &[]).await;
        assert!(ran.status == Some(2) && ran.stderr.contains("No space left"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn what_cannot_be_repeated_is_written_once() {
    let upstream = upstream(|_, _| Reply::ok(file(1_000)).truncate_at(300)).await;
    for (args, status) in [
        (&["-d", "x"][..], 4),
        (&["-H", "Range: bytes=0-"], 4),
        (&["-i"], 4),
        (&["-H", "Range: bytes=0-", "--continue"], 2),
        (&["-X", "POST", "--continue"], 2),
        (&["-i", "--continue"], 2),
        (&["-d", "x", "--continue"], 2),
    ] {
        let folder = Folder::new();
        let args = [args, &["--max-retries", "0"]].concat();
        let ran = download(&folder, &upstream, &args).await;
        assert_eq!(
            (ran.status, folder.names().len()),
            (Some(status), 0),
            "{args:?}: {}",
            ran.stderr
        );
    }
    let folder = Folder::new();
    let whole = self::upstream(|_, _| Reply::status(206).body("part")).await;
    let ran = download(&folder, &whole, &["-H", "Range: bytes=0-3", "-i"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let text = fs::read_to_string(folder.file()).unwrap();
    assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\n") && text.ends_with("\r\n\r\npart"));
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_not_the_file() {
    let upstream = upstream(|_, _| Reply::status(206).body("part")).await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &[]).await;
    assert_eq!((ran.status, folder.names().len()), (Some(3), 0), "{}", ran.stderr);
}

#[tokio::test]
async fn compression_is_not_asked_for_and_is_told_when_it_is_there() {
    let gzip = |_, _: &Received| {
        Reply::ok("not gzip, if anybody looked").header("content-encoding", "gzip")
    };
    let upstream = upstream(gzip).await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &[]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("encoded (gzip)"), "{}", ran.stderr);
    assert_eq!(upstream.requests()[0].header("accept-encoding"), Some("identity"));
    assert!(folder.holds_only(b"not gzip, if anybody looked"));
}
