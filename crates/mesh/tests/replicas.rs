//! Calls are spread over the replicas of a service, and find their way around those that are
//! gone, drained, or new.

mod support;
#[path = "support/replicas.rs"]
mod world;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use aegis_mesh::{Code, Error, MeshChannel, ServerConfig, spawn};
use futures_util::future::join_all;
use support::*;
use tonic::Request;
use world::*;

async fn echo(channel: &MeshChannel) -> Result<(), Error> {
    as_local(unary(channel.clone(), ECHO, "x")).await.map(drop)
}

/// Calls one after the other, each answered, until this holds.
async fn calls_until(channel: &MeshChannel, what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "never: {what}");
        echo(channel).await.expect("answered");
    }
}

/// So that a test begins with connections to all.
async fn meets_all(channel: &MeshChannel, replicas: &[&Replica]) {
    let all = || replicas.iter().all(|r| r.calls() > 0);
    calls_until(channel, "each has had a call", all).await;
}

#[tokio::test]
async fn calls_are_spread_evenly() {
    let replicas = [1, 2, 3].map(Replica::start);
    let channel = Book::of(replicas.iter().map(|r| r.address)).channel();
    meets_all(&channel, &replicas.each_ref()).await;
    let before = replicas.each_ref().map(Replica::calls);
    for _ in 0..30 {
        let answers = join_all((0..10).map(|_| echo(&channel))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    let had = [0, 1, 2].map(|n| replicas[n].calls() - before[n]);
    assert!(
        had.iter().all(|calls| (60..=140).contains(calls)),
        "{had:?}"
    );
}

#[tokio::test]
async fn long_polls_and_streams_are_spread_as_they_come() {
    let replicas = [1, 2].map(Replica::start);
    let channel = Book::of(replicas.iter().map(|r| r.address)).channel();
    meets_all(&channel, &replicas.each_ref()).await;
    let mut polls = Vec::new();
    let hanging = |n: usize| replicas[n].service.hanging.load(Ordering::SeqCst);
    for count in 1..=10 {
        polls.push(spawn("poll", as_local(unary(channel.clone(), HANG, ""))));
        eventually("it hangs", || hanging(0) + hanging(1) == count).await;
    }
    assert_eq!((hanging(0), hanging(1)), (5, 5));
    let before = replicas.each_ref().map(Replica::calls);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let opened = as_local(stream(channel.clone(), Request::new(String::new()))).await;
        streams.push(opened.expect("a stream"));
    }
    let had = [0, 1].map(|n| replicas[n].calls() - before[n]);
    assert_eq!(had, [5, 5]);
}

#[tokio::test]
async fn a_replica_out_of_reach_neither_fails_nor_slows_calls() {
    let good = Replica::start(1);
    let (refused, silent) = (nobody(), nobody());
    let book = Book::of([refused, silent, good.address]);
    book.silence(silent);
    let channel = book.channel();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let start = Instant::now();
        echo(&channel).await.expect("answered");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    assert!(book.lookups.load(Ordering::SeqCst) >= 2, "it looked again");
}

#[tokio::test]
async fn a_replica_that_is_added_or_comes_back_is_used_soon() {
    let [first, second] = [1, 2].map(Replica::start);
    let book = Book::of([first.address]);
    let channel = book.channel();
    echo(&channel).await.expect("answered");
    book.write([first.address, second.address]);
    calls_until(&channel, "the new one has a call", || second.calls() > 0).await;

    let address = second.address;
    second.kill();
    // The one call that meets the broken connection may be lost; no other is.
    let lost = join_all((0..20).map(|_| echo(&channel))).await;
    assert!(
        lost.iter()
            .flat_map(|r| r.as_ref().err())
            .all(Error::is_retryable)
    );
    calls_until(&channel, "it was noticed", || true).await;
    let second = Replica::start_at(address, &ServerConfig::default());
    calls_until(&channel, "it has a call again", || second.calls() > 0).await;
}

#[tokio::test]
async fn with_none_in_reach_a_call_fails_at_once_and_says_who() {
    let channel = Book::of([nobody(), nobody()]).channel();
    let start = Instant::now();
    let error = echo(&channel).await.expect_err("nobody");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, "UNREACHABLE")
    );
    assert!(error.message().contains("service:7000"), "{error:?}");

    // As soon as somebody is there, the very next call is answered.
    let address = nobody();
    let book = Book::of([address, nobody()]);
    let channel = book.channel();
    echo(&channel).await.expect_err("nobody");
    let late = Replica::start_at(address, &ServerConfig::default());
    echo(&channel).await.expect("answered");
    assert_eq!(late.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_none_that_answers_a_call_fails_long_before_its_deadline() {
    let silent = [nobody(), nobody()];
    let book = Book::of(silent);
    silent.iter().for_each(|address| book.silence(*address));
    let start = tokio::time::Instant::now();
    let error = echo(&book.channel()).await.expect_err("nobody");
    assert_eq!(error.reason(), "UNREACHABLE");
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_knows_is_named() {
    let book = Book::of([]);
    let unresolved = async |seconds: u64| {
        let start = tokio::time::Instant::now();
        let error = echo(&book.channel()).await.expect_err("no address");
        assert_eq!(
            (error.code(), error.reason()),
            (Code::Unavailable, "NAME_UNRESOLVED")
        );
        assert!(error.message().contains("the name service"), "{error:?}");
        assert_eq!(start.elapsed().as_secs(), seconds);
    };
    unresolved(0).await;
    book.fail();
    unresolved(0).await;
    book.say_nothing();
    unresolved(5).await;
}

#[tokio::test]
async fn when_names_cannot_be_looked_up_the_addresses_known_stay() {
    let [first, second] = [1, 2].map(Replica::start);
    let book = Book::of([first.address, second.address]);
    let channel = book.channel();
    meets_all(&channel, &[&first, &second]).await;
    for fail in [Book::fail, |book: &Book| book.write([])] {
        fail(&book);
        let looked = book.lookups.load(Ordering::SeqCst);
        let again = || book.lookups.load(Ordering::SeqCst) > looked + 1;
        calls_until(&channel, "it looked again", again).await;
    }
    // Also after a loss.
    first.shutdown.trigger();
    for _ in 0..50 {
        echo(&channel).await.expect("answered");
    }
}

#[tokio::test]
async fn a_replica_that_does_not_serve_gets_no_new_calls_while_another_does() {
    let [first, second] = [1, 2].map(Replica::start);
    let channel = Book::of([first.address, second.address]).channel();
    meets_all(&channel, &[&first, &second]).await;
    first.health.set_not_serving();
    let quiet = || {
        let (before, since) = (first.calls(), second.calls());
        move |first: usize, second: usize| first == before && second > since + 30
    };
    let start = Instant::now();
    let mut is_quiet = quiet();
    while !is_quiet(first.calls(), second.calls()) {
        assert!(start.elapsed() < SOON, "still called");
        let before = first.calls();
        echo(&channel).await.expect("answered");
        if first.calls() > before {
            is_quiet = quiet();
        }
    }
    // Better one that says it does not serve than none.
    second.health.set_not_serving();
    let (one, other) = (first.calls(), second.calls());
    let both = || first.calls() > one && second.calls() > other;
    calls_until(&channel, "both are called", both).await;
    first.health.set_serving();
    second.health.set_serving();
    calls_until(&channel, "they serve", || true).await;
}

#[tokio::test]
async fn a_replica_that_falls_silent_gets_no_new_calls_soon() {
    let [first, second] = [1, 2].map(Replica::start);
    let book = Book::of([first.address, second.address]);
    let channel = book.channel();
    meets_all(&channel, &[&first, &second]).await;
    book.silence(first.address);
    // Long before keepalive gives the connection up, which takes 20 s.
    let end = Instant::now() + Duration::from_secs(8);
    let mut answered = 0;
    while answered < 50 {
        assert!(Instant::now() < end, "calls still go there");
        let mut request = Request::new("x".to_owned());
        request.set_timeout(Duration::from_millis(300));
        match as_local(unary_request(channel.clone(), ECHO, request)).await {
            Ok(_) => answered += 1,
            Err(error) => {
                assert_eq!(error.code(), Code::DeadlineExceeded);
                answered = 0;
            }
        }
    }
}

#[tokio::test]
async fn a_replica_starts_to_be_called_when_it_says_that_it_serves() {
    let [first, second] = [1, 2].map(Replica::start);
    second.health.set_not_serving();
    let channel = Book::of([first.address, second.address]).channel();
    for _ in 0..200 {
        echo(&channel).await.expect("answered");
    }
    // It cannot be worse than that it was asked before the other was connected.
    assert!(second.calls() <= 1, "{}", second.calls());
    second.health.set_serving();
    let before = second.calls();
    calls_until(&channel, "it is called", || second.calls() > before).await;
}

#[tokio::test]
async fn a_replica_that_ends_finishes_its_calls_and_gets_no_new_ones() {
    let [first, second] = [1, 2].map(Replica::start);
    let channel = Book::of([first.address, second.address]).channel();
    meets_all(&channel, &[&first, &second]).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let opened = as_local(stream(channel.clone(), Request::new(String::new()))).await;
        streams.push(opened.expect("a stream"));
    }
    first.shutdown.trigger();
    let calls = || first.calls() + second.calls();
    let (before, mut sent, mut elsewhere) = (calls(), 0, 0);
    while elsewhere < 100 {
        // It says so from another thread: a few may still come in time.
        assert!(sent < 1000, "it is still called");
        let had = second.calls();
        echo(&channel).await.expect("answered");
        sent += 1;
        elsewhere = if second.calls() > had {
            elsewhere + 1
        } else {
            0
        };
    }
    assert_eq!(calls() - before, sent, "none was sent twice");
    for stream in &mut streams {
        stream.message().await.expect("goes on").expect("goes on");
    }
}

#[tokio::test]
async fn a_call_on_a_replica_that_dies_fails_and_is_not_sent_again() {
    let [first, second] = [1, 2].map(Replica::start);
    let channel = Book::of([first.address, second.address]).channel();
    meets_all(&channel, &[&first, &second]).await;
    let polls: Vec<_> = (0..2)
        .map(|_| spawn("poll", as_local(unary(channel.clone(), HANG, ""))))
        .collect();
    let hanging = |replica: &Replica| replica.service.hanging.load(Ordering::SeqCst);
    eventually("one on each", || {
        hanging(&first) == 1 && hanging(&second) == 1
    })
    .await;
    let before = second.calls();
    first.kill();
    let mut polls = polls.into_iter().map(Box::pin);
    let (one, two) = (polls.next().expect("two"), polls.next().expect("two"));
    let lost = tokio::select! { lost = one => lost, lost = two => lost };
    let error = lost
        .expect("not ours to end")
        .expect_err("its replica died");
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, "CONNECTION_LOST")
    );
    for _ in 0..50 {
        echo(&channel).await.expect("answered");
    }
    assert_eq!(second.calls(), before + 50);
}

