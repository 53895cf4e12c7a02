//! `aegis import`: what garak, or the Aegis of files and flags, left. Nothing of it is changed, and
//! what is here already stays as it is.

mod address;
mod bucket;
mod content;
mod credential;
mod database;
mod facts;
mod folder;
mod gather;
mod journal;
mod names;
pub(crate) mod once;
mod options;
mod probes;
mod row;
mod scan;
mod summary;
mod templates;
mod time;

use std::{collections::BTreeSet, path::PathBuf, pin::pin, process::ExitCode};

use aegis_mesh::{Code, Error, RetryPolicy, Secret, retry, spawn::blocking};
use aegis_proto::template::v1::ListTemplatesRequest;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use self::{
    bucket::BucketArgs,
    database::{OldDatabase, PROBES, TEMPLATES},
    folder::Found,
    gather::Gathered,
    journal::{Done, Journal, Kind, Refusal},
    scan::Way,
    summary::Summary,
};
use crate::client::Client;

/// Scans that are taken in at once.
const AT_ONCE: usize = 4;
/// Something was not taken.
const NOT_ALL: u8 = 1;

/// Where everything is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ImportArgs {
    /// Folders with reports, config_templates and custom_probes; reports of garak
    #[arg(value_name = "FOLDER|FILE", required_unless_present_any = ["database", "bucket"])]
    paths: Vec<PathBuf>,
    /// The old system's database: postgresql://…, or sqlite: and a file's path
    #[arg(
        long,
        env = "AEGIS_IMPORT_DATABASE",
        hide_env_values = true,
        value_name = "URL",
        value_parser = secret
    )]
    database: Option<Secret>,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Zone of the times that name none, such as Europe/Berlin [default: this machine's]
    #[arg(long, value_name = "NAME")]
    time_zone: Option<String>,
    /// Check everything and say what would be imported; keep nothing
    #[arg(long)]
    dry_run: bool,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// Takes everything in and says what became of it.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    args: ImportArgs,
) -> anyhow::Result<ExitCode> {
    let journal = Journal::of_command(args.dry_run);
    let (summary, ended) = import(client, &args, journal).await?;
    match as_json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => summary.print(),
    }
    ended?;
    Ok(match summary.has_not_taken() {
        true => ExitCode::from(NOT_ALL),
        false => ExitCode::SUCCESS,
    })
}

/// Goes through everything. The sums are there too when it ended early.
///
/// # Errors
/// When nothing was begun: a source that is not there, a mesh that does not answer.
async fn import(
    client: &Client,
    args: &ImportArgs,
    mut journal: Journal,
) -> anyhow::Result<(Summary, Result<(), Error>)> {
    let zone = time::zone(args.time_zone.as_deref())?;
    let paths = args.paths.clone();
    let found = blocking("look through folders", move || Found::look(&paths)).await?;
    let found = found.map_err(|error| {
        Error::invalid_argument("IMPORT_SOURCE_UNUSABLE", error.to_string())
            .hint("name folders and files that are there and can be read")
    })?;
    let database = match &args.database {
        Some(url) => Some(OldDatabase::open(url).await?),
        None => None,
    };
    let bucket = args.bucket.open().await?;
    answers(client).await?;
    let way = Way {
        client: client.clone(),
        zone,
        dry_run: args.dry_run,
    };
    let gathered = Gathered::new(found, database, bucket);
    let ended = way.all(gathered, &mut journal).await;
    Ok((journal.end(ended.is_ok()), ended))
}

/// Finds out at once when the mesh cannot be reached, or does not let us in.
async fn answers(client: &Client) -> Result<(), Error> {
    retry(RetryPolicy::default(), || async {
        let request = ListTemplatesRequest {
            page_size: 1,
            ..ListTemplatesRequest::default()
        };
        client.templates().list_templates(request).await?;
        Ok(())
    })
    .await
}

