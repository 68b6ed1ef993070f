//! What Linux says of the CPU that a measurement ran on. Every file may be missing, and none is needed.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// As /proc and /sys have it; null where they do not.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub model: Option<String>,
    /// Which policy sets the frequency.
    pub governor: Option<String>,
    pub frequency_mhz: Option<f64>,
    /// The hottest of the sensors that are a CPU's.
    pub temperature_celsius: Option<f64>,
    /// What makes the times less than they could be, in words.
    pub note: Option<String>,
}

impl Cpu {
    /// The CPU that this thread runs on now.
    pub fn here() -> Cpu {
        Cpu::read(Path::new("/"))
    }

    /// The same beneath another root, which tests make.
    fn read(root: &Path) -> Cpu {
        let cpu = text(&root.join("proc/self/stat")).and_then(|stat| running_on(&stat)).unwrap_or(0);
        let scaling = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cpufreq"));
        let info = text(&root.join("proc/cpuinfo")).unwrap_or_default();
        let governor = text(&scaling.join("scaling_governor"));
        let khz: Option<f64> = text(&scaling.join("scaling_cur_freq")).and_then(|khz| khz.parse().ok());
        Cpu {
            model: model(&info),
            note: governor.as_deref().and_then(advice),
            governor,
            // x86 has a frequency in cpuinfo even in a virtual machine, which has no scaling.
            frequency_mhz: khz.map(|khz| khz / 1e3).or_else(|| of_processor(&info, cpu, "cpu MHz")?.parse().ok()),
            temperature_celsius: temperature(&root.join("sys/class/thermal")),
        }
    }

    /// For a person, on one line.
    pub fn text(&self) -> String {
        let known = |value: Option<f64>, unit: &str| value.map(|value| format!("{value:.0} {unit}"));
        let parts = [
            Some(self.model.clone().unwrap_or_else(|| "unknown".to_owned())),
            known(self.frequency_mhz, "MHz"),
            self.governor.as_ref().map(|governor| format!("governor {governor}")),
            known(self.temperature_celsius, "degrees Celsius"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn advice(governor: &str) -> Option<String> {
    (governor != "performance").then(|| {
        format!("the CPU's governor is {governor}, not performance: its frequency, and with it every time, may change")
    })
}

/// The largest file that is looked at: /proc/cpuinfo of a machine with a thousand CPUs.
const MOST_BYTES: u64 = 4 << 20;

/// A small text file, trimmed; `None` for one that is missing, empty or odd.
fn text(path: &Path) -> Option<String> {
    let mut bytes = vec![];
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number of the CPU that a line of /proc/*/stat names: its field 39, the first being 1. The second
/// is the program's name in brackets, in which anything may stand.
fn running_on(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

fn model(info: &str) -> Option<String> {
    // aarch64 gives numbers and no name.
    first(info, "model name").map(str::to_owned).or_else(|| {
        let (implementer, part) = (first(info, "CPU implementer")?, first(info, "CPU part")?);
        let known = ARM_CORES.iter().find(|(number, _)| implementer == "0x41" && *number == part);
        Some(known.map_or_else(|| format!("implementer {implementer}, part {part}"), |(_, name)| (*name).to_owned()))
    })
}

/// Part numbers of the cores of the boards in targets/, and of those that stand for them under QEMU.
const ARM_CORES: [(&str, &str); 8] = [
    ("0xb76", "ARM1176"),
    ("0xc07", "Cortex-A7"),
    ("0xd03", "Cortex-A53"),
    ("0xd07", "Cortex-A57"),
    ("0xd08", "Cortex-A72"),
    ("0xd0b", "Cortex-A76"),
    ("0xd0c", "Neoverse N1"),
    ("0xd42", "Cortex-A78AE"),
];

/// The value of the first line of cpuinfo with a key.
fn first<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| value(line, key))
}

/// A value of one processor's block.
fn of_processor<'a>(info: &'a str, cpu: u32, key: &str) -> Option<&'a str> {
    let cpu = cpu.to_string();
    let block = info.split("\n\n").find(|block| first(block, "processor") == Some(&cpu))?;
    first(block, key)
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) = line.split_once(':')?;
    (name.trim() == key && !value.trim().is_empty()).then_some(value.trim())
}

fn temperature(zones: &Path) -> Option<f64> {
    let zones = fs::read_dir(zones).ok()?.filter_map(|zone| Some(zone.ok()?.path()));
    let celsius = |zone: PathBuf| {
        let kind = text(&zone.join("type"))?.to_ascii_lowercase();
        let of_the_cpu = ["cpu", "soc", "x86_pkg", "coretemp"].iter().any(|name| kind.contains(name));
        let millidegrees: f64 = text(&zone.join("temp"))?.parse().ok()?;
        // A sensor that is switched off reads as absolute zero or below.
        (of_the_cpu && millidegrees.is_finite() && millidegrees > -100e3).then_some(millidegrees / 1e3)
    };
    zones.filter_map(celsius).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn machine(files: &[(&str, &str)]) -> Cpu {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Cpu::read(root.path())
    }

    fn stat(cpu: u32) -> String {
        format!("1 (a) (b) R {} {cpu} 0 0", vec!["0"; 35].join(" "))
    }

    #[test]
    fn a_board_is_read_at_the_cpu_that_runs() {
        let cpu = machine(&[
            ("proc/self/stat", &stat(2)),
            (
                "proc/cpuinfo",
                "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4\n",
            ),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "ondemand\n"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq", "1500000\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "51121\n"),
            ("sys/class/thermal/thermal_zone1/type", "nvme\n"),
            ("sys/class/thermal/thermal_zone1/temp", "70000\n"),
            ("sys/class/thermal/thermal_zone2/type", "CPU-off\n"),
            ("sys/class/thermal/thermal_zone2/temp", "-274000\n"),
        ]);
        assert_eq!((cpu.model.as_deref(), cpu.governor.as_deref()), (Some("Cortex-A72"), Some("ondemand")));
        assert_eq!((cpu.frequency_mhz, cpu.temperature_celsius), (Some(1500.0), Some(51.121)));
        assert!(cpu.note.as_ref().unwrap().contains("ondemand"), "{cpu:?}");
        assert_eq!(cpu.text(), "Cortex-A72, 1500 MHz, governor ondemand, 51 degrees Celsius");
    }

    #[test]
    fn a_virtual_machine_without_scaling_has_its_own_processors_frequency() {
        let info = "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t: 2445.5\n\n\
            processor\t: 1\nmodel name\t: AMD EPYC\ncpu MHz\t: 3000.0\n";
        let cpu = machine(&[("proc/self/stat", &stat(1)), ("proc/cpuinfo", info)]);
        let model = Some("AMD EPYC".to_owned());
        assert_eq!(cpu, Cpu { model, frequency_mhz: Some(3000.0), ..Cpu::default() });
    }

    #[test]
    fn what_is_missing_or_odd_is_null() {
        assert_eq!(machine(&[]), Cpu::default());
        let cpu = machine(&[
            ("proc/self/stat", "1 (cut"),
            ("proc/cpuinfo", "CPU implementer : 0x51\nCPU part : 0x801\n: \nmodel name :\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
            // A folder where a file is expected.
            ("sys/class/thermal/thermal_zone0/temp/x", ""),
        ]);
        assert_eq!(cpu.model.as_deref(), Some("implementer 0x51, part 0x801"));
        assert_eq!((cpu.frequency_mhz, cpu.temperature_celsius, &cpu.note), (None, None, &None));
        assert_eq!(machine(&[("proc/cpuinfo", "\u{0}\n\n::")]), Cpu::default());
    }
}
