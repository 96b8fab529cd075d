use std::path::PathBuf;

use super::keys::{KEYS, SECTIONS};
use super::lab::Routes;
use super::*;

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Sources { file: Some(path), ..Sources::default() })
}

fn set(assignment: &str) -> Sources {
    let (flag, text) = ("--set".to_owned(), assignment.to_owned());
    // An empty file: the machine's own configuration must not reach a test.
    Sources { file: Some(PathBuf::from("/dev/null")), flags: vec![(flag, text)], ..Sources::default() }
}

fn refusal(text: &str) -> String {
    let (_folder, sources) = file(text);
    load(&sources).unwrap_err().to_string()
}

#[test]
fn every_default_is_what_its_kind_admits() {
    for key in KEYS {
        let value: toml::Table = format!("v = {}", key.default).parse().unwrap();
        key.kind.check(&value["v"]).unwrap_or_else(|error| panic!("{}: {error}", key.full_name()));
        assert!(SECTIONS.iter().any(|(section, _)| *section == key.section), "{}", key.full_name());
    }
    let (_folder, sources) = file("");
    let config = load(&sources).unwrap();
    assert_eq!(config.socks.listen(), Some("127.0.0.1:1080".parse().unwrap()));
    assert!(!config.exit.enabled && !config.relay.enabled && !config.lab.enabled());
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    let text = refusal("[socks]\nlissten = \"127.0.0.1:1\"\n");
    assert!(
        text.contains("unknown key socks.lissten") && text.contains("did you mean socks.listen?"),
        "{text}"
    );
    assert!(text.contains("config.toml"), "{text}");
    let text = refusal("[tunnel]\nbootstrap = []\n");
    assert!(text.contains("did you mean overlay.bootstrap?"), "{text}");
    let text = refusal("[sock]\nlisten = \"\"\n");
    assert!(text.contains("unknown section [sock]") && text.contains("[socks]"), "{text}");
    let text = refusal("state_dir = \"x\"\n");
    assert!(text.contains("unknown key state_dir") && text.contains("node.state_dir"), "{text}");
    let text = load(&set("relay.enabeld=true")).unwrap_err().to_string();
    assert!(text.contains("--set") && text.contains("relay.enabled"), "{text}");
    let text = refusal("[log]\nqqqqqqqqqqqqqqq = 1\n");
    assert!(!text.contains("did you mean"), "{text}");
}

#[test]
fn wrong_types_and_ranges_name_key_file_and_expectation() {
    for (text, key, expected) in [
        ("[relay]\nenabled = \"yes\"\n", "relay.enabled", "true or false"),
        ("[tunnel]\nlisten = \"localhost\"\n", "tunnel.listen", "address and port"),
        ("[tunnel]\nlisten = 7411\n", "tunnel.listen", "address and port"),
        ("[tunnel]\nadvertise = [\"192.0.2.1:0\"]\n", "tunnel.advertise", "at most 4"),
        ("[socks]\ndefault_hops = 4\n", "socks.default_hops", "from 1 to 3"),
        ("[workers]\nmode = \"wsam\"\n", "workers.mode", "\"wasm\" or \"native\""),
        ("[exit]\ndeny = [\"10.0.0.0/33\"]\n", "exit.deny", "networks"),
        ("[exit]\nallow_ports = [0]\n", "exit.allow_ports", "ports"),
        ("[exit]\nallow_ports = [\"9-8\"]\n", "exit.allow_ports", "ports"),
        ("[circuits]\nprebuild_hops = [0]\n", "circuits.prebuild_hops", "1 to 3"),
        ("[relay]\noperator = \"abc\"\n", "relay.operator", "64 hex digits"),
        ("[relay]\nbytes_per_second = -1\n", "relay.bytes_per_second", "0 or more"),
        ("[socks]\ntoken = \"with space\"\n", "socks.token", "letters"),
        ("[log]\nlevel = \"=loud=\"\n", "log.level", "level"),
        ("[workers]\nmin = 0\n", "workers.min", "from 1 to 255"),
        ("[workers]\nmax = 256\n", "workers.max", "from 0 to 255"),
        ("[workers]\nsync_ms = -1\n", "workers.sync_ms", "from 0 to 3600000"),
        ("[plugins]\nkeys = [\"RWQf6LRCGA9i53\"]\n", "plugins.keys", "minisign public keys"),
        ("[plugins]\nrequire_signature = \"no\"\n", "plugins.require_signature", "true or false"),
        ("overlay = 1\n", "overlay", "section"),
    ] {
        let refused = refusal(text);
        assert!(refused.contains(key) && refused.contains(expected), "{text} -> {refused}");
        assert!(refused.contains("config.toml"), "{refused}");
    }
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    let text = refusal("[socks]\ntoken = 123456\n");
    assert!(text.contains("socks.token"), "{text}");
    let (_folder, sources) = file("[socks]\ntoken = \"hunter2\"\n");
    let shown = render::show(&load(&sources).unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("(hidden)"));
}

