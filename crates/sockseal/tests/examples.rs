//! Each example runs to its end, where it has asserted what it shows, and shows it. Cargo builds them before it runs this.

#[cfg(test)]
mod examples {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// The examples that need the feature `tokio`, each with a line of its output.
    #[cfg(feature = "tokio")]
    const WITH_TOKIO: [(&str, &str); 11] = [
        ("axum_process", "outside 4.0"),
        ("echo_memory", "echoed: Hello, World!"),
        ("echo_tcp", "echoed: Hello, World!"),
        ("echo_unix", "echoed: Hello, World!"),
        ("invite", "a second key: the server refused this client: this client is not allowed in"),
        ("pinned_client", "another client: the server refused this client: this client is not allowed in"),
        ("pipe_file", "sent 1000000 bytes, and all of them have arrived"),
        ("pre_shared_key", "good morning, laptop"),
        ("resume", "second: resumption"),
        ("serial_line", "outside = 21.5"),
        ("tunnel_by_hand", "answered: HELLO, WORLD!"),
    ];
    #[cfg(not(feature = "tokio"))]
    const WITH_TOKIO: [(&str, &str); 0] = [];

    /// The examples that need no feature.
    const OTHERS: [(&str, &str); 3] = [
        ("echo_blocking", "echoed: Hello, World!"),
        ("no_std_seal", "a record that was left out is noticed"),
        ("sans_io", "client: \"hello\""),
    ];

    #[test]
    fn every_example_shows_what_it_is_for() {
        let running: Vec<(&str, &str, Child)> =
            WITH_TOKIO.into_iter().chain(OTHERS).map(|(name, line)| (name, line, start(name))).collect();
        let deadline = Instant::now() + Duration::from_secs(120);
        for (name, line, child) in running {
            let shown = output_of(name, child, deadline);
            assert!(shown.lines().any(|found| found == line), "{name} shows no line {line:?}, but: {shown}");
        }
    }

    #[test]
    #[cfg(feature = "tokio")]
    fn no_example_is_forgotten() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<String> =
            paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        found.sort_unstable();
        let mut listed: Vec<&str> = WITH_TOKIO.into_iter().chain(OTHERS).map(|(name, _)| name).collect();
        listed.sort_unstable();
        assert_eq!(found, listed);
        let readme = include_str!("../README.md");
        for name in listed {
            assert!(readme.contains(&format!("`{name}`")), "README.md does not name {name}");
        }
    }

    fn start(name: &str) -> Child {
        let program = folder_of_programs().join(name);
        let child = Command::new(&program).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        child
            .unwrap_or_else(|error| panic!("{}: {error}: cargo build --examples makes it", program.display()))
    }

    /// Beside the folder that this very test was built into.
    fn folder_of_programs() -> PathBuf {
        let own = std::env::current_exe().unwrap();
        own.parent().and_then(Path::parent).unwrap().join("examples")
    }

    fn output_of(name: &str, mut child: Child, deadline: Instant) -> String {
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("{name} has not ended in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} ended with {}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}
