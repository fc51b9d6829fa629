//! Who may ask what of the page's server: judged by the head of a request alone, without I/O.
//!
//! Two things are kept apart. A browser obeys whatever page it shows, so a request must come from the server's own page, by a name that is
//! the server's: that keeps other sites out, also those whose name was made to lead here (DNS rebinding). And whoever sits there must show a
//! token for what they ask, in a header, which no site can make a browser add.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};

use super::files::{self, PageFile};

/// What may be changed over the page; everything else takes the command line. A star is one segment.
const CHANGES: &[&str] = &[
    "/v1/drain",
    "/v1/undrain",
    "/v1/rollback",
    "/v1/maintain/*/pause",
    "/v1/maintain/*/resume",
    "/v1/maintain/*/abort",
];

/// Questions that are too long for a path.
const QUESTIONS: &[&str] = &["/v1/plan/drain"];

/// How the page is to be asked.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names of it beside `localhost` and addresses, in small letters.
    pub names: Vec<String>,
    /// Whoever can connect may look without a token.
    pub open_to_look: bool,
    pub has_tls: bool,
}

/// What of a request's head matters.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// Whom the request names: `Host`, and what stands in the request's target if that is a whole URL.
    pub hosts: &'a [&'a str],
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`, of browsers since 2023.
    pub site: Option<&'a str>,
}

/// A token, if one was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    /// It is no token that counts.
    Wrong,
    /// It is none, and there were too many wrong ones from there before.
    TooMany,
    /// Its name.
    Right(String),
}

/// What a request may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// Get a part of the page itself, in which nothing is told.
    Page(&'static PageFile),
    /// Look; with the name of the token if one was shown.
    Look(Option<String>),
    /// And change something.
    Change(String),
}

impl Pass {
    /// One that counts was shown.
    pub fn has_token(&self) -> bool {
        matches!(self, Pass::Look(Some(_)) | Pass::Change(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this is not the page that was asked for: it goes by another name")]
    WrongName,
    #[error("another site's page asked for this")]
    OtherSite,
    #[error("the page does not do this")]
    NotHere,
    #[error("this takes a token")]
    NoToken,
    #[error("this is not a token that counts here")]
    WrongToken,
    #[error("there were too many wrong tokens from this address")]
    TooManyTries,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            // RFC 9110, 15.5.20: not for this server.
            Refusal::WrongName => StatusCode::MISDIRECTED_REQUEST,
            Refusal::OtherSite | Refusal::NotHere => StatusCode::FORBIDDEN,
            Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
            Refusal::TooManyTries => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// As in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::WrongName | Refusal::OtherSite | Refusal::NotHere => "forbidden",
            Refusal::NoToken | Refusal::WrongToken => "token",
            Refusal::TooManyTries => "too_many",
        }
    }

    pub fn hint(self) -> &'static str {
        match self {
            Refusal::WrongName => "use its address, or list the name in `names` of [ui]",
            Refusal::OtherSite => "open the page itself, and do it there",
            Refusal::NotHere => "use the command line on the balancer: `sluice --help`",
            Refusal::NoToken | Refusal::WrongToken => {
                "use one of the token file, which the daemon names in its log when it starts"
            }
            Refusal::TooManyTries => "wait a minute",
        }
    }
}

/// Judges a request. The token is looked at last: what another site makes a browser send is no try.
pub fn judge(rules: &Rules, head: &Head<'_>, token: impl FnOnce() -> Shown) -> Result<Pass, Refusal> {
    let own = own_name(rules, head.hosts).ok_or(Refusal::WrongName)?;
    let is_get = matches!(*head.method, Method::GET | Method::HEAD);
    if let Some(file) = files::find(head.path).filter(|_| is_get) {
        return Ok(Pass::Page(file));
    }
    if !is_own_page(rules, head, own, is_get) {
        return Err(Refusal::OtherSite);
    }
    let is_change = !is_get && CHANGES.iter().any(|pattern| fits(pattern, head.path));
    if !is_get && !is_change && !QUESTIONS.contains(&head.path) {
        return Err(Refusal::NotHere);
    }
    match token() {
        Shown::Right(name) if is_change => Ok(Pass::Change(name)),
        Shown::Right(name) => Ok(Pass::Look(Some(name))),
        // Whoever shows a wrong one is told so, also where none is needed.
        Shown::Wrong => Err(Refusal::WrongToken),
        Shown::TooMany => Err(Refusal::TooManyTries),
        Shown::Nothing if !is_change && rules.open_to_look => Ok(Pass::Look(None)),
        Shown::Nothing => Err(Refusal::NoToken),
    }
}

/// The one name by which the server was asked for, if that is its own. An address is: no other site can have it for a name.
fn own_name<'a>(rules: &Rules, hosts: &[&'a str]) -> Option<&'a str> {
    let (first, rest) = hosts.split_first()?;
    let authority: Authority = first.parse().ok()?;
    let name = authority.host().to_ascii_lowercase();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    let is_own = bare.parse::<IpAddr>().is_ok() || name == "localhost" || rules.names.contains(&name);
    // A user's name before it would make one of another.
    let is_plain = !first.contains('@');
    (is_own && is_plain && rest.iter().all(|other| other.eq_ignore_ascii_case(first))).then_some(first)
}

/// Whether a request comes from the server's own page, or from no page.
fn is_own_page(rules: &Rules, head: &Head<'_>, own: &str, is_get: bool) -> bool {
    let by_site = match head.site {
        Some("same-origin") | None => true,
        // Typed into the browser by somebody.
        Some("none") => is_get,
        Some(_) => false,
    };
    by_site && head.origin.is_none_or(|origin| is_own_origin(rules, origin, own))
}

/// Behind a proxy that ends TLS the page is `https` and the request is not.
fn is_own_origin(rules: &Rules, origin: &str, own: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "https" => ":443",
        "http" if !rules.has_tls => ":80",
        _ => return false,
    };
    let plain = |authority: &str| {
        let authority = authority.to_ascii_lowercase();
        authority.strip_suffix(port).map(str::to_owned).unwrap_or(authority)
    };
    plain(authority) == plain(own)
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &Method = &Method::GET;
    const POST: &Method = &Method::POST;

    fn rules() -> Rules {
        Rules { names: vec!["lb1.example.net".to_owned()], open_to_look: true, has_tls: false }
    }

    /// From the page itself, by a browser.
    fn head<'a>(method: &'a Method, path: &'a str) -> Head<'a> {
        Head { method, path, hosts: &["127.0.0.1:8080"], origin: None, site: Some("same-origin") }
    }

    fn right() -> Shown {
        Shown::Right("ops".to_owned())
    }

    #[test]
    fn looking_is_free_on_the_loopback_and_changing_never() {
        use Refusal::*;
        let page = |path| Ok(Pass::Page(files::find(path).unwrap()));
        let look = |name: Option<&str>| Ok(Pass::Look(name.map(str::to_owned)));
        let change = || Ok(Pass::Change("ops".to_owned()));
        let (open, closed) = (rules(), Rules { open_to_look: false, ..rules() });
        for (method, path, shown, on_loopback, elsewhere) in [
            (GET, "/", Shown::Nothing, page("/"), page("/")),
            (&Method::HEAD, "/app.css", Shown::Nothing, page("/app.css"), page("/app.css")),
            (GET, "/v1/status", Shown::Nothing, look(None), Err(NoToken)),
            (GET, "/v1/status", right(), look(Some("ops")), look(Some("ops"))),
            (GET, "/v1/status", Shown::Wrong, Err(WrongToken), Err(WrongToken)),
            (GET, "/page/live", Shown::Nothing, look(None), Err(NoToken)),
            (GET, "/nothing", Shown::Nothing, look(None), Err(NoToken)),
            (POST, "/v1/plan/drain", Shown::Nothing, look(None), Err(NoToken)),
            (POST, "/v1/drain", Shown::Nothing, Err(NoToken), Err(NoToken)),
            (POST, "/v1/drain", Shown::Wrong, Err(WrongToken), Err(WrongToken)),
            (POST, "/v1/drain", Shown::TooMany, Err(TooManyTries), Err(TooManyTries)),
            (POST, "/v1/drain", right(), change(), change()),
            (POST, "/v1/undrain", right(), change(), change()),
            (POST, "/v1/rollback", right(), change(), change()),
            (POST, "/v1/maintain/7/pause", right(), change(), change()),
            (POST, "/v1/maintain/7/resume", right(), change(), change()),
            (POST, "/v1/maintain/7/abort", right(), change(), change()),
            (POST, "/v1/maintain/7/abort", Shown::Nothing, Err(NoToken), Err(NoToken)),
            // What the page does not do, whoever asks.
            (POST, "/v1/apply", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/confirm", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/kick", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/self/drain", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/maintain/runs", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/maintain//abort", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/maintain/7/abort/x", right(), Err(NotHere), Err(NotHere)),
            (POST, "/v1/drain/", right(), Err(NotHere), Err(NotHere)),
            (POST, "/", right(), Err(NotHere), Err(NotHere)),
            (&Method::DELETE, "/v1/drain", right(), change(), change()),
            (&Method::PUT, "/v1/status", right(), Err(NotHere), Err(NotHere)),
        ] {
            let head = head(method, path);
            assert_eq!(judge(&open, &head, || shown.clone()), on_loopback, "{method} {path} {shown:?}");
            assert_eq!(judge(&closed, &head, || shown.clone()), elsewhere, "{method} {path} {shown:?}");
        }
    }

    #[test]
    fn other_names_are_refused_before_anything_is_said() {
        let judged = |hosts: &[&str]| {
            let refused = |method, path| judge(&rules(), &Head { hosts, ..head(method, path) }, right).err();
            let all = [refused(GET, "/"), refused(GET, "/v1/status"), refused(POST, "/v1/drain")];
            assert!(all.iter().all(|one| *one == all[0]), "{hosts:?} {all:?}");
            all[0]
        };
        for own in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.0.2.7:1",
            "localhost",
            "LocalHost:8080",
            "lb1.example.net:8443",
        ] {
            assert_eq!(judged(&[own]), None, "{own}");
        }
        assert_eq!(judged(&["localhost:8080", "localhost:8080"]), None, "a whole URL for a target");
        for other in [
            "",
            "evil.example",
            "lb1.example.net.evil.example",
            "evil.lb1.example.net",
            "127.0.0.1.evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "[::1",
            "1.2.3",
            "0x7f000001",
            "a b",
        ] {
            assert_eq!(judged(&[other]), Some(Refusal::WrongName), "{other}");
        }
        assert_eq!(judged(&[]), Some(Refusal::WrongName));
        assert_eq!(judged(&["localhost", "evil.example"]), Some(Refusal::WrongName));
        assert_eq!(judged(&["127.0.0.1", "localhost"]), Some(Refusal::WrongName), "one of them may lie");
    }

    #[test]
    fn other_sites_are_refused_whatever_they_know() {
        let own = "http://127.0.0.1:8080";
        for (site, origin, may_look, may_change) in [
            // Of browsers.
            (Some("same-origin"), None, true, true),
            (Some("same-origin"), Some(own), true, true),
            (Some("none"), None, true, false),
            (Some("cross-site"), None, false, false),
            (Some("same-site"), None, false, false),
            (Some("nonsense"), None, false, false),
            (Some("cross-site"), Some(own), false, false),
            (Some("same-origin"), Some("http://evil.example"), false, false),
            // Of those that say no more than an origin.
            (None, Some(own), true, true),
            (None, Some("https://127.0.0.1:8080"), true, true),
            (None, Some("http://127.0.0.1"), false, false),
            (None, Some("http://127.0.0.1:8081"), false, false),
            (None, Some("http://127.0.0.1:8080.evil.example"), false, false),
            (None, Some("http://localhost:8080"), false, false),
            (None, Some("null"), false, false),
            (None, Some(""), false, false),
            (None, Some("file://"), false, false),
            // Of none: curl.
            (None, None, true, true),
        ] {
            let mut tries = 0;
            let mut asked = |method, path| {
                let shown = || {
                    tries += 1;
                    right()
                };
                judge(&rules(), &Head { site, origin, ..head(method, path) }, shown)
            };
            let (look, change) = (asked(GET, "/v1/status"), asked(POST, "/v1/drain"));
            assert_eq!((look.is_ok(), change.is_ok()), (may_look, may_change), "{site:?} {origin:?}");
            assert_eq!(
                tries,
                usize::from(may_look) + usize::from(may_change),
                "no token was looked at otherwise"
            );
            for refused in [look.err(), change.err()].into_iter().flatten() {
                assert_eq!(refused, Refusal::OtherSite);
            }
        }
        // The page itself may be led to from anywhere.
        let led = Head { site: Some("cross-site"), ..head(GET, "/") };
        assert!(matches!(judge(&rules(), &led, || Shown::Nothing), Ok(Pass::Page(_))));
    }

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        let tls = Rules { has_tls: true, ..rules() };
        for (rules, own, origin, same) in [
            (&rules(), "lb1.example.net", "http://lb1.example.net", true),
            (&rules(), "lb1.example.net:80", "http://lb1.example.net", true),
            (&rules(), "lb1.example.net", "https://LB1.example.net", true),
            (&rules(), "lb1.example.net:80", "https://lb1.example.net", false),
            (&tls, "lb1.example.net", "http://lb1.example.net", false),
            (&tls, "lb1.example.net:443", "https://lb1.example.net", true),
            (&tls, "lb1.example.net:8443", "https://lb1.example.net:8443", true),
            (&tls, "[::1]:8443", "https://[::1]:8443", true),
            (&tls, "[::1]:8443", "ftp://[::1]:8443", false),
        ] {
            assert_eq!(is_own_origin(rules, origin, own), same, "{own} {origin}");
        }
    }

    #[test]
    fn all_that_may_be_changed_is_in_the_api() {
        use super::super::super::routes::ROUTES;
        for pattern in CHANGES {
            let path = pattern.replace('*', "{run}");
            let route = ROUTES.iter().find(|route| route.operation.path == path);
            assert!(route.is_some_and(|route| route.operation.changes()), "{pattern}");
        }
        for path in QUESTIONS {
            let of = ROUTES.iter().filter(|route| route.operation.path == *path);
            assert!(of.clone().count() > 0 && of.clone().all(|route| !route.operation.changes()), "{path}");
        }
    }
}
