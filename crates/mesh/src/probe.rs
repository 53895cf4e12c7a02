//! Asking a service on this machine whether it serves: what a container's health check runs, in
//! images that have no other program.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{Error, Result};

/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon to ask again.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks the `grpc.health.v1` of what listens there.
///
/// # Errors
/// UNAVAILABLE / NOT_SERVING, or what the call failed with; FAILED_PRECONDITION / PORT_UNKNOWN when
/// the port is any free one.
pub(crate) async fn ask(listen: SocketAddr) -> Result<()> {
    if listen.port() == 0 {
        let message = "it listens on any free port, so nobody knows which to ask";
        return Err(Error::failed_precondition("PORT_UNKNOWN", message)
            .hint("let it listen on a port of its own"));
    }
    let address = format!("http://{}", reachable(listen));
    let endpoint = Endpoint::from_shared(address).map_err(Error::internal)?;
    let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
    let mut client = HealthClient::new(endpoint.connect_lazy());
    let answer = client.check(HealthCheckRequest::default()).await?;
    match answer.get_ref().status() {
        ServingStatus::Serving => Ok(()),
        other => {
            let message = format!("{listen} says {}", other.as_str_name());
            Err(Error::unavailable("NOT_SERVING", message, AGAIN))
        }
    }
}

/// A listener on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:7101", "127.0.0.1:7101"),
            ("[::]:7101", "[::1]:7101"),
            ("10.0.0.7:7101", "10.0.0.7:7101"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn any_free_port_cannot_be_asked() {
        let error = ask("127.0.0.1:0".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.reason(), "PORT_UNKNOWN");
    }
}
