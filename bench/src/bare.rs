//! The rate of a bare client, measured again and again: the machine is not equally fast at all times.

use anyhow::Result;
use relaypost_testkit::Receiver;

use crate::{
    CONNECTIONS,
    load::{self, Request},
    report::Report,
};

/// The bare client, its receiver, and what it has reached so far.
pub(crate) struct Bare {
    receiver: Receiver,
    requests: usize,
    /// Requests a second, in the order measured.
    rates: Vec<f64>,
}

impl Bare {
    pub(crate) async fn new(requests: usize) -> Self {
        let receiver = Receiver::start().await;
        receiver.record(false);
        Self {
            receiver,
            requests,
            rates: Vec::new(),
        }
    }

    /// Measures it once more. What is to be compared with it stands between two such calls.
    pub(crate) async fn measure(&mut self) -> Result<()> {
        let url = self.receiver.url("/bare");
        let rates = load::bare(&url, CONNECTIONS, self.requests).await?;
        self.rates.push(rates.per_second);
        Ok(())
    }

    /// Requests a second around what was measured last: the mean of before and after.
    pub(crate) fn around(&self) -> f64 {
        let last = &self.rates[self.rates.len().saturating_sub(2)..];
        last.iter().sum::<f64>() / last.len() as f64
    }

    /// Adds all of them to the report, and what the load generator reaches at the same receiver.
    pub(crate) async fn report(&mut self, report: &mut Report) -> Result<()> {
        let request = Request::post(&self.receiver.url("/generator"), None, load::BODY)?;
        let generator = load::send_all(&[request], CONNECTIONS, self.requests).await?;
        for rate in self.rates.drain(..) {
            report.add("bare client at the receiver", "requests/s", rate);
        }
        report.add(
            "load generator at the receiver",
            "requests/s",
            generator.per_second,
        );
        Ok(())
    }
}
