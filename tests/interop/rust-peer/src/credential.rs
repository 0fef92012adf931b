//! `credential`: identities, issuing, verifying; and what the other sub-commands need of it.

use crate::arguments::{Args, Done, Fail};
use crate::identities::{history, home, identity};
use crate::output::say;
use ockam::abac::{Expr, IncomingAbac};
use ockam::access_control::CredentialAccessControl;
use ockam::identity::models::{CredentialAndPurposeKey, CredentialSchemaIdentifier};
use ockam::identity::utils::AttributesBuilder;
use ockam::identity::Identifier;
use ockam::{Context, Node};
use ockam_core::IncomingAccessControl;
use serde_json::{json, Value};
use std::sync::Arc;
use std::time::Duration;

/// `--authority HEX`: a change history, which this node then knows and trusts.
pub async fn authority(node: &Node, args: &Args) -> Result<Option<Identifier>, Fail> {
    match args.opt("authority") {
        Some(text) => Ok(Some(node.import_identity_hex(None, text).await?)),
        None => Ok(None),
    }
}

/// `--credential HEX`: what this side presents.
pub fn presented(args: &Args) -> Result<Option<CredentialAndPurposeKey>, Fail> {
    match args.opt("credential") {
        Some(text) => Ok(Some(CredentialAndPurposeKey::decode_from_string(text)?)),
        None => Ok(None),
    }
}

/// `--require-attribute k=v` (repeatable) or `--policy EXPRESSION`.
pub fn access(
    node: &Node,
    args: &Args,
    authority: Option<&Identifier>,
) -> Result<Option<Arc<dyn IncomingAccessControl>>, Fail> {
    if let Some(text) = args.opt("policy") {
        let expression = Expr::try_from(text).map_err(|e| e.to_string())?;
        return Ok(Some(Arc::new(IncomingAbac::create(
            node.identities_attributes(),
            authority.cloned(),
            expression,
        ))));
    }
    let wanted = pairs(&args.all("require-attribute"))?;
    if wanted.is_empty() {
        return Ok(None);
    }
    let authority = authority.ok_or("--require-attribute needs --authority")?;
    Ok(Some(Arc::new(CredentialAccessControl::new(
        &wanted,
        authority.clone(),
        node.identities_attributes(),
    ))))
}

fn pairs(entries: &[String]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Fail> {
    entries
        .iter()
        .map(|entry| {
            let (k, v) = entry
                .split_once('=')
                .ok_or_else(|| format!("{entry}: expected key=value"))?;
            Ok((raw(k)?, raw(v)?))
        })
        .collect()
}

/// `hex:…` is binary, anything else its UTF-8.
fn raw(text: &str) -> Result<Vec<u8>, Fail> {
    match text.strip_prefix("hex:") {
        Some(text) => Ok(hex::decode(text)?),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// What this node holds about a subject, as attested by an authority.
pub async fn known(node: &Node, subject: &Identifier, by: &Identifier) -> Result<Value, Fail> {
    let entry = node
        .identities_attributes()
        .get_attributes(subject, by)
        .await?;
    Ok(match entry {
        None => Value::Null,
        Some(entry) => json!({
            "attributes": entry.attrs().iter()
                .map(|(k, v)| json!([hex::encode(k), hex::encode(v)])).collect::<Vec<_>>(),
            "text": entry.deserialized_key_value_attrs(),
            "expires_at": entry.expires_at().map(|t| *t),
            "attested_by": entry.attested_by().map(|i| i.to_string()),
        }),
    })
}

pub async fn run(ctx: &Context, verb: &str, args: &Args) -> Done {
    match verb {
        "identity" => one(ctx, args).await,
        "issue" => issue(ctx, args).await,
        "verify" => verify(ctx, args).await,
        other => Err(format!("credential {other}: expected identity, issue or verify").into()),
    }
}

async fn one(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let id = identity(&home, args).await?;
    say(json!({
        "identifier": id.to_string(),
        "change_history": hex::encode(history(&home.node, &id).await?),
    }));
    Ok(())
}

async fn issue(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let authority = identity(&home, args).await?;
    let subject = node.import_identity_hex(None, args.get("subject")?).await?;
    let mut attributes =
        AttributesBuilder::with_schema(CredentialSchemaIdentifier(args.num("schema", 1)?));
    for (k, v) in pairs(&args.all("attr"))? {
        attributes = attributes.with_attribute(k, v);
    }
    let credential = node
        .credentials()
        .credentials_creation()
        .issue_credential(
            &authority,
            &subject,
            attributes.build(),
            Duration::from_secs(args.num("ttl", 3600)?),
        )
        .await?;
    let data = credential.get_credential_data()?;
    say(json!({
        "authority": authority.to_string(),
        "authority_change_history": hex::encode(history(node, &authority).await?),
        "subject": subject.to_string(),
        "credential": credential.encode_as_string()?,
        "created_at": *data.created_at,
        "expires_at": *data.expires_at,
    }));
    Ok(())
}

async fn verify(ctx: &Context, args: &Args) -> Done {
    let home = home(ctx).await?;
    let node = &home.node;
    let authority = authority(node, args)
        .await?
        .ok_or("--authority is missing")?;
    let credential = presented(args)?.ok_or("--credential is missing")?;
    let subject = match args.opt("subject") {
        Some(text) => Some(Identifier::try_from(text)?),
        None => None,
    };
    let data = node
        .credentials()
        .credentials_verification()
        .verify_credential(subject.as_ref(), &[authority.clone()], &credential)
        .await?
        .credential_data;
    say(json!({
        "verified": true,
        "authority": authority.to_string(),
        "subject": data.subject.map(|s| s.to_string()),
        "schema": data.subject_attributes.schema.0,
        "attributes": data.subject_attributes.map.iter()
            .map(|(k, v)| json!([hex::encode(k.as_slice()), hex::encode(v.as_slice())]))
            .collect::<Vec<_>>(),
        "created_at": *data.created_at,
        "expires_at": *data.expires_at,
    }));
    Ok(())
}
