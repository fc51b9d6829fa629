//! `[metrics]`: an address at which Prometheus can scrape.

use std::net::SocketAddr;

use super::reader::Section;
use super::report::Report;
use super::schema;
use crate::model::Metrics;

pub(super) fn read(report: &mut Report, top: &Section<'_>) -> Metrics {
    const EXAMPLE: &str = "\"127.0.0.1:9464\"";
    let Some(table) = top.table(report, "metrics", "[metrics]").value() else { return Metrics::default() };
    let section = Section::open(report, table, "metrics", &schema::METRICS);
    let Some(listen) = section.string(report, "listen", EXAMPLE).value() else { return Metrics::default() };
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Metrics { listen: Some(address) },
        _ => {
            let message = format!("{listen:?} is no address with a port");
            let hint = format!(
                "write one, not a name: {EXAMPLE}, or \"[::1]:9464\"; \"[::]:9464\" is every address"
            );
            report.add(&section.path_of("listen"), message, hint);
            Metrics::default()
        }
    }
}
