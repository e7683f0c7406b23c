//! The admin protocol, by which commands of the same user control a running program: a unix socket in the folder
//! `run` of the program's home takes one line (`status`, `reload`, `recheck`) and answers with one line of JSON. No
//! message holds a secret.

mod answer;
mod command;
mod folder;
mod line;
mod socket;
pub(crate) mod status;
mod status_parts;
mod traffic_history;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use answer::Answer;
pub use command::Command;
pub use socket::{AdminSocket, Responder};
pub use status::{SCHEMA, Status};
pub use status_parts::{
    ClientIn, Counts, ForwardState, IdentityState, InviteCounts, InviteTried, LeaseHeld, Open, Protection,
    Refused, ResumptionState, ServerState, TrafficState,
};
pub use traffic_history::TrafficHistory;

use crate::home::Home;
use crate::{Error, output};
use folder::{Folder, socket_name};
use line::{MAX_ANSWER_LEN, read_line};

/// Sends `command` to every running process of `program`, and returns each answer with the process id. The result
/// is empty where no process runs. Sockets that dead processes have left behind are removed.
///
/// # Errors
/// [`Error::File`], [`Error::ExposedFolder`], [`Error::ForeignFolder`] about the folder of the sockets.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn ask(home: &Home, program: &str, command: Command) -> Result<Vec<(u32, Answer)>, Error> {
    let Some(folder) = Folder::open(home)? else { return Ok(Vec::new()) };
    let folder = Arc::new(folder);
    let mut asking = JoinSet::new();
    for pid in folder.pids(program)? {
        let (folder, program) = (Arc::clone(&folder), program.to_owned());
        asking.spawn(async move { Some((pid, ask_one(&folder, &program, pid, command).await?)) });
    }
    let mut answers: Vec<(u32, Answer)> = asking.join_all().await.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(pid, _)| *pid);
    Ok(answers)
}

/// Does what [`ask`] does, for callers without a runtime.
///
/// # Errors
/// Those of [`ask`], and [`Error::Runtime`].
///
/// # Panics
/// Inside of a tokio runtime.
pub fn ask_blocking(home: &Home, program: &str, command: Command) -> Result<Vec<(u32, Answer)>, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(ask(home, program, command))
}

/// Prints the status of every running process of `program`: in lines, or as one JSON object each.
///
/// # Errors
/// Those of [`ask_blocking`]; [`Error::NotRunning`]; [`Error::Stdio`].
///
/// # Panics
/// Inside of a tokio runtime.
pub fn print_status(home: &Home, program: &'static str, json: bool) -> Result<(), Error> {
    let answers = ask_blocking(home, program, Command::Status)?;
    if answers.is_empty() {
        return Err(Error::NotRunning { program });
    }
    for (pid, answer) in answers {
        let text = match answer {
            Answer::Status(status) if json => status.to_json(),
            Answer::Status(status) => status.to_string(),
            Answer::Failed { error, .. } => {
                tracing::warn!(pid, error, "a running {program} does not say how it is");
                continue;
            }
            Answer::Done => {
                tracing::warn!(pid, "a running {program} does not say how it is");
                continue;
            }
        };
        output::print_lines(&text)?;
    }
    Ok(())
}

/// Sends `command` to one process; `None` where no process listens on the socket.
async fn ask_one(folder: &Folder, program: &str, pid: u32, command: Command) -> Option<Answer> {
    let exchange = async {
        let mut stream = UnixStream::connect(folder.address(&socket_name(program, pid))).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        read_line(&mut stream, MAX_ANSWER_LEN).await
    };
    Some(match timeout(ANSWER_DEADLINE, exchange).await {
        Ok(Ok(line)) => serde_json::from_slice(&line)
            .unwrap_or_else(|error| Answer::refusal(format!("the answer makes no sense: {error}"))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            folder.remove_left_behind(program, pid);
            return None;
        }
        Ok(Err(error)) => Answer::refusal(format!("there is no answer: {error}")),
        Err(_) => Answer::refusal(format!("there is no answer within {ANSWER_DEADLINE:?}")),
    })
}

