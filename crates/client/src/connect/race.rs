//! Reaches a server at one of several addresses: they are tried one after the other with a small head start each, and beside one
//! another, and the first at which the server proves itself is taken (Happy Eyeballs, RFC 8305, up to the end of a question).
//!
//! A connection that stands says little: behind it may be nobody, or somebody else. So the question that follows it is part of
//! the attempt. It has a head start as well, since to a server questions cost more than connections.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};
use tunnel::address::Address;
use tunnel::dial::{self, in_time};
use tunnel::network::Network;
use tunnel::socket::Socket;
use wire_protocol::InvalidMessage;
use wire_protocol::stream::error_in;

/// Whether several may be asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Questions {
    /// The next one is asked beside the one before it once that has had its head start.
    Staggered,
    /// The next one is asked once the one before it has failed. Only connections are made at once.
    OneByOne,
}

/// The reason why nothing has come of an address.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The address.
    pub(crate) address: Address,
    /// What has failed there.
    pub(crate) cause: Cause,
}

/// What has failed.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The name was not resolved, or no connection came about.
    Connect(io::Error),
    /// The question that followed was answered in another way, or not at all.
    Question(io::Error),
}

/// The reason why no server was reached.
#[derive(Debug)]
pub(crate) enum Lost {
    /// What has answered at one address ends everything: it has another key, or has turned the client away.
    Ended(Failure),
    /// Nothing has come of any address: one failure for each.
    Unreached(Vec<Failure>),
}

/// Asks at each of `addresses`, in this order, what `ask` asks. Gives the first answer, and where it came from; nothing of the
/// others is left.
///
/// # Errors
/// [`Lost`].
pub(crate) async fn race<'a, T: Send, F: Future<Output = io::Result<T>> + Send>(
    network: &Network,
    addresses: impl Iterator<Item = &'a Address> + Send,
    questions: Questions,
    ask: impl Fn(Socket) -> F + Sync,
) -> Result<(T, &'a Address), Lost> {
    let turns = Semaphore::new(1);
    let mut waiting: VecDeque<Candidate<'a>> =
        addresses.map(|address| Candidate { address, place: Place::of(address) }).collect();
    let mut attempts = Attempts(VecDeque::new());
    let mut failures = Vec::new();
    let mut next_start = Instant::now();
    loop {
        if attempts.0.is_empty() || Instant::now() >= next_start {
            let permit = if attempts.0.is_empty() { None } else { dial::further_attempt() };
            let is_alone = attempts.0.is_empty();
            match waiting.pop_front() {
                Some(candidate) if is_alone || permit.is_some() => {
                    let Candidate { address, place } = candidate;
                    let attempt = attempt(network, place, questions, &turns, &ask);
                    if let Some(oldest) = attempts.begin(address, Box::pin(attempt), permit) {
                        failures.push(Failure { address: oldest, cause: given_up() });
                    }
                }
                // Too many attempts are under way in this process.
                Some(candidate) => waiting.push_front(candidate),
                None if is_alone => return Err(Lost::Unreached(of_each_address(failures))),
                None => {}
            }
            next_start = Instant::now() + HEAD_START;
        }
        let ended = tokio::select! {
            biased;
            ended = attempts.next() => ended,
            () = sleep_until(next_start), if !waiting.is_empty() => continue,
        };
        match ended {
            (address, Ok(Reached::Answer(answer, from))) => {
                if let Some(from) = from {
                    dial::worked(from);
                }
                return Ok((answer, address));
            }
            (address, Ok(Reached::Resolved(found))) => {
                for ip in found.into_iter().rev() {
                    waiting.push_front(Candidate { address, place: Place::Ip(ip) });
                }
                next_start = Instant::now();
            }
            (address, Err(cause)) => {
                let failure = Failure { address: address.clone(), cause };
                if failure.ends_all() {
                    return Err(Lost::Ended(failure));
                }
                tracing::debug!(%address, ?failure, "one address of several does not answer");
                failures.push(failure);
                next_start = Instant::now();
            }
        }
    }
}

/// Somewhere that is still to be tried.
struct Candidate<'a> {
    address: &'a Address,
    place: Place<'a>,
}

