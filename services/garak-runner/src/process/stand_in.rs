//! What takes the place of the warm process where no Python can be: in a simulation, whose clock
//! does not move processes.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    protocol::{ChildEvent, Ended, JobRequest},
    warm::{COMMANDS, Command, JobEvent, WarmProcess, WarmState},
};

/// The version that a stand-in says it has.
const VERSION: &str = "0.0.0";
const SIGKILL: i32 = 9;

/// What a job's child says until it ends; dropped when the child is killed.
pub type StandIn = Arc<dyn Fn(JobRequest) -> BoxStream<'static, ChildEvent> + Send + Sync>;

impl WarmProcess {
    /// As [`WarmProcess::new`], with a stand-in for the process.
    pub fn standing_in(
        act: StandIn,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let garak_version = VERSION.to_owned();
        let (sender, state) = watch::channel(WarmState::Ready { garak_version });
        let handle = Self { commands, state };
        let serving = async move {
            // The state can be asked for as long as it runs.
            let _state = sender;
            stop.run_until_cancelled(serve(act, received)).await;
        };
        (handle, serving)
    }
}

async fn serve(act: StandIn, mut commands: mpsc::Receiver<Command>) {
    let mut killed: HashMap<String, CancellationToken> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Run {
                id,
                request,
                events,
            } => {
                let kill = CancellationToken::new();
                killed.insert(id, kill.clone());
                let child = child(act(request), events, kill);
                aegis_mesh::spawn("stand-in", child).detach();
            }
            Command::Kill { id } => {
                if let Some(kill) = killed.remove(&id) {
                    kill.cancel();
                }
            }
            Command::Restart => killed.drain().for_each(|(_, kill)| kill.cancel()),
        }
    }
}

async fn child(
    mut says: BoxStream<'static, ChildEvent>,
    events: mpsc::Sender<JobEvent>,
    kill: CancellationToken,
) {
    let speaking = async {
        while let Some(event) = says.next().await {
            // A reader that has left asks for the child's end.
            let _ = events.send(JobEvent::Said(event)).await;
        }
    };
    let ended = kill.run_until_cancelled(speaking).await;
    drop(says);
    let ended = Ended {
        exit_code: ended.map(|()| 0),
        signal: ended.is_none().then_some(SIGKILL),
        max_rss_kb: 0,
        cpu_seconds: 0.0,
    };
    let _ = events.send(JobEvent::Ended(ended)).await;
}
