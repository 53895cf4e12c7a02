//! What is read of a watched scan: once for all who watch it in this process.
//!
//! However many watch and however often the scan changes, the database is asked at most every
//! [`PAUSE`]. A watcher takes what it has not had yet out of the newest look; one that is further
//! behind than the events kept there reads pages of its own, at its own pace. So a slow one costs
//! nobody else anything, and loses nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use aegis_mesh::{Error, TaskHandle, spawn};
use aegis_proto::ids::{ProjectId, ScanId};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::EVENTS_PER_PAGE;
use crate::{
    domain::{
        event::{Event, LoggedEvent},
        scan::{ProbeProgress, ScanView},
        waiting::Waiting,
    },
    store::{Store, hub::ScanListener},
};

/// Shortest time between two looks at a scan.
const PAUSE: Duration = Duration::from_millis(25);
/// Progress is looked at this often at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Progress is looked at this often although nobody said that anything changed.
const PROGRESS_ANYWAY: Duration = Duration::from_secs(5);
/// Events that are kept for those who are a little behind.
const RECENT: usize = 256;

/// A scan as it was when it was last looked at.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// How far it is.
    pub(crate) view: Arc<ScanView>,
    /// Rises when `view` has something to tell.
    pub(crate) progress: u64,
    /// The last event that was read.
    sequence: i64,
    /// The newest events up to it.
    recent: VecDeque<LoggedEvent>,
    /// Why it is not looked at any more.
    pub(crate) failed: Option<Error>,
}

/// What a watcher has not had yet.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// Nothing.
    None,
    /// These, at least one.
    Events(Vec<LoggedEvent>),
    /// More than is kept.
    Behind,
}

impl Look {
    /// The last event that was read.
    pub(crate) fn sequence(&self) -> i64 {
        self.sequence
    }

    /// What came after this event.
    pub(crate) fn after(&self, sequence: i64) -> News {
        if sequence >= self.sequence {
            return News::None;
        }
        let is_next = |first: &LoggedEvent| first.sequence <= sequence + 1;
        if !self.recent.front().is_some_and(is_next) {
            return News::Behind;
        }
        let new = self.recent.iter().filter(|e| e.sequence > sequence);
        News::Events(new.cloned().collect())
    }

    /// Whether a watcher that has had this event has had all, and the scan has ended.
    pub(crate) fn is_end_for(&self, sequence: i64) -> bool {
        self.view.scan.state.is_terminal() && sequence >= self.view.scan.last_sequence
    }
}

/// The feeds that somebody follows, by scan.
pub(crate) type Feeds = Mutex<HashMap<(ProjectId, ScanId), Weak<Feed>>>;

/// Looks at one scan for as long as somebody follows it.
#[derive(Debug)]
pub(crate) struct Feed {
    looks: watch::Receiver<Look>,
    _reading: TaskHandle<()>,
}

impl Feed {
    /// The looks, from now on.
    pub(crate) fn looks(&self) -> watch::Receiver<Look> {
        self.looks.clone()
    }
}

impl Store {
    /// The scan's feed; `view` is how the scan was a moment ago. A feed that has failed is left to
    /// those who follow it.
    pub(super) fn feed(&self, project: &ProjectId, view: &ScanView) -> Arc<Feed> {
        let key = (project.clone(), view.scan.id);
        // A panic between lock and unlock cannot leave the map half changed.
        let mut feeds = self
            .inner
            .feeds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = feeds.get(&key).and_then(Weak::upgrade);
        if let Some(feed) = kept.filter(|feed| !feed._reading.is_finished()) {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let feed = Arc::new(self.begin(project, view));
        feeds.insert(key, Arc::downgrade(&feed));
        feed
    }

    fn begin(&self, project: &ProjectId, view: &ScanView) -> Feed {
        let (looks, receiver) = watch::channel(Look {
            view: Arc::new(view.clone()),
            progress: 0,
            sequence: view.scan.last_sequence,
            recent: VecDeque::new(),
            failed: None,
        });
        let reading = Reading {
            listener: self.inner.hub.scan(view.scan.id),
            store: self.clone(),
            project: project.clone(),
            id: view.scan.id,
            looks,
            seen: Instant::now(),
            changed: true,
        };
        Feed {
            looks: receiver,
            _reading: spawn("scan-feed", reading.run()),
        }
    }
}

struct Reading {
    store: Store,
    project: ProjectId,
    id: ScanId,
    listener: ScanListener,
    looks: watch::Sender<Look>,
    /// When the progress was last looked at.
    seen: Instant,
    /// Something changed since.
    changed: bool,
}

impl Reading {
    /// Until an error, or until nobody follows and the task is ended.
    async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                self.looks.send_modify(|look| look.failed = Some(error));
                return;
            }
            sleep(PAUSE).await;
            self.wait().await;
        }
    }

    /// Waits for a change, or until it is time to look anyway.
    async fn wait(&mut self) {
        let until = match self.changed {
            true => self.seen + PROGRESS_EVERY,
            false => Instant::now() + self.store.inner.hub.poll(),
        };
        self.changed |= timeout_at(until, self.listener.changed()).await.is_ok();
    }

    async fn look(&mut self) -> aegis_mesh::Result<()> {
        loop {
            let events = self.events().await?;
            let is_page = events.len() as u64 == EVENTS_PER_PAGE;
            let moved = events.iter().any(|logged| moves(&logged.event));
            if !events.is_empty() {
                self.changed = true;
                self.looks.send_modify(|look| keep(look, events));
            }
            if is_page {
                continue;
            }
            if !moved && !self.is_progress_due() {
                return Ok(());
            }
            if self.progress().await? {
                return Ok(());
            }
        }
    }

    async fn events(&self) -> aegis_mesh::Result<Vec<LoggedEvent>> {
        let sequence = self.looks.borrow().sequence;
        let events = self.store.events(&self.project, self.id, sequence);
        Ok(events.await?)
    }

    fn is_progress_due(&self) -> bool {
        let every = match self.changed {
            true => PROGRESS_EVERY,
            false => PROGRESS_ANYWAY,
        };
        self.seen.elapsed() >= every
    }

    /// Looks at the progress; whether all events up to it were read.
    async fn progress(&mut self) -> aegis_mesh::Result<bool> {
        let view = Arc::new(self.store.get(&self.project, self.id).await?);
        (self.seen, self.changed) = (Instant::now(), false);
        let last = view.scan.last_sequence;
        self.looks.send_if_modified(|look| {
            let is_news = told(&view) != told(&look.view);
            let moved = view.scan.state != look.view.scan.state
                || view.scan.last_sequence != look.view.scan.last_sequence;
            look.progress += u64::from(is_news);
            look.view = view;
            is_news || moved
        });
        Ok(self.looks.borrow().sequence >= last)
    }
}

fn keep(look: &mut Look, events: Vec<LoggedEvent>) {
    if let Some(last) = events.last() {
        look.sequence = last.sequence;
    }
    look.recent.extend(events);
    let surplus = look.recent.len().saturating_sub(RECENT);
    look.recent.drain(..surplus);
}

/// Whether a watcher must know at once how the scan is now: it may have ended.
fn moves(event: &Event) -> bool {
    matches!(event, Event::StateChanged { .. })
}

/// What makes a progress worth telling.
fn told(view: &ScanView) -> (i64, i64, i32, &[ProbeProgress], Option<&Waiting>) {
    (
        view.attempts_done,
        view.attempts_total,
        view.scan.evaluated + view.scan.not_evaluated,
        &view.probes,
        view.waiting.as_ref(),
    )
}
