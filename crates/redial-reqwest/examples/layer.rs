//! A stack of `tower` layers that stands on reqwest.

use redial::{BoxError, core::Policy};
use redial_reqwest::{ReqwestTransport, attempts, into_response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    run().await
}

/// Calls a server that is busy twice.
pub(crate) async fn run() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/orders", listener.local_addr()?);
    tokio::spawn(serve(listener));

    let service =
        redial::stack(Policy::default()).layer(ReqwestTransport::new(reqwest::Client::new()));
    let request = http::Request::get(url).body(reqwest::Body::default())?;
    let answer = into_response(service.oneshot(request).await?);

    let attempts = attempts(&answer);
    let text = answer.text().await?;
    println!("{text} after {attempts} attempts");
    assert_eq!((attempts, text.as_str()), (3, "paid"));
    Ok(())
}

/// Answers 503 twice, and 200 from then on.
async fn serve(listener: TcpListener) -> std::io::Result<()> {
    for nth in 1.. {
        let (mut stream, _) = listener.accept().await?;
        let mut head = [0; 4_096];
        let _ = stream.read(&mut head).await?;
        let (status, text) =
            if nth <= 2 { ("503 Service Unavailable", "busy") } else { ("200 OK", "paid") };
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\n{text}");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
