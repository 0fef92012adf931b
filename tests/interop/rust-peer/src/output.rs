//! What a test reads: one JSON object a line, and the moment to stop.

use crate::arguments::Args;
use ockam_core::Route;
use serde_json::Value;
use std::io::Write;

/// One JSON line on stdout, flushed.
pub fn say(value: Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

/// One JSON line on stderr.
pub fn note(value: Value) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{value}");
    let _ = err.flush();
}

/// An error's text without the place in the sources, which says where this program was built.
pub fn plain(text: &str) -> String {
    let mut text = text.to_string();
    while let Some(start) = text.find(", source location: ") {
        let end = text[start..].find(')').map_or(text.len(), |n| start + n);
        text.replace_range(start..end, "");
    }
    text
}

/// Returns on SIGTERM, SIGINT or (unless `--no-stdin`) the end of stdin.
pub async fn until_stopped(args: &Args) {
    use tokio::signal::unix::{signal, SignalKind};
    let mut term = signal(SignalKind::terminate()).expect("SIGTERM");
    let mut int = signal(SignalKind::interrupt()).expect("SIGINT");
    let (tx, rx) = tokio::sync::oneshot::channel::<()>();
    let mut keep = None;
    if args.flag("no-stdin") {
        keep = Some(tx);
    } else {
        std::thread::spawn(move || {
            let mut sink = std::io::sink();
            let _ = std::io::copy(&mut std::io::stdin(), &mut sink);
            let _ = tx.send(());
        });
    }
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = rx => {}
    }
    drop(keep);
}

pub fn route_json(route: &Route) -> Value {
    route.iter().map(|a| a.to_string()).collect()
}
