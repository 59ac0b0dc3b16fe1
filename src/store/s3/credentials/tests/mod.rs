//! Made-up homes, programs and metadata services; no test reads the environment of the one who runs it.

mod metadata;

use super::*;
use metadata::Metadata;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// A home, an environment, and a clock.
struct World {
    home: tempfile::TempDir,
    variables: Arc<Mutex<BTreeMap<String, String>>>,
    clock: Arc<Hands>,
}

/// A clock that a test sets.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

impl World {
    /// A machine in no cloud, with nothing on it.
    fn new() -> Self {
        let world = Self {
            home: tempfile::tempdir().unwrap(),
            variables: Arc::default(),
            clock: Arc::new(Hands(AtomicI64::new(1_800_000_000))),
        };
        world.set("HOME", world.home.path().to_str().unwrap());
        world.set("AWS_EC2_METADATA_DISABLED", "true");
        world
    }

    fn set(&self, name: &str, value: &str) {
        self.variables.lock().unwrap().insert(name.into(), value.into());
    }

    fn unset(&self, name: &str) {
        self.variables.lock().unwrap().remove(name);
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Another file each time, as editors and tools write it.
        let other = path.with_extension("new");
        std::fs::write(&other, text).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&other, &path).unwrap();
        path
    }

    fn chain(&self, spec: CredentialsSpec) -> AwsChain {
        let variables = Arc::clone(&self.variables);
        let environment = move |name: &str| variables.lock().unwrap().get(name).cloned();
        AwsChain::within(spec, Arc::new(environment), Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn key(chain: &AwsChain) -> String {
    wait(chain.get_credential()).unwrap_or_else(|e| panic!("{e:?}")).key_id.clone()
}

/// The error, with everything that can be shown of it.
fn failure(chain: &AwsChain) -> String {
    let error = wait(chain.get_credential()).expect_err("there are credentials");
    let own = CredentialsError::within(&error).expect("an error of ours is among the causes");
    let all = format!("{error}\n{error:?}\n{own}\n{own:?}\n{}\n{chain:?}\n{}", own.hint(), chain.source());
    assert!(!all.contains("canary"), "{all}");
    own.to_string()
}

fn file(path: &Path) -> CredentialsSpec {
    CredentialsSpec { credentials_file: Some(path.to_owned()), ..CredentialsSpec::default() }
}

fn named(profile: &str) -> CredentialsSpec {
    CredentialsSpec { profile: Some(profile.into()), ..CredentialsSpec::default() }
}

const PROFILES: &str = "[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = canary-1\n\
                        [backup]\naws_access_key_id=AKBACKUP\naws_secret_access_key=canary-2\naws_session_token=canary-3\n";

#[test]
fn the_environment_comes_before_profiles_and_a_named_profile_before_the_environment() {
    let world = World::new();
    world.write(".aws/credentials", PROFILES);
    let chain = world.chain(CredentialsSpec::default());
    assert_eq!(key(&chain), "AKDEFAULT");
    let path = world.home.path().join(".aws/credentials");
    assert_eq!(chain.source(), format!("profile \"default\" of {}", path.display()));
    world.set("AWS_PROFILE", "backup");
    chain.refresh();
    assert_eq!(key(&chain), "AKBACKUP");
    world.set("AWS_ACCESS_KEY_ID", "AKENV");
    world.set("AWS_SECRET_ACCESS_KEY", "canary-4");
    world.set("AWS_SESSION_TOKEN", "canary-5");
    let chain = world.chain(CredentialsSpec::default());
    let given = wait(chain.get_credential()).unwrap();
    assert_eq!((given.key_id.as_str(), given.token.as_deref()), ("AKENV", Some("canary-5")));
    assert_eq!(chain.source(), "environment variable AWS_ACCESS_KEY_ID");
    let chain = world.chain(named("default"));
    assert_eq!(key(&chain), "AKDEFAULT");
    assert!(!format!("{chain:?}").contains("canary"));
}

#[test]
fn a_region_comes_from_the_store_the_environment_or_the_profile() {
    let world = World::new();
    world.write(".aws/config", "[profile backup]\nregion = eu-north-1\n[default]\nregion=eu-west-1\n");
    assert_eq!(world.chain(CredentialsSpec::default()).region().as_deref(), Some("eu-west-1"));
    assert_eq!(world.chain(named("backup")).region().as_deref(), Some("eu-north-1"));
    world.set("AWS_DEFAULT_REGION", "us-west-2");
    assert_eq!(world.chain(named("backup")).region().as_deref(), Some("us-west-2"));
    let spec = CredentialsSpec { region: Some("sa-east-1".into()), ..named("backup") };
    assert_eq!(world.chain(spec).region().as_deref(), Some("sa-east-1"));
}

#[test]
fn a_credentials_file_is_used_alone_and_only_when_nobody_else_can_read_it() {
    let world = World::new();
    world.set("AWS_ACCESS_KEY_ID", "AKENV");
    world.set("AWS_SECRET_ACCESS_KEY", "canary");
    world.set("AWS_PROFILE", "elsewhere");
    let path = world.write("s3.ini", PROFILES);
    assert_eq!(key(&world.chain(file(&path))), "AKDEFAULT");
    assert_eq!(
        key(&world.chain(CredentialsSpec { profile: Some("backup".into()), ..file(&path) })),
        "AKBACKUP"
    );
    for mode in [0o640, 0o604] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let told = failure(&world.chain(file(&path)));
        assert!(told.contains("open to others") && told.contains("s3.ini"), "{told}");
    }
    let told = failure(&world.chain(file(&world.home.path().join("not-there"))));
    assert!(told.contains("not-there does not exist"), "{told}");
    let told =
        failure(&world.chain(CredentialsSpec {
            profile: Some("none".into()),
            ..file(&world.write("s3.ini", PROFILES))
        }));
    assert!(told.contains("profile \"none\" of"), "{told}");
}

#[test]
fn a_file_that_changes_is_read_again_and_one_that_does_not_is_not() {
    let world = World::new();
    let path = world.write("s3.ini", PROFILES);
    let chain = world.chain(file(&path));
    assert_eq!(key(&chain), "AKDEFAULT");
    world.write("s3.ini", &PROFILES.replace("AKDEFAULT", "AKROTATED"));
    assert_eq!(key(&chain), "AKROTATED");
    // Half a file is an error that says where, and shows nothing of it; no old key is used in its place.
    world.write("s3.ini", "[default]\naws_access_key_id = AK\ncanary");
    assert!(failure(&chain).contains("s3.ini"));
    world.write("s3.ini", PROFILES);
    assert_eq!(key(&chain), "AKDEFAULT");
}

/// A profile whose program counts how often it was run, and gives keys that run out.
fn program(world: &World, body: &str) -> AwsChain {
    let script = world.home.path().join("give");
    let count = world.home.path().join("count");
    std::fs::write(&script, format!("#!/bin/sh\necho x >> {}\n{body}\n", count.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    world.write(".aws/config", &format!("[profile app]\ncredential_process = {}\n", script.display()));
    world.chain(named("app"))
}

fn runs(world: &World) -> usize {
    std::fs::read_to_string(world.home.path().join("count")).unwrap_or_default().lines().count()
}

const GIVES: &str = r#"echo '{"Version":1,"AccessKeyId":"AKPROC","SecretAccessKey":"canary","SessionToken":"canary","Expiration":"2027-01-15T09:00:00Z"}'"#;

#[test]
fn credentials_that_run_out_are_fetched_anew_five_minutes_before_and_once_for_all() {
    let world = World::new(); // the clock stands at 08:00:00 of that day
    let chain = program(&world, GIVES);
    let all = async {
        let many = (0..16).map(|_| chain.get_credential());
        futures::future::join_all(many).await
    };
    assert!(wait(all).into_iter().all(|given| given.unwrap().key_id == "AKPROC"));
    assert_eq!(runs(&world), 1, "sixteen requests, one program");
    world.later(54 * 60);
    key(&chain);
    assert_eq!(runs(&world), 1, "six minutes are left");
    world.later(120);
    key(&chain);
    assert_eq!(runs(&world), 2, "four minutes are left");
    key(&chain);
    assert_eq!(runs(&world), 2, "what brought nothing newer is not asked at every request");
    world.later(31);
    key(&chain);
    assert_eq!(runs(&world), 3);
    chain.refresh();
    key(&chain);
    assert_eq!(runs(&world), 4, "what the server refused is fetched anew");
}

#[test]
fn credentials_at_hand_are_used_while_their_source_is_away_and_not_beyond_their_end() {
    let world = World::new();
    let chain = program(
        &world,
        &format!("test $(wc -l < {}/count) = 1 || exit 7\n{GIVES}", world.home.path().display()),
    );
    key(&chain);
    world.later(57 * 60);
    assert_eq!(key(&chain), "AKPROC");
    assert_eq!(runs(&world), 2);
    world.later(4 * 60);
    assert!(failure(&chain).contains("exit status: 7"));
}

#[test]
fn what_a_program_says_is_not_repeated() {
    for body in [
        "echo canary >&2; exit 3",
        "echo canary",
        "echo '{\"Version\":1,\"AccessKeyId\":\"AK\",\"SecretAccessKey\":[\"canary\"]}'",
        "echo '{\"Version\":1,\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"canary\",\"Expiration\":\"canary\"}'",
    ] {
        let told = failure(&program(&World::new(), body));
        assert!(told.contains("profile \"app\" of") && told.contains("process"), "{told}");
    }
}

#[test]
fn half_a_set_and_a_profile_that_is_not_there_are_mistakes_and_not_passed_over() {
    let world = World::new();
    world.write(".aws/credentials", PROFILES);
    world.set("AWS_PROFILE", "typo");
    assert!(failure(&world.chain(CredentialsSpec::default())).contains("profile \"typo\" of"));
    assert!(failure(&world.chain(named("typo"))).contains("profile \"typo\" of"));
    world.unset("AWS_PROFILE");
    world.set("AWS_ACCESS_KEY_ID", "AKENV");
    assert!(failure(&world.chain(CredentialsSpec::default())).contains("AWS_SECRET_ACCESS_KEY is not set"));
}

/// A machine whose own role is there to be had: of whatever account.
fn with_instance_role() -> World {
    let (world, service) = (World::new(), Metadata::start(metadata::Manner::Answers));
    world.unset("AWS_EC2_METADATA_DISABLED");
    world.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service.address);
    assert_eq!(key(&world.chain(CredentialsSpec::default())), "AKINSTANCE");
    world
}

#[test]
fn a_profile_that_the_environment_names_is_not_passed_over_where_there_is_no_file() {
    let world = with_instance_role();
    world.set("AWS_PROFILE", "backup");
    let told = failure(&world.chain(CredentialsSpec::default()));
    assert!(told.contains("profile \"backup\" of") && told.contains("no such file"), "{told}");
    world.unset("HOME");
    assert!(failure(&world.chain(CredentialsSpec::default())).contains("HOME is not set"));
}

#[test]
fn half_a_web_identity_is_a_mistake_and_not_passed_over() {
    let world = with_instance_role();
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token");
    let told = failure(&world.chain(CredentialsSpec::default()));
    assert!(told.contains("web identity of") && told.contains("AWS_ROLE_ARN is not set"), "{told}");
}

#[test]
fn no_credentials_anywhere_names_everything_that_was_looked_at() {
    let told = failure(&World::new().chain(CredentialsSpec::default()));
    for place in [
        "AWS_ACCESS_KEY_ID (not set)",
        "profile \"default\" of",
        ".aws/config and",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "IMDS (switched off by AWS_EC2_METADATA_DISABLED)",
    ] {
        assert!(told.contains(place), "{place}: {told}");
    }
}

#[test]
fn an_instance_gives_its_role() {
    let world = World::new();
    let service = Metadata::start(metadata::Manner::Answers);
    world.unset("AWS_EC2_METADATA_DISABLED");
    world.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service.address);
    let chain = world.chain(CredentialsSpec::default());
    assert_eq!(key(&chain), "AKINSTANCE");
    assert_eq!(chain.source(), "the instance role of IMDS");
}

#[test]
fn a_machine_without_metadata_service_waits_for_it_two_seconds_at_most() {
    for manner in [metadata::Manner::Silent, metadata::Manner::Away] {
        let world = World::new();
        let service = Metadata::start(manner);
        world.unset("AWS_EC2_METADATA_DISABLED");
        world.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service.address);
        let begun = Instant::now();
        assert!(failure(&world.chain(CredentialsSpec::default())).contains("instance role of IMDS ("));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

/// Set for a test's own second run: the key and the source that are to be found.
const CHILD: &str = "BACKSTAY_TEST_CREDENTIALS_CHILD";

/// Not a test of its own: what the next ones run in a process whose environment is theirs alone. Where STS, SSO and a container's role are to be
/// had is in the environment of the process, and nowhere else.
#[test]
fn finder() {
    let Ok(expected) = std::env::var(CHILD) else { return };
    let profile = std::env::var("TEST_PROFILE").ok();
    let chain = AwsChain::new(CredentialsSpec { profile, ..CredentialsSpec::default() });
    let given = wait(chain.get_credential()).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(format!("{} from {}", given.key_id, chain.source()), expected);
    assert_eq!(given.token.as_deref(), Some("canary"), "the token goes along");
}

/// Runs [`finder`] with `variables`, in `home`.
fn found(home: &Path, variables: &[(&str, &str)], expected: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["store::s3::credentials::tests::finder", "--exact", "--nocapture"])
        .env_clear()
        .env("HOME", home)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .env(CHILD, expected)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_container_gives_its_role() {
    let service = Metadata::start(metadata::Manner::Answers);
    let home = tempfile::tempdir().unwrap();
    let address = format!("{}/container", service.address);
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address.as_str())];
    found(home.path(), &variables, "AKCONTAINER from the role of the container");
}

