//! As many attempts as a request takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::http::request;
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use super::body::Flow;
use super::client::Client;
use super::policies::{Policies, Stop};
use super::record::Record;
use super::reply::Reply;
use super::upstream::{Sent, Unsent};
use super::watch::Over;
use super::{Version, headers, hedge, pool};
use crate::config::Protocol;
use crate::policy::circuit::Permit;
use crate::policy::retry::{Attempt, Outcome, RetryPolicy, retry_after};
use crate::policy::retry_budget::RetryPermit;
use crate::upstream::cluster::{Chosen, Cluster};
use crate::upstream::outlier;

/// A request, and what became of it so far.
pub(super) struct Attempts<'a> {
    pub client: &'a Arc<Client>,
    pub cluster: &'a Arc<Cluster>,
    policies: Option<&'a Policies>,
    pub version: Version,
    parts: request::Parts,
    body: Kept,
    replayable: bool,
    /// Its place among the requests that the cluster takes at once.
    permit: Option<Permit>,
    /// What the next attempt is paid with.
    paid: Option<Paid>,
    retries: u32,
    tried: Vec<u64>,
}

/// What pays for a retry, while that is under way.
pub(super) struct Paid {
    _circuit: Option<Permit>,
    _budget: Option<RetryPermit>,
}

/// An attempt that is to be made.
pub(super) struct Try {
    pub chosen: Chosen,
    pub request: Request<Flow>,
    /// When it must be over with its whole answer.
    pub until: Option<Instant>,
    pub paid: Option<Paid>,
}

/// What follows an attempt.
pub(super) enum Next {
    /// Another one, after so long.
    Again(Duration),
    /// Nothing. True: since there were enough of them.
    End(bool),
}

/// Sends a request to a cluster, again where its policies say so.
pub(super) async fn send(
    client: &Arc<Client>,
    record: &mut Record,
    cluster: &Arc<Cluster>,
    policies: Option<&Policies>,
    mut parts: request::Parts,
    body: Flow,
    authority: Option<&Authority>,
) -> Result<Sent, Stop> {
    record.limit(policies);
    let version = match cluster.protocol {
        Protocol::Http1 => Version::Http1,
        Protocol::Http2 | Protocol::Grpc => Version::Http2,
        Protocol::Auto | Protocol::Tcp => client.version,
    };
    headers::for_version(version, &mut parts, authority);
    let overflow = || Stop::from(Reply::new(StatusCode::SERVICE_UNAVAILABLE, "overflow", "UO"));
    let permit = match &cluster.circuit {
        Some(circuit) => Some(circuit.requests.acquire().ok_or_else(overflow)?),
        None => None,
    };
    let retry = policies.and_then(|policies| policies.retry.as_ref());
    let keep = retry.map_or(0, |retry| retry.config().body_bytes);
    let body = Kept::new(body, keep).await?;
    if let Some(budget) = policies.and_then(|policies| policies.budget.as_ref()) {
        budget.request(Instant::now().into_std());
    }
    let mut attempts = Attempts {
        client,
        cluster,
        policies,
        version,
        parts,
        replayable: body.is_replayable(),
        body,
        permit,
        paid: None,
        retries: 0,
        tried: Vec::new(),
    };
    let per_try = policies.and_then(|policies| policies.try_timeout);
    match per_try.filter(|_| retry.is_some_and(|retry| retry.config().hedge_on_per_try_timeout)) {
        Some(late) => hedge::send(&mut attempts, record, late).await,
        None => attempts.send(record, per_try).await,
    }
}

impl<'a> Attempts<'a> {
    /// One after the other.
    async fn send(&mut self, record: &mut Record, per_try: Option<Duration>) -> Result<Sent, Stop> {
        loop {
            let Try { chosen, request, until, paid } = self.begin(record)?;
            let by = (&*self.client.accepted.shared, &*self.client.accepted.settings);
            let sending = pool::send(by, self.cluster, &chosen, self.version, request);
            let sent = match per_try.into_iter().chain(self.whole()).min() {
                Some(limit) => timeout(limit, sending).await.unwrap_or_else(|_| Err(late())),
                None => sending.await,
            };
            drop(paid);
            match self.next(record, &chosen, &sent) {
                Next::End(enough) => return self.end(record, sent, until, enough),
                Next::Again(wait) => {
                    drop(sent);
                    self.again(&chosen);
                    sleep(wait).await;
                }
            }
        }
    }

    /// The next attempt, at an endpoint that was not asked yet, as long as there are such.
    pub(super) fn begin(&mut self, record: &mut Record) -> Result<Try, Stop> {
        let Some(chosen) = self.cluster.pick(&self.parts.headers, self.client.accepted.peer, &self.tried)
        else {
            return Err(Reply::new(StatusCode::SERVICE_UNAVAILABLE, "no-healthy-upstream", "UH").into());
        };
        record.attempt(|| chosen.endpoint.name.clone());
        let request = Request::from_parts(self.parts.clone(), self.body.take());
        let until = self.whole().map(|limit| Instant::now() + limit);
        Ok(Try { chosen, request, until, paid: self.paid.take() })
    }

    /// What one attempt may take with its whole answer.
    pub(super) fn whole(&self) -> Option<Duration> {
        self.policies.and_then(|policies| policies.backend_timeout)
    }

