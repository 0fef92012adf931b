//! `channel`: opens a secure channel (or, with `--clear`, none) and measures round trips.

use crate::arguments::{Args, Done, Fail};
use crate::credential;
use crate::identities::{home, identity, trust, trusting};
use crate::output::say;
use crate::routes::{open_route, parse_route, Hop};
use ockam::identity::SecureChannelOptions;
use ockam::Context;
use ockam_core::Address;
use ockam_node::MessageSendReceiveOptions;
use serde_json::json;
use std::time::{Duration, Instant};

pub async fn run(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let id = identity(&home, args).await?;
    let trust = trust(args)?;
    let authority = credential::authority(node, args).await?;
    let presented = credential::presented(args)?;
    let patience = Duration::from_secs(args.num("timeout", 10)?);

    let make = || -> Result<SecureChannelOptions, Fail> {
        let mut options = trusting(SecureChannelOptions::new().with_timeout(patience), &trust);
        if let Some(authority) = &authority {
            options = options.with_authority(authority.clone());
        }
        if let Some(credential) = &presented {
            options = options.with_credential(credential.clone())?;
        }
        Ok(options)
    };

    let mut hops = parse_route(args.get("route")?)?;
    if !args.flag("clear") {
        // The last hop is the listener of the other side.
        match hops.pop() {
            Some(Hop::Plain(address)) => hops.push(Hop::Secure(address.address().to_string())),
            Some(hop @ Hop::Secure(_)) => hops.push(hop),
            _ => return Err("the last hop of --route must name a listener".into()),
        }
    }
    let start = Instant::now();
    let opened = open_route(node, &id, &hops, &make).await?;
    let took = start.elapsed();

    let mut verified = serde_json::Value::Null;
    if let (Some(authority), Some(peer)) = (&authority, opened.peers.last()) {
        verified = credential::known(node, peer, authority).await?;
    }
    say(json!({
        "ready": true,
        "identifier": id.to_string(),
        "responder": opened.peers.last().map(|p| p.to_string()),
        "responders": opened.peers.iter().map(|p| p.to_string()).collect::<Vec<_>>(),
        "responder_attributes": verified,
        "handshake_ms": took.as_secs_f64() * 1e3,
        "pid": std::process::id(),
    }));

    let to = args.opt("to").unwrap_or("echoer");
    let count = args.num("count", 1)? as usize;
    let size = args.num("size", 0)? as usize;
    let upper = to.ends_with("uppercase");
    let mut route = opened.route.clone();
    for part in to.split(',') {
        route = route.modify().append(part.parse::<Address>()?).build();
    }
    let mut times = Vec::with_capacity(count);
    let mut bytes = 0usize;
    let begin = Instant::now();
    let options = || MessageSendReceiveOptions::new().with_timeout(patience);
    for n in 0..count {
        let mut text = match args.opt("text") {
            Some(text) => text.to_string(),
            None => format!("message {n}"),
        };
        while text.len() < size {
            text.push((b'a' + (text.len() % 26) as u8) as char);
        }
        let t = Instant::now();
        let reply = ctx
            .send_and_receive_extended::<String, String>(route.clone(), text.clone(), options())
            .await
            .map_err(|e| format!("message {n}: {e}"))?
            .into_body()?;
        times.push(t.elapsed().as_secs_f64() * 1e6);
        let want = if upper { text.to_uppercase() } else { text };
        if reply != want {
            return Err(format!("message {n}: the reply differs").into());
        }
        bytes += want.len();
    }
    let wall = begin.elapsed().as_secs_f64();
    times.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let at = |q: f64| {
        times
            .get(((times.len() as f64 - 1.0) * q).round() as usize)
            .copied()
    };
    say(json!({
        "done": true,
        "count": count,
        "bytes": bytes,
        "wall_s": wall,
        "rtt_us_p50": at(0.5),
        "rtt_us_p95": at(0.95),
    }));
    if args.flag("clear") || args.opt("hold").is_none() {
        return Ok(());
    }
    // `--hold S`: keep the channel open for a while.
    tokio::time::sleep(Duration::from_secs(args.num("hold", 0)?)).await;
    Ok(())
}
