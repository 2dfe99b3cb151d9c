//! `vswitch plugin`: the ports of running switches in other programs.
//!
//! Wireshark and tshark ask every program in their extcap folders which interfaces it has. What is
//! put there is a script of two lines that starts this program as `vswitch extcap`.

pub mod extcap;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::{Common, PluginPlan, PluginVerb};
use crate::dispatch::{Outcome, message, print};
use crate::error::{CliError, Exit};

/// The script in the folder.
const SCRIPT: &str = "vswitch-extcap";

/// Installs, shows, or removes.
///
/// # Errors
/// The folder cannot be found out or written to.
pub fn command(common: &Common, plan: &PluginPlan) -> Outcome {
    let folder = match &plan.dir {
        Some(dir) => dir.clone(),
        None => own_folder()?,
    };
    let path = folder.join(SCRIPT);
    match plan.verb {
        PluginVerb::Install => install(common, &folder, &path),
        PluginVerb::Status => status(common, &path),
        PluginVerb::Remove => match fs::remove_file(&path) {
            Ok(()) => {
                message(common, &format!("removed {}", path.display()));
                Ok(Exit::Done)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                message(common, &format!("not there: {}", path.display()));
                Ok(Exit::Done)
            }
            Err(error) => Err(failed(&path, &error)),
        },
    }
}

fn install(common: &Common, folder: &Path, path: &Path) -> Outcome {
    let text = script(&program()?, &common.run_dir);
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    fs::write(path, text).map_err(|error| failed(path, &error))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable).map_err(|error| failed(path, &error))?;
    message(common, &format!("installed {}: tshark -D", path.display()));
    Ok(Exit::Done)
}

/// Says what is there; the answer is no where it would not start this program.
fn status(common: &Common, path: &Path) -> Outcome {
    let expected = script(&program()?, &common.run_dir);
    let (text, exit) = match fs::read_to_string(path) {
        Ok(text) if text == expected => ("installed", Exit::Done),
        Ok(_) => (
            "starts another program or directory; fix: vswitch plugin install extcap",
            Exit::No,
        ),
        Err(_) => ("not there; fix: vswitch plugin install extcap", Exit::No),
    };
    print(
        common.colour,
        &format!("extcap  {}  {text}\n", path.display()),
    )?;
    Ok(exit)
}

fn program() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| failed(Path::new("this program"), &error))
}

/// The script: it passes on what it is given.
fn script(program: &Path, run_dir: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    format!(
        "#!/bin/sh\nexec {} --run-dir {} extcap \"$@\"\n",
        quoted(program),
        quoted(run_dir)
    )
}

/// The folder of this user's own: that which tshark names, or where later versions have it.
fn own_folder() -> Result<PathBuf, CliError> {
    let told = Command::new("tshark").args(["-G", "folders"]).output();
    let told = told.ok().filter(|output| output.status.success());
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if let Some(folder) = told.as_deref().and_then(folder) {
        return Ok(folder);
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| CliError::failed("HOME", "is not set", "--dir DIR"))?;
    Ok(Path::new(&home).join(".local/lib/wireshark/extcap"))
}

/// The folder in what `tshark -G folders` prints. Where that does not name it, as in version 4.0,
/// it is in the folder of the personal configuration.
fn folder(told: &str) -> Option<PathBuf> {
    let named = |name: &str| {
        let mut lines = told.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| *key == name);
        found.map(|(_, path)| PathBuf::from(path.trim()))
    };
    named("Personal Extcap path")
        .or_else(|| named("Personal configuration").map(|folder| folder.join("extcap")))
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    let path = path.display().to_string();
    CliError::failed(path, error.to_string(), "--dir DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_the_one_that_tshark_looks_into() {
        let old = "Temp:\t/tmp\nPersonal configuration:\t/h/.config/wireshark\n\
                   Extcap path:\t/usr/lib/wireshark/extcap\n";
        assert_eq!(folder(old), Some("/h/.config/wireshark/extcap".into()));
        let new = format!("{old}Personal Extcap path:\t/h/.local/lib/wireshark/extcap\n");
        assert_eq!(folder(&new), Some("/h/.local/lib/wireshark/extcap".into()));
        assert_eq!(folder("tshark: what?"), None);
    }

    #[test]
    fn a_name_in_the_script_is_one_word_to_the_shell() {
        let text = script(Path::new("/opt/it's/vswitch"), Path::new("/run/a b"));
        let line = r#"exec '/opt/it'\''s/vswitch' --run-dir '/run/a b' extcap "$@""#;
        assert_eq!(text, format!("#!/bin/sh\n{line}\n"));
    }
}
