//! One suite for every database: each case runs on SQLite and on PostgreSQL, and after each the
//! books must balance.

mod alone;
mod artifacts;
mod backpressure;
mod cancel;
mod catalogues;
mod checks;
mod concurrent;
mod cost;
mod create;
mod custom_probes;
mod expire;
mod finish;
mod history;
mod imports;
mod imports_odd;
mod invariants;
mod keeping;
mod keeping_jobs;
mod keeping_plans;
mod keeping_scans;
mod lease;
mod lists;
mod located;
mod many;
mod pages;
mod pause;
mod queue;
mod random;
mod report;
mod retry;
mod running;
mod schema;
mod settle;
mod statistics;
mod statistics_oracle;
mod templates;
mod watch;
mod world;

/// Makes two tests of each case. A case is an `async fn(&World)`.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = crate::world::World::sqlite().await;
                crate::run(super::$case(&world)).await;
                crate::invariants::check(&world).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = crate::world::World::postgres().await;
                crate::run(super::$case(&world)).await;
                crate::invariants::check(&world).await;
            })+
        }
    };
}

/// As `on_both`, for cases whose rows were written past the store: there are no books.
macro_rules! on_both_without_books {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = crate::world::World::sqlite().await;
                crate::run(super::$case(&world)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = crate::world::World::postgres().await;
                crate::run(super::$case(&world)).await;
            })+
        }
    };
}

pub(crate) use on_both;
pub(crate) use on_both_without_books;

/// A case that hangs is a case that fails.
async fn run(case: impl Future<Output = ()>) {
    const WITHIN: std::time::Duration = std::time::Duration::from_secs(120);
    let ended = tokio::time::timeout(WITHIN, case).await;
    assert!(ended.is_ok(), "the case did not end within {WITHIN:?}");
}
