//! Who may speak to the gateway at all.
//!
//! A gateway on loopback without a token trusts whoever can reach it, and a browser can: a page from
//! anywhere may send requests to localhost, or point its own name there (DNS rebinding). So such a
//! listener answers to its own names only, and to no other page's requests.

use std::net::SocketAddr;

use aegis_mesh::{Error, Principal, Result, Secret};
use http::{HeaderMap, Method, Uri, header, request::Parts, uri::Authority};
use subtle::ConstantTimeEq;

/// What a queue token opens.
const QUEUE: &str = "/v1/admin/queue";

/// What a request must show.
#[derive(Debug, Clone)]
pub struct Guard {
    token: Option<Secret>,
    queue_token: Option<Secret>,
    /// Lower-case names without port; `None` lets every name in.
    hosts: Option<Vec<String>>,
}

impl Guard {
    /// For a listener at `address`, with further `hosts` that it answers to.
    pub fn new(address: SocketAddr, token: Option<Secret>, hosts: &[String]) -> Self {
        let mut names: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let checked = address.ip().is_loopback() || !names.is_empty();
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        names.push(match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        });
        let hosts = checked.then_some(names);
        Self {
            token,
            queue_token: None,
            hosts,
        }
    }

    /// The same, with a token that opens the queue's depth and nothing else.
    #[must_use]
    pub fn with_queue_token(self, queue_token: Option<Secret>) -> Self {
        Self {
            queue_token,
            ..self
        }
    }

    /// Refuses requests that were meant for another name, or sent by another site's page.
    ///
    /// # Errors
    /// PERMISSION_DENIED / HOST_NOT_ALLOWED, ORIGIN_NOT_ALLOWED.
    pub fn check_origin(&self, request: &Parts) -> Result<()> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let host =
            host_of(request).filter(|host| hosts.contains(&host.host().to_ascii_lowercase()));
        let Some(host) = host else {
            let text = "this listener does not answer to that host name";
            return Err(Error::permission_denied("HOST_NOT_ALLOWED", text)
                .hint("use localhost or 127.0.0.1, or add the name to allowed_hosts"));
        };
        match request.headers.get(header::ORIGIN) {
            Some(origin) if !is_same_origin(origin.as_bytes(), &host) => {
                let text = "pages of other sites may not call this listener";
                Err(Error::permission_denied("ORIGIN_NOT_ALLOWED", text))
            }
            _ => Ok(()),
        }
    }

    /// Who sends an HTTP request: as [`Guard::principal`], and who has the queue's token where it
    /// is enough.
    ///
    /// # Errors
    /// As [`Guard::principal`].
    pub fn caller(&self, request: &Parts) -> Result<Principal> {
        let is_queue = request.method == Method::GET && request.uri.path() == QUEUE;
        match &self.queue_token {
            Some(token) if is_queue && shows(&request.headers, token) => Ok(Principal {
                subject: "queue-token".to_owned(),
                ..Principal::local()
            }),
            _ => self.principal(&request.headers),
        }
    }

    /// Who the caller is.
    ///
    /// # Errors
    /// UNAUTHENTICATED when a token is set and the request has not that one.
    pub fn principal(&self, headers: &HeaderMap) -> Result<Principal> {
        let Some(token) = &self.token else {
            return Ok(Principal::local());
        };
        if shows(headers, token) {
            return Ok(Principal::local());
        }
        let text = "a valid bearer token is needed";
        Err(Error::unauthenticated("UNAUTHENTICATED", text)
            .hint("send the header authorization: Bearer TOKEN"))
    }
}

/// Whether the request has this token; takes as long for a wrong one as for the right one.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], |value| value.as_bytes());
    let (scheme, given) = given.split_at(given.len().min(b"Bearer ".len()));
    let fits = given.ct_eq(token.expose().as_bytes());
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(fits)
}

/// HTTP/2's `:authority`, or HTTP/1's `Host`: exactly one.
fn host_of(request: &Parts) -> Option<Authority> {
    let mut named = request.headers.get_all(header::HOST).iter();
    let authority = request.uri.authority().cloned();
    let host = named
        .next()
        .and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if named.next().is_some() {
        return None;
    }
    let host = authority.or(host)?;
    // "user@localhost" is nobody's host.
    (!host.as_str().contains('@')).then_some(host)
}

fn is_same_origin(origin: &[u8], host: &Authority) -> bool {
    let origin = Uri::try_from(origin).ok();
    let authority = origin.as_ref().and_then(Uri::authority);
    authority.is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(pairs: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/v1/scans");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn guard(hosts: &[&str]) -> Guard {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        Guard::new("127.0.0.1:8080".parse().unwrap(), None, &hosts)
    }

    #[test]
    fn a_loopback_listener_answers_to_its_own_names_only() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:1",
            "[::1]:8080",
            "aegis.example",
        ] {
            assert!(
                guard(&["Aegis.example"])
                    .check_origin(&parts(&[("host", host)]))
                    .is_ok(),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.2",
            "",
            "x@localhost",
        ] {
            assert!(
                guard(&[]).check_origin(&parts(&[("host", host)])).is_err(),
                "{host}"
            );
        }
        assert!(guard(&[]).check_origin(&parts(&[])).is_err());
        assert!(
            guard(&[])
                .check_origin(&parts(&[("host", "localhost"), ("host", "evil.example")]))
                .is_err()
        );
    }

    #[test]
    fn a_public_listener_answers_to_every_name_unless_told() {
        let public = |hosts: &[String]| Guard::new("0.0.0.0:8080".parse().unwrap(), None, hosts);
        assert!(
            public(&[])
                .check_origin(&parts(&[("host", "any.example")]))
                .is_ok()
        );
        let named = public(&["aegis.example".to_owned()]);
        assert!(
            named
                .check_origin(&parts(&[("host", "any.example")]))
                .is_err()
        );
    }

    #[test]
    fn another_sites_page_may_not_call() {
        for (origin, allowed) in [
            ("http://localhost:8080", true),
            ("http://localhost:3000", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            let parts = parts(&[("host", "localhost:8080"), ("origin", origin)]);
            assert_eq!(guard(&[]).check_origin(&parts).is_ok(), allowed, "{origin}");
        }
    }
}
