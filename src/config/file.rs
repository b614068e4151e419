//! The configuration file: TOML, with keys of the same names as the flags.
//!
//! **Invariant:** what stands in the file is checked like what a flag says, for it becomes that flag's default.

use clap::ArgAction;

/// What a file cannot say: where it is, and to do something else than serve.
pub const NOT_IN_FILE: &[&str] = &["config", "check"];

/// Flags that take a list as one word, with commas.
const LISTS_IN_ONE: &[&str] = &["codecs", "record"];

/// Makes the file's values the defaults, so that they are checked like every other value.
pub fn with_defaults(mut command: clap::Command, text: &str) -> Result<clap::Command, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or(text).matches('\n').count());
        format!("line {}: {}", line + 1, error.message())
    })?;
    for (key, value) in table {
        let Some(arg) =
            command.get_arguments().find(|arg| arg.get_long() == Some(&key) && !NOT_IN_FILE.contains(&&*key))
        else {
            let hyphened = key.replace('_', "-");
            let known = command.get_arguments().any(|arg| arg.get_long() == Some(&hyphened));
            let hint = if known && hyphened != key { format!(": write `{hyphened}`") } else { String::new() };
            return Err(format!("unknown key `{key}`{hint}"));
        };
        let is_list = matches!(arg.get_action(), ArgAction::Append);
        let id = arg.get_id().clone();
        let values = file_values(&key, &value, is_list)?;
        // An empty list says what no default says as well.
        if !values.is_empty() {
            command = command.mut_arg(id, |arg| arg.default_values(values));
        }
    }
    Ok(command)
}

/// One value of the file as the words that a flag would have taken.
fn file_values(key: &str, value: &toml::Value, is_list: bool) -> Result<Vec<String>, String> {
    let word = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        other => Err(format!("`{key}` cannot be a {}", other.type_str())),
    };
    let words = match value {
        toml::Value::Array(items) => items.iter().map(word).collect::<Result<Vec<_>, _>>()?,
        single => vec![word(single)?],
    };
    if is_list {
        let parts = words.iter().flat_map(|word| word.split(','));
        Ok(parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    } else if LISTS_IN_ONE.contains(&key) {
        Ok(vec![words.join(",")])
    } else if words.len() == 1 {
        Ok(words)
    } else {
        Err(format!("`{key}` takes one value"))
    }
}
