//! Names of clients that a service treats apart, beside those of services.

use ipnet::IpNet;

/// `api 10.0.0.0/8`: no service has a space in its name.
pub fn name(service: &str, clients: IpNet) -> String {
    format!("{service} {clients}")
}

/// The service of a name, and the clients if it is theirs.
pub fn parse(name: &str) -> (&str, Option<IpNet>) {
    match name.split_once(' ') {
        Some((service, clients)) => (service, clients.parse().ok()),
        None => (name, None),
    }
}

/// The name that clients go by where they are not treated apart: that of the longest prefix around theirs, or that of the service.
pub fn around<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> String {
    let (service, clients) = parse(name);
    let candidates = names.filter_map(|other| match (parse(other), clients) {
        ((of, Some(prefix)), Some(clients)) if of == service && prefix != clients => {
            prefix.contains(&clients).then_some((prefix.prefix_len(), other))
        }
        _ => None,
    });
    candidates.max().map_or_else(|| service.to_owned(), |(_, other)| other.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_lie_in_the_longest_prefix_around_them() {
        let clients = |text: &str| name("api", text.parse().unwrap());
        let all = [
            clients("10.0.0.0/8"),
            clients("10.1.0.0/16"),
            clients("10.1.2.0/24"),
            clients("2001:db8::/32"),
            name("web", "10.1.2.0/23".parse().unwrap()),
        ];
        let around = |text: &str| around(&clients(text), all.iter());
        assert_eq!(around("10.1.2.0/24"), clients("10.1.0.0/16"));
        assert_eq!(around("10.1.0.0/16"), clients("10.0.0.0/8"));
        assert_eq!(around("10.0.0.0/8"), "api");
        assert_eq!(around("10.0.0.0/7"), "api");
        assert_eq!(around("2001:db8:1::/48"), clients("2001:db8::/32"));
        assert_eq!(parse("api"), ("api", None));
        assert_eq!(parse(&all[3]), ("api", Some("2001:db8::/32".parse().unwrap())));
    }
}
