//! `cargo xtask demo`: a message, a pipe, a tunnel, a download through a pulled cable and a folder between the real programs, with a tap
//! between them that shows what an eavesdropper sees.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    Exit, Fault, Fixture, Harness, Lines, Outcome, PHRASE, Resumable, Server, Tap, Target, Way, digest,
    digest_of, make_file, same_trees,
};
use crate::workspace;

pub(crate) fn run() -> Result<()> {
    eprintln!(
        "A message, a pipe, a tunnel, a download and a folder between the real programs, with a tap in the wire: a few \
         seconds, once the programs are built.\nBuilding them takes about 2 minutes on two cores the first time."
    );
    let harness = Harness::new(workspace::build_programs()?)?;
    message(&harness)?;
    pipe(&harness)?;
    tunnel(&harness)?;
    download(&harness)?;
    folder(&harness)?;
    println!("\nAll of it arrived, and the tap has none of it.");
    Ok(())
}

fn message(harness: &Harness) -> Result<()> {
    println!("\n1. A message");
    let home = harness.home()?;
    let server = Server::start(harness, &home, &[])?;
    let tap = Tap::before(server.address())?;
    println!("   server    listens on {}, with a key that it made just now", server.address());
    println!("             {}", server.key()?);
    println!("   tap       sits on {} and passes everything on", tap.address());

    let arguments = ["send", &tap.address(), MESSAGE, "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
    println!("   client    $ client send {} \"{MESSAGE}\" --server-key {}", tap.address(), server.key()?);
    println!("             exit 0: the server has confirmed it");
    let line = format!("[anonymous] {MESSAGE}");
    server.printed(&line)?;
    println!("   server    prints {line}");
    seen(&tap, MESSAGE.as_bytes())
}

fn pipe(harness: &Harness) -> Result<()> {
    println!("\n2. A file of {} MiB through a pipe", LENGTH / MEBIBYTE);
    let home = harness.home()?;
    let mut server = Server::start(harness, &home, &["pipe", "--anyone"])?;
    server.process.close_input();
    let tap = Tap::before(server.address())?;
    let arguments = ["pipe", &tap.address(), "--server-key", server.key()?];
    let started = Instant::now();
    let mut client = harness.client(&harness.home()?, &arguments).start()?;
    client.feed(Lines::of_length(LENGTH))?;
    client.finish()?.expect(Exit::Done)?;
    let received = server.finish()?.expect(Exit::Done)?.stdout;
    let elapsed = started.elapsed();

    let (length, sent) = digest_of(Lines::of_length(LENGTH))?;
    println!("   client    sent {length} bytes, SHA-256 {sent}");
    println!("   server    got  {} bytes, SHA-256 {}", received.len(), digest(&received));
    println!("             in {:.1} s, start of the client and handshake included", elapsed.as_secs_f64());
    ensure!(digest(&received) == sent, "what came out is not what went in");
    seen(&tap, PHRASE)
}

fn tunnel(harness: &Harness) -> Result<()> {
    println!("\n3. A tunnel to a web server that has no encryption");
    let web = Target::serve(|mut stream| {
        let mut request = [0; 1024];
        let mut len = 0;
        while !request[..len].ends_with(b"\r\n\r\n") {
            match stream.read(&mut request[len..])? {
                0 => return Ok(()),
                read => len += read,
            }
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{PAGE}", PAGE.len())
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &web.address()])?;
    println!("   web       listens on {}", web.address());
    println!("   server    $ server allow SHA256:... --name alice --tcp {}", web.address());
    let tap = Tap::before(&fixture.address())?;
    let forward = fixture.forward_through(&tap.address(), &["-L", &format!("0:{}", web.address())])?;
    let here = forward.local(0)?;
    println!("   client    $ client forward {} -L 0:{}", tap.address(), web.address());
    println!("             {here} -> {}", web.address());

    let mut stream = forward.dial()?;
    let started = Instant::now();
    write!(stream, "GET /secret-page HTTP/1.1\r\nHost: {here}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(PAGE), "{answer:?}");
    println!("   browser   $ curl http://{here}/secret-page");
    println!("             {PAGE}");
    println!("             in {:.1} ms, and the client goes on", started.elapsed().as_secs_f64() * 1000.0);
    seen(&tap, b"secret-page")
}

fn download(harness: &Harness) -> Result<()> {
    println!("\n4. A download of {} MiB through a cable that is pulled", LENGTH / MEBIBYTE);
    let web = Target::serve(|mut stream| {
        std::io::copy(&mut Lines::of_length(LENGTH), &mut stream)?;
        Ok(())
    })?;
    let tunnel = Resumable::start(harness, &[web.address()], &[])?;
    println!("   client    $ client forward {} -L 0:{}", tunnel.tap.address(), web.address());
    let mut stream = tunnel.forward.dial()?;
    let mut begun = vec![0; usize::try_from(LENGTH / 4)?];
    stream.read_exact(&mut begun)?;
    println!("   browser   has {} MiB of it", LENGTH / 4 / MEBIBYTE);
    tunnel.cut_off()?;
    tunnel.holds(1.0)?;
    println!(
        "   cable     is pulled: the connection between client and server is gone, and there is no other"
    );
    println!("   server    holds the stream for its client, and the web server waits");
    tunnel.reconnect();
    println!("   cable     is back");
    let (length, received) = digest_of(begun.as_slice().chain(stream))?;
    let (_, sent) = digest_of(Lines::of_length(LENGTH))?;
    println!("   client    {}", tunnel.forward.logged(&["stream resumed"])?.trim());
    println!("   web       sent {LENGTH} bytes, SHA-256 {sent}");
    println!("   browser   got  {length} bytes, SHA-256 {received}");
    ensure!(received == sent, "what came out is not what went in");
    Ok(())
}

fn folder(harness: &Harness) -> Result<()> {
    println!("\n5. A folder that is cut in the middle, and resumed");
    let (source, goal) = (harness.home()?, harness.home()?);
    let photos = source.file("photos");
    for number in 0..200 {
        make_file(&photos.join(format!("small/{number}.jpg")), 2000)?;
    }
    make_file(&photos.join("film.mkv"), 96 * 1024 * 1024)?;
    let share = format!("backup={}:rw", goal.path().display());
    let fixture = Fixture::with_arguments(harness, &["--files", "backup"], &["--files", &share])?;
    println!("   server    $ server --files backup=DIR:rw, and allow SHA256:... --name alice --files backup");
    let tap = Tap::unrecorded(&fixture.address())?;
    let path = photos.to_str().context("a path in UTF-8")?;
    let arguments = ["put", &tap.address(), path, "backup:", "--server-key", fixture.key()];
    let put = || harness.client(fixture.alice(), &arguments);

    tap.set_fault(Some(Fault::Cut { way: Way::Up, after: 64 * 1024 * 1024 }));
    println!("   client    $ client put {} photos backup:", tap.address());
    let cut = put().run()?.expect_failure()?;
    let said = |outcome: &Outcome| {
        outcome.stderr.lines().map(|line| format!("             {line}\n")).collect::<String>()
    };
    print!("             the tap cuts the connection after 64 MiB:\n{}", said(&cut));
    ensure!(!goal.file("photos/film.mkv").exists(), "half a film stands under its name");
    println!("             the film is not there under its name: what has arrived is whole");

    tap.set_fault(None);
    let started = Instant::now();
    let resumed = put().run()?.expect(Exit::Done)?;
    println!("   client    $ the same command again");
    print!("{}", said(&resumed));
    let moved = tap.last()?.passed(Way::Up);
    println!(
        "             in {:.1} s, with {} MiB on the wire",
        started.elapsed().as_secs_f64(),
        moved / 1024 / 1024
    );
    ensure!(moved < 48 * 1024 * 1024, "it has begun anew");
    ensure!(same_trees(&photos, &goal.file("photos"))?, "what came out is not what went in");
    println!("             all 201 files are the same on both sides");
    Ok(())
}

/// Prints the bytes that the tap has recorded, and fails if any of the plaintext is among them.
fn seen(tap: &Tap, plaintext: &[u8]) -> Result<()> {
    let [up, down] = [tap.bytes(Way::Up), tap.bytes(Way::Down)];
    println!("   tap       saw {} bytes up and {} bytes down", up.len(), down.len());
    for (way, bytes) in [("up", &up), ("down", &down)] {
        let tail = &bytes[bytes.len() - bytes.len().min(32)..];
        for (name, row) in [("last", &tail[..tail.len() / 2]), ("    ", &tail[tail.len() / 2..])] {
            println!("             {way:<4} {name} {}", dump(row));
        }
    }
    println!("             entropy of the bytes up: {:.3} bits each", entropy(&up)?);
    let found = [&up, &down].iter().any(|bytes| memchr::memmem::find(bytes, plaintext).is_some());
    println!("             plaintext found: {}", if found { "YES" } else { "no" });
    ensure!(!found, "the plaintext is on the wire");
    Ok(())
}

/// Formats bytes as hexadecimal and, where they are printable, as text.
fn dump(bytes: &[u8]) -> String {
    let hexadecimal: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let printable = |&byte: &u8| if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
    format!("{:<47}  {}", hexadecimal.join(" "), bytes.iter().map(printable).collect::<String>())
}

/// Shannon's entropy in bits per byte: 8 for random bytes, about 4 for text.
fn entropy(bytes: &[u8]) -> Result<f64> {
    let mut counts = [0_u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(bytes.len())?);
    let shares = counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) / total);
    Ok(shares.map(|share| -share * share.log2()).sum())
}

const PAGE: &str = "A page that was never meant for the network.";
const MESSAGE: &str = "Hello, World! Nobody in between can read this.";
const MEBIBYTE: u64 = 1024 * 1024;
const LENGTH: u64 = 64 * MEBIBYTE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_tells_noise_from_text() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert!((entropy(&all).unwrap() - 8.0).abs() < 1e-9);
        assert!(entropy(b"aaaaaaaa").unwrap().abs() < 1e-9);
    }
}
