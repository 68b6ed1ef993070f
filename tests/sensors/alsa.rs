//! Capture through alsa-lib's plugins `file` and `null`, by a configuration of its own: no sound card, and real samples.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{end, error, repository, signal, stream, summary};

const KWS: &str = "models/kws_dscnn";

/// Programs find the cards of `configuration` and no others.
fn hearing(configuration: &str, args: &[&str]) -> (TempDir, Command) {
    let folder = TempDir::new().unwrap();
    let words = fs::read(repository().join(KWS).join("words.wav")).unwrap();
    // Behind a header of the plainest kind.
    fs::write(folder.path().join("words.s16"), &words[44..]).unwrap();
    let file = folder.path().join("asound.conf");
    fs::write(&file, configuration.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    let mut command = stream(args);
    command.env("ALSA_CONFIG_PATH", file);
    (folder, command)
}

const CARDS: &str = r#"
pcm.null { type null }
pcm.words { type file slave.pcm null file /dev/null infile "FOLDER/words.s16" format raw }
"#;

#[test]
fn words_that_a_card_hears_are_those_of_the_recording() {
    let decided = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["label"].as_str().unwrap().to_owned(), line["score"].as_f64().unwrap())
    };
    let recorded = end(stream(&[KWS, "--source", "models/kws_dscnn/words.wav"]).spawn().unwrap());
    let recorded = String::from_utf8(recorded.stdout).unwrap();
    let expected: Vec<_> = recorded.lines().take(13).map(decided).collect();
    assert!(expected.iter().any(|(word, _)| word == "stop"), "{expected:?}");

    let (_folder, mut card) = hearing(CARDS, &[KWS, "--source", "alsa:words", "--overflow", "block"]);
    let mut child = card.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let heard: Vec<_> = lines.by_ref().take(13).map(|line| decided(&line.unwrap())).collect();
    // The plugin goes on behind its file's end, as a card does; a signal ends it.
    signal(&child, "TERM");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let mut output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    assert_eq!(heard, expected);
    output.stdout = rest.join("\n").into_bytes();
    assert_eq!(summary(&output)["interrupted"], 0);
}

#[test]
fn what_is_no_card_or_cannot_do_what_is_asked_says_what_to_do() {
    let limited = format!("{CARDS}pcm.studio {{ type hw card 77 }}\n");
    for (args, told) in [
        (&["--source", "alsa:nowhere"][..], "alsa:nowhere: cannot open it: No such file or directory"),
        (&["--source", "alsa:studio"], "alsa:studio: cannot open it"),
        (&["--source", "alsa:words", "--format", "f64le"], "--format u8, s16le, s24le, s32le or f32le"),
        (&["--source", "alsa:words", "--rate", "16000.5"], "whole numbers"),
        (&["--source", "alsa:words", "--channels", "2"], "say which with --columns"),
        (
            &["--source", "alsa:words", "--sandbox", "--reconnect", "1"],
            "--sandbox: not with --reconnect and a source alsa:",
        ),
    ] {
        let (_folder, mut card) = hearing(&limited, &[&[KWS], args].concat());
        let output = end(card.spawn().unwrap());
        let code = if told.starts_with("--") && told.contains("not with") { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", error(&output));
        assert!(error(&output).contains(told), "{args:?}: {}", error(&output));
    }
}

#[test]
fn a_card_is_heard_within_the_sandbox() {
    let (_folder, mut card) = hearing(CARDS, &[KWS, "--source", "alsa:words", "--overflow", "block", "--sandbox"]);
    let mut child = card.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    signal(&child, "TERM");
    out.read_to_string(&mut line).unwrap();
    let output = end(child);
    assert!(output.status.success() && line.contains("\"label\""), "{}", error(&output));
}
