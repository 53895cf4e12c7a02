//! A thousand clients with a connection each.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aegis_tests::client::Client;
use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::timeout};

use crate::sse::Events;

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(60);
/// Opened at once.
const OPENING: usize = 50;
const NAME: &[u8] = b"\"bench.";

/// The name of a detector that is through: its number can be read again.
pub(super) fn name(number: usize, pad: usize) -> String {
    format!("bench.{number:06}{}", "x".repeat(pad))
}

fn number(line: &[u8]) -> Option<usize> {
    let data = line.strip_prefix(b"data: ")?;
    let at = data.windows(NAME.len()).position(|part| part == NAME)? + NAME.len();
    std::str::from_utf8(data.get(at..at + 6)?)
        .ok()?
        .parse()
        .ok()
}

/// When each event was sent.
#[derive(Default)]
pub(super) struct Sent(RwLock<Vec<Instant>>);

impl Sent {
    pub(super) fn now(&self) {
        let mut sent = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sent.push(Instant::now());
    }

    fn micros_since(&self, number: usize) -> Result<u32> {
        let sent = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let sent = sent.get(number).context("an event that was not sent")?;
        Ok(u32::try_from(sent.elapsed().as_micros())?)
    }
}

/// What came.
#[derive(Default)]
pub(super) struct Came {
    /// Microseconds that each event took to each client.
    pub(super) times: Vec<u32>,
    /// Of the events, as the clients got them.
    pub(super) bytes: usize,
}

/// Clients that each wait for so many events.
pub(super) struct Watchers(JoinSet<Result<Came>>);

impl Watchers {
    pub(super) async fn open(
        client: &Client,
        scan: &str,
        watchers: usize,
        events: usize,
        sent: &Arc<Sent>,
    ) -> Result<Self> {
        let mut open = Vec::with_capacity(watchers);
        while open.len() < watchers {
            let mut opening = JoinSet::new();
            for _ in 0..OPENING.min(watchers - open.len()) {
                let (client, scan) = (client.clone(), scan.to_owned());
                opening.spawn(async move { Events::open(&client, &scan, 0).await });
            }
            while let Some(stream) = opening.join_next().await {
                open.push(stream??);
            }
        }
        let mut reading = JoinSet::new();
        for stream in open {
            reading.spawn(read(stream, events, Arc::clone(sent)));
        }
        Ok(Self(reading))
    }

    /// All that came to any of them.
    pub(super) async fn all(mut self) -> Result<Came> {
        let mut all = Came::default();
        while let Some(read) = self.0.join_next().await {
            let came = read??;
            all.times.extend(came.times);
            all.bytes += came.bytes;
        }
        Ok(all)
    }
}

/// Reads until the last event has come: each once, in order.
async fn read(mut stream: Events, events: usize, sent: Arc<Sent>) -> Result<Came> {
    let mut all = Came::default();
    let mut frame = 0;
    while all.times.len() < events {
        let mut came = Vec::new();
        let line = |line: &[u8]| {
            // An empty line ends an event.
            frame = if line.is_empty() {
                0
            } else {
                frame + line.len() + 1
            };
            if let Some(number) = number(line) {
                came.push(number);
                all.bytes += frame + 1;
            }
        };
        let open = timeout(PATIENCE, stream.next(line)).await??;
        for number in came {
            let had = all.times.len();
            ensure!(number == had, "event {number} after {had}");
            all.times.push(sent.micros_since(number)?);
        }
        ensure!(open || all.times.len() == events, "a stream ended");
    }
    Ok(all)
}
