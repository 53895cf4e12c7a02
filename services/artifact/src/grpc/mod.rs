//! The contracts: converts, and calls `domain`.

mod artifact_service;
mod catalog;
mod convert;
mod import_rows;
mod import_service;
mod object_service;
mod reading;
mod report_service;
mod source_registry;
mod source_service;

pub(crate) use self::artifact_service::ArtifactApi;
pub(crate) use self::catalog::CatalogRegistry;
pub(crate) use self::import_service::ImportApi;
pub(crate) use self::object_service::ObjectApi;
pub(crate) use self::report_service::ReportApi;
pub(crate) use self::source_registry::CatalogSources;
pub(crate) use self::source_service::SourceApi;
