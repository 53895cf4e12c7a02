//! What one detector made of one probe.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "probe_results")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub scan_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub probe: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub detector: String,
    pub passed: i64,
    pub failed: i64,
    pub nones: i64,
    pub evaluated: i64,
    pub rank: i64,
    pub absolute_defcon: Option<i32>,
    pub relative_defcon: Option<i32>,
    pub detector_defcon: Option<i32>,
    pub relative_score: Option<f64>,
    pub evaluated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
