//! `aegis template …`

use std::process::ExitCode;

use aegis_mesh::{Error, Result};
use aegis_proto::{
    overlay::overlay,
    template::v1::{
        CreateTemplateRequest, DeleteTemplateRequest, GetTemplateRequest,
        ListTemplateVersionsRequest, ListTemplateVersionsResponse, ListTemplatesRequest,
        ListTemplatesResponse, Template, UpdateTemplateRequest,
    },
};
use clap::{Args, Subcommand};
use comfy_table::{Cell, Table};

use crate::{
    client::Client,
    output::{
        print_json,
        table::{number, table},
    },
    scan::spec::SpecArgs,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Those that come with Aegis, then your own
    List,
    /// One template, as JSON
    Show {
        /// The template's name
        name: String,
        /// Which version; 0 is the newest
        #[arg(long, default_value_t = 0)]
        version: i32,
    },
    /// Every version of a template, newest first
    Versions {
        /// The template's name
        name: String,
    },
    /// Keep a specification under a name
    Create(Box<CreateArgs>),
    /// Make the next version of a template; what is not given stays
    Update(Box<UpdateArgs>),
    /// Delete a template; scans keep what they were made from
    Delete {
        /// The template's name
        name: String,
    },
}

/// What users read about a template.
#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    /// A name for people
    #[arg(long)]
    display_name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// a-z, 0-9 and hyphen
    name: String,
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    spec: SpecArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The template's name
    name: String,
    #[command(flatten)]
    text: TextArgs,
    /// The options given are the whole specification, not changes to it
    #[arg(long)]
    replace_spec: bool,
    /// The etag that was read [default: the newest version's]
    #[arg(long)]
    etag: Option<String>,
    #[command(flatten)]
    spec: SpecArgs,
}

/// Runs one of the commands.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    command: TemplateCommand,
) -> anyhow::Result<ExitCode> {
    match command {
        TemplateCommand::List => {
            let list = list(client).await?;
            show_all(&list, as_json, &list.templates)?;
        }
        TemplateCommand::Show { name, version } => print_json(&get(client, name, version).await?)?,
        TemplateCommand::Versions { name } => {
            let list = versions(client, name).await?;
            show_all(&list, as_json, &list.templates)?;
        }
        TemplateCommand::Create(args) => {
            let request = CreateTemplateRequest {
                name: args.name,
                display_name: args.text.display_name.unwrap_or_default(),
                description: args.text.description.unwrap_or_default(),
                spec: Some(args.spec.into_spec()?),
            };
            let answer = client.templates().create_template(request).await;
            let made = answer.map_err(Error::from)?.into_inner().template;
            print_made(made, as_json)?;
        }
        TemplateCommand::Update(args) => {
            let made = update(client, *args).await?;
            print_made(made, as_json)?;
        }
        TemplateCommand::Delete { name } => {
            let etag = String::new();
            let request = DeleteTemplateRequest { name, etag };
            let answer = client.templates().delete_template(request).await;
            answer.map_err(Error::from)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(client: &Client, name: String, version: i32) -> Result<Template> {
    let request = GetTemplateRequest { name, version };
    let answer = client.templates().get_template(request).await?;
    required(answer.into_inner().template)
}

fn required(template: Option<Template>) -> Result<Template> {
    template.ok_or_else(|| Error::internal("no template in the answer"))
}

async fn update(client: &Client, args: UpdateArgs) -> anyhow::Result<Option<Template>> {
    let read = get(client, args.name.clone(), 0).await?;
    let etag = args.etag.unwrap_or(read.etag);
    let given = args.spec.into_spec()?;
    let spec = match args.replace_spec {
        true => given,
        false => overlay(&read.spec.unwrap_or_default(), &given)?,
    };
    let request = UpdateTemplateRequest {
        name: args.name,
        display_name: args.text.display_name,
        description: args.text.description,
        spec: Some(spec),
        etag,
    };
    let answer = client.templates().update_template(request).await;
    Ok(answer.map_err(Error::from)?.into_inner().template)
}

async fn list(client: &Client) -> Result<ListTemplatesResponse> {
    let mut all = ListTemplatesResponse::default();
    let mut page_token = String::new();
    loop {
        let request = ListTemplatesRequest {
            page_size: 1000,
            page_token,
        };
        let page = client.templates().list_templates(request).await?;
        let page = page.into_inner();
        all.templates.extend(page.templates);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// The newest 1,000.
async fn versions(client: &Client, name: String) -> Result<ListTemplateVersionsResponse> {
    let request = ListTemplateVersionsRequest {
        name,
        page_size: 1000,
        page_token: String::new(),
    };
    let answer = client.templates().list_template_versions(request).await?;
    Ok(answer.into_inner())
}

fn show_all<M: prost::Message + prost::Name>(
    list: &M,
    as_json: bool,
    templates: &[Template],
) -> anyhow::Result<()> {
    if as_json {
        return print_json(list);
    }
    println!("{}", rows(templates));
    Ok(())
}

fn rows(templates: &[Template]) -> Table {
    let mut rows = table(&["template", "version", "preset", "probes", "description"]);
    for template in templates {
        let spec = template.spec.clone().unwrap_or_default();
        rows.add_row([
            Cell::new(&template.name),
            number(template.version.into()),
            Cell::new(if template.preset { "yes" } else { "" }),
            Cell::new(spec.include.join(", ")),
            Cell::new(&template.description),
        ]);
    }
    rows
}

fn print_made(made: Option<Template>, as_json: bool) -> anyhow::Result<()> {
    let made = required(made)?;
    if as_json {
        return print_json(&made);
    }
    println!("{} version {}", made.name, made.version);
    Ok(())
}
