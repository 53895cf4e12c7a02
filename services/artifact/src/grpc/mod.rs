//! The contracts: converts, and calls `domain`.

mod artifact_service;
mod catalog;
mod convert;
mod reading;
mod report_service;

pub(crate) use self::artifact_service::ArtifactApi;
pub(crate) use self::catalog::CatalogRegistry;
pub(crate) use self::report_service::ReportApi;
