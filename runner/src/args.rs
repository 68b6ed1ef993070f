//! The command line.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use tractlet_io::size;

use crate::failure::Failure;

pub const USAGE: &str = "\
Usage:
  tractlet-plan run X.plan --input [NAME=]X.npy [--output [NAME=]Y.npy] [--labels L.txt] [--top K] [--json]
  tractlet-plan bench X.plan [--runs N] [--warmup N] [--profile] [--json]
  tractlet-plan footprint X.plan [--budget SIZE] [--json]
  tractlet-plan stream X.plan --channels N [--planar] [--hop FRAMES] [--labels L.txt] [--top K]

Runs plans that `tractlet compile` made; run and stream, those without --hop. Options and JSON keys of run, bench and
footprint are those of `tractlet`, which has more of them. Exit codes: 0 success; 1 the work failed, and stderr says why;
2 the command line is wrong.

stream reads frames from standard input: N values each of the input's type, little-endian, without a header. A window
is as many frames as the input holds; the next begins --hop frames on, by default where the last one ended. The input
holds frame after frame, or with --planar channel after channel. A JSON line goes out for each window, with window,
first_frame, outputs[].{name, values} and top[].{index, label, score}, and at the end {\"summary\": {windows, read, answered,
skipped, remainder}}, in frames; read = answered + skipped + remainder.
";

