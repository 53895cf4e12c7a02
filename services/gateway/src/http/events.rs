//! How the messages of a stream are named as server-sent events.
//!
//! Only messages that are in a log bear an `id:`, for `Last-Event-ID` resumes after it
//! (WHATWG HTML, "the last event ID string").

use prost_reflect::{DynamicMessage, Value};

/// The names for one method's stream.
#[derive(Debug)]
pub struct EventNames {
    /// The method's gRPC path.
    path: &'static str,
    /// The request's field that `Last-Event-ID` sets.
    pub resume_field: &'static str,
    /// By the field of the answer that is set.
    updates: &'static [(&'static str, Update)],
}

#[derive(Debug)]
enum Update {
    Event {
        name: &'static str,
        /// The field of the update that is its id.
        id: Option<&'static str>,
    },
    /// Only shows that the connection lives.
    Ping,
}

const fn named(name: &'static str) -> Update {
    Update::Event { name, id: None }
}

static TABLE: [EventNames; 1] = [EventNames {
    path: "/aegis.scan.v1.ScanService/WatchScan",
    resume_field: "after_sequence",
    updates: &[
        ("snapshot", named("scan.snapshot")),
        (
            "event",
            Update::Event {
                name: "scan.event",
                id: Some("sequence"),
            },
        ),
        ("progress", named("scan.progress")),
        ("heartbeat", Update::Ping),
    ],
}];

/// The names for a method's stream, if it has some.
pub fn of(path: &str) -> Option<&'static EventNames> {
    TABLE.iter().find(|names| names.path == path)
}

/// A message as one event; `json` is the message's, one line.
pub fn event(names: Option<&EventNames>, message: &DynamicMessage, json: &str) -> String {
    let mut updates = names.into_iter().flat_map(|names| names.updates);
    let Some((field, update)) = updates.find(|(field, _)| message.has_field_by_name(field)) else {
        return format!("data: {json}\n\n");
    };
    match update {
        Update::Ping => ": ping\n\n".to_owned(),
        Update::Event { name, id } => {
            let id = id
                .and_then(|id| id_of(message, field, id))
                .unwrap_or_default();
            format!("{id}event: {name}\ndata: {json}\n\n")
        }
    }
}

fn id_of(message: &DynamicMessage, field: &str, id: &str) -> Option<String> {
    let update = message.get_field_by_name(field)?;
    let Value::Message(update) = &*update else {
        return None;
    };
    match &*update.get_field_by_name(id)? {
        Value::I64(id) => Some(format!("id: {id}\n")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contract that renames a field would silently lose the ids.
    #[test]
    fn every_name_in_the_table_is_in_the_contract() {
        let pool = aegis_proto::json::descriptors().unwrap();
        let methods = crate::public::PublicMethods::of(pool).unwrap();
        for names in &TABLE {
            let method = &methods.get(names.path).unwrap().descriptor;
            assert!(
                method
                    .input()
                    .get_field_by_name(names.resume_field)
                    .is_some()
            );
            for (field, update) in names.updates {
                let field = method.output().get_field_by_name(field).unwrap();
                let Update::Event { id: Some(id), .. } = update else {
                    continue;
                };
                let kind = field.kind();
                let id = kind.as_message().unwrap().get_field_by_name(id).unwrap();
                assert_eq!(id.kind(), prost_reflect::Kind::Int64);
            }
            assert_eq!(
                names.updates.len(),
                method.output().fields().len(),
                "an update has no name"
            );
        }
    }
}
