//! `aegis probe …`: probes of one's own.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use aegis_mesh::{Error, Result};
use aegis_proto::probe::v1::{
    CreateCustomProbeRequest, CustomProbe, DeleteCustomProbeRequest, GetCustomProbeRequest,
    ListCustomProbesRequest, ListCustomProbesResponse, ListStartersRequest,
    UpdateCustomProbeRequest, ValidateCustomProbeRequest, Validation, custom_probe::State,
    problem::Severity,
};
use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::Cell;

use crate::{
    client::{Client, once_warm},
    output::{
        print_json,
        table::{number, table},
    },
};

/// Longest wait for a runner's word.
const CHECKED_WITHIN: Duration = Duration::from_secs(300);
/// The probe does not work.
const INVALID: u8 = 1;

#[derive(Debug, Subcommand)]
pub(crate) enum ProbeCommand {
    /// Sources to start from
    Starters {
        /// minimal, basic or advanced: prints its source
        name: Option<String>,
    },
    /// Try a source out; nothing is kept
    Check(SourceArgs),
    /// Keep a source, and try it out
    Create(CreateArgs),
    /// Keep a new version of a source, and try it out
    Update(CreateArgs),
    /// What there is
    List,
    /// One probe: state, problems, classes; --json has its source, too
    Show {
        /// The probe's name
        name: String,
        /// Which version; 0 is the newest
        #[arg(long, default_value_t = 0)]
        version: i32,
    },
    /// Delete a probe that no running scan uses
    Delete {
        /// The probe's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Python source in garak's style
    file: PathBuf,
    /// garak's module name [default: the file's name]
    #[arg(long)]
    name: Option<String>,
}

impl SourceArgs {
    fn read(&self) -> anyhow::Result<(String, String)> {
        let shown = self.file.display();
        let source =
            std::fs::read_to_string(&self.file).with_context(|| format!("reading {shown}"))?;
        let stem = self.file.file_stem().unwrap_or_default();
        let name = self.name.clone();
        Ok((
            name.unwrap_or_else(|| stem.to_string_lossy().into_owned()),
            source,
        ))
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

/// Runs one of the commands.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    command: ProbeCommand,
) -> anyhow::Result<ExitCode> {
    match command {
        ProbeCommand::Starters { name } => starters(client, as_json, name).await,
        ProbeCommand::Check(args) => check(client, as_json, &args).await,
        ProbeCommand::Create(args) => create(client, as_json, args).await,
        ProbeCommand::Update(args) => update(client, as_json, args).await,
        ProbeCommand::List => list(client, as_json).await,
        ProbeCommand::Show { name, version } => show(&get(client, &name, version).await?, as_json),
        ProbeCommand::Delete { name } => {
            let etag = String::new();
            let request = DeleteCustomProbeRequest { name, etag };
            let answer = client.custom_probes().delete_custom_probe(request).await;
            answer.map_err(Error::from)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn starters(
    client: &Client,
    as_json: bool,
    name: Option<String>,
) -> anyhow::Result<ExitCode> {
    let answer = client
        .custom_probes()
        .list_starters(ListStartersRequest {})
        .await;
    let list = answer.map_err(Error::from)?.into_inner();
    let Some(name) = name else {
        if as_json {
            print_json(&list)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows = table(&["starter", "description"]);
        for starter in &list.starters {
            rows.add_row([&starter.name, &starter.description]);
        }
        println!("{rows}");
        return Ok(ExitCode::SUCCESS);
    };
    let found = list.starters.into_iter().find(|one| one.name == name);
    let found = found.with_context(|| format!("there is no starter {name:?}"))?;
    print!("{}", found.source);
    Ok(ExitCode::SUCCESS)
}

async fn check(client: &Client, as_json: bool, args: &SourceArgs) -> anyhow::Result<ExitCode> {
    let (name, source) = args.read()?;
    let request = ValidateCustomProbeRequest { name, source };
    let validation = once_warm(|| async {
        let mut client = client.custom_probes();
        let answer = client.validate_custom_probe(request.clone());
        let validation = answer.await?.into_inner().validation;
        validation.ok_or_else(|| Error::internal("no validation in the answer"))
    })
    .await?;
    if as_json {
        print_json(&validation)?;
    } else {
        print_validation(&validation);
    }
    Ok(exit_code(validation.valid))
}

async fn create(client: &Client, as_json: bool, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let (name, source) = args.source.read()?;
    let request = CreateCustomProbeRequest {
        name: name.clone(),
        description: args.description.unwrap_or_default(),
        source,
    };
    once_warm(|| async {
        let mut client = client.custom_probes();
        let answer = client.create_custom_probe(request.clone());
        Ok(answer.await?.into_inner())
    })
    .await?;
    show(&checked(client, &name).await?, as_json)
}

async fn update(client: &Client, as_json: bool, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let (name, source) = args.source.read()?;
    let request = UpdateCustomProbeRequest {
        name: name.clone(),
        description: args.description,
        source: Some(source),
        etag: get(client, &name, 0).await?.etag,
    };
    let answer = client.custom_probes().update_custom_probe(request).await;
    answer.map_err(Error::from)?;
    show(&checked(client, &name).await?, as_json)
}

async fn get(client: &Client, name: &str, version: i32) -> Result<CustomProbe> {
    let request = GetCustomProbeRequest {
        name: name.to_owned(),
        version,
    };
    let answer = client.custom_probes().get_custom_probe(request).await?;
    let probe = answer.into_inner().custom_probe;
    probe.ok_or_else(|| Error::internal("no custom probe in the answer"))
}

/// The newest version once a runner has tried it out.
async fn checked(client: &Client, name: &str) -> anyhow::Result<CustomProbe> {
    const PAUSE: Duration = Duration::from_millis(300);
    let until = tokio::time::Instant::now() + CHECKED_WITHIN;
    loop {
        let probe = get(client, name, 0).await?;
        if probe.state() != State::Checking {
            return Ok(probe);
        }
        if tokio::time::Instant::now() > until {
            anyhow::bail!("no runner tried {name} out within {CHECKED_WITHIN:?}; it is kept");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn list(client: &Client, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut all = ListCustomProbesResponse::default();
    let mut page_token = String::new();
    loop {
        let request = ListCustomProbesRequest {
            page_size: 1000,
            page_token,
        };
        let page = client.custom_probes().list_custom_probes(request).await;
        let page = page.map_err(Error::from)?.into_inner();
        all.custom_probes.extend(page.custom_probes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if as_json {
        print_json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = table(&["probe", "version", "state", "classes", "description"]);
    for probe in &all.custom_probes {
        let validation = probe.validation.clone().unwrap_or_default();
        rows.add_row([
            Cell::new(&probe.name),
            number(probe.version.into()),
            Cell::new(state(probe.state())),
            number(validation.classes.len() as i64),
            Cell::new(&probe.description),
        ]);
    }
    println!("{rows}");
    Ok(ExitCode::SUCCESS)
}

fn show(probe: &CustomProbe, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        print_json(probe)?;
    } else {
        let state = state(probe.state());
        println!("{} version {} is {state}", probe.name, probe.version);
        if let Some(validation) = &probe.validation {
            print_validation(validation);
        }
    }
    Ok(exit_code(probe.state() != State::Invalid))
}

fn print_validation(validation: &Validation) {
    for problem in &validation.problems {
        let kind = match problem.severity() {
            Severity::Warning => "warning",
            _ => "error",
        };
        let place = match (problem.line, problem.column) {
            (0, _) => String::new(),
            (line, 0) => format!(" line {line}:"),
            (line, column) => format!(" line {line}, column {column}:"),
        };
        println!("{kind}:{place} {} {}", problem.reason, problem.message);
    }
    for class in &validation.classes {
        let prompts = match class.prompts {
            0 => String::new(),
            prompts => format!(", {prompts} prompts"),
        };
        let detector = match class.primary_detector.as_str() {
            "" => String::new(),
            detector => format!(", judged by {detector}"),
        };
        println!("{}{prompts}{detector}", class.name);
    }
    println!(
        "{}",
        if validation.valid {
            "valid"
        } else {
            "not valid"
        }
    );
}

fn exit_code(valid: bool) -> ExitCode {
    match valid {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(INVALID),
    }
}

fn state(state: State) -> String {
    let name = state.as_str_name();
    name.trim_start_matches("STATE_").to_lowercase()
}
