//! The part of a recovery kit that people read.

use crate::keys::kit::{Kit, StoreAt};
use crate::model::path::escape;

const WIDTH: usize = 78;
/// With this a kit begins.
pub(super) const TITLE: &str = "BACKSTAY RECOVERY KIT";

/// Appends the instructions of `kit` to `out`.
pub(super) fn instructions(kit: &Kit, out: &mut String) {
    let (project, host) = (escape(kit.project.as_bytes()), escape(kit.hostname.as_bytes()));
    let day = kit.printed.strftime("%Y-%m-%d %H:%M UTC").to_string();
    paragraph(out, &format!("{TITLE}: {project} on {host}"));
    paragraph(out, &format!("Printed {day}. A newer kit replaces this one."));
    out.push('\n');
    about(kit, &project, &host, out);
    with_backstay(kit, out);
    without_backstay(kit, out);
    heading(out, "FOR THE MACHINE");
    paragraph(
        out,
        "Everything between the two lines below, with numbers and checks. When it is typed in from paper, blanks between the parts do \
         not matter, capital and small letters do; the four characters at the end of each line find mistakes and name the line.",
    );
    out.push('\n');
}

/// Appends what is said of a kit that a passphrase protects: nothing that it holds, beside whose it is.
pub(super) fn locked_instructions(kit: &Kit, out: &mut String) {
    let (project, host) = (escape(kit.project.as_bytes()), escape(kit.hostname.as_bytes()));
    let day = kit.printed.strftime("%Y-%m-%d %H:%M UTC").to_string();
    paragraph(out, &format!("{TITLE}, PROTECTED BY A PASSPHRASE: {project} on {host}"));
    paragraph(out, &format!("Printed {day}. A newer kit replaces this one."));
    out.push('\n');
    paragraph(
        out,
        "It opens the backups together with its passphrase, and not without: whoever forgets the passphrase has lost this kit. With backstay:",
    );
    command(out, "backstay --kit kit.txt list");
    command(out, "backstay recover kit.txt --to DIR");
    paragraph(
        out,
        "Without backstay, age (age-encryption.org) gives the kit itself back, which says how to go on:",
    );
    command(out, "awk '$2 == \"locked\" || $2 == \"+\" {printf \"%s\", $3}' kit.txt |");
    command(out, "  base64 -d | age -d > kit-open.txt");
    out.push('\n');
    paragraph(
        out,
        "When the lines below are typed in from paper, blanks between the parts do not matter, capital and small letters do; the four \
         characters at the end of each line find mistakes and name the line.",
    );
    out.push('\n');
}

fn about(kit: &Kit, project: &str, host: &str, out: &mut String) {
    heading(out, "WHAT THIS IS");
    paragraph(
        out,
        &format!(
            "With this text and access to one of the stores below, the backups of {project} made on {host} can be found, checked and, \
             if the identity is in here, read on any machine. Access to a store (a password, a cloud key) is not in it."
        ),
    );
    out.push('\n');
    if kit.identities.is_empty() {
        paragraph(
            out,
            "THIS KIT DOES NOT OPEN THE BACKUPS. It holds no identity (no private key that opens): that is kept elsewhere. Keep a copy of \
             the identity beside this kit, or nobody can read the backups when the place where it is now is lost. With this kit, give \
             the identity by -i FILE.",
        );
    } else {
        paragraph(
            out,
            "It opens every snapshot made for the recipients below. Whoever has this text and can reach a store reads everything in it.",
        );
    }
    if kit.signing_key.is_some() {
        paragraph(
            out,
            "It holds the host's signing key: whoever has it can make snapshots that pass for this host's.",
        );
    } else {
        paragraph(
            out,
            "It holds no signing key: a fresh machine can read with it, but its own new snapshots count only after a person trusts its key.",
        );
    }
    out.push('\n');
    paragraph(
        out,
        "Keep it off the machine that it is about: printed in a drawer, in a password manager, on a stick in another house. A kit that \
         burns with the machine helps nobody.",
    );
    out.push('\n');
    paragraph(out, "Stores:");
    for store in &kit.stores {
        let place = match &store.at {
            StoreAt::Path(place) | StoreAt::Url(place) => place,
        };
        item(out, &format!("{}: {}", escape(store.name.as_bytes()), escape(place.as_bytes())));
    }
    paragraph(out, "Recipients:");
    kit.recipients.iter().for_each(|recipient| item(out, &escape(recipient.as_bytes())));
    out.push('\n');
}

