//! The plugin catalogues of this installation, parsed and kept. A catalogue never changes, so it is
//! fetched once per checksum; what runners allow comes fresh with each answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aegis_mesh::{Error, MeshChannel, Result};
use aegis_proto::internal::{
    catalog::v1::{
        GetPluginCatalogueRequest, GetPluginCatalogueResponse, ListPresentPluginCataloguesRequest,
        PutPluginCatalogueRequest, plugin_catalogue_service_client::PluginCatalogueServiceClient,
    },
    task::v1 as task,
};

use crate::domain::{allowance::Allowance, catalogue::Catalogue};

/// How many are kept.
const KEPT: usize = 8;
/// How soon to ask again while a runner's garak warms up.
const WARMING: Duration = Duration::from_secs(2);

/// The catalogue that scans are planned with.
#[derive(Clone)]
pub(crate) struct Current {
    /// Its checksum.
    pub(crate) sha256: String,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) allowance: Allowance,
}

/// Catalogues by checksum, the one used last in front.
pub(crate) struct Catalogues {
    client: PluginCatalogueServiceClient<MeshChannel>,
    kept: Mutex<VecDeque<(String, Arc<Catalogue>)>>,
}

impl Catalogues {
    pub(crate) fn new(client: PluginCatalogueServiceClient<MeshChannel>) -> Self {
        Self {
            client,
            kept: Mutex::default(),
        }
    }

    /// The catalogue that was published last, and what its runners allow now.
    pub(crate) async fn current(&self) -> Result<Current> {
        self.named("").await
    }

    /// Those that a runner came with of late, the one published last first. When no runner is there,
    /// the one published last: a scan can be planned before a runner comes.
    pub(crate) async fn present(&self) -> Result<Vec<Current>> {
        let request = ListPresentPluginCataloguesRequest {};
        let mut client = self.client.clone();
        let present = client.list_present_plugin_catalogues(request).await?;
        let mut found = Vec::new();
        for sha256 in present.into_inner().sha256 {
            found.push(self.named(&sha256).await?);
        }
        if found.is_empty() {
            found.push(self.current().await?);
        }
        Ok(found)
    }

    /// The catalogue of this checksum; empty is the one published last.
    async fn named(&self, sha256: &str) -> Result<Current> {
        let known = match sha256 {
            "" => self.newest(),
            named if self.take(named).is_some() => named.to_owned(),
            _ => String::new(),
        };
        let answer = self.get(sha256, known.clone()).await?;
        if let Some(catalogue) = self.take(&answer.sha256) {
            return Ok(current(answer, catalogue));
        }
        // The one it took for known is not kept any more: another call pushed it out meanwhile.
        let answer = match answer.catalogue_json.is_empty() && !known.is_empty() {
            true => self.get(sha256, String::new()).await?,
            false => answer,
        };
        let catalogue = Catalogue::parse(&answer.catalogue_json).map_err(Error::internal)?;
        let catalogue = Arc::new(catalogue);
        self.keep(&answer.sha256, Arc::clone(&catalogue));
        Ok(current(answer, catalogue))
    }

    /// Stores a catalogue that a runner published.
    pub(crate) async fn publish(&self, request: PutPluginCatalogueRequest) -> Result<()> {
        let mut client = self.client.clone();
        client.put_plugin_catalogue(request).await?;
        Ok(())
    }

    async fn get(&self, sha256: &str, known_sha256: String) -> Result<GetPluginCatalogueResponse> {
        let request = GetPluginCatalogueRequest {
            sha256: sha256.to_owned(),
            known_sha256,
        };
        let answer = self.client.clone().get_plugin_catalogue(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| explain(status.into()))
    }

    fn newest(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.front()
            .map(|(sha256, _)| sha256.clone())
            .unwrap_or_default()
    }

    fn take(&self, sha256: &str) -> Option<Arc<Catalogue>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(name, _)| name == sha256)?;
        let entry = kept.remove(at)?;
        let catalogue = Arc::clone(&entry.1);
        kept.push_front(entry);
        Some(catalogue)
    }

    fn keep(&self, sha256: &str, catalogue: Arc<Catalogue>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(name, _)| name != sha256);
        kept.push_front((sha256.to_owned(), catalogue));
        kept.truncate(KEPT);
    }
}

fn current(answer: GetPluginCatalogueResponse, catalogue: Arc<Catalogue>) -> Current {
    Current {
        sha256: answer.sha256,
        catalogue,
        allowance: allowance(answer.allowance.unwrap_or_default()),
    }
}

fn allowance(message: task::Allowance) -> Allowance {
    let generators = message.generators.into_iter();
    Allowance {
        generators: generators
            .map(|g| (g.name, g.option_keys.into_iter().collect()))
            .collect(),
        secrets: message.secrets.into_iter().collect(),
    }
}

/// Without a catalogue, garak is most likely still warming up.
fn explain(error: Error) -> Error {
    if error.reason() != "NO_PLUGIN_CATALOGUE" {
        return error;
    }
    let hint = "start a runner, or wait until its garak has warmed up";
    error.retry_after(WARMING).hint(hint)
}
