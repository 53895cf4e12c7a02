//! A TCP proxy that goes wrong on purpose.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Whose bytes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client's.
    Request,
    /// The server's.
    Response,
}

/// What happens at a byte.
#[derive(Debug, Clone)]
pub enum Mishap {
    /// The connection ends both ways, and the byte and what comes after it is lost.
    Cut,
    /// The byte and what comes after it waits until the client gives up.
    Stall,
    /// The byte arrives as another.
    Flip,
    /// Of a request: the client gets this answer, and the server no more bytes.
    Answer(&'static str),
}

#[derive(Debug)]
struct Plan {
    direction: Direction,
    /// Bytes that still pass.
    after: u64,
    every: u64,
    mishap: Mishap,
    /// How often it still happens.
    times: usize,
}

#[derive(Debug, Default)]
struct State {
    plan: Mutex<Option<Plan>>,
    happened: Mutex<usize>,
    passed: Mutex<u64>,
    /// Nothing passes before.
    held_until: Mutex<Option<Instant>>,
    /// Both ends of each connection, by its number.
    open: Mutex<HashMap<usize, [TcpStream; 2]>>,
}

/// Listens on loopback and passes bytes on to one server, or to several in turn.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// Starts one; it ends with the process.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn to(server: SocketAddr) -> Self {
        Self::to_any(&[server])
    }

    /// Starts one that gives each connection to the next of these servers that listens; it ends
    /// with the process.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn to_any(servers: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let mut servers = servers.to_vec();
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let in_turn = servers.clone();
                servers.rotate_left(1);
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    state.wait();
                    let connected = in_turn.iter().find_map(|one| TcpStream::connect(one).ok());
                    if let Some(server) = connected {
                        state.pass(number, client, server);
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections at once; how many.
    pub fn cut(&self) -> usize {
        let open = lock(&self.state.open);
        for end in open.values().flatten() {
            // One that is closed already is cut as well.
            drop(end.shutdown(Shutdown::Both));
        }
        open.len()
    }

    /// Nothing passes for so long from now on, new connections included; then all that waited.
    pub fn hold(&self, time: Duration) {
        *lock(&self.state.held_until) = Some(Instant::now() + time);
    }

    /// Its URL, without TLS.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `mishap` happens at byte `after` of that direction, counted over all
    /// connections, and again `times` times in all, after as many bytes each.
    pub fn plan(&self, direction: Direction, after: u64, mishap: Mishap, times: usize) {
        *lock(&self.state.happened) = 0;
        *lock(&self.state.plan) = Some(Plan {
            direction,
            after,
            every: after,
            mishap,
            times,
        });
    }

    /// Nothing goes wrong any more.
    pub fn behave(&self) {
        *lock(&self.state.plan) = None;
    }

    /// How often it went wrong since the last plan.
    pub fn happened(&self) -> usize {
        *lock(&self.state.happened)
    }

    /// Bytes of requests that passed since the last question.
    pub fn take_passed(&self) -> u64 {
        std::mem::take(&mut lock(&self.state.passed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn both_ways(client: &TcpStream, server: &TcpStream, state: &State) {
    thread::scope(|scope| {
        scope.spawn(|| one_way(client, server, state, Direction::Request));
        one_way(server, client, state, Direction::Response);
    });
}

fn one_way(from: &TcpStream, to: &TcpStream, state: &State, direction: Direction) {
    // A side that closed already cannot be closed again, which is as well.
    match pass_on(from, to, state, direction) {
        Ok(Ended::Cleanly) => drop(to.shutdown(Shutdown::Write)),
        Ok(Ended::Broken) | Err(_) => {
            drop(to.shutdown(Shutdown::Both));
            drop(from.shutdown(Shutdown::Both));
        }
    }
}

fn pass_on(
    mut from: &TcpStream,
    mut to: &TcpStream,
    state: &State,
    direction: Direction,
) -> io::Result<Ended> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(Ended::Cleanly);
        }
        let bytes = &mut buffer[..read];
        if direction == Direction::Request {
            *lock(&state.passed) += read as u64;
        }
        state.wait();
        let Some((at, mishap)) = state.next(direction, bytes.len()) else {
            to.write_all(bytes)?;
            continue;
        };
        match mishap {
            Mishap::Flip => {
                bytes[at] ^= 1;
                to.write_all(bytes)?;
            }
            Mishap::Cut => {
                to.write_all(&bytes[..at])?;
                return Ok(Ended::Broken);
            }
            Mishap::Stall => {
                to.write_all(&bytes[..at])?;
                return drain(from);
            }
            Mishap::Answer(answer) => {
                from.write_all(answer.as_bytes())?;
                return drain(from);
            }
        }
    }
}

/// Takes bytes until the other side gives up, a minute at most.
fn drain(mut from: &TcpStream) -> io::Result<Ended> {
    from.set_read_timeout(Some(Duration::from_secs(60)))?;
    io::copy(&mut from, &mut io::sink())?;
    Ok(Ended::Broken)
}

enum Ended {
    Cleanly,
    Broken,
}

impl State {
    /// Waits until bytes may pass.
    fn wait(&self) {
        loop {
            let held = *lock(&self.held_until);
            match held.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if !left.is_zero() => thread::sleep(left),
                _ => return,
            }
        }
    }

    /// Passes on both ways until both are over.
    fn pass(&self, number: usize, client: TcpStream, server: TcpStream) {
        let ends = client.try_clone().and_then(|client| {
            // Nobody is to wait for more than there is.
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            Ok([client, server.try_clone()?])
        });
        let Ok(ends) = ends else { return };
        lock(&self.open).insert(number, ends);
        both_ways(&client, &server, self);
        lock(&self.open).remove(&number);
    }

    /// Whether something happens within the next bytes, and at which.
    fn next(&self, direction: Direction, bytes: usize) -> Option<(usize, Mishap)> {
        let mut plan = lock(&self.plan);
        let due = plan
            .as_mut()
            .filter(|plan| plan.direction == direction && plan.times > 0)?;
        if due.after >= bytes as u64 {
            due.after -= bytes as u64;
            return None;
        }
        let at = due.after as usize; // less than `bytes`
        due.after = due.every;
        due.times -= 1;
        *lock(&self.happened) += 1;
        Some((at, due.mishap.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &connection, &mut &connection));
            }
        });
        address
    }

    fn say(proxy: &Proxy, text: &str) -> String {
        let address = proxy.endpoint().replace("http://", "");
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(text.as_bytes()).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        // A cut may be a reset.
        let _ = connection.read_to_string(&mut heard);
        heard
    }

    #[test]
    fn it_goes_wrong_where_and_as_often_as_it_should() {
        let proxy = Proxy::to(echo());
        assert_eq!(proxy.happened(), 0);
        proxy.plan(Direction::Response, 2, Mishap::Cut, 1);
        let heard = say(&proxy, "abcdef");
        assert!(heard.len() <= 2, "{heard}");
        assert_eq!(proxy.happened(), 1);
        proxy.plan(Direction::Request, 0, Mishap::Answer("no"), 1);
        assert_eq!(say(&proxy, "abcdef"), "no");
    }

    #[test]
    fn it_goes_to_servers_in_turn_and_holds_and_cuts() {
        let dead = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = dead.local_addr().unwrap();
        drop(dead);
        let proxy = Proxy::to_any(&[gone, echo()]);
        assert_eq!(say(&proxy, "a"), "a");
        assert_eq!(say(&proxy, "b"), "b");
        let mut held = TcpStream::connect(proxy.address()).unwrap();
        held.write_all(b"c").unwrap();
        held.read_exact(&mut [0]).unwrap();
        let time = Duration::from_millis(200);
        let from = Instant::now();
        proxy.hold(time);
        held.write_all(b"d").unwrap();
        held.read_exact(&mut [0]).unwrap();
        assert!(from.elapsed() >= time);
        assert!(proxy.cut() >= 1);
        let end = held.read(&mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}
