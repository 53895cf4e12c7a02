//! An orchestrator over a **fake** catalog: the real one is another service, and both together are
//! the end-to-end suite's job.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::{Arc, Mutex};

use aegis_mesh::{
    CallContext, Error, MeshChannel, MeshServer, Principal, ServerConfig, Shutdown, sized,
    with_context,
};
use aegis_proto::{
    internal::{
        catalog::v1::{
            self as catalog,
            plugin_catalogue_service_server::{
                PluginCatalogueService, PluginCatalogueServiceServer,
            },
            scan_store_service_server::{ScanStoreService, ScanStoreServiceServer},
        },
        task::v1 as task,
    },
    scan::v1::{
        CreateScanRequest, PlanScanRequest, PlanScanResponse, Scan, ScanSpec,
        scan_service_client::ScanServiceClient,
    },
};
use aegis_scan_orchestrator::{Config, Deps, Running, start};
use futures_util::stream;
use tonic::{Request, Response, Status};

/// A trimmed survey of a real garak 0.17.1 installation without torch.
pub const CATALOGUE: &[u8] = include_bytes!("../data/catalogue.json");

#[derive(Clone, Default)]
struct FakeCatalog {
    created: Arc<Mutex<Vec<catalog::CreateScanRequest>>>,
    catalogue: Arc<Mutex<Vec<u8>>>,
}

/// An orchestrator at work.
pub struct Orchestrator {
    running: Running,
    fake: FakeCatalog,
    _shutdown: Shutdown,
}

impl Orchestrator {
    pub async fn start() -> Self {
        Self::with_catalogue(CATALOGUE).await
    }

    pub async fn with_catalogue(json: &[u8]) -> Self {
        let fake = FakeCatalog::default();
        *fake.catalogue.lock().expect("not poisoned") = json.to_vec();
        let config = ServerConfig::on_port(0);
        let routes = MeshServer::builder("fake-catalog", &config)
            .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
            .add_service(sized!(ScanStoreServiceServer::new(fake.clone()), &config))
            .add_service(sized!(
                PluginCatalogueServiceServer::new(fake.clone()),
                &config
            ))
            .into_routes()
            .expect("routes");
        let shutdown = Shutdown::new();
        let deps = Deps::new(MeshChannel::local(routes));
        let running = start(Config::default(), deps, shutdown.clone())
            .await
            .expect("starts");
        Self {
            running,
            fake,
            _shutdown: shutdown,
        }
    }

    fn client(&self) -> ScanServiceClient<MeshChannel> {
        ScanServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub async fn plan(&self, spec: ScanSpec) -> Result<PlanScanResponse, Error> {
        let request = PlanScanRequest {
            spec: Some(spec),
            template: String::new(),
        };
        let answer = local(self.client().plan_scan(request)).await?;
        Ok(answer.into_inner())
    }

    pub async fn create(&self, spec: ScanSpec) -> Result<Scan, Error> {
        self.create_with(CreateScanRequest {
            spec: Some(spec),
            ..CreateScanRequest::default()
        })
        .await
    }

    pub async fn create_with(&self, request: CreateScanRequest) -> Result<Scan, Error> {
        let answer = local(self.client().create_scan(request)).await?;
        Ok(answer.into_inner().scan.expect("a scan"))
    }

    /// The intents that reached the catalog.
    pub fn created(&self) -> Vec<catalog::CreateScanRequest> {
        self.fake.created.lock().expect("not poisoned").clone()
    }
}

async fn local<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Error> {
    let context = CallContext::new(Principal::local());
    Ok(with_context(context, call).await?)
}

#[tonic::async_trait]
impl ScanStoreService for FakeCatalog {
    type WatchScanStream = stream::Empty<Result<catalog::WatchScanResponse, Status>>;

    async fn find_scan_by_request(
        &self,
        request: Request<catalog::FindScanByRequestRequest>,
    ) -> Result<Response<catalog::FindScanByRequestResponse>, Status> {
        let key = request.into_inner().key.unwrap_or_default();
        let created = self.created.lock().expect("not poisoned");
        let same = created.iter().find(|one| {
            one.key
                .as_ref()
                .is_some_and(|k| k.request_id == key.request_id)
        });
        let Some(same) = same else {
            return Ok(Response::new(catalog::FindScanByRequestResponse {
                scan: None,
            }));
        };
        if same.key.as_ref().map(|k| &k.request_sha256) != Some(&key.request_sha256) {
            return Err(Error::invalid_argument("REQUEST_ID_REUSED", "other content").into());
        }
        let scan = Some(Scan {
            scan_id: key.request_id,
            ..Scan::default()
        });
        Ok(Response::new(catalog::FindScanByRequestResponse { scan }))
    }

    async fn create_scan(
        &self,
        request: Request<catalog::CreateScanRequest>,
    ) -> Result<Response<catalog::CreateScanResponse>, Status> {
        let request = request.into_inner();
        let scan_id = request.key.clone().unwrap_or_default().request_id;
        self.created.lock().expect("not poisoned").push(request);
        let scan = Some(Scan {
            scan_id,
            ..Scan::default()
        });
        Ok(Response::new(catalog::CreateScanResponse { scan }))
    }

    async fn cancel_scan(
        &self,
        _: Request<catalog::CancelScanRequest>,
    ) -> Result<Response<catalog::CancelScanResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn retry_scan(
        &self,
        _: Request<catalog::RetryScanRequest>,
    ) -> Result<Response<catalog::RetryScanResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn watch_scan(
        &self,
        _: Request<catalog::WatchScanRequest>,
    ) -> Result<Response<Self::WatchScanStream>, Status> {
        Ok(Response::new(stream::empty()))
    }
}

#[tonic::async_trait]
impl PluginCatalogueService for FakeCatalog {
    async fn put_plugin_catalogue(
        &self,
        _: Request<catalog::PutPluginCatalogueRequest>,
    ) -> Result<Response<catalog::PutPluginCatalogueResponse>, Status> {
        Ok(Response::new(catalog::PutPluginCatalogueResponse {}))
    }

    async fn get_plugin_catalogue(
        &self,
        request: Request<catalog::GetPluginCatalogueRequest>,
    ) -> Result<Response<catalog::GetPluginCatalogueResponse>, Status> {
        let known = request.into_inner().known_sha256 == "a";
        let json = self.catalogue.lock().expect("not poisoned").clone();
        let allow = |name: &str, keys: &[&str]| task::AllowedGenerator {
            name: name.to_owned(),
            option_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        Ok(Response::new(catalog::GetPluginCatalogueResponse {
            sha256: "a".to_owned(),
            garak_version: "0.17.1".to_owned(),
            catalogue_json: if known { Vec::new() } else { json },
            allowance: Some(task::Allowance {
                generators: vec![
                    allow("test.Repeat", &[]),
                    allow("openai.OpenAICompatible", &["uri", "max_tokens"]),
                ],
                secrets: vec!["OPENAICOMPATIBLE_API_KEY".to_owned()],
            }),
        }))
    }
}
