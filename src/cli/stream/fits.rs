//! Whether what a stream is given goes together, with itself and with other streams of a process.

use tractlet::sensor::{SinkSpec, SourceSpec};

use super::StreamArgs;
use crate::cli::apart;
use crate::cli::confine::expect_one_thread;

impl StreamArgs {
    /// Whether its arguments go together, and its files are apart.
    pub fn fits_itself(&self) -> Result<(), String> {
        match self.source.source.broker() {
            Some(_) if self.hop.is_some() => {
                return Err("--hop is for frames that windows are cut from, and a message is a window".into());
            }
            None if self.mqtt.share.is_some() => {
                return Err("--share is for a source at a broker, mqtt://HOST/TOPIC".into());
            }
            None if self.mqtt.session.is_some() => {
                return Err("--session is for a source at a broker, mqtt://HOST/TOPIC".into());
            }
            _ => {}
        }
        let has_sink = self.sink.clone().iter_mut().any(|sink| sink.broker().is_some());
        if self.mqtt.queue.is_some() && !has_sink {
            return Err("--queue is for a sink at a broker, mqtt://HOST/TOPIC".into());
        }
        if self.mqtt.client_id.is_some() && !has_sink && self.source.source.broker().is_none() {
            return Err("--client-id is for a source or a sink at a broker, mqtt://HOST/TOPIC".into());
        }
        if self.sink.iter().filter(|sink| sink.is_stdout()).count() > 1 {
            return Err("two sinks write to standard output; give one of them a file".into());
        }
        expect_one_thread(self.sandbox, &self.threads)?;
        self.can_be_confined()?;
        apart::each(&self.uses())
    }

    /// Whether it takes nothing that there is once in a process.
    pub fn fits_beside_others(&self) -> Result<(), &'static str> {
        if self.sink.is_empty() || self.writes_to_stdout() {
            return Err(
                "its decisions would go to standard output, which all share: give it --sink with a file or mqtt://",
            );
        }
        if self.sandbox {
            return Err(
                "--sandbox confines a process, and begins with one thread: start that stream by itself, with `tractlet stream`",
            );
        }
        if self.source.source == SourceSpec::Stdin {
            return Err("standard input is one for all: give it another --source");
        }
        if self.metrics.is_some() || self.model.json || self.model.max_rss.is_some() {
            return Err("--metrics, --json and --max-rss are for all streams: give them to `tractlet streams`");
        }
        Ok(())
    }

    /// Whether it takes nothing that `other` has, which runs in the same process.
    pub fn fits_beside(&self, other: &StreamArgs) -> Result<(), String> {
        if let Some(id) = self.mqtt.client_id.as_ref().filter(|id| other.mqtt.client_id.as_ref() == Some(id)) {
            return Err(format!("--client-id {id} is another stream's: their broker would hang one of them up"));
        }
        apart::between(&self.uses(), &other.uses())
    }

    pub(super) fn writes_to_stdout(&self) -> bool {
        self.sink.iter().any(SinkSpec::is_stdout) || (self.sink.is_empty() && !self.model.json)
    }

    fn uses(&self) -> Vec<apart::Use> {
        apart::uses(&self.model.model, &self.source.source, &self.sink)
    }
}
