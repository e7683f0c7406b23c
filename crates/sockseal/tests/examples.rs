//! Each example runs to its end, where it has asserted what it shows. Cargo builds them before it runs this.

#[cfg(test)]
mod examples {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// Whichever features are on: an example that needs one which is off has not been built.
    #[test]
    #[cfg(feature = "tokio")]
    fn every_example_runs_to_its_end() {
        let names = names();
        assert!(names.len() >= 9, "{names:?}");
        let running: Vec<(String, Child)> =
            names.into_iter().map(|name| (name.clone(), start(&name))).collect();
        let deadline = Instant::now() + Duration::from_secs(120);
        for (name, child) in running {
            finish(&name, child, deadline);
        }
    }

    #[test]
    #[cfg(not(feature = "tokio"))]
    fn the_example_without_tokio_runs_to_its_end() {
        assert!(names().iter().any(|name| name == "echo_blocking"));
        finish("echo_blocking", start("echo_blocking"), Instant::now() + Duration::from_secs(120));
    }

    /// The names of all files in the folder, so that none is forgotten here.
    fn names() -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
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

    fn finish(name: &str, mut child: Child, deadline: Instant) {
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
        assert!(!output.stdout.is_empty(), "{name} shows nothing");
    }
}
