//! How the service is doing, for programs that watch it or decide how many workers run.

mod body;

use poem::{Request, RequestBody, web::Data};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi};
use relaypost_shared::{
    db,
    health::{
        access::{may_read_metrics, may_see_details},
        open_circuits,
    },
    queue::{Lane, Queue, QueueError},
    scaling::{Work, WorkError},
};
use tokio::time::{Duration, timeout};

use self::body::{Scaling, ServiceHealth};
use crate::{
    Services,
    health::refused,
    http::{
        ApiError, Code, Reply, client_address::client_address, declared::Watcher, document::Tag,
        parameters::Parameters,
    },
    stats::Queues,
};

/// How long the figures may take.
const LIMIT: Duration = Duration::from_secs(2);

/// The operations on how the service is doing.
#[derive(Debug)]
pub(crate) struct OperationsApi;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Operations")]
impl OperationsApi {
    /// Get the health of the service
    ///
    /// Whether the database and Redis can be written to, and how long they take. Anybody may ask. Queue depths and open
    /// circuits are only in the answer for callers that `/health/detailed` answers too: those who send `HEALTH_KEY` in the
    /// header `X-Health-Key`, or call from the machine itself. Figures that cannot be had within two seconds are absent. The
    /// status is 200 however the parts are doing; `/health/ready` is the probe whose status tells.
    #[oai(path = "/health", method = "get", operation_id = "health_get")]
    async fn health(
        &self,
        Data(services): Data<&Services>,
        asker: Asker,
    ) -> Result<Reply<ServiceHealth>, ApiError> {
        let figures = async {
            if !asker.sees_figures {
                return (None, None);
            }
            tokio::join!(
                in_time(async { depths(&services.queue).await.ok() }),
                in_time(async { open_circuits(&services.db).await.ok() }),
            )
        };
        let (database, redis, (queues, circuits_open)) =
            tokio::join!(services.health.database(), services.health.queue(), figures);
        let well = database.result.is_ok() && redis.result.is_ok();
        Reply::of(&ServiceHealth {
            status: if well { "ok" } else { "degraded" }.to_owned(),
            database: database.into(),
            redis: redis.into(),
            queues,
            circuits_open,
        })
    }

    /// Get the work that waits
    ///
    /// How much work waits in each lane, for an autoscaler of workers (KEDA). `METRICS_GUARD` says who may ask: callers with a
    /// secret, in the header `x-metrics-secret` or as a bearer token, or callers from some networks; without it only the
    /// machine itself in development, and nobody in production. 401 without the secret, 403 for other callers. The cost of
    /// the answer does not depend on what is stored: see each figure for how far it is counted. 503 while the database or
    /// Redis cannot be asked.
    #[oai(path = "/scaling", method = "get", operation_id = "scaling_get")]
    async fn scaling(
        &self,
        Data(services): Data<&Services>,
        _machine: Machine,
    ) -> Result<Reply<Scaling>, ApiError> {
        let Services {
            db, queue, clock, ..
        } = services;
        let cap = services.settings.webhooks.max_in_flight;
        let work = async {
            let now = db::now(db, clock).await?;
            Work::at(db, queue, now, cap).await
        };
        match timeout(LIMIT, work).await {
            Ok(Ok(work)) => Reply::of(&Scaling { lanes: work.into() }),
            Ok(Err(WorkError::Database(error))) => Err(error.into()),
            Ok(Err(WorkError::Queue(error))) => Err(ApiError::caused(Code::Unavailable, error)),
            Err(late) => Err(ApiError::caused(Code::Unavailable, late)),
        }
    }
}

async fn in_time<T>(part: impl Future<Output = Option<T>>) -> Option<T> {
    timeout(LIMIT, part).await.ok().flatten()
}

async fn depths(queue: &Queue) -> Result<Queues, QueueError> {
    let (webhooks, emails, bulk) = tokio::try_join!(
        queue.depth(Lane::Webhooks),
        queue.depth(Lane::Emails),
        queue.depth(Lane::Bulk),
    )?;
    Ok(Queues {
        webhooks,
        emails,
        bulk,
    })
}

/// Somebody who asks how the service is doing: [`Watcher::Anybody`].
struct Asker {
    /// Whether they may see figures of the whole service.
    sees_figures: bool,
}

impl<'a> ApiExtractor<'a> for Asker {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        vec![Watcher::Anybody.marker()]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Parameters::check(request)?;
        let settings = &Services::of(request)?.settings;
        let allowed = may_see_details(request, settings);
        Ok(Self {
            sees_figures: allowed.is_ok(),
        })
    }
}

/// A program that `METRICS_GUARD` lets in: [`Watcher::Guarded`].
struct Machine;

impl<'a> ApiExtractor<'a> for Machine {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        vec![Watcher::Guarded.marker()]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let settings = &Services::of(request)?.settings;
        may_read_metrics(request, client_address(request), settings).map_err(refused)?;
        Parameters::check(request)?;
        Ok(Self)
    }
}