/// Longest wait for an answer: before it runs, the command may have to wait until others have run or been rejected.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().join("home"))).unwrap();
        (folder, home)
    }

    /// Answers every command with `text`.
    fn answer_all(mut socket: AdminSocket, text: &'static str) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let (command, responder) = socket.next().await;
                responder.answer(&Answer::refusal(format!("{text} {command}")));
            }
        })
    }

    fn said(pid: u32, text: &str) -> (u32, Answer) {
        (pid, Answer::refusal(text))
    }

    /// The id of a process that has ended.
    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    fn names(home: &Home) -> Vec<String> {
        let entries = home.file("run").read_dir().unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn programs_of_one_home_are_asked_by_name_and_number() {
        let (_folder, home) = home();
        assert_eq!(ask(&home, "server", Command::Status).await.unwrap(), []);
        let _first = answer_all(AdminSocket::bind_as(&home, "server", 7).unwrap(), "first");
        let _second = answer_all(AdminSocket::bind_as(&home, "server", 11).unwrap(), "second");
        let _client = answer_all(AdminSocket::bind_as(&home, "client", 7).unwrap(), "client");
        let servers = ask(&home, "server", Command::Reload).await.unwrap();
        assert_eq!(servers, [said(7, "first reload"), said(11, "second reload")]);
        let clients = ask(&home, "client", Command::Recheck).await.unwrap();
        assert_eq!(clients, [said(7, "client recheck")]);
        assert_eq!(ask(&home, "serve", Command::Status).await.unwrap(), []);
    }

    #[tokio::test]
    async fn many_at_once_are_all_answered() {
        let (_folder, home) = home();
        let _serving = answer_all(AdminSocket::bind_as(&home, "server", 7).unwrap(), "it is");
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let home = home.clone();
            asking.spawn(async move { ask(&home, "server", Command::Status).await.unwrap() });
        }
        for answers in asking.join_all().await {
            assert_eq!(answers, [said(7, "it is status")]);
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_removed_and_nothing_else_is() {
        let (_folder, home) = home();
        let dead = dead_pid();
        let left_behind = |program: &str, pid| {
            std::os::unix::net::UnixListener::bind(home.file("run").join(socket_name(program, pid))).unwrap();
        };
        let _serving = answer_all(AdminSocket::bind_as(&home, "server", 7).unwrap(), "it is");
        left_behind("server", dead);
        left_behind("client", dead);
        left_behind("server", 1);
        // A file with the name of a socket is not a socket.
        std::fs::write(home.file("run").join("server-4000000000.sock"), "").unwrap();
        std::fs::write(home.file("run").join("server-notes"), "").unwrap();
        let answers = ask(&home, "server", Command::Status).await.unwrap();
        assert_eq!(answers, [said(7, "it is status")]);
        let kept = [
            &socket_name("client", dead),
            "server-1.sock",
            "server-4000000000.sock",
            "server-7.sock",
            "server-notes",
        ];
        assert_eq!(names(&home), kept);
    }

    #[tokio::test]
    async fn homes_with_long_paths_work() {
        // The programs do the same, which closes much of /proc to them.
        crate::hardening::keep_memory_private();
        for len in [60, 80, 90, 100, 110, 200, 1000, 3000] {
            let folder = tempfile::tempdir().unwrap();
            let mut path: PathBuf = folder.path().into();
            while path.as_os_str().len() < len {
                path.push("x".repeat((len - path.as_os_str().len()).clamp(1, 100)));
            }
            let home = Home::resolve(Some(path)).unwrap();
            let serving = answer_all(AdminSocket::bind(&home, "server").unwrap(), "it is");
            let answers = ask(&home, "server", Command::Status).await.unwrap();
            assert_eq!(answers, [said(std::process::id(), "it is status")], "{len}");
            serving.abort();
            serving.await.unwrap_err();
            assert_eq!(names(&home), [""; 0], "{len}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_others_can_look_into_is_not_used() {
        let (_folder, home) = home();
        drop(AdminSocket::bind(&home, "server").unwrap());
        for mode in [0o701, 0o750, 0o770, 0o777] {
            std::fs::set_permissions(home.file("run"), Permissions::from_mode(mode)).unwrap();
            let bound = AdminSocket::bind(&home, "server");
            assert!(matches!(bound, Err(Error::ExposedFolder { .. })), "{mode:o}");
            let asked = ask(&home, "server", Command::Status).await;
            assert!(matches!(asked, Err(Error::ExposedFolder { .. })), "{mode:o}");
        }
        assert_eq!(names(&home), [""; 0]);
    }

    #[tokio::test]
    async fn a_home_that_cannot_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let home = Home::resolve(Some(file.join("home"))).unwrap();
        assert!(matches!(AdminSocket::bind(&home, "server"), Err(Error::File { action: "create", .. })));
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        std::fs::write(home.file("run"), "").unwrap();
        assert!(matches!(AdminSocket::bind(&home, "server"), Err(Error::File { action: "open", .. })));
        let asked = ask(&home, "server", Command::Status).await;
        assert!(matches!(asked, Err(Error::File { action: "open", .. })));
    }

    // The test runs in real time, since a paused clock runs ahead of sockets.
    #[tokio::test]
    async fn a_program_that_answers_with_garbage_or_not_at_all_is_reported() {
        let (_folder, home) = home();
        drop(AdminSocket::bind(&home, "server").unwrap());
        let bind = |pid| {
            let path = home.file("run").join(socket_name("server", pid));
            tokio::net::UnixListener::bind(path).unwrap()
        };
        let mut programs = JoinSet::new();
        let endless = vec![b'x'; MAX_ANSWER_LEN + 1];
        for (pid, bytes) in
            [(1, &b"hello\n"[..]), (2, b"\xff\n"), (3, b""), (4, b"{\"ok\":true}"), (5, &endless)]
        {
            let (listener, bytes) = (bind(pid), bytes.to_owned());
            programs.spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_line(&mut stream, 100).await.unwrap();
                // The asking side may have closed the connection already.
                stream.write_all(&bytes).await.ok();
            });
        }
        let _silent = bind(6);
        let answers = ask(&home, "server", Command::Status).await.unwrap();
        let expected = [
            "the answer makes no sense",
            "the answer makes no sense",
            "there is no answer: the line was cut off",
            "there is no answer: the line was cut off",
            "there is no answer: the line is too long",
            "there is no answer within 5s",
        ];
        assert_eq!(answers.len(), expected.len());
        for ((pid, answer), expected) in answers.into_iter().zip(expected) {
            let Answer::Failed { error, .. } = answer else { panic!("{pid}: {answer:?}") };
            assert!(error.starts_with(expected), "{pid}: {error}");
        }
    }
}
