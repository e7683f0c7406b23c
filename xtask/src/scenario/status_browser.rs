//! Goal: the status page works in a real browser: at once, live, with a thousand streams, on a phone, in the dark, without a mouse,
//! and whatever peers call themselves and their targets.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::harness::{Browser, Exit, Fixture, Harness, StatusPage, Target, dial, echoed, local, serve_unix};
use crate::scenario::registration::scenarios;
use crate::scenario::status_page::STATUS;

scenarios![
    page_shows_what_happens_as_it_happens,
    thousand_streams_do_not_make_it_stutter,
    names_of_others_are_text_on_the_page,
    page_says_that_the_server_is_gone,
    page_fits_a_phone_and_needs_no_mouse,
    page_of_a_client_shows_its_forwards,
];

fn page_shows_what_happens_as_it_happens(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_arguments(harness, &["--tcp", &target.address()], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let mut browser = Browser::start(harness)?;
    browser.open(page.url(), DESK)?;
    browser.wait("document.getElementById('state').textContent === 'live'")?;
    // What the script has written is painted with the next frame, which a busy machine may take its time for.
    browser.wait("performance.getEntriesByType('paint').length > 0")?;
    browser
        .wait(&format!("document.getElementById('about').textContent.includes({})", json!(fixture.key())))?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    forward.connected()?;
    // The page notes when it shows the stream, and when it does not any more.
    let seen = |open: bool| {
        format!(
            "new Promise((done) => {{ const begun = performance.now(); const look = () => \
             document.getElementById('open').textContent.includes({}) === {open} ? done(performance.now() - begun) : \
             performance.now() - begun > 20000 ? done(null) : setTimeout(look, 20); look(); }})",
            json!(target.address())
        )
    };
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"hello")?;
    let shown = browser.eval(&seen(true))?;
    ensure!(shown.as_f64().is_some_and(|took| took < 2000.0), "the page shows a stream after {shown} ms");
    browser.wait("document.getElementById('clients').textContent.includes('alice')")?;
    drop(stream);
    let gone = browser.eval(&seen(false))?;
    ensure!(gone.as_f64().is_some_and(|took| took < 2000.0), "the page forgets a stream after {gone} ms");
    browser.expect_no_problems()
}

fn thousand_streams_do_not_make_it_stutter(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture =
        Fixture::with_arguments(harness, &["--tcp", &target.address(), "--max-channels", "2000"], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let address = forward.local(0)?;
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..1000 {
        let mut stream = dial(&address)?;
        echoed(&mut stream, b"hello").context("one of a thousand streams")?;
        streams.push(stream);
    }
    let mut browser = Browser::start(harness)?;
    browser.open(page.url(), DESK)?;
    browser.wait("document.getElementById('streams').textContent === '1,000'")?;
    browser.wait("document.getElementById('open').textContent.includes('1,000')")?;
    // A few turns of the page.
    browser.eval("new Promise((done) => setTimeout(done, 5000))")?;
    let longest = browser.eval("longest")?;
    ensure!(longest.as_f64().is_some_and(|longest| longest < 200.0), "a task of the page took {longest} ms");
    drop(streams);
    browser.wait("document.getElementById('streams').textContent === '0'")?;
    browser.expect_no_problems()
}

fn names_of_others_are_text_on_the_page(harness: &Harness) -> Result<()> {
    let place = harness.home()?;
    let name = "<img src=x onerror='document.title=1'>\u{202e}<script>document.title=2<";
    let path = place.file(name);
    serve_unix(&path, |mut stream| std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop))?;
    let path = path.to_str().context("a path in UTF-8")?;
    let fixture = Fixture::with_arguments(harness, &["--unix", path], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let forward = fixture.forward(&["-L", &format!("0:{path}")])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"hello")?;
    let mut browser = Browser::start(harness)?;
    browser.open(page.url(), DESK)?;
    let shown = json!("<img src=x onerror='document.title=1'>\\u{202e}<script>document.title=2<");
    browser.wait(&format!("document.getElementById('open').textContent.includes({shown})"))?;
    let made = browser.eval("document.querySelectorAll('main img, main script').length")?;
    ensure!(made == 0, "the page has made {made} elements of the name of a target");
    ensure!(browser.eval("document.title")?.as_str().is_some_and(|title| title.contains("Sockseal")));
    browser.expect_no_problems()
}

fn page_says_that_the_server_is_gone(harness: &Harness) -> Result<()> {
    let mut fixture = Fixture::with_arguments(harness, &[], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let mut browser = Browser::start(harness)?;
    browser.open(page.url(), DESK)?;
    browser.wait("document.getElementById('state').dataset.state === 'live'")?;
    fixture.take_server()?.stop()?.expect(Exit::Done)?;
    browser.wait("document.getElementById('state').dataset.state === 'gone'")?;
    browser
        .wait("!document.getElementById('gone').hidden && document.getElementById('gone').checkVisibility()")
}

fn page_fits_a_phone_and_needs_no_mouse(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_arguments(harness, &["--tcp", &target.address()], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"hello")?;
    let mut browser = Browser::start(harness)?;
    browser.open(page.url(), (320, 640))?;
    browser.wait("document.getElementById('open').children.length === 1")?;
    let place = harness.home()?;
    for scheme in ["light", "dark"] {
        browser.scheme(scheme)?;
        for size in [(320, 640), DESK] {
            browser.size(size)?;
            let wide = browser
                .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
            ensure!(wide == 0, "at {size:?} the page is {wide} pixels too wide");
        }
        let faint = browser.eval(FAINT)?;
        ensure!(faint == json!([]), "these are hard to read in the {scheme}: {faint}");
        browser.screenshot(&place.file(scheme))?;
    }
    let pictures = [place.file("light"), place.file("dark")].map(std::fs::read);
    let [light, dark] = pictures;
    ensure!(light? != dark?, "the page looks the same in the dark");
    for expected in ["A:Skip to the figures", "INPUT:", "A:status.json", "A:metrics", "A:healthz", "A:readyz"]
    {
        browser.press("Tab")?;
        let focused =
            browser.eval("`${document.activeElement.tagName}:${document.activeElement.textContent}`")?;
        ensure!(focused == expected, "the focus is on {focused}, not on {expected}");
        let outline = browser.eval("getComputedStyle(document.activeElement).outlineStyle")?;
        ensure!(outline != "none", "{focused} does not show that it has the focus");
    }
    browser.expect_no_problems()
}

fn page_of_a_client_shows_its_forwards(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target), "--status", "127.0.0.1:0"])?;
    let page = StatusPage::of(&forward.process)?;
    forward.connected()?;
    let mut browser = Browser::start(harness)?;
    browser.open(page.url(), DESK)?;
    let target = json!(target.address());
    browser.wait(&format!("document.getElementById('forwards').textContent.includes({target})"))?;
    browser.wait("document.getElementById('servers').textContent.includes('connected')")?;
    ensure!(browser.eval("document.getElementById('clients-section').checkVisibility()")? == false);
    browser.expect_no_problems()
}

const DESK: (u32, u32) = (1100, 820);

/// The texts whose contrast to what is behind them is less than 4.5 to 1 (WCAG 2, AA).
const FAINT: &str = r#"(() => {
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${element.textContent.trim().slice(0, 40)}`);
  }
  return faint;
})()"#;
