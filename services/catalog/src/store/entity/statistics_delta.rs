//! A change to statistics that is not yet folded.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "statistics_deltas")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub target_type: String,
    pub target_name: String,
    pub day: i32,
    pub probe: String,
    pub detector: String,
    pub tags: Json,
    pub scans_completed: i64,
    pub scans_failed: i64,
    pub scans_cancelled: i64,
    pub evaluations: i64,
    pub passed: i64,
    pub failed: i64,
    pub nones: i64,
    pub defcon_1: i64,
    pub defcon_2: i64,
    pub defcon_3: i64,
    pub defcon_4: i64,
    pub defcon_5: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
