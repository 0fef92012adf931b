//! Who this process is, and whom it lets in.

use crate::arguments::{Args, Fail};
use ockam::identity::models::ChangeHistory;
use ockam::identity::{
    Identifier, SecureChannelListenerOptions, SecureChannelOptions, TrustEveryonePolicy,
    TrustIdentifierPolicy, Vault,
};
use ockam::vault::{
    EdDSACurve25519SecretKey, SigningSecret, SoftwareVaultForSecureChannels,
    SoftwareVaultForSigning, SoftwareVaultForVerifyingSignatures,
};
use ockam::{Context, Node};
use std::sync::Arc;

/// The start of validity of every identity made from a given secret, in Unix seconds.
const CREATED_AT: u64 = 1_700_000_000;
const TEN_YEARS: u64 = 315_360_000;

/// A node of this process whose vaults are in memory and can be given known keys.
pub struct Home {
    pub node: Node,
    signing: Arc<SoftwareVaultForSigning>,
}

pub async fn home(ctx: &Context) -> ockam_core::Result<Home> {
    let signing = SoftwareVaultForSigning::create().await?;
    let channel = SoftwareVaultForSecureChannels::create().await?;
    let vault = Vault::new(
        signing.clone(),
        channel,
        SoftwareVaultForSigning::create().await?,
        Arc::new(SoftwareVaultForVerifyingSignatures {}),
    );
    let node = Node::builder().await?.with_vault(vault).build(ctx)?;
    Ok(Home { node, signing })
}

/// The identity of `--identity-secret HEX32` (valid from `--created-at`, CREATED_AT by default, for ten
/// years), else a fresh random one.
pub async fn identity(home: &Home, args: &Args) -> Result<Identifier, Fail> {
    let Some(secret) = args.opt("identity-secret") else {
        return Ok(home.node.create_identity().await?);
    };
    let raw: [u8; 32] = hex::decode(secret.trim())?
        .try_into()
        .map_err(|_| "--identity-secret: expected 32 bytes in hex")?;
    let key = SigningSecret::EdDSACurve25519(EdDSACurve25519SecretKey::new(raw));
    let handle = home.signing.import_key(key).await?;
    let from = args.num("created-at", CREATED_AT)?;
    Ok(home
        .node
        .identities_creation()
        .identity_builder()
        .with_existing_key(handle)
        .with_timestamps(from.into(), (from + TEN_YEARS).into())
        .build()
        .await?)
}

/// The exported change history of an identity this node knows.
pub async fn history(node: &Node, id: &Identifier) -> ockam_core::Result<Vec<u8>> {
    let history: ChangeHistory = node
        .identities_verification()
        .get_change_history(id)
        .await?;
    history.export()
}

pub enum Trust {
    Everyone,
    Only(Identifier),
}

pub fn trust(args: &Args) -> Result<Trust, Fail> {
    match args.opt("trust") {
        None | Some("everyone") => Ok(Trust::Everyone),
        Some(id) => Ok(Trust::Only(Identifier::try_from(id)?)),
    }
}

pub fn trusting(options: SecureChannelOptions, trust: &Trust) -> SecureChannelOptions {
    match trust {
        Trust::Everyone => options.with_trust_policy(TrustEveryonePolicy),
        Trust::Only(id) => options.with_trust_policy(TrustIdentifierPolicy::new(id.clone())),
    }
}

pub fn trusting_listener(
    options: SecureChannelListenerOptions,
    trust: &Trust,
) -> SecureChannelListenerOptions {
    match trust {
        Trust::Everyone => options.with_trust_policy(TrustEveryonePolicy),
        Trust::Only(id) => options.with_trust_policy(TrustIdentifierPolicy::new(id.clone())),
    }
}
