//! Takes a host out of service from another program, waits until it is empty, and brings it back when its standard input ends:
//!
//! ```console
//! $ cargo run -p lb-userspace --example drain -- web-2
//! ```
//!
//! `drain HOST [SOCKET]`. Exit status 0: the host was emptied, and every flow ended by itself; 1: it was not, or something failed;
//! 2: flows were ended, at the deadline or by hand.

use std::process::ExitCode;
use std::time::Duration;

use lb_userspace::api::types::AtDeadline;
use lb_userspace::client::{ClientError, Drained, ErrorCode, Sluice};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(host) = args.next() else {
        eprintln!("usage: drain HOST [SOCKET]");
        return ExitCode::FAILURE;
    };
    let sluice = args.next().map_or_else(|| Sluice::of_instance("default"), Sluice::at);
    match maintain(&sluice, &host).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{host}: {error}");
            error.hint().into_iter().for_each(|hint| eprintln!("{hint}"));
            ExitCode::FAILURE
        }
    }
}

async fn maintain(sluice: &Sluice, host: &str) -> Result<ExitCode, ClientError> {
    // No new flow reaches the host once this has returned. If this program dies, the lease brings the host back.
    let drain = sluice
        .drain(host)
        .reason("maintenance by the example")
        .deadline(Duration::from_secs(600), AtDeadline::Reset)
        .lease(Duration::from_secs(7200))
        .send()
        .await;
    match drain {
        Ok(drain) => println!("{host}: {} flows are left", drain.live_flows.total),
        Err(error) if error.code() == Some(ErrorCode::Rule) => {
            println!("{host} is needed: another host is out already, or too few would be left");
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    let code = match sluice.wait_drained(host).await? {
        Drained::Done(receipt) => {
            println!(
                "{host} is empty: {} ended, {} reset, {} moved, {} silent, {} kicked",
                receipt.ended, receipt.reset, receipt.moved, receipt.silent, receipt.kicked
            );
            if receipt.not_by_themselves() == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
        Drained::TakenBack => {
            println!("somebody took {host} back");
            return Ok(ExitCode::FAILURE);
        }
    };
    // The work on the host; here, until somebody says that it is done.
    let _ = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await;
    sluice.undrain(host).await?;
    println!("{host} is back");
    Ok(code)
}
