//! Signing in with the token of another issuer: the composed components, with a volume as Kubernetes has it.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dev_host::{Host, Launch, WAIT_LIMIT, wait_for};
use keyvault_emulator::{Emulator, Source, facts};

use crate::harness::{HOST, Harness, OWN_HOST, REUSED_INSTANCES, VALUE};
use crate::volume::{Layout, Volume};
use crate::{assert_calls_by_instance, in_parallel};

/// The composed components under `wasmtime serve`, and the one of the gateway's own host.
const FEDERATED: [&str; 3] = [UNDER_WASMTIME[0], UNDER_WASMTIME[1], OWN_HOST];
const UNDER_WASMTIME: [&str; 2] = ["proxy-federated", "service-federated"];

/// The options by which an instance serves many requests at once.
const SHARED_INSTANCES: [&str; 6] = [
    "--max-instance-reuse-count",
    "100000",
    "--max-instance-concurrent-reuse-count",
    "128",
    "--idle-instance-timeout",
    "60s",
];

/// Starts a component with the token file of `volume`, and puts an assertion that Entra ID trusts there.
fn start(component: &str, volume: &Volume, settings: &[(&str, &str)], options: &[&str]) -> Harness {
    let (file, directory) = (volume.file(), volume.path());
    let directory = ["--dir", directory.to_str().unwrap()];
    let directory: &[_] = if component == OWN_HOST { &[] } else { &directory };
    let settings = [settings, &[("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap())]].concat();
    let options = [directory, options].concat();
    let harness = Harness::start_with(component, Source::WorkloadIdentity, &settings, &options);
    renew(&harness, volume);
    harness
}

/// Renews the volume with a new assertion, as a line.
fn renew(harness: &Harness, volume: &Volume) {
    volume.renew(harness.emulator.cluster_assertion() + "\n");
}

/// The options by which instances live on, or are used once.
fn instances(component: &str, live_on: bool) -> &'static [&'static str] {
    match (component == OWN_HOST, live_on) {
        (true, true) => &[],
        (true, false) => &["--instance-requests", "1"],
        (false, true) => &REUSED_INSTANCES,
        (false, false) => &["--max-instance-reuse-count", "1"],
    }
}

/// Waits for a line of the log with this text: hosts write them after the response.
#[track_caller]
fn expect_line(harness: &Harness, text: &str) {
    let line = harness.server.wait_for_line(WAIT_LIMIT, |line| line.contains(text));
    assert!(line.is_some(), "{text}: {:?}", harness.server.log());
}

#[test]
fn no_read_fails_while_the_volume_is_renewed() {
    // An instance that is used once, or by few requests at a time on the own host, has a token of its own. A
    // living one renews its token in the background, where a failure would fail no request.
    let least = |component| if component == OWN_HOST { 20 } else { 100 };
    let ways = FEDERATED.map(|component| (component, false, least(component)));
    let ways = ways.into_iter().chain([(OWN_HOST, true, 4)]);
    for (component, live_on, least) in ways {
        for layout in Layout::ALL {
            let case = format!("{component} {live_on} {layout:?}");
            let volume = Volume::new(layout, "");
            // Each request reads the secret from the vault.
            let settings = [("GATEWAY_CACHE_TTL_SECONDS", "0"), ("GATEWAY_CALLER_CALLS_PER_SECOND", "0")];
            let mut harness = start(component, &volume, &settings, instances(component, live_on));
            // A token is due for a refresh after a second.
            harness.emulator.configure(|settings| settings.lifetime = Some(2));
            let assertion = harness.emulator.cluster_assertion();
            let (is_over, mut renewals) = (AtomicBool::new(false), 0);
            let end = Instant::now() + WAIT_LIMIT;
            scope(|threads| {
                threads.spawn(|| {
                    in_parallel(32, || {
                        while !is_over.load(Ordering::Relaxed) {
                            assert_eq!(harness.post().value(), VALUE, "{case}");
                        }
                    });
                });
                while (harness.calls().0 < least || renewals <= 10) && Instant::now() < end {
                    volume.renew(&assertion);
                    renewals += 1;
                    sleep(Duration::from_millis(2));
                }
                is_over.store(true, Ordering::Relaxed);
            });
            let signs_in = harness.calls().0;
            assert!(signs_in >= least && renewals > 10, "{case} {signs_in} {renewals}");
            let failures = harness.server.stop().into_iter().filter(|line| line.contains("token file"));
            assert_eq!(failures.collect::<Vec<_>>(), [""; 0], "{case}");
        }
    }
}

#[test]
fn one_instance_lives_through_a_renewal_and_an_expiry() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let expired = |emulator: &Emulator| {
        let (issuer, subject) = (facts::CLUSTER_ISSUER, facts::CLUSTER_SUBJECT);
        emulator.assertion(issuer, subject, facts::EXCHANGE_AUDIENCE, now - 7200, now - 3600)
    };
    for component in FEDERATED {
        for layout in Layout::ALL {
            let volume = Volume::new(layout, "");
            let settings = [("GATEWAY_CACHE_TTL_SECONDS", "0")];
            let harness = start(component, &volume, &settings, instances(component, true));
            volume.renew(expired(&harness.emulator));
            assert_eq!(harness.post().error(), (502, "IdentityError".to_owned()), "{component} {layout:?}");
            expect_line(&harness, "code AADSTS700024");
            renew(&harness, &volume);
            let read = || (harness.post().status == 200).then_some(());
            wait_for("a token with the new assertion", read);
            assert_eq!((harness.post().value().as_str(), harness.instances()), (VALUE, 1), "{component}");
        }
    }
}

#[test]
fn what_is_no_token_is_named_in_the_log() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&outside, "a.b.c").unwrap();
    let (huge, longest) = ("x".repeat(16 * 1024 + 1), "x".repeat(16 * 1024));
    for component in FEDERATED {
        let volume = Volume::new(Layout::File, "");
        let settings = [("GATEWAY_DEADLINE_SECONDS", "2")];
        let harness = start(component, &volume, &settings, instances(component, false));
        // An instance remembers its last failure for a second.
        let expect = |cause: &str| {
            let earlier = harness.server.log().len();
            let read = || {
                let error = harness.post().error();
                assert_eq!(error, (502, "IdentityError".to_owned()), "{component} {cause}");
                harness.server.log()[earlier..].iter().any(|line| line.contains(cause)).then_some(())
            };
            wait_for(cause, read);
        };
        // A late line of the row before has another cause.
        for (content, cause) in [
            ("", "the token file is empty"),
            ("eyJh.eyJh.\neyJh", "the token file has something that is not a token"),
            (" \n", "the token file is empty"),
            (&huge, "the token file is larger than a token"),
            ("{\"error\":\"x\"}", "the token file has something that is not a token"),
            // It is sent, and Entra ID says what it is.
            (&longest, "the token source does not accept the assertion"),
        ] {
            volume.renew(content);
            expect(cause);
        }
        std::fs::remove_file(volume.file()).unwrap();
        expect("there is no token file");
        symlink(outside.path(), volume.file()).unwrap();
        expect("the host does not let the reader read the token file");
        std::fs::remove_file(volume.file()).unwrap();
        std::fs::create_dir(volume.file()).unwrap();
        expect("the token file could not be read");
        std::fs::remove_dir(volume.file()).unwrap();
        symlink("..data/azure-identity-token", volume.file()).unwrap();
        renew(&harness, &volume);
        wait_for("a token", || (harness.post().status == 200).then_some(()));
    }
}

