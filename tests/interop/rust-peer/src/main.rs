//! The Rust end of the interop tests, on the public API of Ockam. README.md says how to build it.

mod arguments;
mod channel;
mod credential;
mod identities;
mod node;
mod output;
mod portal;
mod relay;
mod routes;
mod workers;

use arguments::{Args, Done};
use ockam_node::NodeBuilder;
use output::{note, plain};

const FLAGS: &[&str] = &["trace", "no-stdin", "clear", "secure-channel-only"];

const USAGE: &str =
    "usage: ockam-peer node|channel|inlet|outlet|relay|credential [--option value]…";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = words.split_first() else {
        eprintln!("{USAGE}");
        std::process::exit(1);
    };
    if ["-h", "--help", "help"].contains(&command.as_str()) {
        println!("{USAGE}");
        return;
    }
    // `credential issue …`: the verb is the first word after the command.
    let (verb, rest) = match rest.split_first() {
        Some((verb, tail)) if command == "credential" && !verb.starts_with("--") => {
            (verb.clone(), tail)
        }
        _ => (String::new(), rest),
    };
    let args = match Args::parse(rest, FLAGS) {
        Ok(args) => args,
        Err(e) => fail(&e.to_string()),
    };
    logging();
    let (ctx, mut executor) = NodeBuilder::new().no_logging().no_exit_on_panic().build();
    let command = command.clone();
    let outcome = executor.execute(async move {
        let result: Done = match command.as_str() {
            "node" => node::run(&ctx, &args).await,
            "channel" => channel::run(&ctx, &args).await,
            "inlet" => portal::inlet(&ctx, &args).await,
            "outlet" => portal::outlet(&ctx, &args).await,
            "relay" => relay::run(&ctx, &args).await,
            "credential" => credential::run(&ctx, &verb, &args).await,
            other => Err(format!("unknown sub-command: {other}\n{USAGE}").into()),
        };
        let _ = ctx.shutdown_node_with_timeout(1).await;
        result
    });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(e)) => fail(&e.to_string()),
        Err(e) => fail(&e.to_string()),
    }
}

fn fail(text: &str) -> ! {
    note(serde_json::json!({ "error": plain(text) }));
    std::process::exit(1)
}

/// Library logs go to stderr, and only when OCKAM_LOG_LEVEL asks for them.
fn logging() {
    use tracing_subscriber::EnvFilter;
    if let Ok(filter) = EnvFilter::try_from_env("OCKAM_LOG_LEVEL") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
}
