//! Random keys of this installation, made at its first start and the same in every replica.

use hmac::{Hmac, KeyInit, Mac};
use sea_orm::ConnectionTrait;
use sha2::Sha256;

use super::{database::Database, fault::Result};
use aegis_proto::ids::{Epoch, ProjectId, TaskId};

/// Kept from logs.
pub(crate) struct Secrets {
    lease: Vec<u8>,
    pub(crate) page: Vec<u8>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The replica that comes first decides.
const PUT: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
const GET: &str = "SELECT value FROM meta WHERE key = $1";

impl Secrets {
    pub(crate) async fn load(database: &Database) -> Result<Self> {
        Ok(Self {
            lease: key(database, "lease_token_key").await?,
            page: key(database, "page_token_key").await?,
        })
    }

    /// A lease's token. Derived, so that the repeat of a lost answer gives the same one while
    /// the database knows only its hash.
    pub(crate) fn lease_token(
        &self,
        project: &ProjectId,
        task: TaskId,
        epoch: Epoch,
        request_id: &str,
    ) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.lease).expect("any length");
        mac.update(format!("{project}|{task}|{epoch}|{request_id}").as_bytes());
        mac.finalize().into_bytes().to_vec()
    }
}

/// Written only when it is not there: a database that takes no writes can still be read.
async fn key(database: &Database, name: &str) -> Result<Vec<u8>> {
    if let Some(key) = get(database, name).await? {
        return Ok(key);
    }
    let fresh: [u8; 32] = rand::random();
    let values = [name.into(), fresh.to_vec().into()];
    let put = database.dialect.statement(PUT, values);
    database.writer.execute_raw(put).await?;
    let missing = || sea_orm::DbErr::RecordNotFound(name.to_owned());
    Ok(get(database, name).await?.ok_or_else(missing)?)
}

async fn get(database: &Database, name: &str) -> Result<Option<Vec<u8>>> {
    let get = database.dialect.statement(GET, [name.into()]);
    let row = database.writer.query_one_raw(get).await?;
    Ok(row.map(|row| row.try_get("", "value")).transpose()?)
}
