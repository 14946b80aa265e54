//! The demo's agent: works through tickets by calling its LLM at a base URL, knowing nothing of Understudy.

use super::shop::{self, Ticket};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use understudy_call::call::Api;
use understudy_call::wire;
use understudy_client::{Secret, Timeouts, Upstream, UpstreamConfig};
use url::Url;

/// How many tickets are worked on at once.
const AT_ONCE: usize = 24;
/// How often a busy LLM is asked again.
const TRIES: usize = 6;

/// The agent.
pub(super) struct Agent {
    llm: Upstream,
    calls: AtomicU64,
}

impl Agent {
    /// An agent whose base URL is `base`.
    pub(super) fn new(base: &str) -> Result<Agent> {
        let mut config = UpstreamConfig::new("llm", Url::parse(base)?);
        config.key = Some(Secret::new("sk-demo-agent"));
        Ok(Agent {
            llm: Upstream::open(config, Timeouts::default())?,
            calls: AtomicU64::new(0),
        })
    }

    /// Calls answered so far, retries apart.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Works through tickets `from..to`; `done` is told after each.
    pub(super) async fn work(self: &Arc<Self>, from: u64, to: u64, done: impl Fn()) -> Result<()> {
        let mut open = tokio::task::JoinSet::new();
        for number in from..to {
            if open.len() >= AT_ONCE
                && let Some(ended) = open.join_next().await
            {
                ended??;
                done();
            }
            let agent = self.clone();
            open.spawn(async move { agent.settle(&Ticket::new(number), number).await });
        }
        while let Some(ended) = open.join_next().await {
            ended??;
            done();
        }
        Ok(())
    }

    /// One ticket, start to end: triage, extract, look up (again, where the lookup failed for the moment), act, reply.
    async fn settle(&self, ticket: &Ticket, number: u64) -> Result<()> {
        self.ask(&shop::triage(ticket)).await?;
        self.ask(&shop::extract(ticket)).await?;
        let first = self.ask(&shop::act(ticket)).await?;
        let found = json!({"order_id": ticket.order, "product": ticket.product, "state": "open"});
        if number.is_multiple_of(5) {
            let failed = json!({"error": "the order system is busy, try again"});
            self.ask(&shop::act_on(ticket, &first, &failed)).await?;
        }
        self.ask(&shop::act_on(ticket, &first, &found)).await?;
        self.ask(&shop::reply(ticket)).await?;
        Ok(())
    }

    /// Asks until the LLM is not busy; gives the answer's message.
    async fn ask(&self, request: &Value) -> Result<Value> {
        for attempt in 0..TRIES {
            let body = Bytes::from(request.to_string());
            let answer = self.llm.ask(Api::OpenaiChat, body, Duration::from_secs(20)).await?;
            match answer.status {
                429 => tokio::time::sleep(Duration::from_millis(10 << attempt)).await,
                200 => {
                    self.calls.fetch_add(1, Ordering::Relaxed);
                    let whole = wire::assemble(Api::OpenaiChat, answer.content_type.as_deref(), &answer.body)?;
                    return whole
                        .body
                        .pointer("/choices/0/message")
                        .cloned()
                        .context("an answer without a message");
                }
                status => bail!("the LLM answered {status}: {}", String::from_utf8_lossy(&answer.body)),
            }
        }
        bail!("the LLM stayed busy")
    }
}
