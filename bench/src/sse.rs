//! A scan's server-sent events, read as a browser reads them.

use aegis_tests::client::Client;
use anyhow::Result;
use reqwest::{Method, Response};

/// An open stream.
pub(crate) struct Events {
    response: Response,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Events {
    /// Opens one that goes on after this event.
    pub(crate) async fn open(client: &Client, scan: &str, after: i64) -> Result<Self> {
        let request = client
            .request(Method::GET, &format!("/v1/scans/{scan}/events"))
            .header("accept", "text/event-stream")
            .header("last-event-id", after);
        let response = request.send().await?.error_for_status()?;
        let rest = Vec::new();
        Ok(Self { response, rest })
    }

    /// Gives each line that comes next; `false` at the stream's end.
    pub(crate) async fn next(&mut self, mut line: impl FnMut(&[u8])) -> Result<bool> {
        let Some(chunk) = self.response.chunk().await? else {
            return Ok(false);
        };
        self.rest.extend_from_slice(&chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(true);
        };
        self.rest[..end]
            .split(|byte| *byte == b'\n')
            .for_each(&mut line);
        self.rest.drain(..=end);
        Ok(true)
    }
}

/// The number of an event, in a line that has it.
pub(crate) fn id(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line.strip_prefix(b"id: ")?)
        .ok()?
        .parse()
        .ok()
}