#[test]
fn a_missing_directory_is_told_at_the_start_or_in_the_log() {
    let gone = ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/azure/azure-identity-token");
    // Without `--dir`, and with that of another directory.
    let other = tempfile::tempdir().unwrap();
    for component in UNDER_WASMTIME {
        for options in [vec![], vec!["--dir", other.path().to_str().unwrap()]] {
            let harness = Harness::start_with(component, Source::WorkloadIdentity, &[gone], &options);
            assert_eq!(harness.post().error(), (502, "IdentityError".to_owned()), "{component}");
            expect_line(&harness, "the host gives the reader no directory with the token file");
            assert_eq!(harness.calls(), (0, 0), "{component}");
        }
    }
    let component = dev_host::component("service-federated").unwrap();
    let launch = Launch::new(HOST, component).host(Host::Gateway);
    let settings = Emulator::new().settings(Source::WorkloadIdentity, "http://127.0.0.1:1");
    let error = launch.environment(settings).environment([gone]).start().err().unwrap();
    assert!(error.contains("there is no directory /nonexistent/azure with a token file"), "{error}");
}

#[test]
fn each_instance_reads_one_assertion_for_a_burst_of_cold_reads() {
    for component in [OWN_HOST, "service-federated"] {
        let options: &[_] = if component == OWN_HOST { &[] } else { &SHARED_INSTANCES };
        let volume = Volume::new(Layout::Directory, "");
        let harness = start(component, &volume, &[], options);
        in_parallel(64, || assert_eq!(harness.post().value(), VALUE, "{component}"));
        assert_calls_by_instance(&harness);
        assert!(harness.calls().0 >= 1, "{component}");
        assert!(component != OWN_HOST || harness.calls() == (1, 1), "{:?}", harness.calls());
    }
}

#[test]
fn an_untrusted_assertion_is_shown_to_the_operator_and_to_no_caller() {
    for component in FEDERATED {
        let volume = Volume::new(Layout::Directory, "");
        let settings = [("GATEWAY_DEADLINE_SECONDS", "3")];
        let harness = start(component, &volume, &settings, instances(component, true));
        harness.emulator.configure(|settings| {
            settings.federated_credentials.iter_mut().for_each(|trusted| trusted.subject.push('x'));
        });
        let response = harness.post();
        assert_eq!(response.error(), (502, "IdentityError".to_owned()), "{component}");
        // One second and then another try; the second wait of two seconds does not fit in.
        assert_eq!(harness.calls(), (2, 0), "{component}");
        let (issuer, subject) = (facts::CLUSTER_ISSUER, facts::CLUSTER_SUBJECT);
        let claims = format!("code AADSTS700213): issuer {issuer}, subject {subject}, audience ");
        expect_line(&harness, &claims);
        assert!(!response.body.contains(subject));
    }
}

#[test]
fn an_assertion_may_come_from_another_service() {
    for source in [Source::ManagedIdentityFederation, Source::GithubActions, Source::GoogleCloud] {
        for component in FEDERATED {
            let harness = Harness::start_with(component, source, &[], instances(component, true));
            assert_eq!(harness.post().value(), VALUE, "{component} {source:?}");
            assert_eq!(harness.calls(), (2, 1), "{component} {source:?}");
        }
    }
}

#[test]
fn azure_arc_gives_a_key_by_a_file() {
    let keys = tempfile::tempdir().unwrap();
    let mount = format!("{}::{}", keys.path().display(), facts::ARC_KEYS);
    for component in UNDER_WASMTIME {
        let options = [&["--dir", mount.as_str()], instances(component, true)].concat();
        let harness = Harness::start_with(component, Source::AzureArc, &[], &options);
        harness.emulator.serve_arc_keys_in(keys.path());
        assert_eq!(harness.post().value(), VALUE, "{component}");
        assert_eq!(harness.calls(), (2, 1), "{component}");
    }
}
