//! Spreads calls over the replicas of a service.
//!
//! tonic 0.14.9's `Channel::balance_channel` is not used: a replica that cannot be reached counts
//! as ready there and fails the calls that it is chosen for (grpc-rust #2839), and one that is
//! drained or out of reach is not told from one that serves.
//!
//! Nothing runs while nobody calls. A call looks the name up anew, in the background, when that
//! was long ago or a connection was lost; it waits only when no replica is connected.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, select_ok},
};
use http::Uri;
use tokio::time::Instant;

use crate::{
    Result,
    network::Network,
    replica::{Dial, Picked, Replica, State, background},
    resolve::Target,
};

/// How often to look again when what was just connected is gone.
const ROUNDS: usize = 3;

type Replicas = Arc<[Arc<Replica>]>;
/// A lookup, for all who wait for it.
type Lookup = Shared<BoxFuture<'static, Result<Replicas>>>;

/// The way to all replicas of a service; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Balance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Target,
    dial: Dial,
    period: Duration,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    replicas: Replicas,
    /// When to look the name up again.
    due: Instant,
    lookup: Option<Lookup>,
}

impl Balance {
    /// Looks the target's name up about once a `period`.
    pub(crate) fn new(target: Target, network: Arc<dyn Network>, period: Duration) -> Result<Self> {
        let origin = target.uri(&Uri::default())?;
        let dial = Dial { network, origin };
        let known = Known {
            replicas: Arc::new([]),
            due: Instant::now(),
            lookup: None,
        };
        Ok(Self(Arc::new(Inner {
            target,
            dial,
            period,
            known: Mutex::new(known),
        })))
    }

    pub(crate) fn target(&self) -> &Target {
        &self.0.target
    }

    /// A replica for a call, none of `tried` if there is another. Fails as soon as it is known
    /// that none can be reached.
    pub(crate) async fn pick(&self, tried: &[SocketAddr]) -> Result<Picked> {
        for _ in 0..ROUNDS {
            let replicas = self.0.known().replicas.clone();
            let (picked, lost) = choose(&replicas, tried);
            match picked {
                Some(picked) if !tried.contains(&picked.address) => {
                    if lost || self.0.known().due <= Instant::now() {
                        drop(self.lookup());
                    }
                    return Ok(picked);
                }
                // Another may be there in a moment.
                Some(picked) if self.reach(&replicas, tried).await.is_err() => return Ok(picked),
                Some(_) => {}
                None => self.reach(&replicas, &[]).await?,
            }
        }
        let replicas = self.0.known().replicas.clone();
        let (picked, _) = choose(&replicas, tried);
        picked.ok_or_else(|| self.0.target.unreachable("connections broke at once"))
    }

    /// Connects to whoever can be reached first, of the replicas known and of those that the name
    /// has now, but not of `avoided`.
    async fn reach(&self, known: &[Arc<Replica>], avoided: &[SocketAddr]) -> Result<()> {
        let lookup = self.lookup();
        let anew = async { self.connect_any(&lookup.await?, avoided).await };
        let known = self.connect_any(known, avoided);
        let (answered, _) = select_ok([known.boxed(), anew.boxed()]).await?;
        Ok(answered)
    }

    async fn connect_any(&self, replicas: &[Arc<Replica>], avoided: &[SocketAddr]) -> Result<()> {
        let several = replicas.len() > 1;
        let wanted = replicas.iter().filter(|r| !avoided.contains(&r.address));
        let attempts: Vec<_> = wanted.map(|r| r.connect(&self.0.dial, several)).collect();
        if attempts.is_empty() {
            return Err(self.0.target.unreachable("nobody else is there"));
        }
        let first = select_ok(attempts).await;
        first
            .map(drop)
            .map_err(|why| self.0.target.unreachable(&why))
    }

    /// Looks the name up; a lookup under way is joined.
    fn lookup(&self) -> Lookup {
        let mut known = self.0.known();
        if let Some(lookup) = &known.lookup {
            return lookup.clone();
        }
        let lookup = Arc::clone(&self.0).look_up().boxed().shared();
        known.lookup = Some(lookup.clone());
        background(lookup.clone().map(drop));
        lookup
    }
}

impl Inner {
    async fn look_up(self: Arc<Self>) -> Result<Replicas> {
        let before: Vec<SocketAddr> = addresses(&self.known().replicas);
        let found = self.target.resolve(&*self.dial.network, &before).await;
        let mut known = self.known();
        known.lookup = None;
        known.due = Instant::now() + jittered(self.period);
        match found {
            Ok(found) => known.take(&found),
            Err(error) if known.replicas.is_empty() => return Err(error),
            // Those that were there may still be.
            Err(error) => tracing::warn!(%error, "the addresses known are kept"),
        }
        let replicas = known.replicas.clone();
        drop(known);
        self.tend(&replicas);
        Ok(replicas)
    }

    /// Connects to those that are away, and asks the others whether they still serve.
    fn tend(&self, replicas: &[Arc<Replica>]) {
        let several = replicas.len() > 1;
        for replica in replicas {
            match replica.state() {
                State::Away | State::Lost => drop(replica.connect(&self.dial, several)),
                // With nothing to choose from there is nothing to ask.
                State::Serving | State::Draining if several => replica.check(&self.dial),
                State::Serving | State::Draining => {}
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Keeps the replicas that are still there. Calls under way on the others go on.
    fn take(&mut self, found: &[SocketAddr]) {
        if addresses(&self.replicas) == found {
            return;
        }
        tracing::debug!(addresses = ?found, "the service's addresses changed");
        let kept = |address: &SocketAddr| {
            let mut replicas = self.replicas.iter();
            replicas.find(|r| r.address == *address).cloned()
        };
        let replica = |address| kept(address).unwrap_or_else(|| Arc::new(Replica::new(*address)));
        self.replicas = found.iter().map(replica).collect();
    }
}

fn addresses(replicas: &[Arc<Replica>]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.address).collect()
}

/// Of the best replicas two by chance, and of those the one with fewer calls under way; and
/// whether a connection was found lost. Those that serve are best, and of them those that were
/// not tried; one that says it does not is better than none.
fn choose(replicas: &[Arc<Replica>], tried: &[SocketAddr]) -> (Option<Picked>, bool) {
    let mut best = Vec::new();
    let mut best_rank = (true, true);
    let mut lost = false;
    for replica in replicas {
        let draining = match replica.state() {
            State::Serving => false,
            State::Draining => true,
            State::Lost => {
                lost = true;
                continue;
            }
            State::Away => continue,
        };
        let rank = (draining, tried.contains(&replica.address));
        if rank < best_rank {
            best.clear();
            best_rank = rank;
        }
        if rank == best_rank {
            best.push(replica);
        }
    }
    let picked = less_busy(&best).and_then(|replica| replica.pick());
    (picked, lost)
}

fn less_busy<'a>(replicas: &[&'a Arc<Replica>]) -> Option<&'a Arc<Replica>> {
    let count = replicas.len();
    if count < 2 {
        return replicas.first().copied();
    }
    let first = rand::random_range(0..count);
    let second = (first + rand::random_range(1..count)) % count;
    let (first, second) = (replicas[first], replicas[second]);
    Some(if second.load() < first.load() {
        second
    } else {
        first
    })
}

/// A quarter more or less: clients do not ask all at once.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.75..1.25))
}
