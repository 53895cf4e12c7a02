//! PluginCatalogueService: what runners' garak can do.

use aegis_mesh::{Error, Result, principal_of};
use aegis_proto::internal::catalog::v1::{
    GetPluginCatalogueRequest, GetPluginCatalogueResponse, ListPresentPluginCataloguesRequest,
    ListPresentPluginCataloguesResponse, PutPluginCatalogueRequest, PutPluginCatalogueResponse,
    plugin_catalogue_service_server::PluginCatalogueService,
};
use tonic::{Request, Response, Status};

use super::check;
use crate::store::{PluginCatalogue, Store};

/// PluginCatalogueService on a store.
pub(crate) struct Catalogues {
    pub(crate) store: Store,
}

#[tonic::async_trait]
impl PluginCatalogueService for Catalogues {
    async fn put_plugin_catalogue(
        &self,
        request: Request<PutPluginCatalogueRequest>,
    ) -> Result<Response<PutPluginCatalogueResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let allowance = request.allowance.unwrap_or_default();
        let catalogue = PluginCatalogue {
            sha256: check::sha256("sha256", &request.sha256)?,
            garak_version: check::required("garak_version", &request.garak_version, 64)?,
            json: request.catalogue_json,
            allowance: aegis_proto::json::to_json(&allowance).map_err(Error::internal)?,
        };
        self.store.put_catalogue(&project, &catalogue).await?;
        Ok(Response::new(PutPluginCatalogueResponse {}))
    }

    async fn get_plugin_catalogue(
        &self,
        request: Request<GetPluginCatalogueRequest>,
    ) -> Result<Response<GetPluginCatalogueResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        if !request.sha256.is_empty() {
            check::sha256("sha256", &request.sha256)?;
        }
        let found = self
            .store
            .catalogue(&project, &request.sha256, &request.known_sha256)
            .await?;
        let allowance = aegis_proto::json::from_json(found.allowance).map_err(Error::internal)?;
        Ok(Response::new(GetPluginCatalogueResponse {
            sha256: found.sha256,
            garak_version: found.garak_version,
            catalogue_json: found.json,
            allowance: Some(allowance),
        }))
    }

    async fn list_present_plugin_catalogues(
        &self,
        request: Request<ListPresentPluginCataloguesRequest>,
    ) -> Result<Response<ListPresentPluginCataloguesResponse>, Status> {
        let project = principal_of(&request)?.project;
        let sha256 = self.store.present_catalogues(&project).await?;
        Ok(Response::new(ListPresentPluginCataloguesResponse {
            sha256,
        }))
    }
}
