//! Goal: what comes in at the server by `client forward -R` goes on as if nothing had happened, while the client's
//! connections are reset, and never looks like what has ended where it cannot.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::services::Nginx;
use crate::harness::{
    DEADLINE, End, Exchange, Exit, Fault, FullQueue, Gate, Harness, Resumable, Target, Tool, Way, dial,
    echoed, local, read_to_end_of, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    downloads_arrive_whole,
    downloads_through_a_proxy_out_through_the_client_arrive_whole,
    both_directions_arrive_whole,
    half_closed_exchange_goes_on,
    stream_whose_answer_is_lost_goes_on,
    visitors_are_cut_off_without_it,
    withdrawn_right_resets_a_held_visitor,
    revoked_client_has_no_visitor,
    killed_client_has_its_visitor_held_to_the_end,
];

/// Each connection carries an eighth of the file at most.
fn downloads_arrive_whole(harness: &Harness) -> Result<()> {
    let nginx = Nginx::start(harness)?;
    let tunnel = Resumable::reverse(harness, &[format!("0:{}", nginx.address())], &[], "")?;
    let address = tunnel.forward.remote(0)?;
    break_by(&tunnel, Fault::Reset { way: Way::Up, after: EIGHTH })?;
    Nginx::download(&mut Tool::CURL.command()?, &format!("http://{address}/large"))?;
    tunnel.resumes(&address, 8)?;
    tunnel.holds(0.0)
}

/// The client is a SOCKS proxy for what comes in at the server.
fn downloads_through_a_proxy_out_through_the_client_arrive_whole(harness: &Harness) -> Result<()> {
    let nginx = Nginx::start(harness)?;
    let tunnel = Resumable::reverse(harness, &["0".to_owned()], &[], "")?;
    let address = tunnel.forward.remote(0)?;
    break_by(&tunnel, Fault::Reset { way: Way::Up, after: EIGHTH })?;
    let mut curl = Tool::CURL.command()?;
    curl.args(["--socks5-hostname", &address]);
    Nginx::download(&mut curl, &format!("http://{}/large", nginx.address()))?;
    tunnel.resumes(&address, 8)?;
    tunnel.holds(0.0)
}

/// The visitor ends its direction behind what it says, and the target answers to that.
fn both_directions_arrive_whole(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 16_000_000, down: 16_000_001 };
    let target = Target::exchange(exchange)?;
    let tunnel = Resumable::reverse(harness, &[local(&target)], &[], "")?;
    let address = tunnel.forward.remote(0)?;
    let visitor = dial(&address)?;
    until(DEADLINE, "the visitor reaches the target", || {
        ensure!(target.open() == 1);
        Ok(())
    })?;
    tunnel.set_fault(Fault::Reset { way: Way::Down, after: EIGHTH });
    exchange.ask(visitor)?;
    tunnel.resumes(&address, 7)?;
    ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
    target.is_left_alone()?;
    ensure!(target.failures().is_empty(), "{:?}", target.failures());
    tunnel.holds(0.0)
}

/// The connections are reset between the end of the question and the answer.
fn half_closed_exchange_goes_on(harness: &Harness) -> Result<()> {
    let (asked, gate) = (Gate::default(), Gate::default());
    let (has_asked, held) = (asked.clone(), gate.clone());
    let target = Target::serve(move |mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question)?;
        has_asked.open();
        held.wait();
        stream.write_all(format!("answer to {question}").as_bytes())
    })?;
    let tunnel = Resumable::reverse(harness, &[local(&target)], &[], "")?;
    let address = tunnel.forward.remote(0)?;
    let mut visitor = dial(&address)?;
    visitor.write_all(b"question")?;
    visitor.shutdown(Shutdown::Write)?;
    asked.wait();
    for _ in 0..3 {
        let before = tunnel.resumed(&address)?;
        // A stream that goes on at once does so over a connection that is reset next, and has none for a moment.
        until(DEADLINE, "something to cut", || {
            ensure!(tunnel.tap.reset() > 0);
            Ok(())
        })?;
        tunnel.resumes(&address, before + 1)?;
    }
    gate.open();
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).context("the answer")?;
    ensure!(answer == "answer to question", "{answer:?}");
    ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
    tunnel.holds(0.0)
}

