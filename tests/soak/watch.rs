//! Watching a scan, as a browser does: leaving, coming back after what was seen, missing nothing.

use aegis_tests::client::Client;
use anyhow::{Result, bail, ensure};
use reqwest::{Method, Response};

/// The first time a watcher leaves after so many events.
const LEAVES_AFTER: usize = 2;
/// More often none has to come back.
const RETURNS: usize = 20;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Number of the last event.
    pub(crate) last: i64,
    pub(crate) events: u64,
    /// How often the other side ended a stream before its scan's end.
    pub(crate) sent_away: u64,
}

/// Watches from after `last` on until the scan has ended.
pub(crate) async fn watch(client: &Client, id: &str, last: i64) -> Result<Seen> {
    let mut seen = Seen {
        last,
        ..Seen::default()
    };
    for time in 0..=RETURNS {
        let mut stream = Stream::open(client, id, seen.last).await?;
        let mut events = 0;
        while let Some(event) = stream.next().await? {
            if event.name == "end" && event.data.contains("ENDED") {
                return Ok(seen);
            }
            let Some(number) = event.id else { continue };
            ensure!(
                number == seen.last + 1,
                "event {number} of scan {id} comes after {}",
                seen.last
            );
            seen.last = number;
            seen.events += 1;
            events += 1;
            if time == 0 && events == LEAVES_AFTER {
                break;
            }
        }
        if time > 0 || events < LEAVES_AFTER {
            seen.sent_away += 1;
        }
    }
    bail!("scan {id} did not let itself be watched: {seen:?}")
}

struct Event {
    name: String,
    id: Option<i64>,
    data: String,
}

/// Server-sent events.
struct Stream {
    response: Response,
    /// What came of the next ones.
    rest: Vec<u8>,
}

impl Stream {
    async fn open(client: &Client, id: &str, last: i64) -> Result<Self> {
        let request = client
            .request(Method::GET, &format!("/v1/scans/{id}/events"))
            .header("accept", "text/event-stream")
            .header("last-event-id", last);
        let response = request.send().await?;
        if !response.status().is_success() {
            bail!("{}: {}", response.status(), response.text().await?);
        }
        Ok(Self {
            response,
            rest: Vec::new(),
        })
    }

    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let mut pairs = self.rest.windows(2);
            if let Some(at) = pairs.position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.rest.drain(..at + 2).collect();
                return Ok(Some(event_of(&String::from_utf8(event)?)?));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.rest.extend(chunk),
                None => return Ok(None),
            }
        }
    }
}

fn event_of(text: &str) -> Result<Event> {
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Ok(Event {
        name: field("event").unwrap_or_default().to_owned(),
        id: field("id").map(str::parse).transpose()?,
        data: field("data").unwrap_or_default().to_owned(),
    })
}

/// A stream that is read in pieces is what it is as a whole.
pub(crate) fn events_are_read() {
    let event = event_of("id: 7\nevent: scan.event\ndata: {\"a\": 1}\n\n").expect("an event");
    assert_eq!((event.name.as_str(), event.id), ("scan.event", Some(7)));
    assert_eq!(event.data, "{\"a\": 1}");
    assert!(event_of("id: x\n\n").is_err());
    assert_eq!(event_of(": ping\n\n").expect("a comment").id, None);
}
