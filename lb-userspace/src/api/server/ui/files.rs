//! The page itself: all its files are in the program.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub struct PageFile {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! file {
    ($path:expr, $kind:expr, $file:literal) => {
        PageFile {
            path: $path,
            kind: $kind,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/ui/", $file)),
        }
    };
    ($file:literal) => {
        file!(concat!("/", $file), "text/javascript; charset=utf-8", $file)
    };
}

pub const FILES: &[PageFile] = &[
    file!("/", "text/html; charset=utf-8", "index.html"),
    file!("/app.css", "text/css; charset=utf-8", "app.css"),
    file!("/favicon.svg", "image/svg+xml", "favicon.svg"),
    file!("js/act.js"),
    file!("js/api.js"),
    file!("js/chart.js"),
    file!("js/dialog.js"),
    file!("js/dom.js"),
    file!("js/donut.js"),
    file!("js/format.js"),
    file!("js/main.js"),
    file!("js/parts.js"),
    file!("js/state.js"),
    file!("js/stream.js"),
    file!("js/table.js"),
    file!("js/token.js"),
    file!("js/told.js"),
    file!("js/views/drains.js"),
    file!("js/views/events.js"),
    file!("js/views/health.js"),
    file!("js/views/history.js"),
    file!("js/views/host.js"),
    file!("js/views/hosts.js"),
    file!("js/views/maintain.js"),
    file!("js/views/receipts.js"),
    file!("js/views/service.js"),
    file!("js/views/services.js"),
    file!("js/views/shares.js"),
    file!("js/watch.js"),
];

pub fn find(path: &str) -> Option<&'static PageFile> {
    FILES.iter().find(|file| file.path == path)
}

impl PageFile {
    #[cfg(test)]
    pub fn path(&self) -> &'static str {
        self.path
    }

    #[cfg(test)]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Changes with its text.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }

    /// The file, or that the one that the browser has is still good.
    pub fn answer(&self, asked: &HeaderMap) -> Response {
        let tag = self.tag();
        let is_known =
            asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let head = [
            (header::CONTENT_TYPE, self.kind),
            (header::ETAG, tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        match is_known {
            true => (StatusCode::NOT_MODIFIED, head).into_response(),
            false => (head, Body::from(self.text)).into_response(),
        }
    }
}
