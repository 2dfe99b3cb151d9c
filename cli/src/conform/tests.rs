use super::*;
use nat::{Filtering, Nanos, Timeouts};

fn config() -> nat::Config {
    nat::Config::new([192, 0, 2, 10].into(), 1..=65_535)
}

fn failed(config: &nat::Config) -> Vec<String> {
    let failed = report(config).into_iter().filter(|one| !one.met);
    failed
        .map(|one| format!("{} {}: {}", one.rfc, one.name, one.seen))
        .collect()
}

#[test]
fn everything_is_met_with_the_rfcs_settings_and_an_open_filter() {
    let mut config = config();
    (config.udp_filtering, config.tcp_filtering) = (Filtering::Adf, Filtering::Eif);
    assert_eq!(failed(&config), Vec::<String>::new());
}

#[test]
fn the_default_filter_is_stricter_than_recommended_and_nothing_else_differs() {
    let strict = "address and port-dependent (stricter)";
    let expected = [
        format!("4787 REQ-8: {strict}"),
        format!("5382 REQ-3: {strict}"),
    ];
    assert_eq!(failed(&config()), expected);
    assert!(
        report(&config())
            .iter()
            .all(|one| one.met || one.level == Level::Should)
    );
}

#[test]
fn linux_timers_are_seen_and_the_fix_is_named() {
    let mut config = config();
    config.timeouts = Timeouts::linux();
    let report = report(&config);
    let timers: Vec<_> = report
        .iter()
        .filter(|one| one.fix == "--nat-profile rfc")
        .map(|one| format!("{} {}: {}", one.rfc, one.name, one.seen))
        .collect();
    assert_eq!(
        timers,
        [
            "4787 REQ-5c: 120 s",
            "5382 REQ-5: 120 s",
            "5508 REQ-2: 30 s"
        ]
    );
}

#[test]
fn a_setting_that_breaks_a_must_shows() {
    let mut config = config();
    config.timeouts.udp = Nanos::from_secs(60);
    config.timeouts.udp_unreplied = Nanos::from_secs(60);
    assert!(failed(&config).contains(&"4787 REQ-5: 60 s".to_owned()));
    config.ports = 40_000..=49_999;
    assert!(
        failed(&config)
            .iter()
            .any(|one| one.starts_with("4787 REQ-3a: 700 as 4"))
    );
}

#[test]
fn live_slices_and_a_missing_address_do_no_harm() {
    let mut live = config();
    (live.slice, live.slices) = (1, 2);
    live.external = [0, 0, 0, 0].into();
    assert_eq!(failed(&live), failed(&config()));
}
