//! Why packets go where they go.

use super::*;
use crate::api::types::{ExplainRequest, Explained};
use crate::explain::{MOST_PACKETS, frame_of};

pub(super) async fn explain(
    State(engine): State<Handle>,
    body: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<Explained>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    if !(1..=MOST_PACKETS).contains(&request.packets.len()) {
        return Err(Failure::bad_request(format!("packets are 1 to {MOST_PACKETS}")));
    }
    let mut frames = Vec::new();
    for (number, packet) in request.packets.iter().enumerate() {
        let refused = |wrong| Failure::bad_request(format!("packets[{number}]: {wrong}"));
        frames.push(frame_of(packet).map_err(refused)?);
    }
    let interface = request.interface;
    let Json(ground) = ask(&engine, move |engine| Ok(engine.ground(interface.as_deref()))).await?;
    let ground =
        ground.map_err(|error| Failure::new(StatusCode::CONFLICT, "conflict", error.to_string(), None))?;
    let runs = engine.dry_runs().run(&ground, frames).await.map_err(|error| {
        log::error!("a dry run: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("a dry run: {error}"), None)
    })?;
    let Json(packets) = ask(&engine, move |engine| Ok(engine.explained(ground.ifindex, &runs))).await?;
    Ok(Json(Explained { interface: ground.interface, packets }))
}
