//! Files: who gets and puts what in which share, and what ends it.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use files::client::{self, GetRequest, PutRequest};
use files::control::Unlimited;
use files::error::Error;
use files::event::Event;
use files::filter::Filter;
use files::framing::{MessageReader, MessageWriter};
use files::listing::Listed;
use files::parts::Rendezvous;
use files::path::RelativePath;
use files::root::Root;
use files::sender::Sources;
use server::config::ServerConfig;
use server::{FileShare, Services};
use tokio::io::AsyncReadExt as _;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wire_protocol::message::{
    Existing, FilesAccess, FilesCode, Part, Placement, RefusedCode, ResetCode, ShareAccess, Target,
    TransferOptions,
};
use wire_protocol::stream::blocking::{ReadHalf, SecureStream, WriteHalf};

use super::running::{DEADLINE, Running, Stream};

type Reader = MessageReader<ReadHalf<TcpStream>>;
type Writer = MessageWriter<WriteHalf<TcpStream>>;

const ALL: [FilesAccess; 3] = [FilesAccess::Read, FilesAccess::Add, FilesAccess::Replace];

/// A server that shares folders called `ro`, `rw` and `drop` by these modes, and `gone`, which is not there.
struct Fixture {
    running: Running,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn start(rights: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ro", "rw", "drop"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let config = ServerConfig { files: shares(folder.path(), None), ..ServerConfig::default() };
        let running = Running::start(Services::new().files(), &config, rights).await;
        Self { running, folder }
    }

    /// Opens a stream, and does `work` on it as a client does.
    async fn with<T: Send + 'static>(
        &self,
        target: &Target,
        work: impl FnOnce(&mut Reader, &Writer) -> T + Send + 'static,
    ) -> T {
        let stream = self.running.open(target).await.unwrap();
        let worked = spawn_blocking(move || {
            let (mut reader, writer) = halves(stream);
            let worked = work(&mut reader, &writer);
            writer.with_output(WriteHalf::close).ok();
            reader.into_inner().expect_close().ok();
            worked
        });
        timeout(DEADLINE, worked).await.unwrap().unwrap()
    }

    /// Puts a file with this content into a share, and tells what has happened.
    async fn put(&self, share: &str, name: &str, content: &[u8]) -> Result<Vec<Event>, Error> {
        let source = self.folder.path().join(name);
        fs::write(&source, content).unwrap();
        self.with(&files(share, FilesAccess::Add), move |reader, writer| {
            let mut events = Vec::new();
            let request = PutRequest {
                destination: RelativePath::root(),
                placement: Placement::Into,
                options: OPTIONS,
                part: Part::WHOLE,
            };
            let sources = Sources::Roots(vec![Root::new(&source).unwrap()]);
            client::put(
                reader,
                writer,
                sources,
                &request,
                &Filter::all(),
                Rendezvous::alone(),
                None,
                &Unlimited,
                &mut |event| events.push(event),
            )?;
            Ok(events)
        })
        .await
    }

    /// The names in a share.
    async fn list(&self, share: &str) -> Result<Vec<String>, Error> {
        self.with(&files(share, FilesAccess::Read), |reader, writer| {
            let mut names = Vec::new();
            client::list(reader, writer, &RelativePath::root(), true, &mut |listed| {
                if let Listed::Entry(entry) = listed {
                    names.push(String::from_utf8_lossy(&entry.path).into_owned());
                }
                Ok(())
            })?;
            Ok(names)
        })
        .await
    }
}

const OPTIONS: TransferOptions = TransferOptions {
    existing: Existing::Refuse,
    preserve: false,
    checksum: false,
    verify_disk: false,
    dry_run: false,
};

fn shares(folder: &Path, quota: Option<ByteSize>) -> Vec<FileShare> {
    [("ro", "ro"), ("rw", "rw"), ("drop", "drop"), ("gone", "rw")]
        .map(|(name, mode)| FileShare {
            name: name.into(),
            dir: folder.join(name),
            mode: mode.parse().unwrap(),
            quota,
        })
        .into()
}

fn files(share: &str, access: FilesAccess) -> Target {
    Target::Files { share: share.into(), access }
}

fn halves(stream: Stream) -> (Reader, Writer) {
    let (socket, parts) = stream.into_parts();
    let socket = socket.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (read, write) = SecureStream::from_parts(socket, parts).into_split().unwrap();
    (MessageReader::new(read), MessageWriter::new(write))
}

