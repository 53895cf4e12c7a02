//! Tasks that carry the caller's span and context, end with their handle, and have names.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

use crate::{CallContext, Error, with_context};

/// A task; dropping the handle ends it. As a future it gives the task's result.
#[derive(Debug)]
#[must_use = "dropping the handle ends the task"]
pub struct TaskHandle<T> {
    name: &'static str,
    handle: AbortOnDropHandle<T>,
}

impl<T> TaskHandle<T> {
    /// The task's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the task is over.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Lets the task run to its end with nobody waiting for it.
    pub fn detach(self) {
        drop(self.handle.detach());
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        let joined = Pin::new(&mut self.handle).poll(cx);
        joined.map_err(|error| failed(name, &error))
    }
}

fn failed(name: &str, error: &JoinError) -> Error {
    // A JoinError's text would repeat the panic's, which may hold anything.
    let how = if error.is_panic() {
        "panicked"
    } else {
        "was ended"
    };
    Error::internal(format_args!("the task {name} {how}"))
}

/// Runs `work` as a task of its own, within the caller's span and call context. A panic is an
/// INTERNAL error of the handle. Calls that it makes end with the caller's deadline: work that
/// must outlive the call that began it runs `with_context(CallContext::for_job(…), …)`.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn spawn<F>(name: &'static str, work: F) -> TaskHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let handle = AbortOnDropHandle::new(tokio::spawn(carry(name, work)));
    TaskHandle { name, handle }
}

/// Runs `work`, which may block, on a thread for such work, within the caller's span. It cannot
/// be ended from outside: dropping the handle only stops waiting.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn blocking<F, T>(name: &'static str, work: F) -> TaskHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let span = task_span(name);
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    let handle = AbortOnDropHandle::new(task);
    TaskHandle { name, handle }
}

fn task_span(name: &'static str) -> Span {
    tracing::info_span!(target: "aegis::task", "task", name, otel.name = name)
}

fn carry<F: Future>(name: &'static str, work: F) -> impl Future<Output = F::Output> {
    let context = CallContext::current();
    let carried = async move {
        match context {
            Some(context) => with_context(context, work).await,
            None => work.await,
        }
    };
    carried.instrument(task_span(name))
}

/// Tasks that end together. Dropping the group ends them all.
#[derive(Debug, Default)]
pub struct TaskGroup {
    tasks: JoinSet<()>,
    names: Vec<(Id, &'static str)>,
}

/// Tasks that did not end as they should.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// They were still running, and were ended.
    pub late: Vec<&'static str>,
    /// They panicked.
    pub panicked: Vec<&'static str>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "late: {:?}, panicked: {:?}", self.late, self.panicked)
    }
}

impl std::error::Error for Unfinished {}

impl TaskGroup {
    /// A group without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task, within the caller's span and call context.
    pub fn spawn<F>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.tasks.spawn(carry(name, work));
        self.names.push((task.id(), name));
    }

    /// Waits until any task is over and names it; `None` without tasks. A service uses this to
    /// notice that something which should run for ever does not.
    pub async fn next(&mut self) -> Option<(&'static str, Result<(), Error>)> {
        let ended = self.tasks.join_next_with_id().await?;
        Some(match ended {
            Ok((id, ())) => (self.forget(id), Ok(())),
            Err(error) => {
                let name = self.forget(error.id());
                (name, Err(failed(name, &error)))
            }
        })
    }

    /// Waits for all tasks, `bound` at most; then ends those that are late and names them.
    pub async fn join(mut self, bound: Duration) -> Result<(), Unfinished> {
        let mut panicked = Vec::new();
        let all = async {
            while let Some((name, ended)) = self.next().await {
                if ended.is_err() {
                    panicked.push(name);
                }
            }
        };
        let in_time = tokio::time::timeout(bound, all).await.is_ok();
        if in_time && panicked.is_empty() {
            return Ok(());
        }
        let late = self.names.iter().map(|(_, name)| *name).collect();
        self.tasks.shutdown().await;
        Err(Unfinished { late, panicked })
    }

    fn forget(&mut self, id: Id) -> &'static str {
        let index = self.names.iter().position(|(known, _)| *known == id);
        // Every task of the set was named when it was spawned.
        index.map_or("unknown", |index| self.names.swap_remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Principal;

    #[tokio::test]
    async fn a_task_inherits_the_context() {
        let context = CallContext::new(Principal::local());
        let seen = with_context(context.clone(), async {
            spawn("child", async { CallContext::current() }).await
        });
        assert_eq!(seen.await, Ok(Some(context)));
    }

    #[tokio::test]
    async fn dropping_the_handle_ends_the_task() {
        let (held, freed) = tokio::sync::oneshot::channel::<()>();
        let task = spawn("waits", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(task);
        assert!(freed.await.is_err(), "the sender was dropped with the task");
    }

    #[tokio::test]
    async fn a_detached_task_goes_on() {
        let (done, end) = tokio::sync::oneshot::channel();
        spawn("sends", async move { done.send(7) }).detach();
        assert_eq!(end.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_without_its_text() {
        let task = spawn("panics", async { panic!("hunter2") });
        let error = task.await.expect_err("it panicked");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(blocking("adds", || 1 + 1).await, Ok(2));
    }

    #[tokio::test]
    async fn a_group_names_who_is_late_and_who_panicked() {
        let mut group = TaskGroup::new();
        group.spawn("quick", async {});
        group.spawn("stuck", std::future::pending());
        group.spawn("broken", async { panic!("x") });
        let unfinished = group.join(Duration::from_millis(200)).await;
        let expected = Unfinished {
            late: vec!["stuck"],
            panicked: vec!["broken"],
        };
        assert_eq!(unfinished, Err(expected));
    }
}
