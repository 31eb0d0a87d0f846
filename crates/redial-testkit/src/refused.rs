//! An address where connecting fails at once.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use tokio::net::TcpSocket;

/// Returns a loopback address where nothing listens: connecting to it is refused at once.
///
/// The port stays reserved until the process ends, at the cost of one file descriptor a call, so
/// that no other test can come to listen there. Every call returns another address.
///
/// # Panics
///
/// If the system has no loopback port left.
#[must_use]
pub fn refused_addr() -> SocketAddr {
    let (socket, address) = reserve().expect("a loopback port can be reserved");
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    address
}

/// Binds without listening: the port is taken, and whoever connects is refused.
fn reserve() -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

static RESERVED: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