fn failure(events: &[Event]) -> Option<FilesCode> {
    events.iter().find_map(|event| if let Event::Failed { code, .. } = event { Some(*code) } else { None })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_for_what_both_the_right_and_the_share_permit() {
    use FilesAccess::{Add, Read, Replace};
    let fixture = Fixture::start("messages = false").await;
    let (denied, unknown) = (RefusedCode::NotAllowed, RefusedCode::NotOffered);
    for (rules, share, permitted, else_refused) in [
        ("[]", "rw", &[][..], denied),
        ("['rw']", "rw", &[Read, Add, Replace], denied),
        ("['rw:rw']", "rw", &[Read, Add, Replace], denied),
        ("['rw:ro']", "rw", &[Read], denied),
        ("['rw:drop']", "rw", &[Add], denied),
        ("['ro']", "ro", &[Read], denied),
        ("['ro:rw']", "ro", &[Read], denied),
        ("['drop']", "drop", &[Add], denied),
        ("['drop:rw']", "drop", &[Add], denied),
        ("['rw']", "ro", &[], denied),
        // Only a client with a right on the name learns that there is none.
        ("['other']", "other", &[], unknown),
        ("['rw']", "other", &[], denied),
        ("['rw']", "../rw", &[], denied),
    ] {
        fixture.running.change_rights(&format!("messages = false\nfiles = {rules}")).await;
        for access in ALL {
            let opened = fixture.running.open(&files(share, access)).await;
            let expected = if permitted.contains(&access) { None } else { Some(else_refused) };
            assert_eq!(opened.err(), expected, "{rules}: {share} for {access:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_of_the_shares_that_it_may_use_and_of_no_other() {
    let rules = "['rw:ro', 'drop', 'ro:drop', 'other', 'gone:drop']";
    let fixture = Fixture::start(&format!("files = {rules}")).await;
    let told = fixture.with(&Target::Shares, client::shares).await;
    let expected = [
        ("drop".to_owned(), ShareAccess::Drop),
        ("gone".to_owned(), ShareAccess::Drop),
        ("rw".to_owned(), ShareAccess::ReadOnly),
    ];
    assert_eq!(told.unwrap(), expected);
    fixture.running.change_rights("messages = true").await;
    assert_eq!(fixture.running.open(&Target::Shares).await.err(), Some(RefusedCode::NotAllowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_there_and_is_listed_and_got() {
    let fixture = Fixture::start("files = ['rw', 'drop']").await;
    let content = b"content ".repeat(100_000);
    assert_eq!(failure(&fixture.put("rw", "file", &content).await.unwrap()), None);
    assert_eq!(fs::read(fixture.folder.path().join("rw/file")).unwrap(), content);
    assert_eq!(fixture.list("rw").await.unwrap(), ["file"]);
    // Nothing is replaced where that was not asked for.
    assert_eq!(failure(&fixture.put("rw", "file", b"other").await.unwrap()), Some(FilesCode::Exists));
    assert_eq!(failure(&fixture.put("drop", "file", b"other").await.unwrap()), None);
    assert_eq!(fs::read(fixture.folder.path().join("drop/file")).unwrap(), b"other");
    assert_eq!(fs::read(fixture.folder.path().join("rw/file")).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_whose_directory_is_missing_is_found_once_it_is_there() {
    let fixture = Fixture::start("files = ['gone']").await;
    assert!(matches!(fixture.list("gone").await, Err(Error::Refused(FilesCode::NotFound))));
    assert!(matches!(fixture.put("gone", "file", b"x").await, Err(Error::Refused(FilesCode::NotFound))));
    fs::create_dir(fixture.folder.path().join("gone")).unwrap();
    assert_eq!(fixture.list("gone").await.unwrap(), [""; 0]);
    assert_eq!(failure(&fixture.put("gone", "file", b"x").await.unwrap()), None);
    assert_eq!(fixture.list("gone").await.unwrap(), ["file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_what_is_there_and_what_comes() {
    let fixture = Fixture::start("files = ['rw']").await;
    fs::write(fixture.folder.path().join("rw/old"), [0; 60_000]).unwrap();
    let quota = Some(ByteSize::b(100_000));
    let config = ServerConfig { files: shares(fixture.folder.path(), quota), ..ServerConfig::default() };
    fixture.running.control.reload((&config).into(), fixture.running.addresses()).await.unwrap().unwrap();
    assert_eq!(failure(&fixture.put("rw", "big", &[1; 40_001]).await.unwrap()), Some(FilesCode::Quota));
    assert_eq!(failure(&fixture.put("rw", "fits", &[1; 30_000]).await.unwrap()), None);
    assert_eq!(failure(&fixture.put("rw", "more", &[1; 10_001]).await.unwrap()), Some(FilesCode::Quota));
    assert_eq!(failure(&fixture.put("rw", "rest", &[1; 5000]).await.unwrap()), None);
    // An empty file takes a place too.
    assert_eq!(failure(&fixture.put("rw", "empty", b"").await.unwrap()), None);
    assert_eq!(failure(&fixture.put("rw", "another", b"").await.unwrap()), Some(FilesCode::Quota));
    let mut names = fixture.list("rw").await.unwrap();
    names.sort();
    assert_eq!(names, ["empty", "fits", "old", "rest"]);
}

/// Waits for the reason why the server ends a stream.
async fn reset_of(stream: &mut Stream) -> Option<ResetCode> {
    let error = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    match error.get_ref()?.downcast_ref::<wire_protocol::Error>()? {
        wire_protocol::Error::Reset(code) => Some(*code),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_become_fewer_end_what_they_permitted_and_nothing_else() {
    let fixture = Fixture::start("files = ['rw']").await;
    let mut putting = fixture.running.open(&files("rw", FilesAccess::Replace)).await.unwrap();
    let mut getting = fixture.running.open(&files("rw", FilesAccess::Read)).await.unwrap();
    let status = fixture.running.control.status().await.unwrap();
    assert_eq!(status.counts.streams, 2);
    fixture.running.change_rights("files = ['rw:ro']").await;
    assert_eq!(reset_of(&mut putting).await, Some(ResetCode::NotAllowed));
    drop(putting);
    let one_is_left = async {
        while fixture.running.control.status().await.unwrap().counts.streams > 1 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, one_is_left).await.unwrap();
    fixture.running.change_rights("messages = true").await;
    assert_eq!(reset_of(&mut getting).await, Some(ResetCode::NotAllowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_expire_end_what_is_under_way() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(2);
    let fixture = Fixture::start(&format!("files = ['rw']\nexpires = '{soon}'")).await;
    let mut putting = fixture.running.open(&files("rw", FilesAccess::Add)).await.unwrap();
    assert_eq!(reset_of(&mut putting).await, Some(ResetCode::NotAllowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_transfers_at_once_and_gets_others_when_they_end() {
    let fixture = Fixture::start("files = ['rw']").await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(fixture.running.open(&files("rw", FilesAccess::Add)).await.unwrap());
    }
    let refused = fixture.running.open(&files("rw", FilesAccess::Add)).await.err();
    assert_eq!(refused, Some(RefusedCode::Busy));
    drop(open);
    assert_eq!(fixture.list("rw").await.unwrap_or_default(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_got_is_what_is_there() {
    let fixture = Fixture::start("files = ['ro']").await;
    let content = Arc::new(b"content ".repeat(100_000));
    fs::create_dir(fixture.folder.path().join("ro/sub")).unwrap();
    fs::write(fixture.folder.path().join("ro/sub/file"), &*content).unwrap();
    let goal = fixture.folder.path().join("goal");
    fs::create_dir(&goal).unwrap();
    let into = goal.clone();
    let target = files("ro", FilesAccess::Read);
    let got = fixture.with(&target, move |reader, writer| {
        let directory = files::directory::Directory::open_trusted(&into).unwrap();
        let (base, placed) = (RelativePath::root(), files::receiver::Placed::Into);
        let mut receiver = files::receiver::Receiver::new(directory, base, placed, OPTIONS, b"me");
        receiver.role = files::receiver::Role::Get;
        let paths = vec![RelativePath::parse(b"sub").unwrap()];
        let request = GetRequest { paths, checksum: false, part: Part::WHOLE };
        client::get(reader, writer, &request, receiver, &mut |_| {}, &Unlimited, &mut |_| {})
    });
    got.await.unwrap();
    assert_eq!(fs::read(goal.join("sub/file")).unwrap(), *content);
}
