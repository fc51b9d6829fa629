//! Whether hosts answer for the VIPs: the daemon asks each by the way of real traffic.

use futures_util::StreamExt as _;

use super::facts::Behind;
use crate::api::client::Client;
use crate::api::types::{
    AdminState, CheckOutcome, HealthTest, HealthTestRequest, OperState, ServiceStatus, Status,
};
use crate::model::Protocol;

/// Hosts that are asked at once.
const AT_ONCE: usize = 16;

/// Asks each host of the daemon's for each of its services that there is a question for.
pub async fn ask(client: &Client, status: &Status) -> Vec<Behind> {
    let asked = status.hosts.iter().map(|host| async move {
        let request = HealthTestRequest { host: host.name.clone(), vip: true };
        let test = client.post::<_, HealthTest>("/v1/health/test", &request).await;
        let checks = match test {
            Ok(test) => test.checks,
            Err(error) => {
                let why = format!("it could not be asked: {error}");
                return vec![Behind { host: host.name.clone(), not_asked: Some(why), ..Behind::default() }];
            }
        };
        let (is_wanted, is_down) = (host.admin == AdminState::Active, host.oper == OperState::Down);
        let behind = checks.into_iter().map(|check| {
            let service = status.services.iter().find(|service| service.name == check.service);
            let why = check.result.why;
            let is_down = is_down || host.down_for.contains(&check.service);
            Behind {
                host: check.host,
                vip: service.map(|service| service.vip.clone()).unwrap_or_default(),
                forward: service.map(|service| service.forward.clone()).unwrap_or_default(),
                service: check.service,
                is_wanted,
                is_down,
                failed: (check.result.outcome == CheckOutcome::Failed).then(|| why.clone()),
                not_asked: (check.result.outcome == CheckOutcome::NotRun).then_some(why),
            }
        });
        behind.collect()
    });
    futures_util::stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>().await.concat()
}

/// Services of UDP alone for whose VIPs no host was asked.
pub fn not_asked(status: &Status, asked: &[Behind]) -> Vec<String> {
    let is_left = |service: &&ServiceStatus| {
        !service.protocols.has(Protocol::Tcp) && !asked.iter().any(|behind| behind.service == service.name)
    };
    status.services.iter().filter(is_left).map(|service| service.name.clone()).collect()
}
