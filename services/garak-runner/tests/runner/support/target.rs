//! An HTTP target that keeps what it was sent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::eventually;

/// What the target does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A chat completion.
    Chat,
    /// Nothing to POST, ever.
    Hang,
    /// The head at once, then a byte each quarter of a second, for ever.
    Drip,
}

/// Serves until dropped.
pub(crate) struct FakeTarget {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl FakeTarget {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, answer, Arc::clone(&seen)));
        Self {
            port,
            seen,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/", self.port)
    }

    /// A target's part of a specification for an OpenAI-compatible server.
    pub(crate) fn chat(&self) -> serde_json::Value {
        serde_json::json!({
            "type": "openai.OpenAICompatible", "name": "m", "options": {"uri": self.url()},
        })
    }

    /// Waits for a POST and returns it, headers and all.
    pub(crate) async fn post(&self) -> String {
        eventually("the target is asked", async || {
            self.seen.lock().unwrap().first().cloned()
        })
        .await
    }
}

async fn serve(listener: TcpListener, answer: Answer, seen: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(talk(stream, answer, Arc::clone(&seen)));
    }
}

async fn talk(mut stream: TcpStream, answer: Answer, seen: Arc<Mutex<Vec<String>>>) {
    let mut text = String::new();
    let mut chunk = [0; 65536];
    loop {
        let Ok(n @ 1..) = stream.read(&mut chunk).await else {
            return;
        };
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
        if !is_whole(&text) {
            continue;
        }
        let is_post = text.starts_with("POST");
        if is_post {
            seen.lock().unwrap().push(std::mem::take(&mut text));
        }
        text.clear();
        if is_post && answer == Answer::Hang {
            std::future::pending::<()>().await;
        }
        if is_post && answer == Answer::Drip {
            return drip(stream).await;
        }
        let body = r#"{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}]}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + body).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Until nobody listens any more.
async fn drip(mut stream: TcpStream) {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    let mut byte = head.as_bytes();
    while stream.write_all(byte).await.is_ok() {
        byte = b" ";
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    body.len() >= length
}
