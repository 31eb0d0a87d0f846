//! A server on loopback that fails as its script says. It speaks just enough HTTP/1.1 for that, by
//! hand, because a proper server would not let it break the rules.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::script::{Kind, Script, Trouble};

/// The server, and what it has seen.
#[derive(Clone)]
pub(super) struct Upstream {
    addr: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    script: Arc<Script>,
    /// Attempts of each call that arrived.
    attempts: Vec<AtomicU32>,
    /// How often each call took effect.
    applied: Vec<AtomicU32>,
}

impl Upstream {
    pub(super) async fn start(script: Arc<Script>) -> io::Result<Self> {
        let counters = || script.calls().iter().map(|_| AtomicU32::new(0)).collect();
        let seen = Seen { attempts: counters(), applied: counters(), script: Arc::clone(&script) };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let upstream = Self { addr: listener.local_addr()?, seen: Arc::new(seen) };
        tokio::spawn(upstream.clone().serve(listener));
        Ok(upstream)
    }

    /// Returns where call `n` goes. One that is to be refused goes to an address where nobody listens
    /// yet; somebody will a moment later.
    pub(super) async fn target(&self, n: u32) -> io::Result<String> {
        let call = self.seen.script.call(n);
        if call.trouble != Trouble::Refused {
            return Ok(format!("http://{}/{n}", self.addr));
        }
        let addr = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let upstream = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REFUSED_FOR * call.times).await;
            // If somebody else has taken the address meanwhile, the call stays refused.
            if let Ok(listener) = TcpListener::bind(addr).await {
                upstream.serve(listener).await;
            }
        });
        Ok(format!("http://{addr}/{n}"))
    }

    /// Returns how many POSTs took effect more than once, though they carried no key.
    pub(super) fn repeated_posts(&self) -> usize {
        let calls = self.seen.script.calls().iter().zip(&self.seen.applied);
        let repeated = calls.filter(|(call, applied)| {
            call.kind == Kind::Post && 1 < applied.load(Ordering::Relaxed)
        });
        repeated.count()
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let seen = Arc::clone(&self.seen);
            // A connection that breaks is this server's everyday life.
            tokio::spawn(async move { seen.talk(connection).await });
        }
    }
}

impl Seen {
    async fn talk(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut connection = BufReader::new(connection);
        loop {
            let Some(n) = read_request(&mut connection).await? else { return Ok(()) };
            let index = usize::try_from(n).unwrap_or(usize::MAX);
            let (Some(attempts), Some(applied)) =
                (self.attempts.get(index), self.applied.get(index))
            else {
                return Ok(());
            };
            let call = self.script.call(n);
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            let trouble = if attempt <= call.times { call.trouble } else { Trouble::None };
            if !matches!(trouble, Trouble::Unavailable | Trouble::Throttled) {
                applied.fetch_add(1, Ordering::Relaxed);
            }
            let stream = connection.get_mut();
            match trouble {
                Trouble::None | Trouble::Refused => stream.write_all(FINE).await?,
                Trouble::Unavailable => stream.write_all(UNAVAILABLE).await?,
                Trouble::Throttled => stream.write_all(THROTTLED).await?,
                Trouble::Slow => {
                    tokio::time::sleep(SLOW).await;
                    stream.write_all(FINE).await?;
                }
                Trouble::Truncated => {
                    return stream.write_all(&FINE[..FINE.len() - MISSING]).await;
                }
                Trouble::Reset => return stream.set_zero_linger(),
            }
        }
    }
}

/// Reads a request to its end; returns the number in its target, or nothing at the connection's end.
async fn read_request(connection: &mut BufReader<TcpStream>) -> io::Result<Option<u32>> {
    let mut line = String::new();
    if connection.take(LINE_BYTES_MAX).read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).and_then(|path| path.strip_prefix('/'));
    let number = target.and_then(|number| number.parse().ok());
    let mut length = 0_u64;
    loop {
        let mut field = String::new();
        connection.take(LINE_BYTES_MAX).read_line(&mut field).await?;
        let Some((name, value)) = field.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    tokio::io::copy(&mut connection.take(length.min(BODY_BYTES_MAX)), &mut tokio::io::sink())
        .await?;
    Ok(number)
}

pub(super) const SLOW: Duration = Duration::from_millis(1_500);
const REFUSED_FOR: Duration = Duration::from_millis(200);
const LINE_BYTES_MAX: u64 = 8 * 1024;
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// How much of a truncated answer never comes.
const MISSING: usize = 7;

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nhere you are.\n";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 6\r\n\r\nlater\n";
const THROTTLED: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 5\r\n\r\nslow\n";
