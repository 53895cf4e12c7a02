//! `aegis plugins …`

use std::process::ExitCode;

use aegis_mesh::Result;
use aegis_proto::plugin::v1::{
    ListBuffsRequest, ListBuffsResponse, ListDetectorsRequest, ListDetectorsResponse,
    ListGeneratorsRequest, ListGeneratorsResponse, ListProbesRequest, ListProbesResponse,
};
use comfy_table::{Cell, Table};

use crate::{
    args::PluginKind,
    client::{Client, once_warm},
    output::{
        print_json,
        table::{number, table},
    },
};

/// Lists one kind of plugin.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    kind: PluginKind,
) -> anyhow::Result<ExitCode> {
    match kind {
        PluginKind::Probes => show(&once_warm(|| probes(client)).await?, as_json, probe_table)?,
        PluginKind::Detectors => {
            show(
                &once_warm(|| detectors(client)).await?,
                as_json,
                detector_table,
            )?;
        }
        PluginKind::Generators => {
            show(
                &once_warm(|| generators(client)).await?,
                as_json,
                generator_table,
            )?;
        }
        PluginKind::Buffs => show(&once_warm(|| buffs(client)).await?, as_json, buff_table)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show<M: prost::Message + prost::Name>(
    list: &M,
    as_json: bool,
    rows: fn(&M) -> Table,
) -> anyhow::Result<()> {
    if as_json {
        return print_json(list);
    }
    println!("{}", rows(list));
    Ok(())
}

/// Every page of one list, in one message.
macro_rules! every_page {
    ($name:ident, $method:ident, $request:ident, $response:ident, $field:ident) => {
        async fn $name(client: &Client) -> Result<$response> {
            let mut all = $response::default();
            let mut page_token = String::new();
            loop {
                let request = $request {
                    page_size: 1000,
                    page_token,
                };
                let page = client.plugins().$method(request).await?.into_inner();
                all.$field.extend(page.$field);
                all.garak_version = page.garak_version;
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return Ok(all);
                }
            }
        }
    };
}

every_page!(
    probes,
    list_probes,
    ListProbesRequest,
    ListProbesResponse,
    probes
);
every_page!(
    detectors,
    list_detectors,
    ListDetectorsRequest,
    ListDetectorsResponse,
    detectors
);
every_page!(
    generators,
    list_generators,
    ListGeneratorsRequest,
    ListGeneratorsResponse,
    generators
);
every_page!(
    buffs,
    list_buffs,
    ListBuffsRequest,
    ListBuffsResponse,
    buffs
);

fn probe_table(list: &ListProbesResponse) -> Table {
    let mut rows = table(&[
        "probe",
        "active",
        "tier",
        "prompts",
        "description",
        "not evaluable here",
    ]);
    for probe in &list.probes {
        rows.add_row([
            Cell::new(&probe.name),
            yes(probe.active),
            number(probe.tier.into()),
            number(probe.prompts),
            Cell::new(&probe.description),
            Cell::new(&probe.not_evaluable_reason),
        ]);
    }
    rows
}

fn detector_table(list: &ListDetectorsResponse) -> Table {
    let mut rows = table(&["detector", "loads here", "description"]);
    for detector in &list.detectors {
        rows.add_row([
            Cell::new(&detector.name),
            yes(detector.loadable),
            Cell::new(&detector.description),
        ]);
    }
    rows
}

fn generator_table(list: &ListGeneratorsResponse) -> Table {
    let mut rows = table(&["generator", "allowed", "options", "key variable"]);
    for generator in &list.generators {
        rows.add_row([
            Cell::new(&generator.name),
            yes(generator.allowed),
            Cell::new(generator.option_keys.join(", ")),
            Cell::new(&generator.key_env_var),
        ]);
    }
    rows
}

fn buff_table(list: &ListBuffsResponse) -> Table {
    let mut rows = table(&["buff", "description"]);
    for buff in &list.buffs {
        rows.add_row([Cell::new(&buff.name), Cell::new(&buff.description)]);
    }
    rows
}

fn yes(value: bool) -> Cell {
    Cell::new(if value { "yes" } else { "" })
}