    /// What follows an attempt that came to this. What it takes is paid for.
    pub(super) fn next(&mut self, record: &mut Record, chosen: &Chosen, sent: &Result<Sent, Unsent>) -> Next {
        let Some(outcome) = outcome(chosen, sent) else { return Next::End(false) };
        let Some(retry) = self.retry() else { return Next::End(false) };
        if !retry.decide(self.attempt(), outcome) {
            return Next::End(true);
        }
        if !self.pay() {
            record.flag("URX");
            return Next::End(false);
        }
        let asked = sent.as_ref().ok().and_then(|sent| retry_after(sent.response.headers()));
        match retry.wait(self.retries + 1, asked, &mut fastrand::Rng::new()) {
            Some(wait) => Next::Again(wait),
            None => Next::End(false),
        }
    }

    /// True when an attempt beside others came to what is not tried again.
    pub(super) fn is_good(&self, chosen: &Chosen, sent: &Result<Sent, Unsent>) -> bool {
        let first = Attempt { retries: 0, idempotent: true, replayable: true };
        let outcome = outcome(chosen, sent);
        sent.is_ok()
            && outcome.is_some_and(|outcome| self.retry().is_none_or(|retry| !retry.decide(first, outcome)))
    }

    /// An attempt lasts: one beside it is paid for, if there may be one.
    pub(super) fn may_hedge(&mut self) -> bool {
        self.retry().is_some_and(|retry| retry.hedges(self.attempt())) && self.pay()
    }

    /// There is another attempt after, or beside, the one at this endpoint.
    pub(super) fn again(&mut self, chosen: &Chosen) {
        self.tried.push(chosen.endpoint.id);
        self.retries += 1;
        self.client.common().retries.fetch_add(1, Ordering::Relaxed);
    }

    /// What all attempts come to.
    pub(super) fn end(
        &mut self,
        record: &mut Record,
        sent: Result<Sent, Unsent>,
        until: Option<Instant>,
        enough: bool,
    ) -> Result<Sent, Stop> {
        let mut sent = sent.map_err(|unsent| {
            let flags = if enough && self.retries > 0 { "URX" } else { unsent.reply.flags };
            Stop::from(Reply { flags, ..unsent.reply })
        })?;
        if let Some(until) = until {
            record.watched().limit_until(until, Over::Attempt);
        }
        if let Some(lease) = &mut sent.lease {
            lease.hold(self.permit.take());
        }
        Ok(sent)
    }

    /// True when another attempt fits into what the cluster takes and the budget has, and is paid for.
    fn pay(&mut self) -> bool {
        let circuit = self.cluster.circuit.as_ref().map(|circuit| circuit.retries.acquire());
        let budget = self.policies.and_then(|policies| policies.budget.as_ref());
        let budget = budget.map(|budget| budget.retry(Instant::now().into_std()));
        if matches!(circuit, Some(None)) || matches!(budget, Some(None)) {
            return false;
        }
        self.paid = Some(Paid { _circuit: circuit.flatten(), _budget: budget.flatten() });
        true
    }

    fn retry(&self) -> Option<&'a RetryPolicy> {
        self.policies.and_then(|policies| policies.retry.as_ref())
    }

    fn attempt(&self) -> Attempt {
        let idempotent = is_idempotent(&self.parts.method);
        Attempt { retries: self.retries, idempotent, replayable: self.replayable }
    }
}

/// An attempt whose time is over.
pub(super) fn late() -> Unsent {
    Unsent { outcome: Outcome::Timeout, reply: Over::Attempt.reply(), is_theirs: true }
}

/// How an attempt ended, of which its endpoint's record is kept. `None`: not by what its endpoint did.
fn outcome(chosen: &Chosen, sent: &Result<Sent, Unsent>) -> Option<Outcome> {
    match sent {
        Ok(sent) => {
            let status = sent.response.status().as_u16();
            chosen.record(outlier::Outcome::of_status(status));
            let grpc = sent.response.headers().get("grpc-status");
            let grpc_status = grpc.and_then(|status| status.to_str().ok()?.parse().ok());
            Some(Outcome::Response { status, grpc_status })
        }
        Err(unsent) if unsent.is_theirs => {
            chosen.record(outlier::Outcome::GatewayError);
            Some(unsent.outcome)
        }
        Err(_) => None,
    }
}

/// A request's body, kept where it may be sent again.
enum Kept {
    Whole(Bytes),
    Once(Option<Flow>),
}

impl Kept {
    /// Bodies of up to so many bytes are kept, where their length is known.
    async fn new(body: Flow, most: usize) -> Result<Self, Stop> {
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new()));
        }
        let known = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        if known.is_none_or(|length| length > most) {
            return Ok(Self::Once(Some(body)));
        }
        let gone = |_| Stop::from(Reply::new(StatusCode::BAD_REQUEST, "request-body", "DC"));
        let whole = body.collect().await.map_err(gone)?.to_bytes();
        Ok(Self::Whole(whole))
    }

    fn is_replayable(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    fn take(&mut self) -> Flow {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Flow::empty(),
            Self::Whole(bytes) => Flow::of(bytes.clone()),
            Self::Once(flow) => flow.take().unwrap_or_else(Flow::empty),
        }
    }
}

/// RFC 9110 section 9.2.2
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}