#[tokio::test]
async fn a_lost_connection_brings_calls_to_a_new_replica_at_once() {
    let short_lived = ServerConfig {
        max_connection_age_seconds: 1,
        ..ServerConfig::default()
    };
    let first = Replica::start_with(1, &short_lived);
    let [second, new] = [2, 3].map(Replica::start);
    // Both with another replica to fall back on, and without.
    for known in [vec![first.address, second.address], vec![first.address]] {
        let book = Book::of(known.clone());
        let channel = book.channel_that_looks_every(3600);
        let before = first.calls();
        let connected = || first.calls() > before;
        calls_until(&channel, "the first has a call", connected).await;
        book.write(known.into_iter().chain([new.address]));
        let before = new.calls();
        calls_until(&channel, "the new one is called", || new.calls() > before).await;
    }
}

#[tokio::test]
async fn replicas_are_replaced_one_by_one_and_no_call_fails() {
    let config = ServerConfig {
        shutdown_grace_seconds: 2,
        ..ServerConfig::default()
    };
    let mut running = Vec::from([1, 2].map(|n| Replica::start_with(n, &config)));
    let book = Book::of(running.iter().map(|r| r.address));
    let channel = book.channel();
    let stop = aegis_mesh::Shutdown::new();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (channel, stop) = (channel.clone(), stop.clone());
            spawn("caller", async move {
                let mut calls = 0_usize;
                while !stop.is_triggered() {
                    echo(&channel).await?;
                    calls += 1;
                }
                Ok::<_, Error>(calls)
            })
        })
        .collect();
    for n in 3..=5 {
        let new = Replica::start_with(n, &config);
        let old = running.remove(0);
        running.push(new);
        book.write(running.iter().map(|r| r.address));
        let new = running.last().expect("pushed");
        eventually("the new one is called", || new.calls() > 0).await;
        old.shutdown.trigger();
        eventually("it ends", || old.task.is_finished()).await;
    }
    stop.trigger();
    for caller in callers {
        let calls = caller.await.expect("not ours to end").expect("none failed");
        assert!(calls > 10, "{calls}");
    }
}
