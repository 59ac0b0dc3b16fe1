//! Who is let in: by the name that the server was called, and by a token.

use crate::agent::page::http::{Answer, Asked};
use crate::agent::tell::secret;
use crate::config::Page;
use data_encoding::BASE64;
use ring::hmac;
use std::fmt;
use zeroize::Zeroizing;

/// A shorter token can be guessed.
const TOKEN_MIN: usize = 16;

/// Lets in, or does not.
pub(super) struct Door {
    /// What the token is compared by: both sides are hashed with a key of this process, so that neither content nor length shows in the time it takes.
    token: Option<(hmac::Key, hmac::Tag)>,
    /// A browser may be made to ask for somebody else's page under a name of theirs; then the page is not shown.
    names: Option<Vec<String>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("token", &self.token.is_some()).field("names", &self.names).finish()
    }
}

impl Door {
    /// For `page`, which was bound to `address` where it is at one. Reads the token.
    pub(super) fn of(page: &Page, address: Option<std::net::SocketAddr>) -> Result<Self, String> {
        let token = match &page.token {
            None => None,
            Some(place) => Some(hashed(&secret::read(place)?, &place.to_string())?),
        };
        // Where a token is asked for, a name proves nothing more; at a socket no browser asks.
        let names = address.filter(|_| token.is_none()).map(|address| {
            let port = address.port();
            let own = address.ip().to_string();
            let own = if address.is_ipv6() { format!("[{own}]") } else { own };
            let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), own];
            let with_port = |host: String| {
                let named = format!("{host}:{port}");
                if port == 80 { vec![host, named] } else { vec![named] }
            };
            hosts.into_iter().flat_map(with_port).collect()
        });
        Ok(Self { token, names })
    }

    /// Why `asked` is not let in.
    pub(super) fn refuses(&self, asked: &Asked) -> Option<Answer> {
        if let Some(names) = &self.names {
            let host = asked.host.as_deref().unwrap_or_default();
            if !names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
                let why = format!("this page is shown as {} and under no other name", names.join(", "));
                return Some(Answer::refusal(403, &why));
            }
        }
        let (key, tag) = self.token.as_ref()?;
        let shown = asked.authorization.as_ref().and_then(|text| given(text));
        let known = shown.is_some_and(|shown| hmac::verify(key, shown.as_bytes(), tag.as_ref()).is_ok());
        let why = "this page needs a token: as `Authorization: Bearer`, or as the password of any user";
        (!known).then(|| Answer::refusal(401, why))
    }
}

fn hashed(token: &str, place: &str) -> Result<(hmac::Key, hmac::Tag), String> {
    if token.len() < TOKEN_MIN {
        return Err(format!(
            "the token in {place} has fewer than {TOKEN_MIN} characters and can be guessed; `openssl rand -hex 32` gives a good one"
        ));
    }
    let random = ring::rand::SystemRandom::new();
    let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
        .map_err(|_| "the system gives no random bytes".to_owned())?;
    let tag = hmac::sign(&key, token.as_bytes());
    Ok((key, tag))
}

/// The token that a header shows. Browsers ask a person for a user and a password, and can show nothing else by themselves: the password is the token.
fn given(header: &str) -> Option<Zeroizing<String>> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = Zeroizing::new(BASE64.decode(rest.trim().as_bytes()).ok()?);
    let (_, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(Zeroizing::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PageAt, Secret};
    use std::os::unix::fs::PermissionsExt as _;

    fn asked(host: Option<&str>, authorization: Option<String>) -> Asked {
        Asked {
            host: host.map(str::to_owned),
            authorization: authorization.map(Zeroizing::new),
            ..Asked::default()
        }
    }

    fn status(door: &Door, asked: &Asked) -> u16 {
        door.refuses(asked).map_or(200, |answer| answer.status)
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_answered() {
        let address = "127.0.0.1:9317".parse().unwrap();
        let door = Door::of(&Page { at: PageAt::Tcp(address), token: None }, Some(address)).unwrap();
        for well in ["localhost:9317", "LOCALHOST:9317", "127.0.0.1:9317", "[::1]:9317"] {
            assert_eq!(status(&door, &asked(Some(well), None)), 200, "{well}");
        }
        for wrong in [
            "evil.example",
            "evil.example:9317",
            "localhost",
            "127.0.0.1:80",
            "localhost.evil.example:9317",
            "",
        ] {
            assert_eq!(status(&door, &asked(Some(wrong), None)), 403, "{wrong}");
        }
        assert_eq!(status(&door, &asked(None, None)), 403);
        let address = "127.0.0.7:80".parse().unwrap();
        let door = Door::of(&Page { at: PageAt::Tcp(address), token: None }, Some(address)).unwrap();
        assert_eq!(
            ["127.0.0.7", "127.0.0.7:80", "localhost"].map(|h| status(&door, &asked(Some(h), None))),
            [200; 3]
        );
        // A process that may open the socket may call it anything.
        let door = Door::of(&Page { at: PageAt::Unix("/x".into()), token: None }, None).unwrap();
        assert_eq!(status(&door, &asked(Some("anything"), None)), 200);
    }

    #[test]
    fn a_token_is_asked_for_and_compared_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "correct-horse-battery\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let address = "0.0.0.0:9317".parse().unwrap();
        let page = Page { at: PageAt::Tcp(address), token: Some(Secret::File(file.clone())) };
        let door = Door::of(&page, Some(address)).unwrap();
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text.as_bytes()));
        for well in [
            "Bearer correct-horse-battery".to_owned(),
            basic("anybody:correct-horse-battery"),
            basic(":correct-horse-battery"),
        ] {
            assert_eq!(status(&door, &asked(Some("backups.example"), Some(well.clone()))), 200, "{well}");
        }
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer correct-horse-batter",
            "Bearer correct-horse-batteryy",
            "Digest correct-horse-battery",
            "correct-horse-battery",
            "Basic !!",
            "Basic Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
        ] {
            assert_eq!(status(&door, &asked(None, Some(wrong.to_owned()))), 401, "{wrong}");
        }
        assert_eq!(status(&door, &asked(Some("localhost:9317"), None)), 401);
        assert!(!format!("{door:?}").contains("horse"));
        std::fs::write(&file, "short\n").unwrap();
        let error = Door::of(&page, Some(address)).unwrap_err();
        assert!(error.contains("fewer than 16 characters") && !error.contains("short"), "{error}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        Door::of(&page, Some(address)).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        Door::of(&page, Some(address)).unwrap_err();
    }
}
