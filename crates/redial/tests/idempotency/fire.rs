//! Both sides over real sockets: hyper's server, and a client with everything between them that goes wrong.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use redial::{
    BoxError, RetryLayer,
    core::{BudgetPolicy, Policy},
    idempotency::{IdempotencyKeyLayer, IdempotencyLayer, MemoryStore, Provider},
};
use tokio::{net::TcpListener, sync::Barrier, task::JoinSet};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::shop::Shop;

/// Serves on a port of its own, for as long as the test runs.
async fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            let service =
                hyper::service::service_fn(move |request| service.clone().oneshot(request));
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                // How a connection ends is the client's to judge.
                drop(builder.serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    address
}

fn order(address: SocketAddr) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://{address}/orders?body=20000"));
    request.body(Full::from("one apple")).unwrap()
}

async fn read<B: Body<Data = Bytes, Error: std::fmt::Debug>>(
    response: Response<B>,
) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_duplicates_at_once_are_one_execution_and_ninety_nine_equal_answers() {
    let shop = Shop::default();
    let address = serve(IdempotencyLayer::new(MemoryStore::default()).layer(shop.clone())).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let at_once = Arc::new(Barrier::new(100));
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (client, at_once) = (client.clone(), Arc::clone(&at_once));
        let mut request = order(address);
        request.headers_mut().insert("idempotency-key", "\"the-one\"".parse().unwrap());
        calls.spawn(async move {
            at_once.wait().await;
            read(client.request(request).await.unwrap()).await
        });
    }
    let answers = calls.join_all().await;
    assert_eq!((shop.begun(), shop.ended()), (1, 1));
    let (replayed, first): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|(_, headers, _)| headers.contains_key("idempotent-replayed"));
    assert_eq!((first.len(), replayed.len()), (1, 99));
    let (status, headers, body) = &first[0];
    assert_eq!((status.as_u16(), body.len()), (201, 20_000));
    for answer in &replayed {
        assert_eq!((answer.0, &answer.2), (*status, body));
        assert_eq!(answer.1["location"], headers["location"]);
        assert_eq!(answer.1["content-length"], headers["content-length"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_on_the_way_cost_no_second_execution() {
    let shop = Shop::default();
    let service = IdempotencyLayer::new(MemoryStore::default()).layer(shop.clone());
    // Two of three answers never arrive: the connection is cut when the work is done.
    let count = Arc::new(AtomicU32::new(0));
    let cuts = service_fn(move |request| {
        let (service, number) = (service.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            let response = service.oneshot(request).await?;
            if number % 3 < 2 { Err(BoxError::from("cut")) } else { Ok(response) }
        }
    });
    let address = serve(cuts).await;
    let transport = Client::builder(TokioExecutor::new()).build_http();
    let transport = service_fn(move |request| {
        let transport = transport.clone();
        async move {
            // A transport of ours would say so itself.
            let reset = |error| io::Error::new(io::ErrorKind::ConnectionReset, error);
            transport.request(request).await.map_err(|error| BoxError::from(reset(error)))
        }
    });
    let client = ServiceBuilder::new()
        .layer(IdempotencyKeyLayer::new().honored_by(Provider::DRAFT))
        // Two retries a call are more than any budget allows for long.
        .layer(RetryLayer::new(Policy { budget: BudgetPolicy::Unlimited, ..Policy::default() }))
        .service(transport);
    for number in 1..=5 {
        let answer = client.clone().oneshot(order(address)).await.unwrap();
        let (status, headers, _) = read(answer).await;
        assert_eq!((status.as_u16(), headers.contains_key("idempotent-replayed")), (201, true));
        assert_eq!(shop.ended(), number, "one execution a call");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_finds_its_answer_when_it_comes_again() {
    let shop = Shop::default();
    let address = serve(IdempotencyLayer::new(MemoryStore::default()).layer(shop.clone())).await;
    let keyed = || {
        let mut request = order(address);
        *request.uri_mut() = format!("http://{address}/orders?after=1").parse().unwrap();
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let client = || Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let hasty = tokio::time::timeout(Duration::from_millis(300), client().request(keyed())).await;
    assert!(hasty.is_err());
    let (status, headers, _) = read(client().request(keyed()).await.unwrap()).await;
    assert_eq!((status.as_u16(), headers.contains_key("idempotent-replayed")), (201, true));
    assert_eq!((shop.begun(), shop.ended()), (1, 1));
}
