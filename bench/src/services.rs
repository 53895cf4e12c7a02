//! The services as processes of their own, in several replicas, with nothing between them: as a
//! cluster runs them. PostgreSQL or SQLite; reports in a directory.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use aegis_testkit::{Postgres, free_ports};
use aegis_tests::{
    client::Client,
    process::{Process, binary, garak_python},
};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{LIMIT, catalogue, large::Backend, process};

/// Most processes of one layout.
const PORTS: usize = 12;
const STOP: Duration = Duration::from_secs(40);
/// In the order in which they are stopped.
const SERVICES: [&str; 5] = [
    "garak-runner",
    "gateway",
    "scan-orchestrator",
    "artifact",
    "catalog",
];

/// What there is to be.
pub(crate) struct Layout<'a> {
    pub(crate) database: Backend,
    /// Of gateway, orchestrator and catalog. The first gateway calls the first orchestrator, and
    /// this the first catalog.
    pub(crate) replicas: usize,
    /// With real garak, a slot each.
    pub(crate) runners: usize,
    /// Service, key and value.
    pub(crate) settings: &'a [(&'a str, &'a str, &'a str)],
}

/// Processes, which end with this value.
pub(crate) struct Services {
    members: BTreeMap<String, Member>,
    database_url: String,
    postgres: Option<Postgres>,
    data: TempDir,
}

struct Member {
    address: String,
    settings: BTreeMap<String, String>,
    process: Process,
}

