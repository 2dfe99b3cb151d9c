//! Commands and outputs in a text with fenced blocks.

/// A command after a `$ `, or `^C`, and what it printed.
pub(super) struct Step {
    pub(super) command: String,
    pub(super) output: String,
}

const FENCE: &str = "```";

fn command(line: &str) -> Option<&str> {
    line.strip_prefix("$ ").or((line == "^C").then_some(line))
}

/// The steps of all `console` blocks, in order.
pub(super) fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(FENCE) {
            inside = line == "```console";
        } else if let Some(command) = command(line).filter(|_| inside) {
            steps.push(Step {
                command: command.to_owned(),
                output: String::new(),
            });
        } else if let Some(step) = steps.last_mut().filter(|_| inside) {
            step.output += line;
            step.output += "\n";
        }
    }
    steps
}

/// The text with other outputs; a step that was not run keeps its own.
pub(super) fn bless(text: &str, outputs: &[Option<String>]) -> String {
    let mut outputs = steps(text)
        .into_iter()
        .zip(outputs)
        .map(|(step, output)| output.clone().unwrap_or(step.output));
    let mut blessed = String::new();
    let mut inside = false;
    for line in text.lines() {
        let fence = line.starts_with(FENCE);
        if fence {
            inside = line == "```console";
        }
        let is_command = inside && command(line).is_some();
        if !inside || fence || is_command {
            blessed += line;
            blessed += "\n";
        }
        if is_command {
            blessed += &outputs.next().unwrap();
        }
    }
    blessed
}

/// Every inline code span, every command, and every line of blocks of other kinds.
pub(super) fn code(text: &str) -> Vec<String> {
    let mut found: Vec<String> = steps(text).into_iter().map(|step| step.command).collect();
    let mut block = None;
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix(FENCE) {
            block = if block.is_none() { Some(kind) } else { None };
        } else if block.is_none() {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        } else if block != Some("console") {
            found.push(line.to_owned());
        }
    }
    found
}

/// One word to a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