pub enum Command<'a> {
    Help,
    Version,
    Run(Args<'a>),
    Bench(Args<'a>),
    Footprint(Args<'a>),
    Stream(Args<'a>),
}

/// The options of all commands; each takes those of its own.
#[derive(Debug, Default)]
pub struct Args<'a> {
    pub plan: &'a CStr,
    /// `[NAME=]FILE`, as are outputs: which is which, the plan's names tell.
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub labels: Option<CString>,
    pub top: Option<usize>,
    pub runs: Option<usize>,
    pub warmup: Option<usize>,
    pub profile: bool,
    pub budget: Option<u64>,
    pub channels: Option<usize>,
    pub hop: Option<usize>,
    pub planar: bool,
    pub json: bool,
}

impl<'a> Args<'a> {
    pub fn parse(arguments: &[&'a CStr]) -> Result<Command<'a>, Failure> {
        let mut rest = arguments.iter().skip(1).copied();
        let command = rest.next().ok_or_else(|| usage("there is no command".into()))?;
        let command = text(command)?;
        let (make, options): (fn(Args<'a>) -> Command<'a>, &[&str]) = match command {
            "--help" | "-h" | "help" => return Ok(Command::Help),
            "--version" | "-V" => return Ok(Command::Version),
            "run" => (Command::Run, &["--input", "--output", "--labels", "--top", "--json"]),
            "bench" => (Command::Bench, &["--runs", "--warmup", "--profile", "--json"]),
            "footprint" => (Command::Footprint, &["--budget", "--json"]),
            "stream" => (Command::Stream, &["--channels", "--planar", "--hop", "--labels", "--top"]),
            other => {
                return Err(usage(format!("there is no command `{other}`: it is run, bench, footprint or stream")));
            }
        };
        let mut args = Args::default();
        let mut plan = None;
        while let Some(argument) = rest.next() {
            if !argument.to_bytes().starts_with(b"-") {
                if plan.replace(argument).is_some() {
                    return Err(usage(format!("`{}`: one plan is enough", text(argument)?)));
                }
                continue;
            }
            let argument = text(argument)?;
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (argument, None),
            };
            if matches!(option, "--help" | "-h") {
                return Ok(Command::Help);
            }
            if !options.contains(&option) {
                return Err(usage(format!("{command} has no option `{option}`; it has {}", options.join(", "))));
            }
            let switch = match option {
                "--json" => Some(&mut args.json),
                "--profile" => Some(&mut args.profile),
                "--planar" => Some(&mut args.planar),
                _ => None,
            };
            match (switch, attached) {
                (Some(switch), None) => *switch = true,
                (Some(_), Some(_)) => return Err(usage(format!("{option} takes no value"))),
                (None, Some(value)) => args.set(option, value)?,
                (None, None) => match rest.next() {
                    Some(value) => args.set(option, text(value)?)?,
                    None => return Err(usage(format!("{option} takes a value"))),
                },
            }
        }
        args.plan = plan.ok_or_else(|| usage(format!("{command} takes a plan: tractlet-plan {command} X.plan")))?;
        if command == "run" && args.inputs.is_empty() {
            return Err(usage("run takes at least one --input X.npy".into()));
        }
        if command == "stream" && args.channels.is_none() {
            return Err(usage("stream takes --channels N, the values of a frame".into()));
        }
        Ok(make(args))
    }

    fn set(&mut self, option: &str, value: &'a str) -> Result<(), Failure> {
        let number = |least: usize| {
            let number = value.parse().ok().filter(|number| (least..=10_000_000).contains(number));
            number.ok_or_else(|| usage(format!("{option}: `{value}` is not a number from {least} to 10000000")))
        };
        match option {
            "--input" => self.inputs.push(value),
            "--output" => self.outputs.push(value),
            "--labels" => self.labels = Some(path(value)?),
            "--top" => self.top = Some(number(1)?),
            "--runs" => self.runs = Some(number(1)?),
            "--warmup" => self.warmup = Some(number(0)?),
            "--channels" => self.channels = Some(number(1)?),
            "--hop" => self.hop = Some(number(1)?),
            _ => {
                self.budget = Some(size(value).ok_or_else(|| {
                    usage(format!("--budget: `{value}` is not a size; expected bytes, or a unit: 8MiB, 8MB, 512KiB"))
                })?)
            }
        }
        Ok(())
    }
}

pub fn path(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| usage("a path with a zero byte".into()))
}

fn text(argument: &CStr) -> Result<&str, Failure> {
    argument.to_str().map_err(|_| usage(format!("`{}` is not UTF-8", argument.to_string_lossy())))
}

fn usage(why: String) -> Failure {
    Failure::Usage(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(arguments: &[&'a CStr]) -> Result<Command<'a>, String> {
        let all: Vec<&CStr> = core::iter::once(c"tractlet-plan").chain(arguments.iter().copied()).collect();
        Args::parse(&all).map_err(|failure| match failure {
            Failure::Usage(why) => why,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn options_are_taken_in_any_order_and_form() {
        let line = [c"run", c"--input=a=x.npy", c"x.plan", c"--output", c"./b=y.npy", c"--json", c"--top=2"];
        let Ok(Command::Run(args)) = parse(&line) else { panic!() };
        assert_eq!((args.plan, args.json, args.top), (c"x.plan", true, Some(2)));
        assert_eq!((args.inputs[0], args.outputs[0]), ("a=x.npy", "./b=y.npy"));
        let Ok(Command::Footprint(args)) = parse(&[c"footprint", c"x.plan", c"--budget", c"8MiB"]) else { panic!() };
        assert_eq!(args.budget, Some(8 << 20));
        assert!(matches!(parse(&[c"bench", c"--help"]), Ok(Command::Help)));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        for (line, part) in [
            (&[][..], "there is no command"),
            (&[c"eval"], "no command `eval`: it is run, bench, footprint or stream"),
            (&[c"bench"], "bench takes a plan"),
            (&[c"bench", c"a", c"b"], "`b`: one plan is enough"),
            (&[c"bench", c"a", c"--input", c"x"], "bench has no option `--input`; it has --runs"),
            (&[c"bench", c"a", c"--runs"], "--runs takes a value"),
            (&[c"bench", c"a", c"--runs", c"0"], "`0` is not a number from 1"),
            (&[c"bench", c"a", c"--json=1"], "--json takes no value"),
            (&[c"footprint", c"a", c"--budget", c"8mib"], "`8mib` is not a size"),
            (&[c"stream", c"a"], "stream takes --channels N"),
            (&[c"stream", c"a", c"--hop", c"0"], "`0` is not a number from 1"),
            (&[c"run", c"a"], "at least one --input"),
            (&[c"run", c"\xff"], "at least one --input"),
            (&[c"\xff"], "is not UTF-8"),
        ] {
            let why = parse(line).err().unwrap();
            assert!(why.contains(part), "{line:?}: {why}");
        }
    }
}