impl Services {
    /// Starts them and waits until each gateway answers.
    pub(crate) async fn start(layout: &Layout<'_>) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("aegis-bench-").tempdir()?;
        let postgres = match layout.database {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Postgres::start()?),
        };
        let database_url = match &postgres {
            Some(postgres) => postgres.url(),
            None => format!("sqlite:{}", data.path().join("catalog.db").display()),
        };
        let mut services = Self {
            members: BTreeMap::new(),
            database_url,
            postgres,
            data,
        };
        let names = layout.members();
        ensure!(names.len() <= PORTS, "{} processes", names.len());
        let ports = free_ports::<PORTS>()?;
        let addresses: BTreeMap<_, _> = names
            .iter()
            .zip(ports.map(|port| format!("127.0.0.1:{port}")))
            .collect();
        for (name, address) in &addresses {
            let at = |service: &str| {
                let callee = format!("{service}-{}", replica(name).min(layout.of(service)));
                let address = addresses.get(&callee).map_or("", String::as_str);
                format!("http://{address}")
            };
            let settings = services.settings(layout, name, address, at)?;
            let process = services.spawn(name, &settings)?;
            let member = Member {
                address: address.clone(),
                settings,
                process,
            };
            services.members.insert((*name).clone(), member);
        }
        services.ready(layout).await?;
        Ok(services)
    }

    fn settings(
        &self,
        layout: &Layout<'_>,
        name: &str,
        address: &str,
        at: impl Fn(&str) -> String,
    ) -> Result<BTreeMap<String, String>> {
        let folder = self.data.path().join(name).display().to_string();
        let own = match service(name) {
            "gateway" => vec![
                ("LISTEN", address.to_owned()),
                ("ORCHESTRATOR__ADDRESS", at("scan-orchestrator")),
                ("CATALOG__ADDRESS", at("catalog")),
                ("ARTIFACT__ADDRESS", at("artifact")),
            ],
            "scan-orchestrator" => vec![
                ("SERVER__LISTEN", address.to_owned()),
                ("CATALOG__ADDRESS", at("catalog")),
                ("ARTIFACT__ADDRESS", at("artifact")),
            ],
            "artifact" => vec![
                ("SERVER__LISTEN", address.to_owned()),
                ("CATALOG__ADDRESS", at("catalog")),
                ("DATA_DIR", folder),
            ],
            "catalog" => vec![
                ("SERVER__LISTEN", address.to_owned()),
                ("DATABASE_URL", self.database_url.clone()),
            ],
            _ => vec![
                ("SERVER__LISTEN", address.to_owned()),
                ("ORCHESTRATOR__ADDRESS", at("scan-orchestrator")),
                ("ARTIFACT__ADDRESS", at("artifact")),
                ("DATA_DIR", folder),
                ("CATALOGUE_DIR", catalogue::folder().display().to_string()),
                ("GARAK_PYTHON", garak_python()?.display().to_string()),
                ("RUNNER_ID", name.to_owned()),
                ("SLOTS", "1".to_owned()),
            ],
        };
        let asked = layout.settings.iter();
        let asked = asked.filter(|(of, ..)| *of == service(name));
        let asked = asked.map(|(_, key, value)| (*key, (*value).to_owned()));
        Ok(own
            .into_iter()
            .chain(asked)
            .map(|(key, value)| (key.to_owned(), value))
            .collect())
    }

    fn spawn(&self, name: &str, settings: &BTreeMap<String, String>) -> Result<Process> {
        let mut command = Command::new(binary(&format!("aegis-{}", service(name)))?);
        let prefix = service(name).to_uppercase().replace('-', "_");
        for (key, value) in settings {
            command.env(format!("AEGIS_{prefix}__{key}"), value);
        }
        command.env("OPENAICOMPATIBLE_API_KEY", "none");
        Process::start(name, &mut command, self.data.path())
    }

    async fn ready(&self, layout: &Layout<'_>) -> Result<()> {
        for replica in 1..=layout.replicas {
            let client = self.gateway(replica)?;
            // A runner's catalogue comes last.
            let path = match layout.runners {
                0 => "/v1/scans",
                _ => "/v1/plugins/buffs",
            };
            let until = Instant::now() + LIMIT;
            while !matches!(client.get(path).await, Ok(answer) if answer.status.is_success()) {
                ensure!(
                    Instant::now() < until,
                    "not ready:\n{}",
                    self.log_ends()?.join("\n")
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// The HTTP API of one gateway, from 1.
    pub(crate) fn gateway(&self, replica: usize) -> Result<Client> {
        Client::new(&self.endpoint(&format!("gateway-{replica}"))?)
    }

    pub(crate) fn endpoint(&self, name: &str) -> Result<String> {
        Ok(format!("http://{}", self.member(name)?.address))
    }

    pub(crate) fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// As a crash would.
    pub(crate) fn kill(&mut self, name: &str) -> Result<()> {
        let member = self.members.get_mut(name).context("no such process")?;
        member.process.kill()?;
        Ok(())
    }

    pub(crate) fn start_again(&mut self, name: &str) -> Result<()> {
        let settings = self.member(name)?.settings.clone();
        let process = self.spawn(name, &settings)?;
        let member = self.members.get_mut(name).context("no such process")?;
        member.process = process;
        Ok(())
    }

    /// Process ids.
    pub(crate) fn ids(&self) -> Vec<i32> {
        let members = self.members.values();
        members.map(|member| member.process.id()).collect()
    }

    /// CPU time of a process and all below it, so far.
    pub(crate) fn cpu(&self, name: &str) -> Result<Duration> {
        process::cpu_of_tree(self.member(name)?.process.id())
    }

    pub(crate) fn log_ends(&self) -> Result<Vec<String>> {
        let members = self.members.values();
        members.map(|member| member.process.log_end()).collect()
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.members.get(name).with_context(|| name.to_owned())
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        for stopped in SERVICES {
            for (name, member) in &mut self.members {
                if service(name) != stopped {
                    continue;
                }
                member.process.signal(Signal::SIGTERM)?;
                let status = member.process.ended(STOP)?;
                if !status.success() {
                    bail!("{name} ended with {status}:\n{}", member.process.log_end()?);
                }
            }
        }
        Ok(())
    }
}

impl Layout<'_> {
    fn members(&self) -> Vec<String> {
        let members = SERVICES
            .iter()
            .flat_map(|service| (1..=self.of(service)).map(move |n| format!("{service}-{n}")));
        members.collect()
    }

    fn of(&self, service: &str) -> usize {
        match service {
            "garak-runner" => self.runners,
            "artifact" => 1,
            _ => self.replicas,
        }
    }
}

fn service(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(service, _)| service)
}

fn replica(name: &str) -> usize {
    let number = name.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
    number.unwrap_or(1)
}
