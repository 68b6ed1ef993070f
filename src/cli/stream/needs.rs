//! What a confined stream has to keep.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tractlet::sandbox::Sandbox;
use tractlet::sensor::{Recipe, SourceSpec};

use super::StreamArgs;
use crate::cli::failure::Failure;
use crate::cli::in_use::InUse;
use crate::cli::or_here;

impl StreamArgs {
    /// The model is exchanged on SIGHUP, and a source that went away is opened anew if that was asked for.
    pub(super) fn needs(&self, recipe: &Recipe, in_use: &InUse) -> Result<Sandbox, Failure> {
        if self.sink.clone().iter_mut().any(|sink| sink.broker().is_some()) {
            return Err(
                "--sandbox: not with a sink mqtt:, whose thread is there before it and connects anew by itself".into(),
            );
        }
        let mut needs = self.model.reopening(&recipe.model);
        needs.read.extend(recipe.path.parent().map(or_here));
        needs.write.extend(in_use.folder().map(PathBuf::from));
        // A broker is connected to anew in any case.
        if self.source.reconnect.is_none() && self.source.source.broker().is_none() {
            return Ok(needs);
        }
        let unknown = |host: &str| {
            let what = "names cannot be looked up from within, to connect anew; give the address in numbers";
            Err(format!("--sandbox: {host}: {what}").into())
        };
        match &self.source.source {
            SourceSpec::Stdin | SourceSpec::File(_) => {}
            SourceSpec::Alsa(_) => {
                let what = "alsa-lib opens its configuration, plugins and card anew, wherever they lie";
                return Err(format!("--sandbox: not with --reconnect and a source alsa:, for which {what}").into());
            }
            // A port that is plugged in again is another file.
            SourceSpec::Serial { path, .. } => needs.write.extend(device_folder(path)),
            SourceSpec::Iio(folder) => needs.read.extend(folder.canonicalize()),
            SourceSpec::IioBuffer { folder, device } => {
                needs.write.extend(folder.canonicalize().ok().into_iter().chain(device_folder(device)));
            }
            SourceSpec::Tcp(address) if address.parse::<SocketAddr>().is_err() => return unknown(address),
            SourceSpec::Mqtt(address) if address.host.parse::<IpAddr>().is_err() => return unknown(&address.host),
            SourceSpec::Tcp(_) | SourceSpec::TcpListen(_) | SourceSpec::Udp(_) | SourceSpec::Mqtt(_) => {
                needs.network = true;
            }
        }
        Ok(needs)
    }
}

fn device_folder(device: &Path) -> Option<PathBuf> {
    Some(device.canonicalize().ok()?.parent()?.to_owned())
}