fn with_backstay(kit: &Kit, out: &mut String) {
    heading(out, "HOW TO GET THE DATA BACK WITH BACKSTAY");
    let identity = if kit.identities.is_empty() { " -i IDENTITY" } else { "" };
    paragraph(
        out,
        "1. Install backstay on any machine and save this text there as kit.txt, for you alone (chmod 600 kit.txt).",
    );
    paragraph(out, "2. See what there is:");
    command(out, "backstay --kit kit.txt list");
    paragraph(out, "3. Write the newest snapshot into a new folder:");
    command(out, &format!("backstay --kit kit.txt{identity} restore latest --to DIR"));
    paragraph(
        out,
        "4. Or bring a lost machine back, with its configuration and the right to go on with its history:",
    );
    command(out, &format!("backstay{identity} recover kit.txt --to DIR"));
    out.push('\n');
}

fn without_backstay(kit: &Kit, out: &mut String) {
    heading(out, "HOW TO GET THE DATA BACK WITHOUT BACKSTAY");
    paragraph(
        out,
        "Every store holds RECOVER.md and recover.py: they do the same with age, zstd, tar and Python 3 and nothing else. Copy both from \
         a store, compare their SHA-256 (sha256sum FILE) with these, and follow RECOVER.md:",
    );
    for (name, hashes) in [("recover.py", &kit.recover_py), ("RECOVER.md", &kit.recover_md)] {
        if hashes.is_empty() {
            item(out, &format!("{name}: no hash was known when this kit was made"));
        }
        // Where stores hold different versions each of them is right.
        hashes.iter().for_each(|hash| out.push_str(&format!("  {hash}  {name}\n")));
    }
    paragraph(
        out,
        "A store that has another one has it from another version, or somebody changed it. It is real if ssh-keygen says `Good` here; \
         else take the file from another store, or from a release of backstay:",
    );
    command(out, "awk '$2 == \"trusted\" {k = $3; getline; print \"kit ssh-ed25519 \" k $3}' \\");
    command(out, "  kit.txt > allowed");
    command(out, "ssh-keygen -Y verify -f allowed -I kit -n backstay-recover-1 \\");
    command(out, "  -s recover.py.sig < recover.py");
    paragraph(out, "The script takes this text as a file: python3 recover.py STORE --kit kit.txt list");
    if kit.identities.is_empty() {
        paragraph(out, "They need the identity file, which is kept elsewhere.");
    } else {
        paragraph(out, "They need a file identity.txt with this:");
        for identity in &kit.identities {
            out.push_str(&identity.reveal());
            out.push('\n');
        }
    }
    out.push('\n');
}

fn heading(out: &mut String, text: &str) {
    paragraph(out, text);
    out.push_str(&"-".repeat(text.chars().count().min(WIDTH)));
    out.push('\n');
}

fn command(out: &mut String, text: &str) {
    out.push_str("    ");
    out.push_str(text);
    out.push('\n');
}

fn item(out: &mut String, text: &str) {
    wrapped(out, "  - ", "    ", text);
}

fn paragraph(out: &mut String, text: &str) {
    wrapped(out, "", "", text);
}

/// Appends `text` in lines of at most [`WIDTH`] characters. A word that is longer (an address) is cut: it stands whole in the block.
fn wrapped(out: &mut String, first: &str, other: &str, text: &str) {
    let mut column = first.chars().count();
    let mut fresh = true;
    out.push_str(first);
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let blank = usize::from(!fresh);
        if column + blank + word.len() > WIDTH && !fresh {
            out.push('\n');
            out.push_str(other);
            column = other.chars().count();
        } else if !fresh {
            out.push(' ');
            column += 1;
        }
        while column + word.len() > WIDTH {
            let rest = word.split_off(WIDTH - column);
            out.extend(word);
            out.push('\n');
            out.push_str(other);
            (word, column) = (rest, other.chars().count());
        }
        column += word.len();
        out.extend(word);
        fresh = false;
    }
    out.push('\n');
}