/// Whether a thing could be made, or an earlier try had made it whose answer never came.
async fn made_or_there<T>(
    made: Result<Response<T>, Status>,
    is_there: impl Future<Output = Result<bool, Error>>,
) -> Result<(), Error> {
    match made.map_err(Error::from) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Code::AlreadyExists && is_there.await? => Ok(()),
        Err(error) => Err(error),
    }
}

impl Way {
    async fn all(&self, mut gathered: Gathered, journal: &mut Journal) -> Result<(), Error> {
        self.leave(&mut gathered.found, journal)?;
        self.templates(&gathered, journal).await?;
        self.probes(&gathered, journal).await?;
        let (sender, receiver) = mpsc::channel(1);
        let gather = gathered.scans(sender, journal.bar());
        let import = async {
            let scans = ReceiverStream::new(receiver);
            let mut done = scans
                .map(|scan| self.import(scan))
                .buffer_unordered(AT_ONCE);
            while let Some(done) = done.next().await {
                journal.done(done)?;
            }
            Ok(())
        };
        tokio::try_join!(gather, import)?;
        gathered.close().await
    }

    /// What no further look is needed for.
    fn leave(&self, found: &mut Found, journal: &mut Journal) -> Result<(), Error> {
        for (path, why) in std::mem::take(&mut found.unusable) {
            let refusal = Refusal::new("FILE_UNUSABLE", why);
            journal.done(not_taken(Kind::File, path.display().to_string(), refusal))?;
        }
        for path in std::mem::take(&mut found.ignored) {
            journal.ignored(path.display().to_string());
        }
        Ok(())
    }

    /// The database's first: the old system reads its files only where it has none.
    async fn templates(&self, gathered: &Gathered, journal: &mut Journal) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        if let Some(database) = &gathered.database {
            let mut pages = pin!(database.rows(TEMPLATES));
            while let Some(rows) = pages.try_next().await? {
                for row in rows {
                    let source = format!("config_templates row {:?}", row.text("name"));
                    seen.insert(row.text("name").to_owned());
                    let old = templates::of_row(&row);
                    let done = templates::import(&self.client, self.dry_run, source, old);
                    journal.done(done.await)?;
                }
            }
        }
        for path in &gathered.found.templates {
            let source = path.display().to_string();
            let old = templates::of_file(path).await;
            if old.as_ref().is_ok_and(|old| seen.contains(old.name())) {
                journal.ignored(source);
                continue;
            }
            let done = templates::import(&self.client, self.dry_run, source, old);
            journal.done(done.await)?;
        }
        Ok(())
    }

    async fn probes(&self, gathered: &Gathered, journal: &mut Journal) -> Result<(), Error> {
        let mut known = Vec::new();
        if let Some(database) = &gathered.database {
            let mut pages = pin!(database.rows(PROBES));
            while let Some(rows) = pages.try_next().await? {
                known.extend(rows.iter().map(|row| {
                    let source = format!("custom_probes row {:?}", row.text("name"));
                    (source, probes::About::of_row(row))
                }));
            }
        }
        for list in &gathered.found.probe_lists {
            match probes::of_list(list).await {
                Ok(listed) => known.extend(listed),
                Err(refusal) => {
                    let source = list.display().to_string();
                    journal.done(not_taken(Kind::File, source, refusal))?;
                }
            }
        }
        let old = probes::paired(&gathered.found.probes, known);
        for (source, about) in &old.lost {
            journal.done(probes::lost(source.clone(), about))?;
        }
        for (path, about) in &old.sources {
            let done = probes::import(&self.client, self.dry_run, path, about);
            journal.done(done.await)?;
        }
        Ok(())
    }
}

fn not_taken(kind: Kind, source: String, refusal: Refusal) -> Done {
    Done {
        kind,
        source,
        outcome: Err(refusal.into()),
        left_out: Vec::new(),
        warnings: Vec::new(),
    }
}
