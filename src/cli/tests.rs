//! The definition of the command line, and what it says of itself.

use super::*;

/// Every command, and those of `slot`.
fn commands() -> Vec<clap::Command> {
    let mut cli = Cli::command();
    cli.build();
    let below = |command: &clap::Command| command.get_subcommands().cloned().collect::<Vec<_>>();
    let all: Vec<clap::Command> = below(&cli).into_iter().filter(|command| command.get_name() != "help").collect();
    let deeper = all.iter().flat_map(below).collect::<Vec<_>>();
    [vec![cli], all, deeper].concat()
}

#[test]
fn a_heading_is_over_its_own_options_alone() {
    for command in commands() {
        let under = |heading: Option<&str>| {
            let args = command.get_arguments().filter(|arg| arg.get_help_heading() == heading);
            args.map(|arg| arg.get_id().to_string()).collect::<Vec<_>>()
        };
        let general = ["json", "input", "inputs", "threads", "sink", "hop", "sandbox", "svg", "runs"];
        for arg in command.get_arguments().filter(|arg| general.contains(&arg.get_id().as_str())) {
            assert_eq!(arg.get_help_heading(), None, "{}: {}", command.get_name(), arg.get_id());
        }
        if command.get_name() == "stream" {
            assert_eq!(under(Some("MQTT")), ["share", "client_id", "session", "queue"]);
            assert!(under(Some("Source")).contains(&"reconnect".to_owned()));
        }
    }
}

/// What stands behind the options is shown on terminals of 80 columns as it is written: clap breaks lines, but joins none.
#[test]
fn examples_can_be_pasted_and_prose_is_broken_once() {
    for command in commands() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let name = command.get_name();
        for (before, line) in std::iter::once("").chain(text.lines()).zip(text.lines()) {
            let is_code = |line: &str| line.starts_with(' ');
            assert!(!is_code(line) || line.chars().count() <= 78, "{name}: an example is too long: {line}");
            let goes_on = !before.is_empty() && !is_code(before) && line.starts_with(|c: char| !c.is_uppercase());
            assert!(is_code(line) || !goes_on, "{name}: a paragraph is more than one line: {line}");
        }
    }
}

#[test]
fn options_have_the_names_that_other_commands_give_them() {
    for line in [
        ["tractlet", "run", "x", "--inputs", "x.npy", "-o", "y.npy"].as_slice(),
        &["tractlet", "eval", "x", "--input", "x.npy", "--labels", "y.npy"],
        #[cfg(feature = "quantize")]
        &["tractlet", "compare", "x", "y", "--input", "x.npy"],
    ] {
        assert!(Cli::try_parse_from(line).is_ok(), "{line:?}");
    }
}

#[test]
fn a_negative_number_is_told_what_is_taken_in_its_place() {
    for line in ["tractlet run x --input x.npy --top -1", "tractlet bench x --threads -2"] {
        let told = told_of_numbers(Cli::command()).try_get_matches_from(line.split(' ')).unwrap_err().to_string();
        assert!(told.contains("invalid value '-") && told.contains("is not in 1..="), "{told}");
    }
}

#[test]
fn a_slip_is_answered_by_what_was_meant() {
    for (line, meant) in
        [(["tractlet", "run", "x", "--inpt"], "'--input'"), (["tractlet", "comple", "x", "y"], "'compile'")]
    {
        let told = Cli::try_parse_from(line).map(drop).unwrap_err().to_string();
        assert!(told.contains("similar") && told.contains(meant), "{told}");
    }
}
