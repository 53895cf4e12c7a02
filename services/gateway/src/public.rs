//! What the outside may call: exactly the methods of these packages, each with the service
//! of the mesh that answers it. Everything else is unreachable, over HTTP and over gRPC.

use std::{collections::BTreeMap, time::Duration};

use aegis_mesh::{Code, Error, MeshChannel, Result};
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// The public packages.
pub const PACKAGES: [&str; 7] = [
    "aegis.admin.v1",
    "aegis.plugin.v1",
    "aegis.probe.v1",
    "aegis.report.v1",
    "aegis.scan.v1",
    "aegis.statistics.v1",
    "aegis.template.v1",
];

/// When to ask again for a service that cannot be reached.
const COME_BACK: Duration = Duration::from_secs(1);

/// Which service of the mesh answers which public service.
const UPSTREAMS: [(&str, Upstream); 11] = [
    ("aegis.admin.v1.JobService", Upstream::Orchestrator),
    ("aegis.admin.v1.QueueService", Upstream::Catalog),
    ("aegis.plugin.v1.PluginService", Upstream::Orchestrator),
    ("aegis.probe.v1.CustomProbeService", Upstream::Orchestrator),
    ("aegis.report.v1.ImportService", Upstream::Artifact),
    ("aegis.report.v1.ReportService", Upstream::Artifact),
    ("aegis.scan.v1.ComparisonService", Upstream::Catalog),
    ("aegis.scan.v1.HistoryService", Upstream::Catalog),
    ("aegis.scan.v1.ScanService", Upstream::Orchestrator),
    ("aegis.statistics.v1.StatisticsService", Upstream::Catalog),
    ("aegis.template.v1.TemplateService", Upstream::Orchestrator),
];

/// A service of the mesh that the gateway calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// scan-orchestrator
    Orchestrator,
    /// catalog
    Catalog,
    /// artifact
    Artifact,
}

impl Upstream {
    /// Every upstream.
    pub const ALL: [Self; 3] = [Self::Orchestrator, Self::Catalog, Self::Artifact];

    /// The service's name in the mesh.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "scan-orchestrator",
            Self::Catalog => "catalog",
            Self::Artifact => "artifact",
        }
    }

    /// Says which service it is that cannot be reached: a caller sees one address, and no mesh.
    pub fn explain(self, error: Error) -> Error {
        if error.code() != Code::Unavailable || error.retry_delay().is_some() {
            return error;
        }
        let error = match error.reason() {
            // Their text names an address, which is the mesh's own affair.
            "UNREACHABLE" | "NAME_UNRESOLVED" => {
                let text = format!("{} cannot be reached", self.name());
                Error::new(Code::Unavailable, "UNREACHABLE", text)
            }
            _ => error,
        };
        error
            .with("service", self.name())
            .retry_after(COME_BACK)
            .hint("GET /readyz says which services serve")
    }
}

/// The channels to the services that the gateway calls.
#[derive(Clone)]
pub struct Deps {
    /// To scan-orchestrator: ScanService, PluginService, TemplateService, CustomProbeService, JobService.
    pub orchestrator: MeshChannel,
    /// To catalog: HistoryService, ComparisonService, StatisticsService, QueueService.
    pub catalog: MeshChannel,
    /// To artifact: ReportService, ImportService.
    pub artifact: MeshChannel,
}

impl Deps {
    /// The channel to one of them.
    pub fn channel(&self, upstream: Upstream) -> MeshChannel {
        match upstream {
            Upstream::Orchestrator => self.orchestrator.clone(),
            Upstream::Catalog => self.catalog.clone(),
            Upstream::Artifact => self.artifact.clone(),
        }
    }
}

/// A method that the outside may call.
#[derive(Debug, Clone)]
pub struct PublicMethod {
    /// What the contract says of it.
    pub descriptor: MethodDescriptor,
    /// Who answers it.
    pub upstream: Upstream,
}

/// Every public method by its gRPC path, `/aegis.scan.v1.ScanService/CreateScan`.
#[derive(Debug, Clone)]
pub struct PublicMethods(BTreeMap<String, PublicMethod>);

impl PublicMethods {
    /// The methods of the public packages of these descriptors.
    ///
    /// # Errors
    /// When a public service has no upstream, or one of the upstreams' services is not there.
    pub fn of(pool: &DescriptorPool) -> Result<Self> {
        let mut methods = BTreeMap::new();
        for service in pool.services() {
            if !PACKAGES.contains(&service.package_name()) {
                continue;
            }
            let upstream = UPSTREAMS
                .iter()
                .find(|(name, _)| *name == service.full_name());
            let Some((_, upstream)) = upstream else {
                let problem = format!("no upstream is known for {}", service.full_name());
                return Err(Error::failed_precondition("CONTRACT_MISMATCH", problem));
            };
            for descriptor in service.methods() {
                let path = grpc_path(&descriptor);
                let upstream = *upstream;
                methods.insert(
                    path,
                    PublicMethod {
                        descriptor,
                        upstream,
                    },
                );
            }
        }
        Ok(Self(methods))
    }

