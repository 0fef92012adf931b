//! `inlet` and `outlet`.

use crate::arguments::{Args, Done, Fail};
use crate::identities::{home, identity, trust, trusting, trusting_listener};
use crate::output::{say, until_stopped};
use crate::routes::{open_route, parse_route, Hop};
use crate::workers::Echoer;
use ockam::identity::{SecureChannelListenerOptions, SecureChannelOptions};
use ockam::remote::RemoteRelayOptions;
use ockam::tcp::{TcpInletOptions, TcpListenerOptions, TcpOutletOptions, TcpTransport};
use ockam::Context;
use ockam_core::{Address, Route};
use ockam_transport_core::HostnamePort;
use serde_json::json;
use std::time::Duration;

pub async fn inlet(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let id = identity(&home, args).await?;
    let trust = trust(args)?;
    let make = || -> Result<SecureChannelOptions, Fail> {
        Ok(trusting(
            SecureChannelOptions::new().with_timeout(Duration::from_secs(10)),
            &trust,
        ))
    };
    let mut hops = parse_route(args.get("route")?)?;
    if let Some(listener) = args.opt("secure") {
        hops.push(Hop::Secure(listener.to_string()));
    }
    let opened = open_route(node, &id, &hops, &make).await?;
    let outlet = args.opt("outlet").unwrap_or("outlet");
    let route: Route = opened
        .route
        .modify()
        .append(outlet.parse::<Address>()?)
        .build();
    let tcp = TcpTransport::get_or_create(ctx)?;
    let inlet = tcp
        .create_inlet(args.get("listen")?, route, TcpInletOptions::new())
        .await?;
    say(json!({
        "ready": true,
        "identifier": id.to_string(),
        "listen": inlet.socket_address().to_string(),
        "responder": opened.peers.last().map(|p| p.to_string()),
        "pid": std::process::id(),
    }));
    until_stopped(args).await;
    Ok(())
}

/// The outlet is behind a listener of this node (`--listen`), or behind a relay elsewhere
/// (`--relay`), or both; through a secure channel unless `--clear` also lets clear traffic in.
pub async fn outlet(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let id = identity(&home, args).await?;
    let trust = trust(args)?;
    let tcp = TcpTransport::get_or_create(ctx)?;

    let mut flows = Vec::new();
    let mut listen_at = Vec::new();
    for address in args.all("listen") {
        let options = TcpListenerOptions::new();
        flows.push(options.spawner_flow_control_id());
        listen_at.push(
            tcp.listen(&address, options)
                .await?
                .socket_address()
                .to_string(),
        );
    }
    let mut upstream = None;
    if let Some(relay) = args.opt("relay") {
        let opened = open_route(node, &id, &parse_route(relay)?, &|| {
            Ok(SecureChannelOptions::new().with_timeout(Duration::from_secs(10)))
        })
        .await?;
        flows.extend(opened.flows.iter().cloned());
        upstream = Some(opened.route);
    }
    if flows.is_empty() {
        return Err("--listen or --relay is missing".into());
    }

    let listener = args.opt("listener").unwrap_or("secure_channel_listener");
    let mut options = trusting_listener(SecureChannelListenerOptions::new(), &trust);
    for flow in &flows {
        options = options.as_consumer(flow);
    }
    let through = options.spawner_flow_control_id();
    node.create_secure_channel_listener(&id, listener, options)?;

    let name = args.opt("outlet").unwrap_or("outlet");
    let mut options = TcpOutletOptions::new().as_consumer(&through);
    if args.flag("clear") {
        for flow in &flows {
            options = options.as_consumer(flow);
        }
    }
    let target: HostnamePort = args.get("target")?.parse()?;
    tcp.create_outlet(Address::from(name), target, options)?;
    // A worker to try the channel with.
    ctx.flow_controls()
        .add_consumer(&Address::from("echoer"), &through);
    node.start_worker("echoer", Echoer::new(args.flag("trace"), false))?;

    let mut remote = serde_json::Value::Null;
    if let Some(route) = upstream {
        let info = match args.opt("name") {
            Some(alias) => {
                node.create_static_relay(route, alias, RemoteRelayOptions::new())
                    .await?
            }
            None => node.create_relay(route, RemoteRelayOptions::new()).await?,
        };
        remote = json!(info.remote_address());
    }
    say(json!({
        "ready": true,
        "identifier": id.to_string(),
        "listen": listen_at,
        "listener": listener,
        "outlet": name,
        "remote_address": remote,
        "pid": std::process::id(),
    }));
    until_stopped(args).await;
    Ok(())
}
