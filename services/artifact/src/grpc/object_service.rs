//! `aegis.internal.artifact.v1.ObjectService`.

use aegis_mesh::{Error, Result, principal_of};
use aegis_proto::ids::ProjectId;
use aegis_proto::internal::artifact::v1::{
    self as pb, FaultKind, object_service_server::ObjectService,
};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::checksum::Checksum;
use crate::domain::key::ObjectKey;
use crate::domain::objects::{Listed, ObjectFault, Objects};

const DEFAULT_LIMIT: usize = 500;
const MAX_OBJECTS: usize = 1_000;

/// Objects, for the orchestrator's jobs.
pub(crate) struct ObjectApi(Objects);

impl ObjectApi {
    /// Over these.
    pub(crate) fn new(objects: Objects) -> Self {
        Self(objects)
    }
}

#[tonic::async_trait]
impl ObjectService for ObjectApi {
    async fn delete_objects(
        &self,
        request: Request<pb::DeleteObjectsRequest>,
    ) -> Result<Response<pb::DeleteObjectsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let keys = request.into_inner().object_keys;
        at_most("object_keys", keys.len())?;
        let keys = keys.iter().map(|text| key(&project, text));
        let failed = self.0.delete(keys.collect::<Result<_>>()?).await?;
        let failed = failed.iter().map(|key| key.as_str().to_owned());
        Ok(Response::new(pb::DeleteObjectsResponse {
            failed_keys: failed.collect(),
        }))
    }

    async fn list_objects(
        &self,
        request: Request<pb::ListObjectsRequest>,
    ) -> Result<Response<pb::ListObjectsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let limit = match usize::try_from(request.limit) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit) if limit <= MAX_OBJECTS => limit,
            _ => Err(convert::invalid("limit", "must be 0 to 1,000"))?,
        };
        let after = match request.after.as_str() {
            "" => None,
            after => Some(key(&project, after)?),
        };
        let after = after.as_ref().map(ObjectKey::as_str);
        let listed = self.0.list(&project, after, limit).await?;
        Ok(Response::new(pb::ListObjectsResponse {
            more: listed.len() == limit,
            objects: listed.into_iter().map(object).collect::<Result<_>>()?,
        }))
    }

    async fn check_objects(
        &self,
        request: Request<pb::CheckObjectsRequest>,
    ) -> Result<Response<pb::CheckObjectsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        at_most("objects", request.objects.len())?;
        let objects = request.objects.iter().map(|object| {
            let checksum = Checksum::parse("objects", &object.sha256, object.size_bytes)?;
            Ok((key(&project, &object.object_key)?, checksum))
        });
        let objects = objects.collect::<Result<_>>()?;
        let faults = self.0.check(objects, request.read).await?;
        Ok(Response::new(pb::CheckObjectsResponse {
            faults: faults.into_iter().map(fault).collect(),
        }))
    }
}

fn key(project: &ProjectId, text: &str) -> Result<ObjectKey> {
    ObjectKey::of(project, text).map_err(|error| convert::invalid("object_key", error.to_string()))
}

fn at_most(field: &str, number: usize) -> Result<()> {
    match number <= MAX_OBJECTS {
        true => Ok(()),
        false => Err(convert::invalid(field, "has more than 1,000")),
    }
}

fn object(listed: Listed) -> Result<pb::ListedObject> {
    Ok(pb::ListedObject {
        object_key: listed.key.as_str().to_owned(),
        size_bytes: i64::try_from(listed.size).map_err(Error::internal)?,
        age: Some(listed.age.try_into().map_err(Error::internal)?),
    })
}

fn fault((key, fault): (ObjectKey, ObjectFault)) -> pb::ObjectFault {
    let (kind, size) = match fault {
        ObjectFault::Missing => (FaultKind::Missing, 0),
        ObjectFault::Size(size) => (FaultKind::Size, size),
        ObjectFault::Sha256 => (FaultKind::Sha256, 0),
        ObjectFault::IndexMissing => (FaultKind::IndexMissing, 0),
        ObjectFault::Unreadable => (FaultKind::Unreadable, 0),
    };
    pb::ObjectFault {
        object_key: key.as_str().to_owned(),
        kind: kind.into(),
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
    }
}
