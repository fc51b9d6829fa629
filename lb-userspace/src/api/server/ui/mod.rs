//! The page for browsers: its files, what it follows, and the way from it to the API's handlers, through a gate.

mod detail;
mod files;
mod gate;
mod lease;
mod live;
mod look;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod token;
mod trail;
mod tries;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::gate::{Head, Pass, Refusal, Rules, Shown};
use self::live::Live;
use self::tls::Tls;
use self::token::Tokens;
use self::tries::Tries;
use super::guard::{self, Caller, Counted};
use super::meter::Meter;
use super::peer::{Access, Peer};
use super::stream::Patient;
use super::{Failure, limits, name_server, routes, unknown, wrong_method};
use crate::engine::Handle;

/// Pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// No script, style or picture but the page's own, no frame around it, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const ALWAYS: &[(&str, &str)] = &[
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// All that it takes to serve the page.
pub struct Page {
    pub listener: TcpListener,
    pub tls: Option<Tls>,
    pub tokens: Tokens,
    /// As in the config, in small letters.
    pub names: Vec<String>,
    /// Whoever can connect may look.
    pub open_to_look: bool,
}

struct Gate {
    rules: Rules,
    tokens: Tokens,
    tries: Mutex<Tries>,
    meter: Meter,
}

/// Serves until it is dropped.
pub async fn serve(page: Page, engine: Handle) {
    let Page { listener, tls, tokens, names, open_to_look } = page;
    let rules = Rules { names, open_to_look, has_tls: tls.is_some() };
    let gate = Arc::new(Gate { rules, tokens, tries: Mutex::default(), meter: Meter::default() });
    let live = Live::of(engine.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(live.clone().follow());
    let router = router(gate.clone(), live, engine);
    loop {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let acceptor = tls.as_ref().map(Tls::acceptor);
                    tasks.spawn(converse(stream, from, acceptor, gate.meter.clone(), router.clone()));
                }
                Err(error) => {
                    log::warn!("a connection to the page could not be taken: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

fn router(gate: Arc<Gate>, live: Live, engine: Handle) -> Router {
    Router::new()
        .route("/page/live", get(live::live))
        .route("/page/who", get(detail::who))
        .route("/page/health", get(detail::health))
        .route("/page/host/{name}", get(detail::host))
        .route("/page/service/{name}", get(detail::service))
        .merge(routes::router())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(live))
        .layer(middleware::from_fn(guard::at_the_door))
        .layer(middleware::from_fn_with_state(gate, at_the_gate))
        .layer(middleware::from_fn(name_server))
        .with_state(engine)
}

/// All of one connection.
async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    meter: Meter,
    router: Router,
) {
    let stranger = Peer::of_page(from.ip(), Access::Read, None);
    let _seat = match meter.seat(&stranger) {
        Ok(seat) => seat,
        Err(why) => return meter.log_refusal(&stranger, why),
    };
    let router = router.layer(Extension(ConnectInfo(from)));
    match acceptor {
        None => speak(stream, from, router).await,
        Some(acceptor) => match tokio::time::timeout(limits::HEAD, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, from, router).await,
            Ok(Err(error)) => log::debug!("{from} does not speak TLS with the page: {error}"),
            Err(_) => log::debug!("{from} began no TLS with the page in time"),
        },
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, from: SocketAddr, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD)
        .max_buf_size(limits::HEAD_BYTES)
        .max_headers(limits::HEADERS)
        .serve_connection(
            TokioIo::new(Patient::new(stream, limits::UNREAD)),
            TowerToHyperService::new(router),
        )
        .await;
    if let Err(error) = served {
        log::debug!("the connection of {from} to the page broke: {error}");
    }
}

/// Before everything: who asks, from where, and by what right.
async fn at_the_gate(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let mut response = gate.let_in(from.ip(), request, next).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Gate {
    async fn let_in(self: Arc<Self>, from: IpAddr, mut request: Request<Body>, next: Next) -> Response {
        let stranger = Peer::of_page(from, Access::Read, None);
        let judged = self.judge(from, &request);
        let peer = match &judged {
            Ok(Pass::Page(_)) | Err(_) => stranger.clone(),
            Ok(Pass::Look(name)) => Peer::of_page(from, Access::Read, name.as_deref()),
            Ok(Pass::Change(name)) => Peer::of_page(from, Access::Change, Some(name)),
        };
        // Nobody uses up what a token may ask for, or who only looks, by what is refused to them.
        let is_within = match &judged {
            Ok(Pass::Page(_)) => self.meter.may_fetch(&peer),
            Ok(_) => self.meter.may_ask(&peer),
            Err(_) => self.meter.may_be_refused(&peer),
        };
        if !is_within {
            self.meter.log_refusal(&stranger, "requests to the page, too fast");
            return guard::too_fast().into_response();
        }
        let pass = match judged {
            Ok(Pass::Page(file)) => return file.answer(request.headers()),
            Ok(pass) => pass,
            Err(refusal) => return self.refuse(from, refusal, &request),
        };
        let right = bearer(request.headers()).map(str::to_owned).filter(|_| pass.has_token());
        if right.is_some() {
            self.meter.knows(&stranger);
        }
        let caller = Caller { peer: peer.clone(), meter: self.meter.clone() };
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(peer));
        extensions.insert(caller);
        extensions.insert(Counted);
        extensions.insert(pass);
        let response = next.run(request).await;
        match right {
            Some(token) => response.map(|body| lease::until_taken_away(body, self, token)),
            None => response,
        }
    }

    fn judge(&self, from: IpAddr, request: &Request<Body>) -> Result<Pass, Refusal> {
        let headers = request.headers();
        let mut hosts = all(headers, &header::HOST)?;
        hosts.extend(request.uri().authority().map(|authority| authority.as_str()));
        let head = Head {
            method: request.method(),
            path: request.uri().path(),
            hosts: &hosts,
            origin: one(headers, &header::ORIGIN)?,
            site: one(headers, &HeaderName::from_static("sec-fetch-site"))?,
        };
        gate::judge(&self.rules, &head, || self.token(from, headers))
    }

    /// What is shown in the header `Authorization`: a browser puts no token there by itself, as it would a cookie.
    fn token(&self, from: IpAddr, headers: &HeaderMap) -> Shown {
        if !headers.contains_key(header::AUTHORIZATION) {
            return Shown::Nothing;
        }
        // Before it is asked who was wrong: nobody keeps out, by wrong ones, who comes from the same address with the right one. A guess has 128
        // bits against it.
        if let Some(right) = bearer(headers).and_then(|token| self.tokens.name_of(token)) {
            return Shown::Right(right);
        }
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if !tries.may_try(from, Instant::now()) {
            return Shown::TooMany;
        }
        tries.was_wrong(from, Instant::now());
        Shown::Wrong
    }

    fn refuse(&self, from: IpAddr, refusal: Refusal, request: &Request<Body>) -> Response {
        // Every page asks without one first, where it takes one.
        if refusal != Refusal::NoToken {
            let stranger = Peer::of_page(from, Access::None, None);
            let asked: String = request.uri().to_string().chars().take(120).collect();
            self.meter
                .log_refusal(&stranger, &format!("{} {asked:?} on the page: {refusal}", request.method()));
        }
        let hint = Some(refusal.hint().to_owned());
        let mut response =
            Failure::new(refusal.status(), refusal.code(), refusal.to_string(), hint).into_response();
        if refusal.status() == axum::http::StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Its body is not read.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// The token that is shown.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// All values of a header; one that is no text is nobody's name.
fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Vec<&'a str>, Refusal> {
    headers.get_all(name).iter().map(|value| value.to_str().map_err(|_| Refusal::WrongName)).collect()
}

/// The only value of a header, if there is one.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refusal::OtherSite),
        (Some(_), Some(_)) => Err(Refusal::OtherSite),
    }
}
