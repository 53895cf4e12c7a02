//! Plugin catalogues, read from catalog once each: they are immutable and named by their checksum.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use aegis_mesh::{Error, MeshChannel, Result};
use aegis_proto::internal::catalog::v1::{
    GetPluginCatalogueRequest, plugin_catalogue_service_client::PluginCatalogueServiceClient,
};

use super::convert;
use crate::domain::catalogue::{Allowance, Catalogue};

/// Catalogues kept in memory: installations that publish at the same time are few.
const KEPT: usize = 8;

/// A catalogue and what its runners allow now.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) sha256: String,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) allowance: Allowance,
}

/// Reads catalogues.
#[derive(Clone)]
pub(crate) struct Catalogues {
    client: PluginCatalogueServiceClient<MeshChannel>,
    known: Arc<Mutex<VecDeque<(String, Arc<Catalogue>)>>>,
}

impl Catalogues {
    pub(crate) fn new(catalog: MeshChannel, max_bytes: usize) -> Self {
        Self {
            client: PluginCatalogueServiceClient::new(catalog).max_decoding_message_size(max_bytes),
            known: Arc::default(),
        }
    }

    /// The one that was published last.
    pub(crate) async fn newest(&self) -> Result<Published> {
        let known = self.lock().back().map(|(sha256, _)| sha256.clone());
        let request = GetPluginCatalogueRequest {
            sha256: String::new(),
            known_sha256: known.unwrap_or_default(),
        };
        let answer = self.client.clone().get_plugin_catalogue(request).await?.into_inner();
        let catalogue = match self.find(&answer.sha256) {
            Some(catalogue) => catalogue,
            None => self.keep(&answer.sha256, &answer.catalogue_json)?,
        };
        Ok(Published {
            sha256: answer.sha256,
            catalogue,
            allowance: convert::allowance(&answer.allowance.unwrap_or_default()),
        })
    }

    fn find(&self, sha256: &str) -> Option<Arc<Catalogue>> {
        let known = self.lock();
        let (_, catalogue) = known.iter().find(|(known, _)| known == sha256)?;
        Some(Arc::clone(catalogue))
    }

    fn keep(&self, sha256: &str, json: &[u8]) -> Result<Arc<Catalogue>> {
        let catalogue = Arc::new(Catalogue::parse(json).map_err(Error::internal)?);
        let mut known = self.lock();
        known.push_back((sha256.to_owned(), Arc::clone(&catalogue)));
        if known.len() > KEPT {
            known.pop_front();
        }
        Ok(catalogue)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Arc<Catalogue>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
