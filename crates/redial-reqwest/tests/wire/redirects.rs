//! reqwest follows redirects within an attempt, and does not say so when it fails after one.

use super::*;

fn to(status: u16, url: &str) -> Reply {
    Reply::status(status).header("location", url)
}

fn nowhere() -> String {
    format!("http://{}/there", refused_addr())
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_within_one_attempt_with_the_body() {
    let target = Upstream::script([Reply::status(503), Reply::ok("paid")]).await;
    let upstream = Upstream::script([to(307, &target.url("/there"))]).await;
    let request = client().post(upstream.url("/here")).header("idempotency-key", "\"7\"");
    let answer = soon(request.body("one order").send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 2));
    assert_eq!(answer.url().as_str(), target.url("/there"));
    assert_eq!((upstream.requests().len(), target.requests().len()), (2, 2));
    assert!(target.requests().iter().all(|request| request.body == "one order"));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_answered_with_a_redirect_is_not_repeated_if_its_target_is_down() {
    for status in [301, 302, 303] {
        for body in ["one order", ""] {
            let upstream = Upstream::script([to(status, &nowhere())]).await;
            let call = client().post(upstream.url("/")).body(body).send();
            let error = soon(call).await.unwrap_err();
            assert!(error.is_connect());
            assert_eq!(upstream.requests().len(), 1, "{status} {body:?}");
        }
        let upstream = Upstream::script([to(status, &nowhere())]).await;
        let error = soon(client().post(upstream.url("/")).send()).await.unwrap_err();
        assert!(error.is_connect());
        assert_eq!(upstream.requests().len(), 1, "{status} without a body");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_post_was_sent_elsewhere_for_is_not_guessed() {
    for status in [307, 308] {
        let target = nowhere();
        let upstream = Upstream::script([to(status, &target)]).await;
        let call = client().post(upstream.url("/")).body("one order").send();
        assert!(soon(call).await.unwrap_err().is_connect());
        assert_eq!(upstream.requests().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_without_end_are_reported_as_reqwest_reports_them() {
    let upstream = Upstream::script([to(302, "/again")]).await;
    let error = soon(client().get(upstream.url("/")).send()).await.unwrap_err();
    assert!(error.is_redirect() && !error.is_middleware());
    assert_eq!(upstream.requests().len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_redirected_before_it_was_read_is_not_repeated_either() {
    for bytes in [1_000, 100_000, 1_000_000, 50_000_000] {
        let upstream = Upstream::script([to(303, &nowhere()).early()]).await;
        let call = client().post(upstream.url("/")).body(vec![b'x'; bytes]).send();
        assert!(soon(call).await.is_err());
        assert_eq!(upstream.requests().len(), 1, "{bytes}");
    }
}
