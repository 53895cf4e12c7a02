//! A fake mesh: the public services, in this process, with made-up answers. It keeps what it was
//! asked; ids such as `missing` choose how it answers.

mod history;
mod imports;
mod plugins;
mod queue;
mod reports;
mod scans;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize},
};

use aegis_mesh::{MeshServer, ServerConfig};
use aegis_proto::{
    admin::v1::queue_service_server::QueueServiceServer,
    internal::task::v1::task_service_server::TaskServiceServer,
    plugin::v1::plugin_service_server::PluginServiceServer,
    report::v1::{
        import_service_server::ImportServiceServer, report_service_server::ReportServiceServer,
    },
    scan::v1::{
        history_service_server::HistoryServiceServer, scan_service_server::ScanServiceServer,
    },
};
use prost::{Message, Name};
use serde_json::Value;
use tonic::{Request, metadata::MetadataMap, service::Routes};

pub(crate) use reports::{NEWEST, content};

/// One call that reached the fake.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) request: Value,
    pub(crate) metadata: MetadataMap,
}

/// Clones share what they saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    calls: Arc<Mutex<Vec<Call>>>,
    /// Messages that streams have handed out.
    pub(crate) produced: Arc<AtomicUsize>,
    /// A call was dropped before its end.
    pub(crate) dropped: Arc<AtomicBool>,
}

impl Fake {
    fn saw<M: Message + Name>(&self, method: &'static str, request: &Request<M>) {
        let call = Call {
            method,
            request: aegis_proto::json::to_json(request.get_ref()).unwrap(),
            metadata: request.metadata().clone(),
        };
        self.calls.lock().unwrap().push(call);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The only call there was.
    pub(crate) fn only_call(&self) -> Call {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }

    /// As scan-orchestrator: an internal service too, which nobody outside may reach.
    pub(crate) fn orchestrator(&self) -> Routes {
        let server = server("scan-orchestrator")
            .add_service(ScanServiceServer::new(self.clone()))
            .add_service(PluginServiceServer::new(self.clone()))
            .add_service(TaskServiceServer::new(scans::Internal));
        routes(server)
    }

    pub(crate) fn catalog(&self) -> Routes {
        let server = server("catalog")
            .add_service(HistoryServiceServer::new(self.clone()))
            .add_service(QueueServiceServer::new(self.clone()));
        routes(server)
    }

    pub(crate) fn artifact(&self) -> Routes {
        let server = server("artifact")
            .add_service(ReportServiceServer::new(self.clone()))
            .add_service(ImportServiceServer::new(self.clone()));
        routes(server)
    }
}

/// Sets the flag unless it is disarmed before.
pub(crate) struct OnDrop(Option<Arc<AtomicBool>>);

impl OnDrop {
    fn set(flag: &Arc<AtomicBool>) -> Self {
        Self(Some(flag.clone()))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(flag) = self.0.take() {
            flag.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
}

fn server(name: &'static str) -> MeshServer {
    MeshServer::builder(name, &ServerConfig::default())
        .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
}

fn routes(server: MeshServer) -> Routes {
    server.health().set_serving();
    server.into_routes().unwrap()
}
