//! Specifications to start scans from.

use serde_json::Value;

/// One version of a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Unique in its project.
    pub name: String,
    /// What users call it.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// Proto3 JSON of `aegis.scan.v1.ScanSpec`; any part of it.
    pub spec: Value,
    /// 1, 2, 3, …; never used twice for one name.
    pub version: i32,
    /// Who made its first version.
    pub created_by: String,
    /// When its first version was made, in unix milliseconds.
    pub created_at: i64,
    /// When this version was made.
    pub updated_at: i64,
}

impl Template {
    /// Every change makes a version: the version says whether it is still the one that was read.
    pub fn etag(&self) -> String {
        etag(self.version)
    }
}

/// The etag of a version.
pub fn etag(version: i32) -> String {
    format!("v{version}")
}

/// A template to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTemplate {
    /// Unique in its project.
    pub name: String,
    /// What users call it.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// Proto3 JSON of `aegis.scan.v1.ScanSpec`.
    pub spec: Value,
    /// Who asks.
    pub created_by: String,
}

/// What of a template changes; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateChange {
    /// What users call it.
    pub display_name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The whole specification.
    pub spec: Option<Value>,
}
