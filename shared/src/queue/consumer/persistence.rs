//! What apalis drives. Nothing here ever fails: apalis answers an error by ending the worker, and dropping what it has
//! in flight, while a fault of the queue only means "nothing now, try again".

use std::convert::Infallible;

use apalis_core::{
    backend::persistence::{Persistence, TaskEvent},
    task::Task,
    worker::context::WorkerContext,
};

use super::Consumer;
use crate::ids::DeliveryId;

impl Persistence for Consumer {
    type Compact = Vec<DeliveryId>;
    type Response = ();
    type Error = Infallible;

    async fn register(&mut self, _: &WorkerContext) -> Result<(), Infallible> {
        self.join().await;
        Ok(())
    }

    async fn heartbeat(&mut self, _: &WorkerContext) -> Result<(), Infallible> {
        // `keep_alive` beats: apalis stops beating when it is told to stop, while work is still in flight.
        Ok(())
    }

    async fn fetch_next(
        &mut self,
        _: &WorkerContext,
    ) -> Result<Vec<Task<Self::Compact>>, Infallible> {
        let jobs = self.fetch().await;
        Ok(if jobs.is_empty() {
            Vec::new()
        } else {
            vec![Task::new(jobs)]
        })
    }

    async fn reenqueue_abandoned(
        &mut self,
        tasks: Vec<Task<Self::Compact>>,
        _: &WorkerContext,
    ) -> Result<u64, Infallible> {
        let deliveries: Vec<DeliveryId> = tasks.into_iter().flat_map(|task| task.args).collect();
        self.hand_back(&deliveries).await;
        Ok(deliveries.len() as u64)
    }

    async fn handle_events(
        &mut self,
        _: Vec<TaskEvent<()>>,
        _: &WorkerContext,
    ) -> Result<(), Infallible> {
        // Acknowledging is ours, in batches and after the record step: apalis sends no events.
        Ok(())
    }

    async fn push_tasks(&mut self, tasks: Vec<Task<Self::Compact>>) -> Result<(), Infallible> {
        // Jobs are pushed through `Queue::push`, which knows the tenant; what arrives here was fetched before.
        let deliveries: Vec<DeliveryId> = tasks.into_iter().flat_map(|task| task.args).collect();
        self.hand_back(&deliveries).await;
        Ok(())
    }
}
