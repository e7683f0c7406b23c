//! A sealed listener in the process of an HTTP server of axum: both have the state of the application.
//!
//!     cargo run -p sockseal --example axum_process

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sockseal::{ClientConfig, Error, KeyId, ServerConfig, ServerKey, SysRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What sensors have sent over sealed streams, and browsers ask for.
#[derive(Debug, Default)]
struct Readings(Mutex<Vec<String>>);

impl Readings {
    fn add(&self, reading: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
    }

    fn to_text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let readings = Arc::new(Readings::default());
    let (web, sealed) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (web_address, sealed_address) = (web.local_addr()?, sealed.local_addr()?);

    let router = Router::new()
        .route("/readings", get(async |State(readings): State<Arc<Readings>>| readings.to_text()))
        .with_state(Arc::clone(&readings));
    let key = ServerKey::generate(&mut SysRng, 2048)?;
    let id = key.public().id();

    // A program of its own would serve until it is told to end. Here it ends with its visitor.
    tokio::select! {
        served = axum::serve(web, router).into_future() => Ok(served?),
        taken = take_readings(sealed, ServerConfig::rsa(key), readings) => taken,
        visited = async {
            for reading in ["inside 21.5\n", "outside 4.0\n"] {
                send(TcpStream::connect(sealed_address).await?, id, reading).await?;
            }
            let page = ask(TcpStream::connect(web_address).await?).await?;
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
            let (_, body) = page.split_once("\r\n\r\n").expect("an answer has a head");
            print!("{body}");
            assert_eq!(body, "inside 21.5\noutside 4.0\n");
            Ok(())
        } => visited,
    }
}

/// Takes the readings of any number of sensors at once.
async fn take_readings(listener: TcpListener, config: ServerConfig, to: Arc<Readings>) -> Result<(), Error> {
    loop {
        let (socket, _) = listener.accept().await?;
        let (config, to) = (config.clone(), Arc::clone(&to));
        tokio::spawn(async move {
            // A sensor that fails, or is none, ends its own connection alone.
            if let Err(error) = take_reading(socket, &config, &to).await {
                eprintln!("a sensor: {error}");
            }
        });
    }
}

async fn take_reading(socket: TcpStream, config: &ServerConfig, to: &Readings) -> Result<(), Error> {
    let mut stream = sockseal::accept(socket, config, |_client| Ok(())).await?;
    let mut reading = String::new();
    (&mut stream).take(MAX_READING).read_to_string(&mut reading).await?;
    to.add(reading);
    stream.shutdown().await?;
    stream.close().await
}

/// Sends a reading, and returns once the server has said that it has it.
async fn send(socket: TcpStream, server: KeyId, reading: &str) -> Result<(), Error> {
    let mut stream = sockseal::connect(socket, ClientConfig::pinned(server)).await?;
    stream.write_all(reading.as_bytes()).await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    stream.close().await
}

/// What a browser gets.
async fn ask(mut socket: TcpStream) -> Result<String, Error> {
    socket.write_all(b"GET /readings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut page = String::new();
    socket.read_to_string(&mut page).await?;
    Ok(page)
}

/// Most bytes of a reading.
const MAX_READING: u64 = 1024;
