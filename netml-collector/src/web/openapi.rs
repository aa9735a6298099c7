//! `/api/openapi.json`, made from the handlers themselves.

use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "netml collector",
        description = "What sensors saw, over HTTP. Reading is open on loopback; changes need the token.",
    ),
    paths(
        super::api::status,
        super::api::sensors,
        super::api::traffic,
        super::api::totals,
        super::api::packets,
        super::api::flows,
        super::api::flow,
        super::api::talkers,
        super::api::events,
        super::api::command,
        super::api::command_state,
        super::export::export,
        super::live::live,
    )
)]
struct Api;

/// `GET /api/openapi.json`.
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}
