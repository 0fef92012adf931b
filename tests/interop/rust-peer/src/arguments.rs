//! The command line: `--name value` pairs, flags, and the errors of a wrong one.

use std::collections::HashMap;

pub type Fail = Box<dyn std::error::Error + Send + Sync>;
pub type Done = Result<(), Fail>;

/// `--name value` pairs (repeatable) and `--flag`s.
pub struct Args {
    values: HashMap<String, Vec<String>>,
}

impl Args {
    pub fn parse(words: &[String], flags: &[&str]) -> Result<Self, Fail> {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("unexpected argument: {word}"))?;
            let (name, value) = match name.split_once('=') {
                Some((n, v)) if !flags.contains(&n) => (n, v.to_string()),
                _ if flags.contains(&name) => (name, String::new()),
                _ => (
                    name,
                    words
                        .next()
                        .ok_or_else(|| format!("--{name} needs a value"))?
                        .clone(),
                ),
            };
            values.entry(name.to_string()).or_default().push(value);
        }
        Ok(Self { values })
    }

    pub fn opt(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .and_then(|v| v.last())
            .map(|x| x.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.values.get(name).cloned().unwrap_or_default()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn get(&self, name: &str) -> Result<&str, Fail> {
        self.opt(name)
            .ok_or_else(|| format!("--{name} is missing").into())
    }

    pub fn num(&self, name: &str, default: u64) -> Result<u64, Fail> {
        match self.opt(name) {
            Some(text) => text
                .parse()
                .map_err(|e| format!("--{name} {text}: {e}").into()),
            None => Ok(default),
        }
    }
}
