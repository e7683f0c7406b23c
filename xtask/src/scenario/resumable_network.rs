//! Goal: a connection through `client forward` outlives changes of the network between client and server.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Fixture, Forward, Harness, Home, Hosts, Network, echo, echoed, serve_unix};
use crate::scenario::registration::scenarios;

scenarios![
    client_gets_another_address,
    server_moves_behind_its_name,
    router_gets_another_address,
    cable_is_pulled_for_a_while,
];

/// The client's machine moves to another address, and keeps none of those that it had.
fn client_gets_another_address(harness: &Harness) -> Result<()> {
    let mut route = Route::start(harness, Network::new()?)?;
    route.goes_on_over(|Route { network, .. }| {
        network.client.readdress("wire", "10.77.1.2", "10.77.1.7")?;
        network.client.plug_in("10.77.1.1")
    })?;
    // The client has noticed by itself, and has not waited for a silence.
    route.forward.logged(&["the channel of a stream is lost", "the stream goes on on another channel"])?;
    Ok(())
}

/// The server goes on at another address, and nobody answers at the old one.
fn server_moves_behind_its_name(harness: &Harness) -> Result<()> {
    let mut route = Route::start(harness, Network::new()?)?;
    route.goes_on_over(|Route { network, hosts, .. }| {
        network.server.readdress("wire", "10.77.2.2", "10.77.2.7")?;
        network.server.plug_in("10.77.2.1")?;
        hosts.write(&format!("10.77.2.7 {NAME}\n"))
    })
}

/// The router gets another address from its provider, and forgets who is inside.
fn router_gets_another_address(harness: &Harness) -> Result<()> {
    let network = Network::new()?;
    network.router.hide_inside()?;
    let mut route = Route::start(harness, network)?;
    route.goes_on_over(|Route { network, .. }| {
        network.router.readdress("outside", "10.77.2.1", "10.77.2.9")?;
        network.server.plug_in("10.77.2.9")
    })
}

fn cable_is_pulled_for_a_while(harness: &Harness) -> Result<()> {
    let mut route = Route::start(harness, Network::new()?)?;
    route.goes_on_over(|Route { network, forward, .. }| {
        network.client.pull_plug()?;
        forward.logged(&["the channel of a stream is lost"])?;
        network.client.plug_in("10.77.1.1")
    })
}

/// A connection from an application to a target that echoes. Both are at sockets that every network reaches.
struct Route<'a> {
    network: Network,
    hosts: Hosts,
    fixture: Fixture<'a>,
    forward: Forward<'a>,
    stream: UnixStream,
    _sockets: Home,
}

impl<'a> Route<'a> {
    fn start(harness: &'a Harness, network: Network) -> Result<Self> {
        let sockets = harness.home()?;
        let [here, there] = ["here", "there"].map(|name| sockets.file(name));
        serve_unix(&there, echo)?;
        let [here, there] = [here, there].map(|path| path.display().to_string());
        let wrapper: Vec<&str> = network.server.wrapper().iter().map(String::as_str).collect();
        let fixture = Fixture::wrapped(harness, &["--unix", &there], &["--listen", "0.0.0.0:0"], &wrapper)?;
        let (_, port) = fixture.server()?.address().rsplit_once(':').context("no port")?;
        let hosts = Hosts::new(harness)?;
        hosts.write(&format!("10.77.2.2 {NAME}\n"))?;
        let own_hosts = hosts.wrapper().into_iter().map(str::to_owned).collect();
        let wrapper = [network.client.wrapper().to_vec(), own_hosts].concat();
        let forward = Forward::wrapped(
            harness,
            fixture.alice(),
            &format!("{NAME}:{port}"),
            fixture.key(),
            &["-L", &format!("unix:{here}:unix:{there}"), "-v"],
            &wrapper,
        )?;
        let mut stream = UnixStream::connect(&here)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        echoed(&mut stream, b"before")?;
        Ok(Self { network, hosts, fixture, forward, stream, _sockets: sockets })
    }

    /// Checks that the connection goes on, over another channel, with what was said during a change of the network and after it.
    fn goes_on_over(&mut self, change: impl Fn(&Self) -> Result<()>) -> Result<()> {
        change(self)?;
        self.stream.write_all(b"meanwhile")?;
        let mut back = [0; 9];
        self.stream.read_exact(&mut back).context("no echo")?;
        ensure!(&back == b"meanwhile", "the echo is another text");
        echoed(&mut self.stream, b"behind")?;
        self.fixture.server()?.logged(&["stream resumed", "there"])?;
        Ok(())
    }
}

/// The server's name.
const NAME: &str = "moving.test";
