//! Keeps a lease alive while its work is done, and says when it is to stop.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aegis_mesh::{TaskHandle, clock, spawn};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until, timeout_at},
};

use crate::{
    domain::{
        fence::Fence,
        outbox::{Outbox, RunEvent, RunProgress, WaitsFor},
    },
    grpc::{Directive, Lease, Leased, TaskClient, is_lease_lost},
};

/// Shortest time between two reports: the contract's twice a second.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Pause after a call that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Events that fit into one report.
const EVENTS_PER_REPORT: usize = crate::grpc::EVENTS_PER_REPORT;

/// Whether a run may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// It may.
    Held,
    /// It is to stop and say so.
    Stop,
    /// It is to stop and say nothing.
    Lost,
}

/// A lease that is kept alive in the background until this is dropped.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    /// None once the last words are said.
    heartbeat: Option<TaskHandle<()>>,
    _directive: TaskHandle<()>,
}

struct Shared {
    client: TaskClient,
    lease: Lease,
    news: Mutex<News>,
    has_news: Notify,
    hold: watch::Sender<Hold>,
}

struct News {
    progress: RunProgress,
    outbox: Outbox,
    has_dropped: bool,
    fence: Fence,
}

impl Keeper {
    pub(crate) fn new(client: TaskClient, leased: &Leased) -> Self {
        let shared = Arc::new(Shared {
            client,
            lease: leased.lease.clone(),
            news: Mutex::new(News {
                progress: RunProgress::default(),
                outbox: Outbox::default(),
                has_dropped: false,
                fence: Fence::new(leased.ttl, leased.asked),
            }),
            has_news: Notify::new(),
            hold: watch::Sender::new(Hold::Held),
        });
        Self {
            heartbeat: Some(spawn("heartbeat", beat(Arc::clone(&shared)))),
            _directive: spawn("await-directive", listen(Arc::clone(&shared))),
            shared,
        }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.shared.lease
    }

    /// Changes the last values; told with the next report, at most twice a second.
    pub(crate) fn progress(&self, change: impl FnOnce(&mut RunProgress)) {
        change(&mut self.shared.news().progress);
        self.shared.has_news.notify_one();
    }

    /// Says what keeps the run from handing in what it has, when that is another thing than before.
    pub(crate) fn waits_for(&self, what: Option<WaitsFor>) {
        if self.last_progress().waits_for != what {
            self.progress(|progress| progress.waits_for = what);
        }
    }

    /// An event that must reach the catalog.
    pub(crate) fn event(&self, event: RunEvent) {
        let news = &mut *self.shared.news();
        if !news.outbox.push(event) && !news.has_dropped {
            // Said once: a child that floods us shall not flood the log.
            news.has_dropped = true;
            tracing::warn!("a run has more events than a run may have; the rest is dropped");
        }
        self.shared.has_news.notify_one();
    }

    /// The last values.
    pub(crate) fn last_progress(&self) -> RunProgress {
        self.shared.news().progress
    }

    /// Waits until the run may not go on as it is.
    pub(crate) async fn over(&self) -> Hold {
        let mut hold = self.shared.hold.subscribe();
        match hold.wait_for(|hold| *hold != Hold::Held).await {
            Ok(hold) => *hold,
            // The sender lives in `self`.
            Err(_) => Hold::Lost,
        }
    }

    /// Sends what waits, then no more reports: the run's end is told next, after which a report
    /// would be refused. Returns the moment when the fence closes.
    pub(crate) async fn last_words(&mut self) -> Instant {
        self.heartbeat = None;
        let shared = &self.shared;
        // What cannot be told in half of the time is lost with the run's progress; its results are
        // not, which the other half is for.
        let now = clock::now();
        let left = shared.closes_at().saturating_duration_since(now);
        let _ = timeout_at((now + left / 2).into(), shared.tell_all()).await;
        shared.closes_at()
    }
}

impl Shared {
    /// Every change is one assignment, so a panic elsewhere leaves the news whole.
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closes_at(&self) -> Instant {
        self.news().fence.closes_at()
    }

    fn is_lost(&self) -> bool {
        *self.hold.borrow() == Hold::Lost
    }

    /// A hold only ever gets worse.
    fn set(&self, new: Hold) {
        self.hold.send_if_modified(|hold| {
            let worse = new > *hold;
            *hold = new.max(*hold);
            worse
        });
    }

    /// One report. False when it was not answered.
    async fn report(&self) -> bool {
        let (progress, events) = {
            let news = self.news();
            (news.progress, news.outbox.waiting(EVENTS_PER_REPORT))
        };
        let asked = clock::now();
        match self.client.report(&self.lease, progress, events).await {
            Ok(renewal) => {
                let mut news = self.news();
                news.fence.renewed(renewal.ttl, asked);
                news.outbox.committed(renewal.committed_sequence);
                drop(news);
                self.obey(renewal.directive);
                true
            }
            Err(error) if is_lease_lost(&error) => {
                self.set(Hold::Lost);
                false
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), "a heartbeat was not answered");
                false
            }
        }
    }

    /// Reports until nothing waits any more.
    async fn tell_all(&self) {
        while !self.news().outbox.is_empty() && !self.is_lost() {
            if !self.report().await {
                sleep(AFTER_FAILURE).await;
            }
        }
    }

    fn fence_closed(&self) {
        tracing::warn!("the lease was not renewed in time; the run stops itself");
        self.set(Hold::Lost);
    }

    fn obey(&self, directive: Directive) {
        if directive == Directive::Stop {
            self.set(Hold::Stop);
        }
    }
}

/// Reports every third of the lease, sooner when there is news, until the lease is lost.
async fn beat(shared: Arc<Shared>) {
    // The lease counts from its question, which may have been long on its way.
    let mut last = shared.news().fence.asked();
    let mut answered = true;
    while !shared.is_lost() {
        let (closes_at, every) = {
            let news = shared.news();
            (news.fence.closes_at(), news.fence.heartbeat())
        };
        let due = last + if answered { every } else { AFTER_FAILURE };
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = news_after(&shared, last), if answered => {}
            () = sleep_until(closes_at.into()) => {}
        }
        last = clock::now();
        // Also when each report is refused quickly: only a good answer moves the fence.
        if last >= closes_at {
            return shared.fence_closed();
        }
        let Ok(renewed) = timeout_at(closes_at.into(), shared.report()).await else {
            return shared.fence_closed();
        };
        answered = renewed;
    }
}

async fn news_after(shared: &Shared, last: Instant) {
    sleep_until((last + REPORT_EVERY).into()).await;
    shared.has_news.notified().await;
}

/// Waits for a stop, which a heartbeat would bring only up to 20 s later.
async fn listen(shared: Arc<Shared>) {
    loop {
        let asked = clock::now();
        match shared.client.await_directive(&shared.lease).await {
            // Answered at once: a server that does not hold the poll must not be asked in a circle.
            Ok(Directive::Continue) if clock::now() - asked < AFTER_FAILURE => {
                sleep(AFTER_FAILURE).await
            }
            Ok(Directive::Continue) => {}
            Ok(Directive::Stop) => return shared.set(Hold::Stop),
            Err(error) if is_lease_lost(&error) => return shared.set(Hold::Lost),
            Err(error) => {
                tracing::debug!(
                    reason = error.reason(),
                    "a wait for a directive was not answered"
                );
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}
