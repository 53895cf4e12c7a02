use aegis_proto::plugin::v1::{
    ListBuffsRequest, ListBuffsResponse, ListDetectorsRequest, ListDetectorsResponse,
    ListGeneratorsRequest, ListGeneratorsResponse, ListProbesRequest, ListProbesResponse, Probe,
    plugin_service_server::PluginService,
};
use tonic::{Request, Response, Status};

use super::Fake;

#[tonic::async_trait]
impl PluginService for Fake {
    async fn list_probes(
        &self,
        request: Request<ListProbesRequest>,
    ) -> Result<Response<ListProbesResponse>, Status> {
        self.saw("ListProbes", &request);
        let probe = Probe {
            name: "dan.AntiDAN".into(),
            prompts: 9_007_199_254_740_993,
            ..Probe::default()
        };
        Ok(Response::new(ListProbesResponse {
            probes: vec![probe],
            ..ListProbesResponse::default()
        }))
    }

    async fn list_detectors(
        &self,
        request: Request<ListDetectorsRequest>,
    ) -> Result<Response<ListDetectorsResponse>, Status> {
        self.saw("ListDetectors", &request);
        Ok(Response::new(Default::default()))
    }

    async fn list_generators(
        &self,
        request: Request<ListGeneratorsRequest>,
    ) -> Result<Response<ListGeneratorsResponse>, Status> {
        self.saw("ListGenerators", &request);
        Ok(Response::new(Default::default()))
    }

    async fn list_buffs(
        &self,
        request: Request<ListBuffsRequest>,
    ) -> Result<Response<ListBuffsResponse>, Status> {
        self.saw("ListBuffs", &request);
        Ok(Response::new(Default::default()))
    }
}
