//! A command says whether a host is well.

use super::{Failure, Steps, Target};
use crate::events::hooks::command::{self, Result as Ended};

pub(super) async fn ask(target: &Target, command: &str, steps: &mut Steps) -> Result<String, Failure> {
    let id = &target.id;
    let variables = [
        ("SLUICE_INSTANCE", target.instance.clone()),
        ("SLUICE_SERVICE", id.service.clone()),
        ("SLUICE_HOST", id.host.clone()),
        ("SLUICE_ADDRESS", target.address.to_string()),
        ("SLUICE_VIP", target.vip.to_string()),
    ];
    let environment = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
    steps.say(|| format!("running {command:?}"));
    // Its time is over with that of the run, which drops it and so kills it.
    let end = command::run(command, environment, Vec::new(), target.health.timeout * 2).await;
    let complaint = end.complaints.trim();
    let complaint = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
    match end.result {
        Ended::Exited(status) if status.success() => Ok("exit status 0".to_owned()),
        Ended::Exited(status) => Err(Failure::Host(format!("{status}{complaint}"))),
        Ended::Killed => Err(Failure::Host("killed when its time was over".to_owned())),
        Ended::NotRun(error) => Err(Failure::Own(format!("not run: {error}"))),
    }
}
