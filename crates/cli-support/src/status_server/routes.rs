//! What is answered to each request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::accept_header::preferred;
use super::host::AllowedHosts;
use super::response::{Answer, answer, line};
use super::site::Site;

/// The answers of one server.
#[derive(Debug)]
pub(super) struct Routes {
    site: Arc<dyn Site>,
    hosts: AllowedHosts,
    /// The status as JSON, and when it was asked for.
    recent: Mutex<Option<(Instant, Bytes)>>,
}

impl Routes {
    pub(super) fn new(site: Arc<dyn Site>, hosts: AllowedHosts) -> Self {
        Self { site, hosts, recent: Mutex::default() }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let mut response = match self.refusal(&request) {
            Some(refusal) => refusal,
            None => self.get(&request).await,
        };
        // Nothing here takes a body: the rest of the connection would be it.
        if !request.body().is_end_stream() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// The answer to a request that is not for this server, or not to read.
    fn refusal<B>(&self, request: &Request<B>) -> Option<Answer> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Some(line(StatusCode::BAD_REQUEST, "one Host header is needed\n"));
        };
        let is_admitted = host.to_str().is_ok_and(|host| self.hosts.admit(host))
            && request.uri().authority().is_none_or(|authority| self.hosts.admit(authority.as_str()));
        if !is_admitted {
            let text = "this host is not served here: --status-host HOST has it served\n";
            return Some(line(StatusCode::MISDIRECTED_REQUEST, text));
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        (!is_read).then(|| line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served\n"))
    }

    async fn get<B>(&self, request: &Request<B>) -> Answer {
        match request.uri().path() {
            "/" => answer(StatusCode::OK, "text/html; charset=utf-8", include_str!("assets/page.html")),
            "/page.css" => answer(StatusCode::OK, "text/css; charset=utf-8", include_str!("assets/page.css")),
            "/page.js" => {
                answer(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("assets/page.js"))
            }
            "/status.json" => self.status().await,
            "/history.json" => self.history().await,
            "/healthz" => line(StatusCode::OK, "ok\n"),
            "/readyz" if self.site.is_ready() => line(StatusCode::OK, "ready\n"),
            "/readyz" => line(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/metrics" => self.metrics(request).await,
            _ => line(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    /// The status. Requests within a moment share one, so that many who ask cost no more than a few.
    async fn status(&self) -> Answer {
        let json = |body: Bytes| answer(StatusCode::OK, "application/json", body);
        let mut recent = self.recent.lock().await;
        if let Some((at, body)) = recent.as_ref()
            && at.elapsed() < MAX_AGE
        {
            return json(body.clone());
        }
        match timeout(DEADLINE, self.site.status()).await {
            Ok(Some(status)) => {
                let body = Bytes::from(status.to_json());
                *recent = Some((Instant::now(), body.clone()));
                json(body)
            }
            Ok(None) => line(StatusCode::SERVICE_UNAVAILABLE, "the program ends\n"),
            Err(_) => line(StatusCode::SERVICE_UNAVAILABLE, "the program did not answer in time\n"),
        }
    }

    async fn history(&self) -> Answer {
        match timeout(DEADLINE, self.site.history()).await {
            Ok(Some(body)) => answer(StatusCode::OK, "application/json", body),
            Ok(None) => line(StatusCode::SERVICE_UNAVAILABLE, "the program ends\n"),
            Err(_) => line(StatusCode::SERVICE_UNAVAILABLE, "the program did not answer in time\n"),
        }
    }

    /// Has the program note every second what it has carried.
    pub(super) async fn tick_on(&self) -> Infallible {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            timeout(DEADLINE, self.site.tick()).await.ok();
        }
    }

    async fn metrics<B>(&self, request: &Request<B>) -> Answer {
        let accept: Vec<&str> =
            request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let format = preferred(&accept.join(","));
        match timeout(DEADLINE, self.site.metrics(format)).await {
            Ok(Some(text)) => answer(StatusCode::OK, format.content_type(), text),
            Ok(None) => line(StatusCode::NOT_FOUND, "there are no metrics\n"),
            Err(_) => line(StatusCode::SERVICE_UNAVAILABLE, "the program did not answer in time\n"),
        }
    }
}

/// Longest wait for the program.
const DEADLINE: Duration = Duration::from_secs(3);
/// How old a status may be, far less than the second after which the page asks again.
const MAX_AGE: Duration = Duration::from_millis(200);
