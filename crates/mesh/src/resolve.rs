//! A name and the addresses behind it: a headless Service has one for each replica.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use http::{
    Uri,
    uri::{Authority, PathAndQuery},
};
use rand::seq::SliceRandom;
use tokio::time::timeout;

use crate::{Code, Error, Result, network::Network};

/// How long the system may look a name up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// More replicas than this are not connected to; which ones is left to chance.
const MAX_ADDRESSES: usize = 64;
const DEFAULT_PORT: u16 = 80;

/// Who is called, as configured.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    authority: Authority,
    host: String,
    port: u16,
}

impl Target {
    /// Refuses what is not `http://HOST[:PORT]`.
    pub(crate) fn parse(uri: &str) -> Result<Self> {
        let refused = |why: &str| {
            let text = format!("{uri:?} is no address: {why}");
            Error::invalid_argument("INVALID_ADDRESS", text)
        };
        let parsed = uri.parse::<Uri>().map_err(|e| refused(&e.to_string()))?;
        if parsed.scheme_str() != Some("http") {
            return Err(refused("it must be http://HOST:PORT"));
        }
        let authority = parsed.authority().ok_or_else(|| refused("no host"))?;
        let host = authority.host();
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(DEFAULT_PORT),
            authority: authority.clone(),
        })
    }

    /// Where a request for this path goes.
    pub(crate) fn uri(&self, path: &Uri) -> Result<Uri> {
        let path = path.path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.clone())
            .path_and_query(path);
        uri.build().map_err(Error::internal)
    }

    /// The addresses that the name has now, each once, those in `known` before others. An answer
    /// without any is a failure: it comes while a service is replaced.
    pub(crate) async fn resolve(
        &self,
        network: &dyn Network,
        known: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>> {
        let lookup = network.resolve(&self.host, self.port);
        let found = match timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(found)) if found.is_empty() => return Err(self.unresolved("it has no address")),
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(self.unresolved(&error.to_string())),
            Err(_) => return Err(self.unresolved("nobody answered")),
        };
        let unique: BTreeSet<SocketAddr> = found.into_iter().collect();
        let mut addresses: Vec<SocketAddr> = unique.into_iter().collect();
        if addresses.len() > MAX_ADDRESSES {
            addresses.shuffle(&mut rand::rng());
            addresses.sort_by_key(|address| !known.contains(address));
            addresses.truncate(MAX_ADDRESSES);
        }
        Ok(addresses)
    }

    fn unresolved(&self, why: &str) -> Error {
        let text = format!("the name {} cannot be resolved: {why}", self.host);
        Error::new(Code::Unavailable, "NAME_UNRESOLVED", text)
    }

    /// Nobody behind the name can be reached.
    pub(crate) fn unreachable(&self, why: &str) -> Error {
        let text = format!("{} cannot be reached: {why}", self.authority);
        Error::new(Code::Unavailable, "UNREACHABLE", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_host_and_a_port() {
        for (uri, host, port) in [
            ("http://catalog:7103", "catalog", 7103),
            ("http://[::1]:7103/", "::1", 7103),
            ("http://aegis.example", "aegis.example", 80),
        ] {
            let target = Target::parse(uri).expect(uri);
            assert_eq!((target.host.as_str(), target.port), (host, port));
        }
        for uri in ["catalog:7103", "https://catalog:7103", "", "http://"] {
            let error = Target::parse(uri).expect_err(uri);
            assert_eq!(error.reason(), "INVALID_ADDRESS");
        }
    }
}