    /// Every method of these descriptors, for tests of what reads them.
    #[cfg(test)]
    pub(crate) fn all_of(pool: &DescriptorPool) -> Self {
        let upstream = Upstream::Catalog;
        let methods = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>());
        Self(
            methods
                .map(|descriptor| {
                    (
                        grpc_path(&descriptor),
                        PublicMethod {
                            descriptor,
                            upstream,
                        },
                    )
                })
                .collect(),
        )
    }

    /// The method of a gRPC path, if it is public.
    pub fn get(&self, path: &str) -> Option<&PublicMethod> {
        self.0.get(path)
    }

    /// Every public method with its gRPC path, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PublicMethod)> {
        self.0.iter().map(|(path, method)| (path.as_str(), method))
    }

    /// The full names of the public services, in order.
    pub fn services() -> impl Iterator<Item = &'static str> {
        UPSTREAMS.iter().map(|(name, _)| *name)
    }
}

fn grpc_path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outside's whole surface. A method that is added to a public package must be added here:
    /// whoever does so says that it may be called by anyone who may reach the gateway.
    #[test]
    fn exactly_these_methods_are_public() {
        let pool = aegis_proto::json::descriptors().unwrap();
        let methods = PublicMethods::of(pool).unwrap();
        let paths: Vec<&str> = methods.iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                "/aegis.admin.v1.JobService/ListJobs",
                "/aegis.admin.v1.JobService/RunJob",
                "/aegis.admin.v1.QueueService/GetQueue",
                "/aegis.plugin.v1.PluginService/ListBuffs",
                "/aegis.plugin.v1.PluginService/ListDetectors",
                "/aegis.plugin.v1.PluginService/ListGenerators",
                "/aegis.plugin.v1.PluginService/ListProbes",
                "/aegis.probe.v1.CustomProbeService/CreateCustomProbe",
                "/aegis.probe.v1.CustomProbeService/DeleteCustomProbe",
                "/aegis.probe.v1.CustomProbeService/GetCustomProbe",
                "/aegis.probe.v1.CustomProbeService/ListCustomProbeVersions",
                "/aegis.probe.v1.CustomProbeService/ListCustomProbes",
                "/aegis.probe.v1.CustomProbeService/ListStarters",
                "/aegis.probe.v1.CustomProbeService/UpdateCustomProbe",
                "/aegis.probe.v1.CustomProbeService/ValidateCustomProbe",
                "/aegis.report.v1.ImportService/ImportScan",
                "/aegis.report.v1.ReportService/CreateArtifactLink",
                "/aegis.report.v1.ReportService/GetAttempt",
                "/aegis.report.v1.ReportService/GetWorkflow",
                "/aegis.report.v1.ReportService/ListArtifacts",
                "/aegis.report.v1.ReportService/ListAttempts",
                "/aegis.report.v1.ReportService/ListFindings",
                "/aegis.report.v1.ReportService/ReadArtifact",
                "/aegis.scan.v1.ComparisonService/CompareScans",
                "/aegis.scan.v1.HistoryService/DeleteScan",
                "/aegis.scan.v1.HistoryService/GetScan",
                "/aegis.scan.v1.HistoryService/ListProbeResults",
                "/aegis.scan.v1.HistoryService/ListScans",
                "/aegis.scan.v1.HistoryService/UndeleteScan",
                "/aegis.scan.v1.HistoryService/UpdateScan",
                "/aegis.scan.v1.ScanService/CancelScan",
                "/aegis.scan.v1.ScanService/CreateScan",
                "/aegis.scan.v1.ScanService/PauseScan",
                "/aegis.scan.v1.ScanService/PlanScan",
                "/aegis.scan.v1.ScanService/ResumeScan",
                "/aegis.scan.v1.ScanService/RetryScan",
                "/aegis.scan.v1.ScanService/WatchScan",
                "/aegis.statistics.v1.StatisticsService/GetStatistics",
                "/aegis.statistics.v1.StatisticsService/ListStatistics",
                "/aegis.template.v1.TemplateService/CreateTemplate",
                "/aegis.template.v1.TemplateService/DeleteTemplate",
                "/aegis.template.v1.TemplateService/GetTemplate",
                "/aegis.template.v1.TemplateService/ListTemplateVersions",
                "/aegis.template.v1.TemplateService/ListTemplates",
                "/aegis.template.v1.TemplateService/UpdateTemplate",
            ]
        );
    }
}
