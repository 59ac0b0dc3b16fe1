//! A metadata service as clouds have it, or the silence where there is none; and as much of STS and SSO as gives keys.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Answers,
    /// Takes connections and says nothing.
    Silent,
    /// Nobody listens.
    Away,
}

pub(super) struct Metadata {
    pub address: String,
}

impl Metadata {
    pub(super) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        if manner != Manner::Away {
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for stream in listener.incoming().flatten() {
                    if manner == Manner::Answers {
                        answer(stream);
                    } else {
                        held.push(stream);
                    }
                }
            });
        }
        Self { address }
    }
}

fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length =
        head.to_lowercase().split("content-length: ").nth(1).and_then(|l| l.split('\r').next()?.parse().ok());
    let mut asked = vec![0; length.unwrap_or(0)];
    drop(stream.read_exact(&mut asked));
    let asked = String::from_utf8_lossy(&asked).into_owned();
    let body = if let Some(action) = asked.split("Action=").nth(1).and_then(|a| a.split('&').next()) {
        role(action, &asked)
    } else if head.starts_with("GET /federation/credentials?") {
        assert!(head.contains("role_name=backup") && head.contains("account_id=123"), "{head}");
        r#"{"roleCredentials":{"accessKeyId":"AKSSO","secretAccessKey":"canary","sessionToken":"canary","expiration":4070908800000}}"#.to_owned()
    } else if head.starts_with("PUT /latest/api/token") {
        "token".to_owned()
    } else if head.starts_with("GET /container ") {
        r#"{"AccessKeyId":"AKCONTAINER","SecretAccessKey":"canary","Token":"canary","Expiration":"2099-01-01T00:00:00Z"}"#.to_owned()
    } else if head.starts_with("GET /latest/meta-data/iam/security-credentials/ ") {
        "app".to_owned()
    } else {
        // Only the second version of the service is asked: the first can be made to answer others.
        assert!(head.to_lowercase().contains("x-aws-ec2-metadata-token: token"), "{head}");
        r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"AKINSTANCE","SecretAccessKey":"canary","Token":"canary","Expiration":"2099-01-01T00:00:00Z","LastUpdated":"2027-01-01T00:00:00Z"}"#.to_owned()
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\nConnection: close\r\n\r\n{body}"
    );
    drop(stream.write_all(answer.as_bytes()));
}

/// What STS answers to `action`.
fn role(action: &str, asked: &str) -> String {
    let key = match action {
        "AssumeRoleWithWebIdentity" => {
            assert!(asked.contains("WebIdentityToken=the-token"), "{asked}");
            "AKWEB"
        }
        _ => "AKROLE",
    };
    assert!(asked.contains("RoleArn=arn"), "{asked}");
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser><AssumedRoleId>x</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/x</Arn></AssumedRoleUser><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>canary</SecretAccessKey><SessionToken>canary</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"
    )
}
