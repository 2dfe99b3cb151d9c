//! The command `report`: a page out of what `vswitch bench` or `iperf3` measured.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::command::unwritten;
use super::document::{Document, SCHEMA};
use super::page::{self, Iperf};
use crate::args::{Common, ReportPlan};
use crate::dispatch::{Outcome, message, print};
use crate::error::{CliError, Exit};

/// Numbers beyond this are no measurement, and no picture can show them.
const NUMBER_MAX: f64 = 1e18;

/// Reads the file, makes the page, writes it.
///
/// # Errors
/// The file cannot be read or is neither the JSON of `vswitch bench` nor of `iperf3`; the page
/// cannot be written.
pub fn command(common: &Common, plan: &ReportPlan) -> Outcome {
    let name = plan.input.display().to_string();
    let bytes = read(&plan.input)
        .map_err(|error| refused(&name, &error.to_string(), "vswitch bench -o run.json"))?;
    let page = page(&name, &bytes)?;
    let Some(output) = &plan.output else {
        return print(common.colour, &page);
    };
    std::fs::write(output, page).map_err(|error| unwritten(output, &error))?;
    message(common, &format!("written to {}", output.display()));
    Ok(Exit::Done)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path)
}

/// The page of a file called `name`.
///
/// # Errors
/// It is neither the JSON of `vswitch bench` nor of `iperf3`, or there is nothing in it.
pub fn page(name: &str, bytes: &[u8]) -> Result<String, CliError> {
    const EXPECTED: &str = "expected the JSON of `vswitch bench -j` or `iperf3 -J`";
    let fix = "vswitch bench -o run.json";
    let refuse = |why: &str| refused(name, &format!("{why}; {EXPECTED}"), fix);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(refuse("empty"));
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| refuse(&format!("not JSON: {error}")))?;
    if !measurable(&value) {
        return Err(refuse("a number in it is beyond all that can be measured"));
    }
    let text = |key: &str| {
        value
            .pointer(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    match text("/start/schema")
        .or_else(|| text("/0/schema"))
        .or_else(|| text("/schema"))
    {
        Some(schema) if schema == SCHEMA => {
            let document: Document = serde_json::from_value(value)
                .map_err(|error| refuse(&format!("not whole: {error}")))?;
            if document.end.tests.is_empty() {
                return Err(refused(name, "no test in it was measured", fix));
            }
            return Ok(page::bench(&document));
        }
        Some(schema) => {
            let why = format!("its schema is {schema}, and this vswitch reads {SCHEMA}");
            return Err(refused(name, &why, fix));
        }
        None => {}
    }
    if !text("/start/version").is_some_and(|version| version.starts_with("iperf ")) {
        return Err(refuse("neither of the two kinds of file"));
    }
    let run: Iperf =
        serde_json::from_value(value).map_err(|error| refuse(&format!("not whole: {error}")))?;
    match run.nothing() {
        Some(why) => Err(refused(name, &why, "iperf3 -c ADDRESS -J > run.json")),
        None => Ok(page::iperf(&run)),
    }
}

fn refused(name: &str, why: &str, fix: &str) -> CliError {
    CliError::failed(name, why, fix)
}

/// Whether every number in it can be drawn.
fn measurable(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.as_f64().is_some_and(|size| size.abs() <= NUMBER_MAX),
        Value::Array(list) => list.iter().all(measurable),
        Value::Object(map) => map.values().all(measurable),
    }
}
