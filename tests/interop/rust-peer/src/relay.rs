//! `relay`: registers at a relay service and serves workers behind it.

use crate::arguments::{Args, Done};
use crate::identities::{home, identity, trust, trusting_listener};
use crate::output::{route_json, say, until_stopped};
use crate::routes::{open_route, parse_route};
use crate::workers::Echoer;
use ockam::identity::{SecureChannelListenerOptions, SecureChannelOptions};
use ockam::remote::RemoteRelayOptions;
use ockam::Context;
use ockam_core::Address;
use serde_json::json;
use std::time::Duration;

pub async fn run(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let id = identity(&home, args).await?;
    let trust = trust(args)?;
    let opened = open_route(node, &id, &parse_route(args.get("register")?)?, &|| {
        Ok(SecureChannelOptions::new().with_timeout(Duration::from_secs(10)))
    })
    .await?;

    let mut options = trusting_listener(SecureChannelListenerOptions::new(), &trust);
    for flow in &opened.flows {
        options = options.as_consumer(flow);
    }
    let through = options.spawner_flow_control_id();
    node.create_secure_channel_listener(&id, "listener", options)?;

    let to = args.opt("to").unwrap_or("echoer");
    let mut names = vec!["echoer", "uppercase"];
    if !names.contains(&to) {
        names.push(to);
    }
    for name in &names {
        ctx.flow_controls()
            .add_consumer(&Address::from(*name), &through);
        for flow in &opened.flows {
            ctx.flow_controls()
                .add_consumer(&Address::from(*name), flow);
        }
        node.start_worker(*name, Echoer::new(args.flag("trace"), *name == "uppercase"))?;
    }

    let info = match args.opt("name") {
        Some(alias) => {
            node.create_static_relay(opened.route.clone(), alias, RemoteRelayOptions::new())
                .await?
        }
        None => {
            node.create_relay(opened.route.clone(), RemoteRelayOptions::new())
                .await?
        }
    };
    say(json!({
        "ready": true,
        "identifier": id.to_string(),
        "remote_address": info.remote_address(),
        "forwarding_route": route_json(info.forwarding_route()),
        "worker_address": info.worker_address().to_string(),
        "workers": names,
        "listener": "listener",
        "pid": std::process::id(),
    }));
    until_stopped(args).await;
    Ok(())
}
