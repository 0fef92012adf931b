//! Routes as words, and opening what they name: connections and secure channels.

use crate::arguments::Fail;
use ockam::identity::{Identifier, SecureChannelOptions};
use ockam::tcp::{TcpConnectionOptions, TcpTransport};
use ockam::udp::{UdpBindArguments, UdpBindOptions, UdpTransport};
use ockam::Node;
use ockam_core::flow_control::FlowControlId;
use ockam_core::{Address, Route};
use std::time::Duration;

/// `tcp:H:P`, `udp:H:P`, `T#body`, `secure:LISTENER` or a local name, separated by commas.
pub enum Hop {
    Tcp(String),
    Udp(String),
    Secure(String),
    Plain(Address),
}

pub fn parse_route(text: &str) -> Result<Vec<Hop>, Fail> {
    let mut hops = Vec::new();
    for word in text.split(',').map(|w| w.trim()).filter(|w| !w.is_empty()) {
        hops.push(if let Some(peer) = word.strip_prefix("tcp:") {
            Hop::Tcp(peer.to_string())
        } else if let Some(peer) = word.strip_prefix("udp:") {
            Hop::Udp(peer.to_string())
        } else if let Some(listener) = word.strip_prefix("secure:") {
            Hop::Secure(listener.to_string())
        } else {
            Hop::Plain(
                word.parse::<Address>()
                    .map_err(|e| format!("{word}: {e}"))?,
            )
        });
    }
    if hops.is_empty() {
        return Err("empty route".into());
    }
    Ok(hops)
}

/// A route whose transports are connected and whose `secure:` hops are open channels.
pub struct Opened {
    pub route: Route,
    /// Producers on the way here: workers of this node that must be reachable from the other
    /// side have to be consumers of them.
    pub flows: Vec<FlowControlId>,
    pub peers: Vec<Identifier>,
}

pub async fn open_route(
    node: &Node,
    id: &Identifier,
    hops: &[Hop],
    make: &(dyn Fn() -> Result<SecureChannelOptions, Fail> + Sync),
) -> Result<Opened, Fail> {
    let mut opened = Opened {
        route: Route::new().build(),
        flows: Vec::new(),
        peers: Vec::new(),
    };
    for hop in hops {
        match hop {
            Hop::Tcp(peer) => {
                let tcp = TcpTransport::get_or_create(node.context())?;
                let options = TcpConnectionOptions::new().with_timeout(Duration::from_secs(10));
                opened.flows.push(options.flow_control_id());
                let connection = tcp.connect(peer.clone(), options).await?;
                opened.route = opened
                    .route
                    .modify()
                    .append(connection.sender_address().clone())
                    .build();
            }
            Hop::Udp(peer) => {
                let udp = UdpTransport::get_or_create(node.context())?;
                let options = UdpBindOptions::new();
                opened.flows.push(options.flow_control_id());
                let bind = udp
                    .bind(
                        UdpBindArguments::new().with_peer_address(peer).await?,
                        options,
                    )
                    .await?;
                opened.route = opened
                    .route
                    .modify()
                    .append(bind.sender_address().clone())
                    .build();
            }
            Hop::Plain(address) => {
                opened.route = opened.route.modify().append(address.clone()).build();
            }
            Hop::Secure(listener) => {
                let route = opened
                    .route
                    .clone()
                    .modify()
                    .append(listener.parse::<Address>()?)
                    .build();
                let channel = node.create_secure_channel(id, route, make()?).await?;
                opened.flows.push(channel.flow_control_id().clone());
                opened.peers.push(channel.their_identifier().clone());
                opened.route = Route::new()
                    .append(channel.encryptor_address().clone())
                    .build();
            }
        }
    }
    Ok(opened)
}
