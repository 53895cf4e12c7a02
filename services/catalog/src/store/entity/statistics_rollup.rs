//! Sums of a month or a year.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "statistics_rollups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub dimension: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub target_type: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub target_name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub period: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket: i32,
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
    pub days: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