#[test]
fn a_web_identity_is_exchanged_for_the_keys_of_its_role() {
    let service = Metadata::start(metadata::Manner::Answers);
    let world = World::new();
    let token = world.write("token", "the-token");
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup"),
        ("AWS_ENDPOINT_URL_STS", service.address.as_str()),
    ];
    found(world.home.path(), &variables, "AKWEB from web identity of AWS_WEB_IDENTITY_TOKEN_FILE");
}

#[test]
fn a_profile_gives_the_keys_of_a_role_or_of_a_login_by_sso() {
    let service = Metadata::start(metadata::Manner::Answers);
    let world = World::new();
    let start = "https://example.awsapps.com/start";
    let config = world.write(
        ".aws/config",
        &format!(
            "[profile role]\nrole_arn = arn:aws:iam::1:role/backup\nsource_profile = keys\n[profile keys]\naws_access_key_id = AKSOURCE\naws_secret_access_key = canary\n\
             [profile login]\nsso_start_url = {start}\nsso_region = eu-central-1\nsso_account_id = 123\nsso_role_name = backup\n"
        ),
    );
    let name = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, start.as_bytes());
    let name = data_encoding::HEXLOWER.encode(name.as_ref());
    let login = format!(
        "{{\"accessToken\":\"canary\",\"expiresAt\":\"2099-01-01T00:00:00Z\",\"region\":\"eu-central-1\",\"startUrl\":\"{start}\"}}"
    );
    world.write(&format!(".aws/sso/cache/{name}.json"), &login);
    for (profile, key) in [("role", "AKROLE"), ("login", "AKSSO")] {
        let variables = [
            ("TEST_PROFILE", profile),
            ("AWS_ENDPOINT_URL_STS", service.address.as_str()),
            ("AWS_ENDPOINT_URL_SSO", service.address.as_str()),
        ];
        let expected = format!("{key} from profile \"{profile}\" of {}", config.display());
        found(world.home.path(), &variables, &expected);
    }
}

