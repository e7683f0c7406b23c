//! The monitor of the network on a real system: in network namespaces of its own, and in a process that is stopped.

#![cfg(target_os = "linux")]

#[cfg(test)]
mod network_monitor {
    use std::env;
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
    use tokio::task::spawn_blocking;
    use tokio::time::timeout;
    use tunnel::network_monitor::source::NetworkSource as _;
    use tunnel::network_monitor::suspend_clock::SystemSuspendClock;
    use tunnel::network_monitor::system_network::SystemNetwork;
    use tunnel::network_monitor::{Disturbance, Disturbances, NetworkMonitor};

    /// Set in a process that plays a part of a test.
    const PLAYS: &str = "TUNNEL_TEST_PLAYS";

    /// How long what has to happen may take on a machine that is busy.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// Whether this process is the one that plays `part`, the name of the test that runs in it.
    fn plays(part: &str) -> bool {
        env::var(PLAYS).is_ok_and(|played| played == part)
    }

    /// A command that runs the test `part` alone, after `wrapper`.
    fn player(wrapper: &[&str], part: &str) -> Command {
        let own = env::current_exe().unwrap();
        let program = wrapper.first().map_or(own.as_os_str(), |first| first.as_ref());
        let mut command = Command::new(program);
        if let Some((_, words)) = wrapper.split_first() {
            command.args(words).arg(&own);
        }
        command.args(["--exact", &format!("network_monitor::{part}"), "--nocapture"]).env(PLAYS, part);
        command
    }

    /// Runs the test `part` in a network namespace of its own, and returns whether this is the process there.
    fn is_in_namespace(part: &str) -> bool {
        if plays(part) {
            return true;
        }
        let mut wrapper = vec!["unshare", "--net"];
        if !rustix::process::geteuid().is_root() {
            wrapper.push("--map-root-user");
        }
        let tried =
            Command::new("unshare").args(&wrapper[1..]).args(["ip", "link", "set", "lo", "up"]).output();
        match tried {
            Ok(output) if output.status.success() => {
                // What the other process counts as its tests is not for who counts those of this one.
                let output = player(&wrapper, part).output().unwrap();
                let [stdout, stderr] =
                    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
                assert!(
                    output.status.success(),
                    "in the namespace:
{stdout}
{stderr}"
                );
            }
            other => {
                let in_ci = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
                assert!(!in_ci, "no network namespace: {other:?}");
                eprintln!("skipped: no network namespace: {other:?}");
            }
        }
        false
    }

