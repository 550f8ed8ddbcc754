//! Takes over a changed configuration while connections go on: [`watch`] notices it, [`fixed`] keeps what takes a restart,
//! and [`live`] has it swapped and says what runs.

mod fixed;
mod live;
mod watch;

#[cfg(test)]
mod tests;

pub use live::Live;
pub use watch::Watch;

use crate::cli::signals::Hangups;

/// Where a process gets its next configuration from.
pub struct Source {
    /// The files; `None`: there are none, or they cannot be read twice, as a pipe.
    pub watch: Option<Watch>,
    /// Asks for them to be read at once.
    pub hangups: Hangups,
}

impl Source {
    /// Takes over each further version; never ends. Cancel safe.
    pub async fn follow(self, live: Live) {
        let Self { watch, mut hangups } = self;
        let Some(mut watch) = watch else {
            loop {
                hangups.next().await;
                tracing::warn!(
                    "SIGHUP: no file or directory was given with --config that could be read again"
                );
            }
        };
        loop {
            let asked = tokio::select! {
                () = watch.tick() => false,
                () = hangups.next() => true,
            };
            // Who asks may have changed what the files name: keys, certificates.
            match watch.changed().await {
                Some(files) => live.offer(files).await,
                None if asked => live.offer_again(watch.read().await).await,
                None => {}
            }
        }
    }
}
