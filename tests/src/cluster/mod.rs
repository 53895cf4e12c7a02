//! A mesh of several processes of each service, with a proxy on each arrow between two of them.

mod faults;
mod member;
mod running;
mod topology;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use aegis_mesh::spawn::blocking;
use aegis_testkit::{Keys, Postgres, Proxy, S3Server, free_ports};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use self::{
    member::Member,
    topology::{ENTRANCE, PROCESSES, arrows_of, of_service, own, service_of},
};
pub use self::{
    running::Running,
    topology::{arrows, has_disk, members},
};
use crate::{client::Client, mesh, process::binary};

/// Longest wait for an answer of the HTTP API.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait for a process that was asked to stop.
const STOP: Duration = Duration::from_secs(40);
/// How often it is looked for processes that ended by themselves.
const LOOK: Duration = Duration::from_millis(200);

/// How a cluster is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Settings by service, without their prefix.
    pub settings: Vec<(&'static str, &'static str, &'static str)>,
    /// Services that are run from another binary: service and the binary's name.
    pub binaries: Vec<(&'static str, &'static str)>,
}

/// Its processes end with it, and with the thread that started it.
#[derive(Debug)]
pub struct Cluster {
    members: BTreeMap<String, Member>,
    proxies: BTreeMap<String, Proxy>,
    client: Client,
    postgres: Arc<Postgres>,
    store: Arc<S3Server>,
    bucket: String,
    by_themselves: Mutex<Vec<String>>,
    data: TempDir,
}

impl Cluster {
    /// Starts all processes and waits until they can scan.
    ///
    /// # Errors
    /// When a process does not start, or garak does not warm up.
    pub async fn start(options: &Options) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("aegis-chaos-").tempdir()?;
        let (postgres, store) = tokio::try_join!(
            blocking("postgres", Postgres::start),
            blocking("store", S3Server::seaweedfs_of_its_own)
        )?;
        let postgres = postgres?;
        let ports = free_ports::<PROCESSES>()?;
        let addresses = ports.map(|port| ([127, 0, 0, 1], port).into());
        let addresses: BTreeMap<_, SocketAddr> = members().into_iter().zip(addresses).collect();
        let proxies = topology::proxies(&addresses, postgres.address(), store.address());
        let bucket = mesh::bucket();
        let mut started = BTreeMap::new();
        for (name, address) in addresses {
            let mut settings = arrows_of(&name, &proxies);
            settings.extend(own(&name, data.path(), &bucket, store.admin())?);
            let listen = if service_of(&name) == "gateway" {
                "LISTEN"
            } else {
                "SERVER__LISTEN"
            };
            settings.insert(listen.to_owned(), address.to_string());
            for (_, key, value) in of_service(&options.settings, &name) {
                settings.insert((*key).to_owned(), (*value).to_owned());
            }
            let other = options
                .binaries
                .iter()
                .find(|(of, _)| *of == service_of(&name));
            let binary = match other {
                Some((_, binary)) => self::binary(binary)?,
                None => binary(&format!("aegis-{}", service_of(&name)))?,
            };
            let member = Member::start(name.clone(), binary, settings, data.path())?;
            started.insert(name, member);
        }
        let entrance = proxies.get(ENTRANCE).context("no way in")?.endpoint();
        let cluster = Self {
            members: started,
            proxies,
            client: Client::with_timeout(&entrance, PATIENCE)?,
            postgres: Arc::new(postgres),
            store: Arc::new(store),
            bucket,
            by_themselves: Mutex::default(),
            data,
        };
        tokio::select! {
            warm = mesh::warm(&cluster.client) => warm.with_context(|| cluster.log_ends())?,
            tended = cluster.tend() => tended?,
        }
        Ok(cluster)
    }

    /// Its HTTP API, by any gateway.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where its database is, without a proxy.
    pub fn database_url(&self) -> String {
        self.postgres.url()
    }

    /// Where its objects are, without a proxy: endpoint, bucket and who may do everything.
    pub fn store(&self) -> (String, &str, Keys) {
        (self.store.endpoint(), &self.bucket, self.store.admin())
    }

    /// Starts again what ended by itself, for ever: as whoever runs services does.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub async fn tend(&self) -> Result<()> {
        loop {
            for member in self.members.values() {
                let Ok(mut process) = member.process.try_lock() else {
                    continue;
                };
                if let Some(status) = process.status()? {
                    let said = format!("{}: {status}", member.name);
                    self.by_themselves
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(said);
                    *process = member.spawn(self.data.path())?;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Which processes ended by themselves, and how.
    pub fn ended_by_themselves(&self) -> Vec<String> {
        let ended = self.by_themselves.lock();
        ended.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often processes were started.
    pub fn starts(&self) -> usize {
        let starts = self.members.values().map(|one| &one.starts);
        starts.map(|starts| starts.load(Ordering::Relaxed)).sum()
    }

    /// Stops the processes of a service as an operator would.
    ///
    /// # Errors
    /// A process that does not stop in time or well; one that leaves processes behind.
    pub async fn stop(&self, service: &str) -> Result<()> {
        for member in self.of(service) {
            let mut process = member.process.lock().await;
            process.signal(Signal::SIGTERM)?;
            let status = process.ended(STOP)?;
            if !status.success() {
                bail!(
                    "{} ended with {status}:\n{}",
                    member.name,
                    process.log_end()?
                );
            }
        }
        let disks = self.of(service).filter_map(|member| member.disk.as_ref());
        for disk in disks {
            let left = mesh::processes_of(disk.folder())?;
            if !left.is_empty() {
                bail!("processes outlive {service}: {left:?}");
            }
        }
        Ok(())
    }

    /// Starts the stopped processes of a service, with more settings.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub async fn start_again(&self, service: &str, more: &[(&str, &str)]) -> Result<()> {
        for member in self.of(service) {
            let mut process = member.process.lock().await;
            member.settings().extend(
                more.iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            );
            *process = member.spawn(self.data.path())?;
        }
        Ok(())
    }

    /// Lines of all logs that have one of these texts, with whose they are.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn lines_with(&self, texts: &[&str]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for member in self.members.values() {
            let process = member.process.lock().await;
            for text in texts {
                let lines = process.lines_with(text)?;
                found.extend(lines.iter().map(|line| format!("{}: {line}", member.name)));
            }
        }
        Ok(found)
    }

    /// The end of each log.
    pub fn log_ends(&self) -> String {
        let mut text = String::new();
        for member in self.members.values() {
            let end = match member.process.try_lock() {
                Ok(process) => process.log_end().unwrap_or_else(|error| error.to_string()),
                Err(_) => "something is done to it".to_owned(),
            };
            text.push_str(&format!("--- {}\n{end}\n", member.name));
        }
        text
    }

    fn of(&self, service: &str) -> impl Iterator<Item = &Member> {
        let members = self.members.values();
        members.filter(move |member| service_of(&member.name) == service)
    }

    fn member(&self, name: &str) -> Result<&Member> {
        let member = self.members.get(name);
        member.with_context(|| format!("there is no {name}"))
    }

    fn proxy(&self, arrow: &str) -> Result<&Proxy> {
        let proxy = self.proxies.get(arrow);
        proxy.with_context(|| format!("there is no arrow {arrow}"))
    }
}
