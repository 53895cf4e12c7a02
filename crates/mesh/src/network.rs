//! What the mesh needs of a network: names become addresses, addresses become connections. It is
//! the system's own; a simulation has one of its own.

use std::{fmt, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, lookup_host},
};

/// A connection: bytes in both directions.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// How a [`crate::MeshChannel`] reaches others.
#[tonic::async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Every address that `host` has now.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// A connection to one of them; the caller bounds the time.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>>;
}

/// Where a [`crate::MeshServer`] gets its connections from.
#[tonic::async_trait]
pub trait Listener: Send + Sync + 'static {
    /// The next connection.
    async fn accept(&self) -> io::Result<Box<dyn Wire>>;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network that the system has.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

#[tonic::async_trait]
impl Network for SystemNetwork {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // An address in figures is answered without asking anybody.
        Ok(lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[tonic::async_trait]
impl Listener for TcpListener {
    async fn accept(&self) -> io::Result<Box<dyn Wire>> {
        let (stream, _) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