/// In an environment in which a proxy for plain requests is at `proxy`.
fn found_beside_a_proxy(home: &Path, proxy: &str, variables: &[(&str, &str)], expected: &str) {
    // Like any password, one in the address of a proxy is never shown.
    let address = proxy.replace("http://", "http://canary:canary@");
    let mut all = vec![("http_proxy", address.as_str())];
    all.extend(variables);
    found(home, &all, expected);
}

#[test]
fn services_that_give_credentials_are_reached_through_the_proxy_of_the_environment() {
    // Nothing but this proxy knows the name, and it answers in the place of whoever is asked for.
    let proxy = Metadata::start(metadata::Manner::Answers);
    let world = World::new();
    let token = world.write("token", "the-token");
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup"),
        ("AWS_ENDPOINT_URL_STS", "http://sts.backstay.invalid"),
    ];
    let expected = "AKWEB from web identity of AWS_WEB_IDENTITY_TOKEN_FILE";
    found_beside_a_proxy(world.home.path(), &proxy.address, &web, expected);
    let config = world.write(
        ".aws/config",
        "[profile role]\nrole_arn = arn:aws:iam::1:role/backup\ncredential_source = EcsContainer\n",
    );
    let container = Metadata::start(metadata::Manner::Answers);
    let address = format!("{}/container", container.address);
    let role = [
        ("TEST_PROFILE", "role"),
        // Directly: asked by a proxy it would not answer so.
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", address.as_str()),
        ("AWS_ENDPOINT_URL_STS", "http://sts.backstay.invalid"),
    ];
    let expected = format!("AKROLE from profile \"role\" of {}", config.display());
    found_beside_a_proxy(world.home.path(), &proxy.address, &role, &expected);
}

#[test]
fn no_proxy_is_asked_for_metadata_nor_for_what_no_proxy_names() {
    let nobody = Metadata::start(metadata::Manner::Away);
    let service = Metadata::start(metadata::Manner::Answers);
    let world = World::new();
    let container = format!("{}/container", service.address);
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())];
    let expected = "AKCONTAINER from the role of the container";
    found_beside_a_proxy(world.home.path(), &nobody.address, &container, expected);
    let instance = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.address.as_str()),
    ];
    let expected = "AKINSTANCE from the instance role of IMDS";
    found_beside_a_proxy(world.home.path(), &nobody.address, &instance, expected);
    let token = world.write("token", "the-token");
    let web = [
        ("no_proxy", "127.0.0.1"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup"),
        ("AWS_ENDPOINT_URL_STS", service.address.as_str()),
    ];
    let expected = "AKWEB from web identity of AWS_WEB_IDENTITY_TOKEN_FILE";
    found_beside_a_proxy(world.home.path(), &nobody.address, &web, expected);
}