#[test]
fn broken_toml_says_where() {
    let text = refusal("[node]\nstate_dir = \n");
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn a_missing_file_is_refused_only_when_named() {
    let sources = Sources { file: Some("/nonexistent/warren.toml".into()), ..Sources::default() };
    assert!(matches!(load(&sources), Err(ConfigError::Read { .. })));
}

#[test]
fn environment_overrides_the_file_and_flags_override_both() {
    let (_folder, mut sources) = file("[socks]\ndefault_hops = 1\n[circuits]\nprebuild_hops = [1]\n");
    sources.environment = vec![
        ("WARREN_SOCKS_DEFAULT_HOPS".into(), "2".into()),
        ("WARREN_CIRCUITS_PREBUILD_HOPS".into(), "2,3".into()),
        ("WARREN_OVERLAY_BOOTSTRAP".into(), "[\"/ip4/127.0.0.1/tcp/1\"]".into()),
        ("WARREN_SOCKS_USER_1".into(), "h1".into()),
    ];
    let config = load(&sources).unwrap();
    assert_eq!((config.socks.default_hops, config.circuits.prebuild_hops), (2, vec![2, 3]));
    assert_eq!(config.overlay.bootstrap, ["/ip4/127.0.0.1/tcp/1"]);
    sources.flags = vec![("--set".into(), "socks.default_hops=3".into())];
    assert_eq!(load(&sources).unwrap().socks.default_hops, 3);
}

#[test]
fn a_bad_variable_is_named() {
    let mut sources = set("log.level=info");
    sources.environment = vec![("WARREN_RELAY_ENABLED".into(), "maybe".into())];
    let text = load(&sources).unwrap_err().to_string();
    assert!(text.contains("WARREN_RELAY_ENABLED") && text.contains("true or false"), "{text}");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let text = refusal("[exit]\nenabled = true\n");
    assert!(text.contains("relay.enabled"), "{text}");
    let text = refusal("[relay]\nenabled = true\n");
    assert!(text.contains("tunnel.advertise"), "{text}");
    let text = refusal("[socks]\nlisten = \"0.0.0.0:1080\"\n");
    assert!(text.contains("socks.token"), "{text}");
}

#[test]
fn lab_is_refused_where_a_route_leads_out() {
    let with_route = Routes::of(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nens1\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n",
        "",
    );
    let without = Routes::of(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nens1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
    );
    let six = Routes::of(
        "",
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     ens1\n",
    );
    let (_folder, sources) = file("");
    let mut config = load(&sources).unwrap();
    config.lab.enabled = true;
    for routes in [&with_route, &six] {
        let text = lab::check(&config, routes).unwrap_err().to_string();
        assert!(text.contains("tunnel.listen 0.0.0.0:7411") && text.contains("overlay.listen"), "{text}");
        assert!(text.contains("ens1") && !text.contains("socks.listen"), "{text}");
    }
    lab::check(&config, &without).unwrap();
    config.tunnel.listen = "127.0.0.1:0".parse().unwrap();
    config.overlay.listen = vec!["/ip4/127.0.0.1/tcp/0".into(), "/ip6/::1/udp/0/quic-v1".into()];
    lab::check(&config, &with_route).unwrap();
    config.overlay.listen.push("/dns4/localhost/tcp/0".into());
    assert!(lab::check(&config, &with_route).is_err());
}

#[test]
fn lab_off_leaves_the_rules_alone() {
    let (_folder, sources) = file("[lab]\nallow_private_exits = true\nsame_network = true\n");
    let config = load(&sources).unwrap();
    assert!(!config.lab.allow_private() && !config.lab.same_network());
}

#[test]
fn a_client_offers_nothing() {
    let (_folder, sources) = file("[relay]\nenabled = true\n[tunnel]\nlisten = \"127.0.0.1:7000\"\n");
    let client = load(&sources).unwrap().into_client("secret".into(), 2);
    assert!(!client.relay.enabled && !client.exit.enabled && client.overlay.listen.is_empty());
    assert_eq!(client.tunnel.listen, "127.0.0.1:0".parse().unwrap());
    assert_eq!(client.socks.token().as_deref(), Some("secret"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let (_folder, sources) =
        file("[exit]\nallow_ports = [443, \"8000-8999\"]\ndeny = [\"203.0.113.0/24\"]\n");
    let config = load(&sources).unwrap();
    let (_other, sources) = file(&render::show(&config));
    let again = load(&sources).unwrap();
    assert_eq!(config.effective, again.effective);
    assert_eq!(again.exit.allow_ports(), [(443, 443), (8000, 8999)]);
    assert_eq!(again.exit.deny(), [("203.0.113.0".parse().unwrap(), 24)]);
}

/// `WARREN_WRITE_DOCS=1` writes the page instead of checking it.
#[test]
fn the_book_is_what_the_table_says() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("WARREN_WRITE_DOCS").is_some() {
        std::fs::write(&page, render::book()).unwrap();
    }
    let same = std::fs::read_to_string(page).unwrap() == render::book();
    assert!(same, "docs/configuration.md is not what the table says; write it with WARREN_WRITE_DOCS=1");
}

#[test]
fn workers_are_a_number_or_a_range() {
    let bounds = |text: &str| {
        let (_folder, sources) = file(text);
        load(&sources).unwrap().workers.bounds(6)
    };
    assert_eq!(bounds(""), (1, 6));
    assert_eq!(bounds("[workers]\nmin = 2\n"), (2, 6));
    assert_eq!(bounds("[workers]\nmin = 8\n"), (8, 8), "more than there are cores");
    assert_eq!(bounds("[workers]\nmin = 2\nmax = 3\n"), (2, 3));
    assert_eq!(bounds("[workers]\ncount = 4\n"), (4, 4));
    assert_eq!(bounds("[workers]\ncount = 4\nmin = 4\nmax = 4\n"), (4, 4));
    assert_eq!(bounds("[workers]\ncount = 0\nmax = 3\n"), (1, 3));
}

#[test]
fn a_number_of_workers_that_contradicts_its_range_is_refused() {
    let text = refusal("[workers]\nmin = 3\nmax = 2\n");
    assert!(text.contains("workers.min is 3") && text.contains("workers.max is 2"), "{text}");
    for (key, value) in [("min", 1), ("min", 2), ("max", 8), ("max", 0)] {
        let text = refusal(&format!("[workers]\ncount = 4\n{key} = {value}\n"));
        let key = format!("workers.{key} is {value}");
        assert!(text.contains("workers.count is 4") && text.contains(&key), "{text}");
    }
    let (_folder, mut sources) = file("[workers]\nmax = 2\n");
    sources.environment = vec![("WARREN_WORKERS_COUNT".into(), "3".into())];
    assert!(load(&sources).unwrap_err().to_string().contains("workers.max is 2"));
}

#[test]
fn keys_of_the_pool_and_of_plugins_have_near_names() {
    for (text, near) in [
        ("[workers]\nminimum = 1\n", "workers.min"),
        ("[workers]\nsync = 1\n", "workers.sync_ms"),
        ("[plugins]\nkey = []\n", "plugins.keys"),
        ("[plugins]\nrequire_signatures = true\n", "plugins.require_signature"),
        ("[workers]\nrequire_signature = true\n", "plugins.require_signature"),
    ] {
        let text = refusal(text);
        assert!(text.contains(&format!("did you mean {near}?")), "{text}");
    }
    let text = refusal("[plugin]\nkeys = []\n");
    assert!(text.contains("unknown section [plugin]") && text.contains("[plugins]"), "{text}");
}

#[test]
fn plugin_keys_are_read_and_signatures_are_asked_for() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let (_folder, sources) = file(&format!("[plugins]\nkeys = [\"{key}\"]\n[workers]\nsync_ms = 0\n"));
    let config = load(&sources).unwrap();
    assert_eq!(config.plugins.keys().iter().map(PublicKey::id).collect::<Vec<_>>(), ["E7620F1842B4E81F"]);
    assert!(config.plugins.require_signature);
    assert_eq!(config.workers.sync(), None);
    let config = load(&set(&format!("plugins.keys={key},{key}"))).unwrap();
    assert_eq!(config.plugins.keys().len(), 2);
    assert_eq!(config.workers.sync(), Some(Duration::from_secs(5)));
}
