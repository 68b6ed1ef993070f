//! What a confined stream has to keep.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tractlet::sandbox::Sandbox;
use tractlet::sensor::{Recipe, SourceSpec};

use super::StreamArgs;
use crate::cli::in_use::InUse;
use crate::cli::or_here;

impl StreamArgs {
    /// Whether `--sandbox` leaves it what it is asked for.
    pub(super) fn can_be_confined(&self) -> Result<(), String> {
        if !self.sandbox {
            return Ok(());
        }
        if self.sink.clone().iter_mut().any(|sink| sink.broker().is_some()) {
            return Err(
                "--sandbox: not with a sink mqtt:, whose thread is there before it and connects anew by itself".into(),
            );
        }
        let unknown = |host: &str| {
            let what = "names cannot be looked up from within, to connect anew; give the address in numbers";
            Err(format!("--sandbox: {host}: {what}"))
        };
        match &self.source.source {
            SourceSpec::Mqtt(address) if address.host.parse::<IpAddr>().is_err() => unknown(&address.host),
            SourceSpec::Tcp(address) if self.source.reconnect.is_some() && address.parse::<SocketAddr>().is_err() => {
                unknown(address)
            }
            SourceSpec::Alsa(_) if self.source.reconnect.is_some() => {
                let what = "alsa-lib opens its configuration, plugins and card anew, wherever they lie";
                Err(format!("--sandbox: not with --reconnect and a source alsa:, for which {what}"))
            }
            _ => Ok(()),
        }
    }

    /// The model is exchanged on SIGHUP, and a source that went away is opened anew if that was asked for.
    pub(super) fn needs(&self, recipe: &Recipe, in_use: &InUse) -> Sandbox {
        let mut needs = self.model.reopening(&recipe.model);
        needs.read.extend(recipe.path.parent().map(or_here));
        needs.write.extend(in_use.folder().map(PathBuf::from));
        // A broker is connected to anew in any case.
        if self.source.reconnect.is_none() && self.source.source.broker().is_none() {
            return needs;
        }
        match &self.source.source {
            SourceSpec::Stdin | SourceSpec::File(_) | SourceSpec::Alsa(_) => {}
            // A port that is plugged in again is another file.
            SourceSpec::Serial { path, .. } => needs.write.extend(device_folder(path)),
            SourceSpec::Iio(folder) => needs.read.extend(folder.canonicalize()),
            SourceSpec::IioBuffer { folder, device } => {
                needs.write.extend(folder.canonicalize().ok().into_iter().chain(device_folder(device)));
            }
            SourceSpec::Tcp(_) | SourceSpec::TcpListen(_) | SourceSpec::Udp(_) | SourceSpec::Mqtt(_) => {
                needs.network = true;
            }
        }
        needs
    }
}

fn device_folder(device: &Path) -> Option<PathBuf> {
    Some(device.canonicalize().ok()?.parent()?.to_owned())
}
