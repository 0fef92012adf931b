//! `node`: everything another implementation can talk to, on one TCP listener (and UDP socket).

use crate::arguments::{Args, Done};
use crate::credential;
use crate::identities::{history, home, identity, trust, trusting, trusting_listener, Trust};
use crate::output::{say, until_stopped};
use crate::routes::{open_route, parse_route};
use crate::workers::{Echoer, Forwarder, Seen, Stepper};
use ockam::identity::SecureChannelListenerOptions;
use ockam::tcp::{TcpListenerOptions, TcpOutletOptions, TcpTransport};
use ockam::udp::{UdpBindArguments, UdpBindOptions, UdpTransport};
use ockam::{Context, RelayService, RelayServiceOptions};
use ockam_core::flow_control::FlowControlId;
use ockam_core::{Address, AllowAll, IncomingAccessControl};
use ockam_node::WorkerBuilder;
use ockam_transport_core::HostnamePort;
use serde_json::json;
use std::sync::Arc;

pub async fn run(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let id = identity(&home, args).await?;
    let trust = trust(args)?;
    let tracing = args.flag("trace");

    let mut flows: Vec<FlowControlId> = Vec::new();
    let mut tcp_at = Vec::new();
    let tcp = TcpTransport::get_or_create(ctx)?;
    for address in args.all("listen") {
        let options = TcpListenerOptions::new();
        flows.push(options.spawner_flow_control_id());
        let listener = tcp.listen(&address, options).await?;
        tcp_at.push(listener.socket_address().to_string());
    }
    let mut udp_at = Vec::new();
    for address in args.all("udp") {
        let udp = UdpTransport::get_or_create(ctx)?;
        let options = UdpBindOptions::new();
        flows.push(options.flow_control_id());
        let bind = udp
            .bind(
                UdpBindArguments::new().with_bind_address(&address)?,
                options,
            )
            .await?;
        udp_at.push(bind.bind_address().to_string());
    }
    if flows.is_empty() {
        return Err("--listen or --udp is missing".into());
    }

    // Authorities, and what this side presents.
    let authority = credential::authority(node, args).await?;
    let presented = credential::presented(args)?;
    let access = credential::access(node, args, authority.as_ref())?;

    // Secure-channel listeners: reachable from every transport, and spawners of their own.
    let mut through = Vec::new();
    for name in ["listener", "secure_channel_listener"] {
        let mut options = trusting_listener(SecureChannelListenerOptions::new(), &trust);
        for flow in &flows {
            options = options.as_consumer(flow);
        }
        if let Some(authority) = &authority {
            options = options.with_authority(authority.clone());
        }
        if let Some(credential) = &presented {
            options = options.with_credential(credential.clone())?;
        }
        through.push(options.spawner_flow_control_id());
        node.create_secure_channel_listener(&id, name, options)?;
    }
    // A listener inside a channel (channel in channel) takes consumers of the channels' flows.
    for name in ["listener", "secure_channel_listener"] {
        for flow in &through {
            ctx.flow_controls().add_consumer(&Address::from(name), flow);
        }
    }

    let all: Vec<&FlowControlId> = if args.flag("secure-channel-only") {
        through.iter().collect()
    } else {
        flows.iter().chain(through.iter()).collect()
    };
    let serve = |name: &str| {
        for flow in &all {
            ctx.flow_controls().add_consumer(&Address::from(name), flow);
        }
    };
    let incoming: Arc<dyn IncomingAccessControl> = match &access {
        Some(access) => access.clone(),
        None => Arc::new(AllowAll),
    };

    for (name, upper) in [("echoer", false), ("echo", false), ("uppercase", true)] {
        serve(name);
        let seen = authority.as_ref().map(|a| Seen {
            attributes: node.identities_attributes(),
            authority: a.clone(),
        });
        WorkerBuilder::new(Echoer::new(tracing, upper).seeing(seen))
            .with_address(name)
            .with_incoming_access_control_arc(incoming.clone())
            .with_outgoing_access_control(AllowAll)
            .start(ctx)?;
    }
    serve("hop");
    node.start_worker("hop", Stepper { trace: tracing })?;

    for entry in args.all("forward") {
        let (name, route) = entry.split_once('=').ok_or("--forward wants NAME=ROUTE")?;
        let opened = open_route(node, &id, &parse_route(route)?, &|| {
            Ok(trusting(
                ockam::identity::SecureChannelOptions::new(),
                &Trust::Everyone,
            ))
        })
        .await?;
        serve(name);
        node.start_worker(
            name,
            Forwarder {
                route: opened.route,
                trace: tracing,
            },
        )?;
    }

    let mut relays = RelayServiceOptions::new()
        .alias("static_forwarding_service")
        .prefix(args.opt("relay-prefix").unwrap_or("forward_to_"));
    for flow in &all {
        relays = relays.service_as_consumer(flow).relay_as_consumer(flow);
    }
    RelayService::create(ctx, "forwarding_service", relays)?;

    let mut outlets = Vec::new();
    for target in args.all("outlet") {
        let (name, target) = match target.split_once('=') {
            Some((name, target)) => (name.to_string(), target.to_string()),
            None => ("outlet".to_string(), target),
        };
        let mut options = TcpOutletOptions::new().with_incoming_access_control(incoming.clone());
        for flow in &all {
            options = options.as_consumer(flow);
        }
        let peer: HostnamePort = target.parse()?;
        tcp.create_outlet(Address::from(name.as_str()), peer, options)?;
        outlets.push(name);
    }

    say(json!({
        "ready": true,
        "identifier": id.to_string(),
        "change_history": hex::encode(history(node, &id).await?),
        "tcp": tcp_at,
        "udp": udp_at,
        "listeners": ["listener", "secure_channel_listener"],
        "workers": ["echoer", "echo", "uppercase", "hop"],
        "relay_services": ["forwarding_service", "static_forwarding_service"],
        "outlets": outlets,
        "authority": authority.map(|a| a.to_string()),
        "pid": std::process::id(),
    }));
    until_stopped(args).await;
    Ok(())
}
