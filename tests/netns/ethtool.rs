//! Switching a device's offloads off, where a refusal fails the test.

use vswitch_cli::lab::Host;
pub(super) use vswitch_cli::lab::offload::{SENDER, TUNNELS};

/// Switches `features` of `device` in `host` off.
pub(super) fn switch_off(host: &Host, device: &str, features: &[&str]) {
    host.switch_off(device, features).unwrap();
}
