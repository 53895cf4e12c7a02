//! A task.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tasks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub scan_id: Uuid,
    pub lane_id: Option<String>,
    pub kind: String,
    pub probe: String,
    pub shard_index: i32,
    pub shard_count: i32,
    pub revision: i32,
    pub ordinal: i32,
    pub planned_calls: i64,
    pub planned_attempts: i64,
    pub detectors: Json,
    pub planned_out: bool,
    pub state: String,
    pub epoch: i64,
    pub failures: i32,
    pub max_failures: i32,
    pub not_before: i64,
    pub granted: i32,
    pub lease_runner: Option<String>,
    pub lease_request_id: Option<String>,
    pub lease_token_hash: Option<Vec<u8>>,
    pub lease_expires_at: Option<i64>,
    pub attempts_done: i64,
    pub attempts_total: i64,
    pub target_retries: i64,
    pub last_source_sequence: i64,
    pub composed_revision: i32,
    pub reason: String,
    pub message: String,
    pub ended_at: Option<i64>,
    pub tags: Json,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
