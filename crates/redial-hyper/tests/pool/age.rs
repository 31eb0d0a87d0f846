//! Connections that have been there, or idle, for long enough.

use redial_testkit::{H2Reply, Reply, Upstream};

use super::*;

#[tokio::test]
async fn a_connection_that_nobody_wants_is_closed_and_its_host_forgotten() {
    let upstream = Upstream::script([Reply::ok("x")]).await;
    let idle = Duration::from_millis(30);
    let transport = Transport::builder().idle_timeout(idle).build().unwrap();
    text(send(&transport, &upstream.url("/")).await.unwrap()).await;
    let origins = transport.pool().snapshot().origins;
    let (name, counts) = &origins[0];
    assert_eq!((name, counts.open, counts.created), (&upstream.url(""), 1, 1));
    in_time(upstream.until(|upstream| upstream.connections_open() == 0)).await;
    in_time(async {
        while !transport.pool().snapshot().origins.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // What was counted stays in the sum.
    let total = total(&transport);
    assert_eq!((total.created, total.closed.idle, total.closed.sum(), total.open), (1, 1, 1, 0));
}

#[tokio::test]
async fn a_connection_that_is_old_gets_no_more_requests() {
    let lifetime = Duration::from_millis(50);
    let http1 = Upstream::script([Reply::ok("x")]).await;
    let http2 = Upstream::h2_script([H2Reply::status(200).body("x")]).await;
    for (upstream, is_h2) in [(http1, false), (http2, true)] {
        let builder = Transport::builder().max_lifetime(lifetime).http2_only(is_h2);
        let transport = builder.build().unwrap();
        in_time(async {
            while upstream.connections() < 4 {
                text(send(&transport, &upstream.url("/")).await.unwrap()).await;
            }
        })
        .await;
        until(&transport, |total| 3 <= total.closed.lifetime).await;
        let requests = upstream.requests();
        let spans = requests.chunk_by(|one, next| one.connection == next.connection);
        for span in spans {
            let took = span[span.len() - 1].at - span[0].at;
            // A request is begun in time and may arrive a little later.
            assert!(took < lifetime * 4, "{took:?}");
        }
        assert_eq!(total(&transport).closed.sum(), total(&transport).closed.lifetime);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_gone_at_once() {
    let upstream = Upstream::script([Reply::ok("x").die()]).await;
    let transport = Transport::builder().build().unwrap();
    for nth in 1..=3 {
        text(send(&transport, &upstream.url("/")).await.unwrap()).await;
        until(&transport, |total| total.open == 0).await;
        assert_eq!(total(&transport).closed.sum(), nth);
    }
    // Whether the close came before or after the connection was put back is chance.
    let closed = total(&transport).closed;
    assert_eq!(closed.server + closed.abandoned, 3, "{closed:?}");
}
