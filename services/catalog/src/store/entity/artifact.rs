//! A file of a run.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "artifacts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub scan_id: Uuid,
    pub task_id: Uuid,
    pub epoch: i64,
    pub name: String,
    pub object_key: String,
    pub state: String,
    pub sha256: Option<String>,
    pub size: Option<i64>,
    pub tally: Option<Json>,
    pub revision: i32,
    pub created_at: i64,
    pub upload_deadline: i64,
    pub committed_at: Option<i64>,
    pub marked_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
