use std::{io::Read, os::fd::OwnedFd};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::*;

/// What a terminal of 100 columns that nobody sits at got to see on stderr.
async fn seen(mut command: Command) -> (Option<i32>, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs: OwnedFd =
        rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&theirs, size).unwrap();
    let mut child = command.stderr(Stdio::from(theirs)).spawn().unwrap();
    // The last copy of their end in this process, so that reading ends.
    drop(command);
    let reading = tokio::task::spawn_blocking(move || {
        let (mut file, mut seen) = (fs::File::from(ours), Vec::new());
        let mut buffer = [0; 4_096];
        // An error means that the other end is closed.
        while let Ok(count) = file.read(&mut buffer) {
            if count == 0 {
                break;
            }
            seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    let status = child.wait().await.unwrap();
    (status.code(), reading.await.unwrap())
}

#[tokio::test]
async fn a_terminal_sees_size_share_speed_time_left_and_resumes() {
    let upstream = upstream(|nth, request| {
        let answer = slow(Reply::file(request, file(1 << 20), "\"v1\""));
        if nth == 1 { answer.truncate_at(1 << 19) } else { answer }
    })
    .await;
    let folder = Folder::new();
    let command = command(&folder, &upstream.url("/f"), &["--color", "never"]);
    let (status, seen) = seen(command).await;
    assert_eq!(status, Some(0), "{seen}");
    assert!(folder.holds_only(&file(1 << 20)));
    for words in ["KiB of 1.00 MiB", " %", "/s", " left", "resumed 1×", "resumed once", "✓ done"]
    {
        assert!(seen.contains(words), "{words}: {seen:?}");
    }
}

#[tokio::test]
async fn nobody_else_sees_what_moves() {
    let upstream = upstream(|_, request| slow(Reply::file(request, file(300_000), "\"v1\""))).await;
    let folder = Folder::new();
    let ran = download(&folder, &upstream, &[]).await;
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    let ran = download(&folder, &upstream, &["-v"]).await;
    assert!(!ran.stderr.contains('\r') && !ran.stderr.contains(" left"), "{:?}", ran.stderr);
    let quiet = command(&folder, &upstream.url("/f"), &["-q"]);
    assert_eq!(seen(quiet).await, (Some(0), String::new()));
}