/// The connections are reset while the client reaches its target, so that its answer reaches nobody.
fn stream_whose_answer_is_lost_goes_on(harness: &Harness) -> Result<()> {
    let slow = FullQueue::new()?;
    let tunnel = Resumable::reverse(harness, &[format!("0:{}", slow.address())], &[], "")?;
    let address = tunnel.forward.remote(0)?;
    let mut visitor = dial(&address)?;
    let meanwhile = vec![b'.'; 20_000];
    visitor.write_all(&meanwhile)?;
    slow.is_wanted()?;
    until(DEADLINE, "what the visitor says is on the wire", || {
        let passed = tunnel.tap.crossings().iter().map(|crossing| crossing.passed(Way::Down)).max();
        ensure!(passed >= Some(meanwhile.len()), "{passed:?} bytes");
        Ok(())
    })?;
    ensure!(tunnel.tap.reset() > 0, "there was nothing to cut");
    tunnel.holds(1.0)?;
    let mut target = slow.accept()?;
    target.set_read_timeout(Some(DEADLINE))?;
    let mut said = vec![0; meanwhile.len()];
    target.read_exact(&mut said).context("what the visitor has said")?;
    ensure!(said == meanwhile, "the target got another text");
    tunnel.resumes(&address, 1)?;
    target.write_all(b"behind")?;
    drop(target);
    let mut answer = String::new();
    visitor.read_to_string(&mut answer)?;
    ensure!(answer == "behind", "{answer:?}");
    Ok(())
}

/// What the other scenarios show is not there with `--no-resume`.
fn visitors_are_cut_off_without_it(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &["--no-resume"], "")?;
    ensure!(open.tunnel.tap.reset() > 0, "there was nothing to cut");
    open.visitor_is_reset()?;
    open.target_is_reset()?;
    ensure!(open.tunnel.resumed(&open.address)? == 0, "a stream was taken over");
    open.goes_on_anew()
}

/// The client may not listen at the server any more, though it may still send messages.
fn withdrawn_right_resets_a_held_visitor(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    open.tunnel.fixture.allow(&["--messages"])?;
    open.visitor_is_reset()?;
    open.lost("its client has lost the right to it")?;
    open.tunnel.reconnect();
    open.target_is_reset()
}

fn revoked_client_has_no_visitor(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    open.tunnel.fixture.command(&["revoke", "alice"])?.expect(Exit::Done)?;
    open.visitor_is_reset()?;
    open.lost("its client has lost the right to it")?;
    open.tunnel.reconnect();
    open.target_is_reset()
}

/// A client that is killed may be one whose machine has lost its network, as far as the server knows.
fn killed_client_has_its_visitor_held_to_the_end(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "resume = { hold = '10s' }\n")?;
    open.tunnel.forward.process.signal(Signal::KILL)?;
    open.tunnel.holds(1.0)?;
    open.visitor_is_reset()?;
    open.lost("its client has not resumed it in time")?;
    open.tunnel.holds(0.0)
}

/// A visitor of the server, through `client forward -R` to a target that echoes.
struct Open<'a> {
    target: Target,
    tunnel: Resumable<'a>,
    /// Where the server listens.
    address: String,
    visitor: TcpStream,
}

impl<'a> Open<'a> {
    fn start(harness: &'a Harness, options: &[&str], config: &str) -> Result<Self> {
        let target = Target::serve(|mut stream| {
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => stream.write_all(&buffer[..count])?,
                }
            }
        })?;
        let tunnel = Resumable::reverse(harness, &[local(&target)], options, config)?;
        let address = tunnel.forward.remote(0)?;
        let mut visitor = dial(&address)?;
        echoed(&mut visitor, b"before")?;
        Ok(Self { target, tunnel, address, visitor })
    }

    /// Waits until the visitor is reset.
    fn visitor_is_reset(&mut self) -> Result<()> {
        let ended = read_to_end_of(&mut self.visitor).context("the visitor")?;
        ensure!(ended == (0, End::Reset), "{ended:?}: a stream that was cut looks like one that ended");
        Ok(())
    }

    /// Waits until the target's connection is reset.
    fn target_is_reset(&self) -> Result<()> {
        self.target.is_left_alone()?;
        let failures = self.target.failures();
        ensure!(failures.len() == self.target.accepted(), "{failures:?}: the target was told of an end");
        Ok(())
    }

    /// Waits until the server has said that the stream is lost.
    fn lost(&self, reason: &str) -> Result<()> {
        self.tunnel.fixture.server()?.logged(&["stream lost", &self.address, reason])?;
        Ok(())
    }

    /// Checks that another visitor is served.
    fn goes_on_anew(&self) -> Result<()> {
        until(DEADLINE, "another visitor", || echoed(&mut dial(&self.address)?, b"anew"))
    }
}

/// Has connections break as `fault` says, and waits until the server listens for the client once more.
fn break_by(tunnel: &Resumable<'_>, fault: Fault) -> Result<()> {
    tunnel.set_fault(fault);
    // The client says again where that is.
    tunnel.forward.remote(1).map(drop)
}

/// An eighth of nginx's large file.
const EIGHTH: usize = 2 * 1024 * 1024;
