//! `[ui]`: the page for browsers.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::limits::{MAX_PATH, MAX_UI_NAMES};
use super::reader::Section;
use super::report::Report;
use super::schema;
use crate::model::{TlsFiles, Ui};

/// What to do about an address that others reach, without TLS.
const MEND: &str = "give certificate and key in [ui], or listen on the loopback, \"127.0.0.1:8080\", and come by `ssh -L 8080:127.0.0.1:8080`";

pub(super) fn read(report: &mut Report, top: &Section<'_>) -> Ui {
    let Some(table) = top.table(report, "ui", "[ui]").value() else { return Ui::default() };
    let section = Section::open(report, table, "ui", &schema::UI);
    let listen = read_listen(report, &section);
    let names = read_names(report, &section);
    let mut path = |field: &str| read_path(report, &section, field);
    let (certificate, key, token_file) = (path("certificate"), path("key"), path("token_file"));
    let has = |field| section.has(field);
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        _ => None,
    };
    for (one, other) in [("certificate", "key"), ("key", "certificate")] {
        if has(one) && !has(other) {
            let message = format!("it is of no use without {other}");
            report.add(
                &section.path_of(one),
                message,
                format!("add a line such as {other} = \"/etc/sluice/ui.pem\""),
            );
        }
    }
    if let Some(problem) = listen.filter(|_| !has("certificate") && !has("key")).and_then(must_be_private) {
        report.add(&section.path_of("listen"), problem.0, problem.1);
    }
    let token_to_look = section.flag(report, "token_to_look").or(false);
    Ui { listen, names, tls, token_file, token_to_look }
}

/// Why nothing may be served at an address without TLS, and what to do; `None`: it may.
pub fn must_be_private(listen: SocketAddr) -> Option<(String, &'static str)> {
    let is_private = listen.ip().to_canonical().is_loopback();
    (!is_private).then(|| (format!("others reach {listen}, and would read tokens on their way"), MEND))
}

fn read_listen(report: &mut Report, section: &Section<'_>) -> Option<SocketAddr> {
    let text = section.string(report, "listen", "\"127.0.0.1:8080\"").value()?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(address),
        _ => {
            let message = format!("{text:?} is no address with a port");
            let hint = "write one, not a name: \"127.0.0.1:8080\", or \"[::1]:8080\"";
            report.add(&section.path_of("listen"), message, hint);
            None
        }
    }
}

fn read_names(report: &mut Report, section: &Section<'_>) -> Vec<String> {
    let texts = section.strings(report, "names", "[\"lb1.example.net\"]").or(Vec::new());
    let path = section.path_of("names");
    if texts.len() > MAX_UI_NAMES {
        report.add(&path, format!("{} names are too many", texts.len()), format!("keep to {MAX_UI_NAMES}"));
    }
    let mut names = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        let Some(text) = text else { continue };
        let name = text.to_ascii_lowercase();
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.len() > 253 || !name.chars().all(is_letter) {
            let hint = "write it as it stands in the browser's address, without scheme and port: \"lb1.example.net\"";
            report.add(&format!("{path}[{index}]"), format!("{text:?} cannot be a name in a URL"), hint);
        } else {
            names.push(name);
        }
    }
    names
}

fn read_path(report: &mut Report, section: &Section<'_>, field: &str) -> Option<PathBuf> {
    let text = section.string(report, field, "\"/etc/sluice/ui.pem\"").value()?;
    let path = PathBuf::from(text);
    if !path.is_absolute() || text.len() > MAX_PATH || text.contains('\0') {
        let hint = "write the whole path, as in \"/etc/sluice/ui.pem\"";
        report.add(&section.path_of(field), format!("{text:?} is no path from the root"), hint);
        return None;
    }
    Some(path)
}
