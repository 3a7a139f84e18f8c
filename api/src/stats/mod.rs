//! How a tenant's deliveries are doing, in figures.

mod body;
mod count;

use poem::web::Data;
use poem_openapi::OpenApi;

pub(crate) use self::body::Queues;
use self::body::Stats;
use crate::{
    Services,
    auth::{Authorized, may},
    http::{ApiError, Reply, document::Tag},
};

/// The operation on figures.
#[derive(Debug)]
pub(crate) struct StatsApi;

#[OpenApi(prefix_path = "/v1/stats", tag = "Tag::Stats")]
impl StatsApi {
    /// Get the figures
    ///
    /// Of the tenant: what was accepted lately and where it stands, what waits behind a circuit, dead letters, circuits that
    /// are not closed. Of the service, for callers of the platform only: how deep its queues are, and the circuits of its
    /// mail providers.
    #[oai(path = "/", method = "get", operation_id = "stats_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
    ) -> Result<Reply<Stats>, ApiError> {
        Reply::of(&count::stats(services, &caller).await?)
    }
}
