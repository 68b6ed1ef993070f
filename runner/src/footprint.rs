//! `tractlet-plan footprint`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use crate::args::Args;
use crate::failure::Failure;
use crate::json::Json;
use crate::os;
use crate::out::Out;
use crate::session::Session;

const RUNS: usize = 5;
const MOST_STATUS_BYTES: u64 = 1 << 16;

/// What the kernel counts of the process, in bytes: its names there and in the report.
const MEASURED: [(&str, &str); 5] = [
    ("VmHWM", "run_peak_bytes"),
    ("VmRSS", "rss_bytes"),
    ("RssAnon", "rss_anon_bytes"),
    ("RssFile", "rss_file_bytes"),
    ("RssShmem", "rss_shmem_bytes"),
];

pub fn footprint(args: &Args<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut session = Session::open(args.plan)?;
    let plan = session.plan();
    let io_bytes: usize = plan.inputs().chain(plan.outputs()).map(|port| port.byte_len()).sum();
    let weights_bytes = plan.as_bytes().len();
    let total_bytes = weights_bytes + plan.arena_bytes() + io_bytes;
    let predicted = [
        ("weights_bytes", weights_bytes),
        ("arena_bytes", plan.arena_bytes() - plan.scratch_bytes()),
        ("scratch_bytes", plan.scratch_bytes()),
        ("state_bytes", plan.state_bytes()),
        ("io_bytes", io_bytes),
        ("total_bytes", total_bytes),
        ("arena_lower_bound_bytes", plan.arena_lower_bound_bytes()),
    ];
    // A plan over its budget is not run.
    let mut excess = over(args.budget, "the plan's total", total_bytes as u64);
    let measured = if excess.is_none() {
        session.fill();
        let loaded = measured()?;
        for _ in 0..RUNS {
            session.run(&mut ())?;
        }
        let measured = measured()?;
        let [(_, load_peak), ..] = loaded;
        let [(_, run_peak), ..] = measured;
        excess = over(args.budget, "the peak", run_peak);
        Some((load_peak, measured))
    } else {
        None
    };
    let mut json = Json::default();
    json.open('{').string("engine", "plan").open_field("predicted", '{');
    let mut text = "engine plan\n\npredicted\n".to_owned();
    for (key, bytes) in predicted {
        json.field(key, bytes);
        text += &format!("{key:<26}{bytes:>12}\n");
    }
    json.close('}');
    match &measured {
        Some((load_peak, measured)) => {
            text += &format!("\nmeasured, the whole process, after {RUNS} runs, whose peak has loading in it\n");
            json.open_field("measured", '{');
            for (key, bytes) in [("load_peak_bytes", *load_peak)].iter().chain(measured) {
                json.field(key, bytes);
                text += &format!("{key:<26}{bytes:>12}\n");
            }
            json.field("peaks_apart", false).close('}');
        }
        None => {
            json.field("measured", "null");
            text += "\nNot measured: it was not run.\n";
        }
    }
    if let Some(budget) = args.budget {
        json.open_field("budget", '{').field("bytes", budget).field("fits", excess.is_none()).close('}');
    }
    json.close('}');
    out.text(&if args.json { json.line() } else { text })?;
    match excess {
        Some(why) => {
            out.flush()?;
            Err(why.into())
        }
        None => Ok(()),
    }
}

fn over(budget: Option<u64>, what: &str, bytes: u64) -> Option<String> {
    let budget = budget.filter(|budget| bytes > *budget)?;
    Some(format!("over budget: {what} of {bytes} B is above {budget} B"))
}

fn measured() -> Result<[(&'static str, u64); 5], String> {
    let status = os::text(c"/proc/self/status", MOST_STATUS_BYTES)?;
    let mut measured = MEASURED.map(|(_, key)| (key, 0));
    for ((field, _), (_, bytes)) in MEASURED.iter().zip(&mut measured) {
        *bytes = kib(&status, field).ok_or_else(|| format!("/proc/self/status has no {field}"))? << 10;
    }
    Ok(measured)
}

fn kib(status: &str, field: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let status = "Name:\tVmHWM: 5 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 7 kB\n";
        assert_eq!((kib(status, "VmHWM"), kib(status, "VmRSS"), kib(status, "RssAnon")), (Some(1234), Some(7), None));
    }
}
