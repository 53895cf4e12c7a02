//! A scan.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "scans")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub display_name: String,
    pub spec: Json,
    pub target_type: String,
    pub target_name: String,
    pub priority: i32,
    pub labels: Json,
    pub garak_version: String,
    pub plugin_catalogue: String,
    pub effective_seed: i64,
    pub effective_eval_threshold: f64,
    pub max_in_flight: i32,
    pub lane_id: String,
    pub created_by: String,
    pub state: String,
    pub cancel_requested_at: Option<i64>,
    pub paused_at: Option<i64>,
    pub in_flight: i32,
    pub queued: i32,
    pub running: i32,
    pub report_queued: bool,
    pub waiting_noted: bool,
    pub planned: i32,
    pub evaluated: i32,
    pub not_evaluated: i32,
    pub passed: i64,
    pub failed: i64,
    pub nones: i64,
    pub attempts_done: i64,
    pub attempts_total: i64,
    pub report_state: String,
    pub report_revision: i32,
    pub report_ready_revision: i32,
    pub report_artifacts: Json,
    pub report_reason: String,
    pub failure_reason: Option<String>,
    pub failure_message: Option<String>,
    pub failure_hint: Option<String>,
    pub last_sequence: i64,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub deleted_at: Option<i64>,
    pub purge_at: Option<i64>,
    pub template: String,
    pub template_version: i32,
    pub defcon: Option<i32>,
    pub custom_probes: Json,
    pub imported: bool,
    pub search_text: String,
    pub original_options: Option<Json>,
    pub original_counts: Option<Json>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
