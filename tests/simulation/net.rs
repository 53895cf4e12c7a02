//! turmoil's network as the mesh wants one.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use aegis_mesh::{
    ClientConfig, Listener, MeshChannel, Network, ServerConfig, Shutdown, network::Wire,
    server::serve_routes,
};
use tonic::service::Routes;
use turmoil::net::{TcpListener, TcpStream};

/// Every host listens here.
const PORT: u16 = 7000;

#[derive(Debug)]
struct Turmoil;

#[tonic::async_trait]
impl Network for Turmoil {
    /// `a+b` has the addresses of both.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let address = |name| SocketAddr::new(turmoil::lookup(name), port);
        Ok(host.split('+').map(address).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(TcpStream::connect(address).await?))
    }
}

/// A way to a host, or to one of several: `orchestrator-1+orchestrator-2`.
pub(crate) fn channel_to(hosts: &str) -> MeshChannel {
    let uri = format!("http://{hosts}:{PORT}");
    let network = std::sync::Arc::new(Turmoil);
    MeshChannel::over(network, &uri, &ClientConfig::default()).expect("an address")
}

struct Listening(TcpListener);

#[tonic::async_trait]
impl Listener for Listening {
    async fn accept(&self) -> io::Result<Box<dyn Wire>> {
        let (stream, _) = self.0.accept().await?;
        Ok(Box::new(stream))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves these routes on the host that calls it, for ever.
pub(crate) async fn serve(routes: Routes) -> turmoil::Result {
    let any = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);
    let listener = Listening(TcpListener::bind(any).await?);
    serve_routes(routes, listener, &ServerConfig::default(), Shutdown::new()).await;
    Ok(())
}
