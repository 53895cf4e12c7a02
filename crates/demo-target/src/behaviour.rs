//! How the server behaves, named by the first parts of a request's path.

use std::time::Duration;

/// What a path asks of the server before, or instead of, an answer.
///
/// Parts are read from the left and add up: `/auth/KEY/latency/50/v1/chat/completions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// `/latency/MILLISECONDS`: answers that much later.
    pub latency: Duration,
    /// `/auth/KEY`: 401 to whoever does not come with it.
    pub key: Option<String>,
    /// `/after/CALLS`: what follows it holds only for later calls than these.
    pub after: u64,
    /// `/until/CALLS`: what follows it holds only up to this call.
    pub until: Option<u64>,
    /// What comes instead of an answer.
    pub fault: Option<Fault>,
}

/// What comes instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `/status/CODE`
    Status(u16),
    /// `/retry-after/SECONDS`: 429 that says when to come back.
    RetryAfter(u64),
    /// `/garbage`: 200 with what is no JSON.
    Garbage,
    /// `/empty`: 200 with an empty body.
    Empty,
    /// `/hang`: no answer at all.
    Hang,
    /// `/silent`: an answer without a text.
    Silent,
}

impl Behaviour {
    /// Reads a path. Parts that name no behaviour are left alone: they are the API's.
    pub fn of_path(path: &str) -> Self {
        let mut behaviour = Self::default();
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        while let Some(part) = parts.next() {
            match part {
                "latency" => behaviour.latency = Duration::from_millis(number(parts.next())),
                "auth" => behaviour.key = parts.next().map(str::to_owned),
                "after" => behaviour.after = number(parts.next()),
                "until" => behaviour.until = Some(number(parts.next())),
                "status" => {
                    let code = u16::try_from(number(parts.next())).unwrap_or(500);
                    behaviour.fault = Some(Fault::Status(code));
                }
                "retry-after" => behaviour.fault = Some(Fault::RetryAfter(number(parts.next()))),
                "garbage" => behaviour.fault = Some(Fault::Garbage),
                "empty" => behaviour.fault = Some(Fault::Empty),
                "hang" => behaviour.fault = Some(Fault::Hang),
                "silent" => behaviour.fault = Some(Fault::Silent),
                _ => break,
            }
        }
        behaviour
    }

    /// The fault that the call with this number (from 1) meets.
    pub fn fault_at(&self, call: u64) -> Option<&Fault> {
        let meets = call > self.after && self.until.is_none_or(|until| call <= until);
        self.fault.as_ref().filter(|_| meets)
    }
}

/// A part that is no number counts as 0: the tests that use it would show.
fn number(part: Option<&str>) -> u64 {
    part.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_the_left_up_to_the_api() {
        let read = Behaviour::of_path("/auth/k1/latency/50/after/3/status/503/v1/chat/completions");
        assert_eq!(read.key.as_deref(), Some("k1"));
        assert_eq!(read.latency, Duration::from_millis(50));
        assert_eq!(read.fault_at(3), None);
        assert_eq!(read.fault_at(4), Some(&Fault::Status(503)));
        let first = Behaviour::of_path("/until/1/status/401/v1");
        assert_eq!(
            (first.fault_at(1), first.fault_at(2)),
            (Some(&Fault::Status(401)), None)
        );
        assert_eq!(Behaviour::of_path("/v1/status/500"), Behaviour::default());
    }
}