    /// Runs `ip` with each of these lines in turn, without holding up the monitor.
    async fn ip(lines: &'static str) {
        let run = move || {
            let mut command = Command::new("ip");
            let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "{lines}");
        };
        spawn_blocking(run).await.unwrap();
    }

    /// What a test expects to be told.
    struct Expectation {
        disturbances: Disturbances,
        /// What came last.
        last: Option<Disturbance>,
    }

    impl Expectation {
        fn of(monitor: &NetworkMonitor) -> Self {
            Self { disturbances: monitor.disturbances(), last: None }
        }

        /// Runs `ip`, and expects this to be told next. On a busy machine a burst may be told twice, and the machine may
        /// seem to have slept.
        async fn after(&mut self, lines: &'static str, expected: Disturbance) {
            ip(lines).await;
            let told = async {
                loop {
                    match self.disturbances.changed().await {
                        told if told == expected => return told,
                        told if Some(told) == self.last => {}
                        Disturbance::WokeUp { .. } => {}
                        told => return told,
                    }
                }
            };
            assert_eq!(timeout(DEADLINE, told).await.ok(), Some(expected), "{lines}");
            self.last = Some(expected);
        }
    }

    const TWO_MACHINES: &str = "link add one type veth peer name two\nlink set two up\nlink set one up";

    #[tokio::test]
    async fn changes_are_told() {
        use Disturbance::{AddressesChanged, RoutesChanged};

        if !is_in_namespace("changes_are_told") {
            return;
        }
        ip(TWO_MACHINES).await;
        // Whatever happens to a link is also notified for IPv6, and would hide that it is not for IPv4. Where the kernel's
        // settings may not be written, less is tested.
        for link in ["one", "two"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1").ok();
        }
        let network = SystemNetwork::open();
        assert!(!network.is_polled(), "there is no netlink");
        let monitor = NetworkMonitor::start_with(network, SystemSuspendClock::new());
        let mut expect = Expectation::of(&monitor);
        for (lines, expected) in [
            ("address add 198.51.100.7/24 dev one", AddressesChanged),
            // Addresses of this machine or a link alone are no disturbance, nor one that is valid for longer, nor other routes.
            (
                "address add 127.0.0.9/8 dev lo\n\
              address add 169.254.1.1/16 scope link dev two\n\
              address change 198.51.100.7/24 valid_lft 1000 preferred_lft 1000 dev one\n\
              route add 192.0.2.0/24 dev one\n\
              route add default via 198.51.100.2",
                RoutesChanged,
            ),
            ("route replace default via 198.51.100.3", RoutesChanged),
            ("route delete default\nroute add default via 198.51.100.3", RoutesChanged),
            // The kernel notifies the link, and not the route that is lost with it.
            ("link set one down", RoutesChanged),
            ("link set one up\nroute add default via 198.51.100.3", RoutesChanged),
            ("rule add to 203.0.113.1 table 100\nroute add 203.0.113.1 dev two table 100", RoutesChanged),
            ("address delete 198.51.100.7/24 dev one\naddress add 198.51.100.7/24 dev one", AddressesChanged),
            ("address add 2001:db8:7::7/128 dev lo", AddressesChanged),
            ("address delete 2001:db8:7::7/128 dev lo", AddressesChanged),
            ("link delete one", AddressesChanged),
        ] {
            expect.after(lines, expected).await;
        }
    }

    #[tokio::test]
    async fn changes_are_told_where_netlink_cannot_be_opened() {
        use Disturbance::{AddressesChanged, RoutesChanged};

        if !is_in_namespace("changes_are_told_where_netlink_cannot_be_opened") {
            return;
        }
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
        let network = SystemNetwork::open();
        setrlimit(Resource::Nofile, before).unwrap();
        assert!(network.is_polled());

        ip(TWO_MACHINES).await;
        let monitor = NetworkMonitor::start_with(network, SystemSuspendClock::new());
        let mut expect = Expectation::of(&monitor);
        expect.after("address add 198.51.100.7/24 dev one", AddressesChanged).await;
        expect.after("route add default via 198.51.100.1", RoutesChanged).await;
        expect.after("route delete default", RoutesChanged).await;
        expect.after("address delete 198.51.100.7/24 dev one", AddressesChanged).await;
    }

    /// A process that is ended with its owner.
    struct Player(Child);

    impl Player {
        fn pid(&self) -> Pid {
            Pid::from_child(&self.0)
        }

        /// Stops the process for as long, and returns once it goes on.
        fn stop(&self, duration: Duration) {
            kill_process(self.pid(), Signal::STOP).unwrap();
            let began = Instant::now();
            while !self.is_stopped() {
                assert!(began.elapsed() < DEADLINE, "it is not stopped");
                thread::yield_now();
            }
            thread::sleep(duration);
            kill_process(self.pid(), Signal::CONT).unwrap();
        }

        fn is_stopped(&self) -> bool {
            let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
            status.lines().any(|line| line.starts_with("State:\tT"))
        }
    }

    impl Drop for Player {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn stopped_process_notices_that_it_was() {
        const PART: &str = "stopped_process_notices_that_it_was";
        const STOPPED: Duration = Duration::from_secs(3);

        if plays(PART) {
            return tell_of_sleep().await;
        }
        let began = Instant::now();
        let mut player = Player(player(&[], PART).stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(player.0.stdout.take().unwrap()).lines();
        let mut told =
            lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("told: ")?.1.to_owned()));
        assert_eq!(told.next().as_deref(), Some("ready"));
        player.stop(STOPPED);
        let asleep: u128 = told.next().expect("it told nothing").parse().unwrap();
        assert!(asleep + 1000 >= STOPPED.as_millis(), "{asleep}");
        assert!(asleep <= began.elapsed().as_millis(), "{asleep}");
    }

    /// Prints for how many milliseconds this process has slept.
    async fn tell_of_sleep() {
        let monitor = NetworkMonitor::start();
        let mut disturbances = monitor.disturbances();
        // The clocks are compared from the first time on that the monitor runs.
        tokio::task::yield_now().await;
        println!("told: ready");
        let asleep = async {
            loop {
                if let Disturbance::WokeUp { asleep } = disturbances.changed().await {
                    return asleep;
                }
            }
        };
        println!("told: {}", timeout(DEADLINE, asleep).await.unwrap().as_millis());
    }
}