enum Place<'a> {
    /// A name, which has to be resolved.
    Host(&'a str, u16),
    Ip(SocketAddr),
    Other(&'a Address),
}

impl<'a> Place<'a> {
    fn of(address: &'a Address) -> Self {
        match address {
            Address::Tcp { host, port } => Self::Host(host, *port),
            Address::Unix(_) | Address::Passed(_) => Self::Other(address),
        }
    }
}

/// How far an attempt has come.
enum Reached<T> {
    /// The addresses of a name.
    Resolved(Vec<SocketAddr>),
    /// What was asked was answered, from this address.
    Answer(T, Option<SocketAddr>),
}

async fn attempt<T: Send, F: Future<Output = io::Result<T>> + Send>(
    network: &Network,
    place: Place<'_>,
    questions: Questions,
    turns: &Semaphore,
    ask: &(impl Fn(Socket) -> F + Sync),
) -> Result<Reached<T>, Cause> {
    let begun = Instant::now();
    let (socket, from) = match place {
        Place::Host(host, port) => {
            let found = network.resolve_for("", host, port).await.map_err(Cause::Connect)?;
            return Ok(Reached::Resolved(found));
        }
        Place::Ip(ip) => {
            let (socket, from) = network.dial_first(vec![ip]).await.map_err(Cause::Connect)?;
            (socket, Some(from))
        }
        Place::Other(address) => (network.dial(address).await.map_err(Cause::Connect)?, None),
    };
    // Where the way is long an answer takes long, too.
    let head_start = HEAD_START.max(begun.elapsed() * 2);
    // Nobody closes the semaphore.
    let turn = turns.acquire().await.ok();
    let mut asked = std::pin::pin!(in_time(ask(socket)));
    let answer = match questions {
        Questions::OneByOne => asked.await,
        Questions::Staggered => tokio::select! {
            biased;
            answer = &mut asked => answer,
            () = sleep(head_start) => {
                drop(turn);
                asked.await
            }
        },
    };
    answer.map(|answer| Reached::Answer(answer, from)).map_err(Cause::Question)
}

/// Attempts under way, the oldest first.
struct Attempts<'a, 'f, T>(VecDeque<(&'a Address, Attempt<'f, T>, Option<SemaphorePermit<'static>>)>);

type Attempt<'f, T> = Pin<Box<dyn Future<Output = Result<Reached<T>, Cause>> + Send + 'f>>;

impl<'a, 'f, T> Attempts<'a, 'f, T> {
    /// Where there are too many, the oldest is given up, and its address returned.
    fn begin(
        &mut self,
        address: &'a Address,
        attempt: Attempt<'f, T>,
        permit: Option<SemaphorePermit<'static>>,
    ) -> Option<Address> {
        let oldest = if self.0.len() >= MAX_ATTEMPTS { self.0.pop_front() } else { None };
        self.0.push_back((address, attempt, permit));
        oldest.map(|(address, ..)| address.clone())
    }

    /// How the next one ends; never where there is none. Can be dropped and called again.
    async fn next(&mut self) -> (&'a Address, Result<Reached<T>, Cause>) {
        poll_fn(|cx| {
            for at in 0..self.0.len() {
                let Some((address, attempt, _)) = self.0.get_mut(at) else { break };
                if let Poll::Ready(ended) = attempt.as_mut().poll(cx) {
                    let address = *address;
                    self.0.remove(at);
                    return Poll::Ready((address, ended));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Failure {
    /// Whether the server itself has answered, or somebody who is not to be passed by in silence. Everything else says only that
    /// the server is not to be reached at this address.
    fn ends_all(&self) -> bool {
        match &self.cause {
            Cause::Connect(_) => false,
            Cause::Question(source) => !matches!(
                error_in(source),
                None | Some(
                    wire_protocol::Error::Aborted(_)
                        | wire_protocol::Error::InvalidMessage(InvalidMessage::NotSockseal(_))
                )
            ),
        }
    }

    /// An answer says more than that there was none, and that more than that there is no way.
    fn weight(&self) -> u8 {
        match &self.cause {
            Cause::Connect(error) if dial::is_no_way(error) => 0,
            Cause::Connect(_) => 1,
            Cause::Question(_) => 2,
        }
    }
}

fn given_up() -> Cause {
    Cause::Connect(io::Error::new(io::ErrorKind::TimedOut, "no answer within two seconds"))
}

/// The failure of each address that says the most, and of several such the last one; those that say the most come first.
fn of_each_address(failures: Vec<Failure>) -> Vec<Failure> {
    let mut kept: Vec<Failure> = Vec::new();
    for failure in failures {
        match kept.iter_mut().find(|kept| kept.address == failure.address) {
            Some(known) if known.weight() <= failure.weight() => *known = failure,
            Some(_) => {}
            None => kept.push(failure),
        }
    }
    kept.sort_by_key(|failure| std::cmp::Reverse(failure.weight()));
    kept
}

/// RFC 8305's Connection Attempt Delay.
const HEAD_START: Duration = Duration::from_millis(250);
/// At once, each of which has a descriptor: where more are due, the oldest, which has had two seconds, gives way.
const MAX_ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tunnel::memory::{Conditions, MemoryNetwork};
    use wire_protocol::message::AbortCode;

    use super::*;

    /// What a server does with a connection.
    #[derive(Clone, Copy)]
    enum Server {
        /// Says this byte after so many milliseconds, and no more.
        Says(u8, u64),
        /// Nothing.
        Hangs,
        /// Closes it.
        Closes,
    }

    struct Scene {
        network: MemoryNetwork,
        asked: Mutex<(usize, usize)>,
    }

    /// A question that is asked now: the numbers are those of now, and the most that there were at once.
    struct Asked<'a>(&'a Mutex<(usize, usize)>);

    impl<'a> Asked<'a> {
        fn new(numbers: &'a Mutex<(usize, usize)>) -> Self {
            let mut at_once = numbers.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.0.max(at_once.1);
            Self(numbers)
        }
    }

    impl Drop for Asked<'_> {
        fn drop(&mut self) {
            self.0.lock().unwrap().0 -= 1;
        }
    }

    const OTHER_KEY: u8 = 0;
    const BUSY: u8 = 1;

    impl Scene {
        fn new() -> Self {
            let conditions = Conditions { max_delay: Duration::ZERO, capacity: 1024 };
            Self { network: MemoryNetwork::new(1, conditions), asked: Mutex::default() }
        }

        fn serve(&self, address: &str, server: Server) {
            let address: SocketAddr = address.parse().unwrap();
            let listener = self.network.host(address.ip()).listen(address).unwrap();
            tokio::spawn(async move {
                while let Ok(mut socket) = listener.accept().await {
                    tokio::spawn(async move {
                        match server {
                            Server::Says(byte, after) => {
                                sleep(Duration::from_millis(after)).await;
                                socket.write_all(&[byte]).await.ok();
                            }
                            Server::Hangs => {}
                            Server::Closes => return,
                        }
                        socket.read_u8().await.ok();
                    });
                }
            });
        }

        fn swallow(&self, address: &str) {
            self.network.set_reachable(address.parse().unwrap(), false);
        }

        /// Asks for a byte. Gives how long that took in milliseconds, the address with the byte, or the addresses that failed.
        async fn race(
            &self,
            addresses: &[&str],
            questions: Questions,
        ) -> (u128, Result<String, Vec<String>>) {
            let addresses: Vec<Address> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let network = Network::Memory(self.network.host(IpAddr::from([10, 0, 0, 99])));
            let begun = Instant::now();
            let ask = async |mut socket: Socket| -> io::Result<u8> {
                let _asked = Asked::new(&self.asked);
                match socket.read_u8().await? {
                    OTHER_KEY => Err(wire_protocol::Error::Authentication.into()),
                    BUSY => Err(wire_protocol::Error::Aborted(AbortCode::Busy).into()),
                    byte => Ok(byte),
                }
            };
            let raced = race(&network, addresses.iter(), questions, |socket| Box::pin(ask(socket))).await;
            let told = match raced {
                Ok((byte, address)) => Ok(format!("{address} {byte}")),
                Err(Lost::Ended(failure)) => Err(vec![format!("ended {}", failure.address)]),
                Err(Lost::Unreached(failures)) => {
                    let told = |failure: &Failure| {
                        let kind =
                            if matches!(failure.cause, Cause::Connect(_)) { "connect" } else { "question" };
                        format!("{kind} {}", failure.address)
                    };
                    Err(failures.iter().map(told).collect())
                }
            };
            (begun.elapsed().as_millis(), told)
        }

        async fn check(&self, addresses: &[&str], milliseconds: std::ops::Range<u128>, expected: &str) {
            let (took, told) = self.race(addresses, Questions::Staggered).await;
            let told = told.unwrap_or_else(|failures| failures.join(", "));
            assert_eq!(told, expected, "{addresses:?}");
            assert!(milliseconds.contains(&took), "{addresses:?}: {took}");
        }
    }

    const GOOD: &str = "10.0.0.1:1";
    const SLOW: &str = "10.0.0.2:1";
    const DEAD: [&str; 3] = ["10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"];
    const HUNG: &str = "10.0.0.3:1";
    const CLOSED: &str = "10.0.0.4:1";
    const WRONG: &str = "10.0.0.5:1";
    const FULL: &str = "10.0.0.6:1";
    const REFUSED: &str = "10.0.0.7:1";

    fn scene() -> Scene {
        let scene = Scene::new();
        scene.serve(GOOD, Server::Says(7, 0));
        scene.serve(SLOW, Server::Says(8, 600));
        scene.serve(HUNG, Server::Hangs);
        scene.serve(CLOSED, Server::Closes);
        scene.serve(WRONG, Server::Says(OTHER_KEY, 0));
        scene.serve(FULL, Server::Says(BUSY, 0));
        DEAD.iter().for_each(|address| scene.swallow(address));
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        scene.network.set_name("many.test", ips(&["10.0.1.1", "10.0.0.7", "10.0.0.3", "10.0.0.1"]));
        scene.network.set_name("none.test", Vec::new());
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_costs_a_head_start_and_what_fails_nothing() {
        let scene = scene();
        scene.check(&[GOOD], 0..1, "10.0.0.1:1 7").await;
        scene.check(&[GOOD, WRONG, DEAD[0]], 0..1, "10.0.0.1:1 7").await;
        scene.check(&[DEAD[0], GOOD], 250..251, "10.0.0.1:1 7").await;
        scene.check(&[DEAD[0], DEAD[1], DEAD[2], GOOD], 750..751, "10.0.0.1:1 7").await;
        scene.check(&[REFUSED, CLOSED, FULL, GOOD], 0..1, "10.0.0.1:1 7").await;
        // Behind a connection that stands there may be nobody, and the answer of one that is asked first counts all the same.
        scene.check(&[HUNG, GOOD], 250..252, "10.0.0.1:1 7").await;
        scene.check(&[SLOW, HUNG], 600..601, "10.0.0.2:1 8").await;
        scene.check(&[SLOW, GOOD], 250..252, "10.0.0.1:1 7").await;
        // So do the addresses of a name.
        scene.check(&["many.test:1"], 500..503, "many.test:1 7").await;
        scene.check(&["none.test:1", "nosuch.test:1", GOOD], 0..1, "10.0.0.1:1 7").await;
        tokio::task::yield_now().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.network.open_connections(), Vec::<String>::new(), "something of the others is left");
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_is_not_passed_by_in_silence() {
        let scene = scene();
        scene.check(&[WRONG], 0..1, "ended 10.0.0.5:1").await;
        scene.check(&[WRONG, GOOD], 0..1, "ended 10.0.0.5:1").await;
        scene.check(&[DEAD[0], WRONG, GOOD], 250..251, "ended 10.0.0.5:1").await;
        scene.check(&[SLOW, WRONG], 250..252, "ended 10.0.0.5:1").await;
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_answers_each_says_why_and_who_says_the_most_is_first() {
        let scene = scene();
        scene.check(&[REFUSED], 0..1, "connect 10.0.0.7:1").await;
        scene.check(&[REFUSED, CLOSED], 0..1, "question 10.0.0.4:1, connect 10.0.0.7:1").await;
        scene.check(&[DEAD[0], FULL], 10_000..10_001, "question 10.0.0.6:1, connect 10.0.1.1:1").await;
        scene.check(&[HUNG, REFUSED], 10_000..10_001, "question 10.0.0.3:1, connect 10.0.0.7:1").await;
        scene.check(&["none.test:1"], 0..1, "connect none.test:1").await;
        let dead =
            [DEAD[0]; 12].iter().enumerate().map(|(at, _)| format!("10.0.1.{at}:1")).collect::<Vec<_>>();
        dead.iter().for_each(|address| scene.swallow(address));
        let dead: Vec<&str> = dead.iter().map(String::as_str).chain([GOOD]).collect();
        scene.check(&dead, 3000..3001, "10.0.0.1:1 7").await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_by_one_only_connections_are_made_at_once() {
        let scene = scene();
        for (addresses, took, expected) in [
            (&[DEAD[0], GOOD][..], 250, "10.0.0.1:1 7"),
            (&[SLOW, GOOD], 600, "10.0.0.2:1 8"),
            (&[HUNG, GOOD], 10_000, "10.0.0.1:1 7"),
            (&[CLOSED, GOOD], 0, "10.0.0.1:1 7"),
        ] {
            let (elapsed, told) = scene.race(addresses, Questions::OneByOne).await;
            assert_eq!((elapsed, told), (took, Ok(expected.into())), "{addresses:?}");
        }
        assert_eq!(scene.asked.lock().unwrap().1, 1, "several were asked at once");
    }
}
