//! `aegis.report.v1.ImportService`.

use aegis_mesh::{ClientConfig, Error, MeshChannel, Result, principal_of, sized};
use aegis_proto::internal::catalog::v1::import_store_service_client::ImportStoreServiceClient;
use aegis_proto::report::v1::{
    self as pb, import_scan_request::Part as Message, import_service_server::ImportService,
};
use futures_util::{StreamExt, TryStreamExt};
use prost_types::value::Kind;
use tonic::{Request, Response, Status, Streaming};

use super::convert;
use super::import_rows::CatalogImport;
use crate::domain::import::{ImportHeader, Imports, Part};
use crate::domain::name::ArtifactName;

/// Most bytes of one message of an import.
const MAX_DATA_BYTES: usize = 1 << 20;

/// Imports, for everybody.
pub(crate) struct ImportApi {
    imports: Imports,
    rows: ImportStoreServiceClient<MeshChannel>,
}

impl ImportApi {
    /// Over these; `channel` leads to the catalog, with the bounds of `config`.
    pub(crate) fn new(imports: Imports, channel: MeshChannel, config: &ClientConfig) -> Self {
        let rows = sized!(ImportStoreServiceClient::new(channel), config);
        Self { imports, rows }
    }
}

#[tonic::async_trait]
impl ImportService for ImportApi {
    async fn import_scan(
        &self,
        request: Request<Streaming<pb::ImportScanRequest>>,
    ) -> Result<Response<pb::ImportScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|first| first.part);
        let Some(Message::Header(header)) = first else {
            return Err(convert::invalid("header", "must be the first message").into());
        };
        let known = known(&header)?;
        let parts = messages.map_err(Error::from);
        let parts = parts.map(|message| part(message?));
        let rows = CatalogImport::new(self.rows.clone(), project, header);
        let imported = self.imports.import(known, &rows, parts).await?;
        Ok(Response::new(pb::ImportScanResponse {
            scan: Some(imported.scan),
            unchanged: imported.unchanged,
            warnings: imported.warnings,
        }))
    }
}

/// What the import itself must know of the header.
fn known(header: &pb::ImportHeader) -> Result<ImportHeader> {
    let scan = Some(&header.scan_id).filter(|id| !id.is_empty());
    let scan = scan.map(|id| convert::id("header.scan_id", id));
    let options = header.original_options.as_ref();
    let threshold = options.and_then(|options| options.fields.get("eval_threshold"));
    let threshold = match threshold.and_then(|value| value.kind.as_ref()) {
        Some(Kind::NumberValue(threshold)) => Some(*threshold),
        _ => None,
    };
    Ok(ImportHeader {
        scan: scan.transpose()?,
        eval_threshold: threshold.filter(|threshold| (0.0..=1.0).contains(threshold)),
        dry_run: header.dry_run,
    })
}

fn part(message: pb::ImportScanRequest) -> Result<Part> {
    match message.part {
        Some(Message::File(name)) => {
            ArtifactName::parse_public(&name)
                .map(Part::File)
                .map_err(|_| {
                    let given: String = name.chars().take(64).collect();
                    let what =
                        format!("{given:?} is not one of report.jsonl, hitlog.jsonl, report.html");
                    convert::invalid("file", what)
                })
        }
        Some(Message::Data(data)) if data.len() > MAX_DATA_BYTES => {
            let size = data.len();
            let what = format!("{size} bytes, of {MAX_DATA_BYTES} at most in one message");
            Err(convert::invalid("data", what))
        }
        Some(Message::Data(data)) => Ok(Part::Data(data)),
        Some(Message::Header(_)) => Err(convert::invalid("header", "came before")),
        None => Err(convert::invalid("part", "must be file or data")),
    }
}
