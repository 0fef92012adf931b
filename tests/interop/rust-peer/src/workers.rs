//! The small workers that every sub-command shares.

use crate::output::{note, route_json};
use ockam::identity::{Identifier, IdentitiesAttributes};
use ockam::Context;
use ockam_core::{Any, Decodable, Result, Route, Routed, SecureChannelLocalInfo, Worker};
use serde_json::{json, Value};
use std::sync::Arc;

/// Where the verified attributes of a peer are looked up for the trace.
pub struct Seen {
    pub attributes: Arc<IdentitiesAttributes>,
    pub authority: Identifier,
}

async fn trace(worker: &str, msg: &Routed<Any>, seen: Option<&Seen>) {
    let local = msg.local_message();
    let info: Vec<Value> = local
        .local_info()
        .iter()
        .map(|i| json!({"type": i.type_identifier(), "data": hex::encode(i.data())}))
        .collect();
    let who = SecureChannelLocalInfo::find_info(local)
        .ok()
        .map(|i| i.their_identifier());
    let mut verified = Value::Null;
    if let (Some(seen), Some(who)) = (seen, &who) {
        let entry = seen
            .attributes
            .get_attributes(&who.clone().into(), &seen.authority)
            .await;
        if let Ok(Some(entry)) = entry {
            verified = json!(entry.deserialized_key_value_attrs());
        }
    }
    note(json!({
        "trace": worker,
        "onward_route": route_json(local.onward_route()),
        "return_route": route_json(local.return_route()),
        "source": msg.src_addr().to_string(),
        "payload": hex::encode(local.payload()),
        "identifier": who.map(|w| w.to_string()),
        "attributes": verified,
        "local_info": info,
    }));
}

/// Sends every String back.
pub struct Echoer {
    trace: bool,
    upper: bool,
    seen: Option<Seen>,
}

impl Echoer {
    pub fn new(trace: bool, upper: bool) -> Self {
        Self {
            trace,
            upper,
            seen: None,
        }
    }

    pub fn seeing(mut self, seen: Option<Seen>) -> Self {
        self.seen = seen;
        self
    }
}

#[ockam_core::worker]
impl Worker for Echoer {
    type Context = Context;
    type Message = Any;

    async fn handle_message(&mut self, ctx: &mut Context, msg: Routed<Any>) -> Result<()> {
        if self.trace {
            trace(ctx.primary_address().address(), &msg, self.seen.as_ref()).await;
        }
        let text = String::decode(msg.payload())?;
        let text = if self.upper {
            text.to_uppercase()
        } else {
            text
        };
        ctx.send(msg.return_route().clone(), text).await
    }
}

/// Takes itself off the onward route, puts itself on the return route, forwards.
pub struct Stepper {
    pub trace: bool,
}

#[ockam_core::worker]
impl Worker for Stepper {
    type Context = Context;
    type Message = Any;

    async fn handle_message(&mut self, ctx: &mut Context, msg: Routed<Any>) -> Result<()> {
        if self.trace {
            trace(ctx.primary_address().address(), &msg, None).await;
        }
        let message = msg
            .into_local_message()
            .step_forward(ctx.primary_address().clone())?;
        ctx.forward(message).await
    }
}

/// Replaces itself on the onward route by a fixed route, and lets both sides' producers through.
pub struct Forwarder {
    pub route: Route,
    pub trace: bool,
}

#[ockam_core::worker]
impl Worker for Forwarder {
    type Context = Context;
    type Message = Any;

    async fn handle_message(&mut self, ctx: &mut Context, msg: Routed<Any>) -> Result<()> {
        if self.trace {
            trace(ctx.primary_address().address(), &msg, None).await;
        }
        let message = msg
            .into_local_message()
            .pop_front_onward_route()?
            .prepend_front_onward_route(self.route.clone());
        let next = message.next_on_onward_route()?.clone();
        let previous = message.return_route().next()?.clone();
        let flows = ctx.flow_controls();
        for (from, to) in [(&next, &previous), (&previous, &next)] {
            if let Some(info) = flows.find_flow_control_with_producer_address(from) {
                flows.add_consumer(to, info.flow_control_id());
            }
        }
        ctx.forward(message).await
    }
}
