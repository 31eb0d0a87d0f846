//! HTTP/2: streams that the server says it did not process.

use super::*;

/// Speaks HTTP/2 only, and repeats nothing by itself.
fn h2() -> ClientWithMiddleware {
    let client = Client::builder().http2_prior_knowledge().retry(reqwest::retry::never());
    ClientBuilder::new(client.build().unwrap())
        .with(RedialMiddleware::new(Policy::default()))
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_stream_was_refused_is_repeated() {
    for body in ["one order", ""] {
        let script = [H2Reply::refused_stream(), H2Reply::status(200).body("paid")];
        let upstream = Upstream::h2_script(script).await;
        let call = h2().post(upstream.url("/")).body(body).send();
        let answer = soon(call).await.unwrap();
        assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 2), "{body:?}");
        assert_eq!(upstream.requests().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_below_which_the_server_went_away_is_repeated() {
    let goes = H2Reply::hang().goaway(0, Reason::NO_ERROR);
    let upstream = Upstream::h2_script([goes, H2Reply::status(200)]).await;
    let answer = soon(h2().post(upstream.url("/")).body("one order").send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), attempts(&answer)), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_stream_was_reset_for_another_reason_is_not_repeated() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL] {
        let upstream = Upstream::h2_script([H2Reply::reset(reason)]).await;
        let error = soon(h2().post(upstream.url("/")).body("one order").send()).await;
        assert!(error.unwrap_err().is_request());
        assert_eq!(upstream.requests().len(), 1, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_not_repeated_when_the_target_of_its_redirect_refuses_the_stream() {
    for body in ["one order", ""] {
        let script = [H2Reply::status(303).header("location", "/there"), H2Reply::refused_stream()];
        let upstream = Upstream::h2_script(script).await;
        let call = h2().post(upstream.url("/here")).body(body).send();
        assert!(soon(call).await.unwrap_err().is_request());
        let posts = upstream.requests().iter().filter(|seen| seen.method == "POST").count();
        assert_eq!(posts, 1, "{body:?}");
    }
}
